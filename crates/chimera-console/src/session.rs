//! Sessions of browsers: what stands in place of the key that a page cannot send with every request.
//!
//! A session is a cookie that no script can read and no other site can have sent (`HttpOnly`, `SameSite=Strict`).
//! Whatever changes something needs a token in a header besides, which only a page of ours can read: a browser
//! that is made to send a request blindly does not have it. Without a key there are no sessions, and the token is
//! the same for all.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, header};
use tokio::time::Instant;

/// At most so many sessions are open; a new one ends the oldest.
pub const MOST_SESSIONS: usize = 64;
/// How long a session lasts.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);
const COOKIE: &str = "chimera_console";
/// The header in which a page sends its token.
pub(crate) const TOKEN: &str = "x-chimera-token";

/// What the headers of a request prove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proof {
    /// It has the cookie of an open session.
    pub session: bool,
    /// It has the token of that session or, where no key is asked for, the token of all.
    pub token: bool,
}

struct Session {
    id: String,
    /// The digest of the key with which it was opened: with another in force it is over.
    key: [u8; 32],
    ends: Instant,
}

/// The open sessions.
pub(crate) struct Sessions {
    seed: [u8; 32],
    opened: AtomicU64,
    open: Mutex<VecDeque<Session>>,
}

impl Sessions {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, opened: AtomicU64::new(0), open: Mutex::default() }
    }

    /// Opens a session; gives its cookie and its token.
    pub(crate) fn open(&self, key: [u8; 32], over_tls: bool) -> (HeaderValue, String) {
        let id = self.secret("session", &self.opened.fetch_add(1, Relaxed).to_string());
        let token = self.secret("token", &id);
        let secure = if over_tls { "; Secure" } else { "" };
        let cookie =
            format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", LASTS.as_secs());
        let mut open = self.lock();
        if open.len() >= MOST_SESSIONS {
            open.pop_front();
        }
        open.push_back(Session { id, key, ends: Instant::now() + LASTS });
        (HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static("")), token)
    }

    /// Ends the session of a request; gives the cookie that takes it away.
    pub(crate) fn close(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(id) = cookie(headers) {
            self.lock().retain(|session| session.id != id);
        }
        HeaderValue::from_static("chimera_console=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    }

    /// What a request proves, where `key` is asked for.
    pub(crate) fn proof(&self, headers: &HeaderMap, key: Option<[u8; 32]>) -> Proof {
        let Some(wanted) = self.token(headers, key) else { return Proof::default() };
        let sent = headers.get(TOKEN).map(HeaderValue::as_bytes);
        Proof { session: key.is_some(), token: sent.is_some_and(|sent| same(sent, wanted.as_bytes())) }
    }

    /// The token that the page of a request is to send; `None` where it has no session and needs one.
    pub(crate) fn token(&self, headers: &HeaderMap, key: Option<[u8; 32]>) -> Option<String> {
        let Some(key) = key else { return Some(self.secret("token", "open")) };
        let id = cookie(headers)?;
        let now = Instant::now();
        let mut open = self.lock();
        open.retain(|session| session.ends > now);
        let known = open.iter().any(|session| session.id == id && session.key == key);
        known.then(|| self.secret("token", id))
    }

    /// Something that nobody without the seed can guess.
    fn secret(&self, what: &str, of: &str) -> String {
        let hash = blake3::keyed_hash(&self.seed, format!("{what}\0{of}").as_bytes());
        hash.as_bytes().iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of our cookie.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Compares by digest, so that the time tells nothing of where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    blake3::hash(one) == blake3::hash(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str, token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
        headers.insert(TOKEN, HeaderValue::from_str(token).unwrap());
        headers
    }

    fn pair(cookie: &HeaderValue) -> String {
        cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_its_cookie_and_a_change_needs_its_token_too() {
        let (sessions, key) = (Sessions::new([1; 32]), [2; 32]);
        let (cookie, token) = sessions.open(key, false);
        let text = cookie.to_str().unwrap();
        assert!(text.contains("HttpOnly") && text.contains("SameSite=Strict") && !text.contains("Secure"));
        assert!(sessions.open(key, true).0.to_str().unwrap().contains("; Secure"));
        let good = headers(&format!("other=1; {}", pair(&cookie)), &token);
        assert_eq!(sessions.proof(&good, Some(key)), Proof { session: true, token: true });
        let (other, _) = sessions.open(key, false);
        let mixed = headers(&pair(&other), &token);
        assert_eq!(sessions.proof(&mixed, Some(key)), Proof { session: true, token: false });
        for cookie in ["chimera_console=", "chimera_console=00", "x=y", "chimera_consoles=1"] {
            assert_eq!(sessions.proof(&headers(cookie, &token), Some(key)), Proof::default(), "{cookie}");
        }
        assert_eq!(sessions.proof(&good, Some([3; 32])), Proof::default(), "another key is in force");
        sessions.close(&good);
        assert_eq!(sessions.proof(&good, Some(key)), Proof::default(), "it was ended");
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_end_by_themselves_and_are_bounded() {
        let (sessions, key) = (Sessions::new([1; 32]), [2; 32]);
        let (first, token) = sessions.open(key, false);
        let first = headers(&pair(&first), &token);
        assert!(sessions.proof(&first, Some(key)).session);
        for _ in 0..MOST_SESSIONS {
            sessions.open(key, false);
        }
        assert!(!sessions.proof(&first, Some(key)).session, "the oldest makes room");
        assert_eq!(sessions.lock().len(), MOST_SESSIONS);
        let (last, token) = sessions.open(key, false);
        let last = headers(&pair(&last), &token);
        tokio::time::advance(LASTS + Duration::from_secs(1)).await;
        assert!(!sessions.proof(&last, Some(key)).session);
        assert!(sessions.lock().is_empty());
    }

    #[tokio::test]
    async fn without_a_key_the_token_is_the_same_for_all_and_still_needed() {
        let sessions = Sessions::new([1; 32]);
        let token = sessions.token(&HeaderMap::new(), None).unwrap();
        assert!(sessions.proof(&headers("a=b", &token), None).token);
        assert!(!sessions.proof(&headers("a=b", "guess"), None).token);
        assert_ne!(Some(token), Sessions::new([9; 32]).token(&HeaderMap::new(), None));
    }
}
