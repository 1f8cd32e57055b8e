//! A restart that refuses nobody: the listeners go from one process to the next (`SCM_RIGHTS` over a Unix socket).
//!
//! They are the same sockets, not others on the same port: who waits to be accepted waits for the next process, too.
//! The next one takes them, starts, and says so with a byte; the one before accepts no more, answers with a byte, and
//! drains. A process that dies before it has said so has changed nothing.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::{
    io::{AsyncReadExt, Interest},
    net::UnixListener,
};

/// What is sent with the listeners, said by who is about to accept, and answered by who accepts no more.
const TAKE: u8 = b'L';
const READY: u8 = b'R';
const DONE: u8 = b'D';

/// How long a process may take to start, and how long the one before it may take to answer.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Data and admin, at most.
const LISTENERS: usize = 2;
const SPACE: usize = rustix::cmsg_space!(ScmRights(LISTENERS));

/// What the process before gave, which goes on until it is told.
pub(crate) struct Taken {
    listeners: Vec<TcpListener>,
    before: UnixStream,
}

impl Taken {
    /// Asks the process that listens at `path`, if one does.
    pub(crate) fn from(path: &Path) -> io::Result<Option<Self>> {
        let before = match UnixStream::connect(path) {
            Ok(before) => before,
            // Nobody was there yet, or nobody is any more.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        before.set_read_timeout(Some(ANSWERS_WITHIN))?;
        match receive(&before) {
            Ok(listeners) => Ok(Some(Self { listeners, before })),
            // It was about to end.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The listener of an address, if there is one; port 0 is any.
    pub(crate) fn listener(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let is_it = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|address| {
                address.ip() == wanted.ip() && (wanted.port() == 0 || address.port() == wanted.port())
            })
        };
        let at = self.listeners.iter().position(is_it)?;
        Some(self.listeners.remove(at))
    }

    /// Says that this process is about to accept, and waits until the one before does no more.
    pub(crate) fn ready(mut self) {
        let told = self.before.write_all(&[READY]).and_then(|()| self.before.read_exact(&mut [0]));
        match told {
            Ok(()) => tracing::info!("the listeners are the ones of the process before, which drains"),
            Err(error) => {
                tracing::warn!(%error, "the process before is gone, or still accepts with this one")
            }
        }
    }
}

fn receive(from: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut kind = [0];
    let read =
        rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut kind)], &mut control, RecvFlags::empty())?;
    if read.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if kind != [TAKE] {
        return Err(io::Error::other("whoever listens there gives no listeners"));
    }
    let mut listeners = Vec::new();
    for message in control.drain() {
        let RecvAncillaryMessage::ScmRights(fds) = message else { continue };
        for fd in fds {
            listeners.push(own(fd)?);
        }
    }
    Ok(listeners)
}

/// Not for the commands that this process may start.
fn own(fd: OwnedFd) -> io::Result<TcpListener> {
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd.into())
}

/// Where the next process asks for the listeners.
pub(crate) struct Offer {
    listener: UnixListener,
    /// Where it is, and where it is to be once the process before asks no more there.
    at: PathBuf,
    path: PathBuf,
}

impl Offer {
    /// Listens beside `path`, for this user alone. It needs a runtime.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let mut at = path.as_os_str().to_owned();
        at.push(format!(".{}", std::process::id()));
        let at = PathBuf::from(at);
        // Of one that had the same number, and died between the two steps.
        let _ = fs::remove_file(&at);
        let listener = UnixListener::bind(&at)?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, at, path: path.to_owned() })
    }

    /// Takes the place of whatever was at the path.
    pub(crate) fn publish(&self) -> io::Result<()> {
        fs::rename(&self.at, &self.path)
    }

    /// Waits until another process is about to accept in place of this one.
    pub(crate) async fn taken(&self, listeners: &[BorrowedFd<'_>]) -> Heir {
        loop {
            match self.give(listeners).await {
                Ok(heir) => return heir,
                Err(error) => tracing::warn!(%error, "a process that asked for the listeners did not start"),
            }
        }
    }

    async fn give(&self, listeners: &[BorrowedFd<'_>]) -> io::Result<Heir> {
        let (mut next, _) = self.listener.accept().await?;
        let (theirs, own) = (next.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
        if theirs != own && theirs != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
        }
        let send = || {
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(listeners));
            Ok(rustix::net::sendmsg(&next, &[IoSlice::new(&[TAKE])], &mut control, SendFlags::empty())?)
        };
        next.async_io(Interest::WRITABLE, send).await?;
        let said = tokio::time::timeout(STARTS_WITHIN, next.read_u8()).await.map_err(io::Error::other)??;
        match said {
            READY => Ok(Heir(next.into_std()?)),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        // Gone where it was published: what is at the path may be another's by now.
        let _ = fs::remove_file(&self.at);
    }
}

/// The process that accepts in place of this one, and waits to be told that it may.
pub(crate) struct Heir(UnixStream);

impl Heir {
    /// Tells it that this process accepts no more.
    pub(crate) fn go_on(mut self) {
        if let Err(error) = self.0.write_all(&[DONE]) {
            tracing::error!(%error, "the process that took the listeners is gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("chimera-handover-{name}-{}", std::process::id()))
    }

    #[tokio::test]
    async fn p02_a_listener_is_the_same_one_and_matched_by_its_address() {
        let path = path("same");
        assert!(Taken::from(&path).unwrap().is_none(), "nobody is there");
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (data, admin) = (bind(), bind());
        let address = data.local_addr().unwrap();
        let waits = std::net::TcpStream::connect(address).unwrap();
        let offer = Offer::bind(&path).unwrap();
        offer.publish().unwrap();
        let asking = path.clone();
        let next = tokio::task::spawn_blocking(move || {
            let mut taken = Taken::from(&asking).unwrap().unwrap();
            let other = SocketAddr::from(([127, 0, 0, 1], 1));
            assert!(taken.listener(other).is_none(), "an address that is not among them is bound anew");
            let listener = taken.listener(address).unwrap();
            assert!(taken.listener(address).is_none(), "each is taken once");
            assert!(taken.listener(SocketAddr::from(([127, 0, 0, 1], 0))).is_some());
            taken.ready();
            listener.accept().unwrap().1
        });
        let heir = offer.taken(&[data.as_fd(), admin.as_fd()]).await;
        drop((data, admin));
        heir.go_on();
        assert_eq!(next.await.unwrap(), waits.local_addr().unwrap(), "who had connected before is served");
        drop(offer);
        assert!(Taken::from(&path).unwrap().is_none(), "nobody is there any more");
        fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn p02_a_process_that_dies_before_it_is_ready_changes_nothing() {
        let path = path("dies");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let offer = Offer::bind(&path).unwrap();
        offer.publish().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "for its user alone");
        let asking = path.clone();
        let next = tokio::task::spawn_blocking(move || {
            drop(Taken::from(&asking).unwrap().unwrap());
            UnixStream::connect(&asking).unwrap().write_all(b"junk").unwrap();
            Taken::from(&asking).unwrap().unwrap().ready();
        });
        offer.taken(&[listener.as_fd()]).await.go_on();
        next.await.unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn p02_whoever_leaves_without_a_word_was_nobody_and_whoever_says_another_is_told_of() {
        let path = path("mute");
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let asked = std::thread::spawn(move || {
            drop(other.accept().unwrap());
            other.accept().unwrap().0.write_all(b"?").unwrap();
        });
        assert!(Taken::from(&path).unwrap().is_none());
        assert!(Taken::from(&path).is_err());
        asked.join().unwrap();
        fs::remove_file(&path).unwrap();
    }
}
