//! The scenarios that come with the program, and those of files.

use std::{error::Error, fs};

const PROFILES: [(&str, &str); 8] = [
    ("smoke", include_str!("../../../config/load/smoke.toml")),
    ("load", include_str!("../../../config/load/load.toml")),
    ("stress", include_str!("../../../config/load/stress.toml")),
    ("soak", include_str!("../../../config/load/soak.toml")),
    ("hold", include_str!("../../../config/load/hold.toml")),
    ("spike", include_str!("../../../config/load/spike.toml")),
    ("transform", include_str!("../../../config/load/transform.toml")),
    ("replay", include_str!("../../../config/load/replay.toml")),
];

pub(crate) fn names() -> String {
    PROFILES.map(|(name, _)| name).join(", ")
}

/// The text of a profile.
pub(crate) fn text(name: &str) -> Result<&'static str, Box<dyn Error>> {
    let found = PROFILES.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text).ok_or_else(|| format!("`{name}` is none of {}", names()).into())
}

/// A profile by its name, or else a file.
pub(crate) fn read(name: &str) -> Result<String, Box<dyn Error>> {
    match text(name) {
        Ok(text) => Ok(text.to_owned()),
        Err(no_profile) if !name.contains(['.', '/']) => Err(no_profile),
        Err(_) => fs::read_to_string(name).map_err(|error| format!("{name}: {error}").into()),
    }
}

#[cfg(test)]
mod tests {
    use chimera_loadgen::{Overrides, Scenario};

    use super::*;

    #[test]
    fn every_profile_is_a_scenario_of_its_name() {
        for (name, text) in PROFILES {
            let overrides = Overrides { trace: Some("t".into()), ..Overrides::default() };
            assert_eq!(Scenario::parse(text, &overrides).unwrap().name, name);
        }
    }

    #[test]
    fn what_a_profile_explains_can_be_switched_on() {
        let smoke = text("smoke").unwrap();
        // Not the ones that name what this machine may not have, and not two that exclude each other.
        let left_out = ["api_key_env", "ca_file", "pid"];
        let on: String = smoke
            .lines()
            .map(|line| match line.strip_prefix("#! ") {
                Some(key) if !left_out.iter().any(|name| key.starts_with(name)) => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert_ne!(on, smoke);
        let scenario = Scenario::parse(&on, &Overrides::default()).unwrap();
        assert_eq!((scenario.seed, scenario.thresholds.len()), (Some(1), 3));
        assert!(scenario.watch.is_some());
    }

    #[test]
    fn a_name_that_is_none_says_which_there_are() {
        assert!(read("smok").unwrap_err().to_string().contains("smoke"));
        assert!(read("no/such.toml").unwrap_err().to_string().contains("no/such.toml"));
    }
}
