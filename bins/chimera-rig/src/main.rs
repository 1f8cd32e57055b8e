//! Bare servers and load drivers that the gateway is measured against
fn main() {}
