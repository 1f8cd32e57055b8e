//! The second tier from the configuration, and the thread that it works on.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use chimera_gateway::{Gateway, SecondTier};
use tokio::{runtime, sync::oneshot};

use crate::{
    config::{ConfigError, File},
    units::{EnvSecret, SecretSource},
    upstreams,
};

/// A gateway that died with a lease keeps the others waiting for so long at most.
const LONGEST_LEASE: Duration = Duration::from_secs(120);

const VARIABLE: &str = "REDIS_URL";

/// Switches the second tier on where the environment names a Redis and the file does not.
pub(crate) fn add_environment(file: &mut File, variable: &dyn Fn(&str) -> Option<String>) {
    if file.cache.redis.url.is_none() && variable(VARIABLE).is_some_and(|url| !url.trim().is_empty()) {
        file.cache.redis.url = Some(SecretSource::Env(EnvSecret { env: VARIABLE.to_owned() }));
    }
}

/// The second tier, if there is one. Errors name the key, never its value.
pub(crate) fn second_tier(file: &File) -> Result<Option<SecondTier>, ConfigError> {
    let redis = &file.cache.redis;
    let at = |key: &str, why: String| ConfigError::new(format!("cache.redis.{key}"), why);
    let Some(url) = &redis.url else { return Ok(None) };
    let url = url.read().map_err(|why| at("url", why))?;
    let secret = match &redis.secret {
        Some(secret) => secret.read().map_err(|why| at("secret", why))?,
        None => url.clone(),
    };
    let mut second =
        SecondTier::new(&url, secret.as_bytes()).map_err(|error| at("url", error.to_string()))?;
    if let Some(path) = &redis.ca_file {
        let config = upstreams::roots(path).map_err(|why| at("ca_file", why))?;
        let mut config = Arc::unwrap_or_clone(config);
        // Redis speaks one protocol.
        config.alpn_protocols.clear();
        second.redis = second.redis.tls(Arc::new(config));
    }
    second.redis.prefix.clone_from(&redis.prefix);
    second.redis.connect = redis.connect.0;
    second.redis.readers = redis.readers;
    second.redis.tracking = redis.tracking;
    second.redis.compress_over = usize::try_from(redis.compress_over.0).unwrap_or(usize::MAX);
    // An answer, and what is written of it besides.
    let largest = file.cache.max_entry.0.saturating_add(4096);
    second.redis.max_value = usize::try_from(largest).unwrap_or(usize::MAX);
    second.limits.get = redis.deadline.0;
    second.lease = (!redis.lease.0.is_zero()).then_some(redis.lease.0);
    if second.lease.is_some_and(|lease| lease > LONGEST_LEASE) {
        return Err(at("lease", "it must be at most 2m".to_owned()));
    }
    second.limits.slow = redis.deadline.0.mul_f64(0.6);
    second.limits.validate().map_err(|_| at("deadline", "it must be above zero".to_owned()))?;
    second.redis.validate().map_err(|error| match error.field {
        "max_value" => ConfigError::new("cache.max_entry", "with a second tier it is at most 255 MiB"),
        field => at(field, format!("it must be {}", error.want)),
    })?;
    Ok(Some(second))
}

/// A thread on which the second tier's connections live, apart from those of callers: what Redis sends is
/// parsed there, and however long that takes, no request waits for it beyond its deadline.
pub(crate) struct Background {
    handle: runtime::Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Background {
    pub(crate) fn start(name: &str, stack: usize) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            // Ends when told to, or when nobody is left to tell.
            let _ = runtime.block_on(stopped);
        };
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(stack);
        let thread = thread.spawn(work).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("no address space for the thread of the second tier: {error}"),
            )
        })?;
        Ok(Self { handle, stop, thread })
    }

    /// What is spawned while this is held is spawned there.
    pub(crate) fn enter(&self) -> runtime::EnterGuard<'_> {
        self.handle.enter()
    }

    /// Gives the answers that wait a moment to be written, and ends the thread.
    pub(crate) fn finish(self, gateway: &Gateway) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let gateway = gateway.clone();
        let (done, flushed) = std::sync::mpsc::channel();
        self.handle.spawn(async move {
            gateway.flush().await;
            let _ = done.send(());
        });
        let _ = flushed.recv_timeout(PATIENCE);
        if self.stop.send(()).is_ok() {
            let _ = self.thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn file(text: &str) -> File {
        config::parse(&format!("[cache.redis]\n{text}"), []).unwrap()
    }

    #[test]
    fn without_a_url_there_is_none_and_the_environment_may_name_one() {
        let mut file = File::default();
        assert!(second_tier(&file).unwrap().is_none());
        add_environment(&mut file, &|_| Some("  ".to_owned()));
        assert!(file.cache.redis.url.is_none());
        add_environment(&mut file, &|name| (name == "REDIS_URL").then(|| "redis://h".to_owned()));
        assert_eq!(format!("{:?}", file.cache.redis.url.unwrap()), "{ env = \"REDIS_URL\" }");
    }

    #[test]
    fn keys_find_their_way() {
        let second = second_tier(&file(
            "url = \"redis://h:1\"\ndeadline = \"10ms\"\nprefix = \"p:\"\nreaders = 3\nlease = \"5s\"",
        ));
        let second = second.unwrap().unwrap();
        assert_eq!((second.redis.address(), second.redis.prefix.as_str()), ("h:1".to_owned(), "p:"));
        assert_eq!(second.lease, Some(Duration::from_secs(5)));
        assert_eq!((second.redis.readers, second.limits.get), (3, Duration::from_millis(10)));
    }

    #[test]
    fn a_wrong_value_is_refused_by_the_name_of_its_key_and_not_shown() {
        let refused = |text: &str| second_tier(&file(text)).unwrap_err();
        let error = refused("url = \"http://user:canary@h\"");
        assert_eq!(error.key, "cache.redis.url");
        assert!(!error.to_string().contains("canary"));
        assert_eq!(refused("url = { env = \"NOT_SET_ANYWHERE\" }").key, "cache.redis.url");
        assert_eq!(refused("url = \"redis://h\"\nreaders = 0").key, "cache.redis.readers");
        assert_eq!(refused("url = \"redis://h\"\nprefix = \"\"").key, "cache.redis.prefix");
        assert_eq!(refused("url = \"redis://h\"\ndeadline = \"0s\"").key, "cache.redis.deadline");
        assert_eq!(refused("url = \"redis://h\"\nca_file = \"/nonexistent\"").key, "cache.redis.ca_file");
        assert_eq!(refused("url = \"redis://h\"\nlease = \"1h\"").key, "cache.redis.lease");
        assert_eq!(refused("url = \"redis://h\"\nsecret = \"\"").key, "cache.redis.secret");
    }
}
