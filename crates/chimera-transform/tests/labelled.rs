//! What redaction finds of the labelled set does not get less.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../examples/labelled.rs"]
#[allow(dead_code)]
mod labelled;

use chimera_transform::{Redact, RedactSettings};

#[test]
fn recall_and_precision_of_every_kind_stay_above_99_percent() {
    let set = labelled::set();
    assert!(set.len() >= 2000);
    let counts = labelled::measure(&Redact::new(RedactSettings::default()).unwrap(), &set, false);
    assert_eq!(counts.len(), 8);
    for (kind, [found, missed, wrong]) in counts {
        assert!(found > 100, "{kind}: {found}");
        assert!(missed * 100 <= found && wrong * 100 <= found, "{kind}: {found}, {missed}, {wrong}");
    }
}
