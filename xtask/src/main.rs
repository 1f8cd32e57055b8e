//! The tasks of this workspace: test, ci, perf, docs, layers, tidy, real-model
fn main() {}
