//! Reports of load runs that lie in a folder, for the console.

use std::{fs, io, path::PathBuf, time::UNIX_EPOCH};

use serde_json::{Value, json};

/// A larger file is no report.
const LARGEST: u64 = 8 << 20;
/// The newest are listed, so many.
const MOST: usize = 200;

/// The folder of the reports, where one is configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reports(Option<PathBuf>);

impl Reports {
    pub(crate) fn new(folder: Option<&str>) -> Self {
        Self(folder.map(PathBuf::from))
    }

    /// The reports, newest first.
    pub(crate) fn list(&self) -> io::Result<Value> {
        let Some(folder) = &self.0 else { return Ok(json!({ "configured": false, "reports": [] })) };
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)?.flatten() {
            let (name, Ok(about)) = (entry.file_name(), entry.metadata()) else { continue };
            let Some(name) = name.to_str().filter(|name| is_name(name)) else { continue };
            if about.is_file() && about.len() <= LARGEST {
                let modified = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                found.push((modified.map_or(0, |at| at.as_secs()), name.to_owned(), about.len()));
            }
        }
        found.sort_by(|one, other| other.cmp(one));
        let reports: Vec<_> = found
            .iter()
            .take(MOST)
            .map(|(modified, name, bytes)| json!({ "name": name, "modified": modified, "bytes": bytes }))
            .collect();
        Ok(json!({ "configured": true, "reports": reports }))
    }

    /// One report, if there is such a one and it is JSON. What a name leads to is looked at before it is read: no
    /// link is followed out of the folder.
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.0.as_ref().filter(|_| is_name(name))?.join(name);
        let about = fs::symlink_metadata(&path).ok()?;
        if !about.is_file() || about.len() > LARGEST {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).ok()?;
        Some(bytes)
    }
}

/// Names that cannot lead elsewhere.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.len() <= 128 && name.ends_with(".json") && !name.starts_with('.') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reports_of_the_folder_are_read() {
        let folder = std::env::temp_dir().join(format!("chimera-reports-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("smoke.json"), "{\"scenario\":\"smoke\"}").unwrap();
        fs::write(folder.join("broken.json"), "{").unwrap();
        fs::write(folder.join("secret.toml"), "x").unwrap();
        let outside = folder.with_extension("outside");
        fs::write(&outside, "{\"secret\":1}").unwrap();
        let _ = std::os::unix::fs::symlink(&outside, folder.join("link.json"));
        let reports = Reports::new(folder.to_str());
        let list = reports.list().unwrap();
        let names: Vec<_> = list["reports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|report| report["name"].as_str().unwrap())
            .collect();
        assert!(names.contains(&"smoke.json") && !names.contains(&"secret.toml"), "{names:?}");
        assert!(!names.contains(&"link.json"), "{names:?}");
        assert!(reports.read("smoke.json").is_some());
        let up = format!("../{}", outside.file_name().unwrap().to_str().unwrap());
        for name in
            ["broken.json", "secret.toml", "link.json", "../smoke.json", ".json", "none.json", &up, ""]
        {
            assert!(reports.read(name).is_none(), "{name}");
        }
        assert_eq!(Reports::default().list().unwrap()["configured"], false);
        fs::remove_dir_all(&folder).unwrap();
        fs::remove_file(&outside).unwrap();
    }
}
