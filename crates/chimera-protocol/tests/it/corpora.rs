//! What the fuzz targets begin with, and what they once found: replayed.

#[path = "../../../../fuzz/src/targets.rs"]
#[allow(unreachable_pub)]
mod targets;

#[test]
fn every_input_of_every_corpus_holds() {
    for (name, target) in targets::ALL {
        let folder = format!("{}/../../fuzz/corpora/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            // Its beginnings, too: a body that was cut is the usual kind of broken.
            for end in [input.len(), input.len() / 2, input.len().saturating_sub(1)] {
                let outcome = std::panic::catch_unwind(|| target(&input[..end]));
                assert!(outcome.is_ok(), "{} up to {end}", path.display());
            }
            inputs += 1;
        }
        assert!(inputs > 3, "{folder} is empty");
    }
}
