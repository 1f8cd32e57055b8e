//! Tests of the window. Beside it and not in it: the model check compiles the window over other atomics.

use crate::window::{Counts, Window};

#[test]
fn a_bucket_counts_for_ten_ticks() {
    let window = Window::default();
    window.record(100, true, false);
    window.record(105, false, true);
    assert_eq!(window.sum(109), Counts { calls: 2, failures: 1, slow: 1 });
    assert_eq!(window.sum(110), Counts { calls: 1, failures: 0, slow: 1 });
    window.record(115, false, false);
    assert_eq!(window.sum(115), Counts { calls: 1, failures: 0, slow: 0 });
    assert_eq!(window.sum(200), Counts::default());
}

#[test]
fn a_full_bucket_keeps_its_shares() {
    let window = Window::default();
    for call in 0..100_000_u32 {
        window.record(7, call % 2 == 0, false);
    }
    let counts = window.sum(7);
    let share = counts.failures as f64 / counts.calls as f64;
    assert!((0.45..0.55).contains(&share), "{counts:?}");
}
