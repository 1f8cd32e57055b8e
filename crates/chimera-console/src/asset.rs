//! What is delivered, in the forms in which it was made when the crate was built.

use std::io::Read as _;

/// One asset.
#[derive(Debug)]
pub(crate) struct Asset {
    /// Its name, with the hash of its content.
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    /// Its entity tag, quotes included.
    pub(crate) tag: &'static str,
    pub(crate) brotli: &'static [u8],
    pub(crate) gzip: &'static [u8],
}

impl Asset {
    /// For the few who take no encoding: the binary does not hold everything a third time for them.
    pub(crate) fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        match flate2::read::GzDecoder::new(self.gzip).read_to_end(&mut plain) {
            Ok(_) => plain,
            // It was made by the build.
            Err(_) => Vec::new(),
        }
    }
}

/// Everything under `/assets/`.
pub(crate) const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The page itself, which names the others.
pub(crate) const PAGE: Asset = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// An asset by its hashed name.
pub(crate) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(asset: &Asset) -> &'static str {
        String::from_utf8(asset.plain()).unwrap().leak()
    }

    /// Names of modules that a module imports before it runs.
    fn imports(text: &'static str) -> impl Iterator<Item = &'static str> {
        text.lines()
            .filter(|line| line.starts_with("import ") || line.starts_with("} from "))
            .filter_map(|line| line.split("\"./").nth(1)?.split('"').next())
    }

    #[test]
    fn every_name_holds_its_hash_and_every_reference_leads_somewhere() {
        assert!(ASSETS.len() > 10);
        for asset in ASSETS {
            assert!(asset.name.contains(&asset.tag[1..17]), "{}", asset.name);
            for reference in text(asset).split("\"./").skip(1) {
                let name = reference.split('"').next().unwrap();
                assert!(find(name).is_some(), "{} names {name}", asset.name);
            }
        }
        for reference in text(&PAGE).split("/assets/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(find(name).is_some(), "the page names {name}");
        }
    }

    #[test]
    fn all_that_the_first_page_runs_is_preloaded() {
        let page = text(&PAGE);
        let mut needed: Vec<&str> = ["app-", "page-overview-"]
            .iter()
            .map(|start| ASSETS.iter().find(|asset| asset.name.starts_with(start)).unwrap().name)
            .collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = needed.pop() {
            if seen.insert(name) {
                needed.extend(imports(text(find(name).unwrap())));
            }
        }
        for name in &seen {
            assert!(page.contains(&format!("/assets/{name}\"")), "{name} is not preloaded");
        }
        assert!(seen.len() > 4, "{seen:?}");
    }

    /// What the first page may weigh; the browser's own count is in the console's browser test.
    #[test]
    fn the_first_page_is_small() {
        let page = text(&PAGE);
        let first = ASSETS.iter().filter(|asset| page.contains(asset.name));
        let (script, rest): (Vec<_>, Vec<_>) = first.partition(|asset| asset.name.ends_with(".js"));
        let bytes = |assets: &[&Asset]| assets.iter().map(|asset| asset.brotli.len()).sum::<usize>();
        let (script, rest) = (bytes(&script), bytes(&rest) + PAGE.brotli.len());
        println!("first page, compressed: {script} bytes of script, {rest} bytes of all else");
        assert!(script <= 30 * 1024 && script + rest <= 45 * 1024, "{script} + {rest}");
    }

    #[test]
    fn nothing_is_inline_and_nothing_makes_markup_of_text() {
        let page = text(&PAGE);
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains(" on"), "{page}");
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "createContextualFragment",
            "srcdoc",
            "javascript:",
            "setAttribute(\"on",
        ];
        for asset in ASSETS.iter().filter(|asset| asset.name.ends_with(".js")) {
            for word in forbidden {
                assert!(!text(asset).contains(word), "{} has {word}", asset.name);
            }
        }
    }

    #[test]
    fn no_asset_names_another_origin() {
        for asset in ASSETS.iter().chain([&PAGE]) {
            for place in text(asset).split("://").skip(1) {
                let allowed = place.starts_with("www.w3.org/");
                assert!(allowed, "{}: {}", asset.name, place.chars().take(30).collect::<String>());
            }
        }
    }
}
