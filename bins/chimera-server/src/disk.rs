//! The cache's file from the configuration, and the secret that is kept beside it.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use chimera_gateway::DiskCache;

use crate::{
    config::{ConfigError, File},
    random,
};

/// Checks what can be checked without touching the disk.
pub(crate) fn check(file: &File) -> Result<(), ConfigError> {
    let Some(path) = &file.cache.disk.path else { return Ok(()) };
    if file.cache.redis.url.is_some() {
        let why = "a cache is in a file or in a Redis, not in both: take out one of them";
        return Err(ConfigError::new("cache.disk.path", why));
    }
    built(file, path, &[0; 32]).map(|_| ())
}

/// The file, if there is one. The secret is made at the first start.
pub(crate) fn cache(file: &File) -> Result<Option<DiskCache>, ConfigError> {
    let Some(path) = &file.cache.disk.path else { return Ok(None) };
    let secret = secret(Path::new(path)).map_err(|error| {
        ConfigError::new("cache.disk.path", format!("the secret beside it cannot be read or made: {error}"))
    })?;
    built(file, path, &secret).map(Some)
}

fn built(file: &File, path: &str, secret: &[u8]) -> Result<DiskCache, ConfigError> {
    let disk = &file.cache.disk;
    let mut cache = DiskCache::new(path, disk.max_bytes.0, secret);
    // An answer, and what is written of it besides.
    let largest = file.cache.max_entry.0.saturating_add(4096);
    cache.disk.max_value = usize::try_from(largest).unwrap_or(usize::MAX);
    (cache.limits.get, cache.limits.slow) = (disk.deadline.0, disk.deadline.0.mul_f64(0.6));
    let wrong = |key: &str, why: String| Err(ConfigError::new(format!("cache.disk.{key}"), why));
    if disk.deadline.0 < Duration::from_millis(1) {
        return wrong("deadline", "it must be at least 1ms".to_owned());
    }
    match cache.disk.validate() {
        Ok(()) => Ok(cache),
        Err(error) if error.field == "max_value" => {
            wrong("max_bytes", "it must be more than four times cache.max_entry".to_owned())
        }
        Err(error) => wrong(error.field, format!("it must be {}", error.want)),
    }
}

/// What keys the answers in the file, so that who can write to it alone cannot put one there.
fn secret(path: &Path) -> io::Result<[u8; 32]> {
    let mut name = path.as_os_str().to_owned();
    name.push(".secret");
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name);
    match made {
        Ok(mut file) => {
            let secret = random::seed()?;
            file.write_all(&secret)?;
            file.sync_all()?;
            Ok(secret)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut secret = [0; 32];
            fs::File::open(&name)?.read_exact(&mut secret)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn what_is_wrong_is_named() {
        let key = |text: &str| check(&config::parse(text, []).unwrap()).unwrap_err().key;
        check(&config::parse("[cache.disk]\npath = \"/tmp/x\"", []).unwrap()).unwrap();
        assert_eq!(key("[cache.disk]\npath = \"\""), "cache.disk.path");
        assert_eq!(key("[cache.disk]\npath = \"x\"\nmax_bytes = \"2MiB\""), "cache.disk.max_bytes");
        assert_eq!(key("[cache.disk]\npath = \"x\"\ndeadline = \"0s\""), "cache.disk.deadline");
        let both = "[cache.disk]\npath = \"x\"\n[cache.redis]\nurl = \"redis://h\"";
        assert_eq!(key(both), "cache.disk.path");
    }
}
