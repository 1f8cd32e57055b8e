//! Who may know whom: `cargo metadata` against the table of the architecture.

use serde_json::Value;

use crate::process::{Outcome, cargo, output};

/// What each crate may depend on, dev-dependencies aside: a test may use what stands beside it.
const TABLE: &[(&str, &[&str])] = &[
    ("chimera-protocol", &[]),
    ("chimera-circuit-breaker", &[]),
    ("chimera-cache", &[]),
    ("chimera-json-schema", &[]),
    ("chimera-optimizer", &["chimera-json-schema"]),
    ("chimera-http1", &[]),
    ("chimera-console", &[]),
    ("chimera-provider-pool", &["chimera-circuit-breaker", "chimera-http1"]),
    ("chimera-transform", &["chimera-protocol", "chimera-json-schema"]),
    ("chimera-sim", &["chimera-protocol"]),
    ("chimera-loadgen", &["chimera-protocol"]),
    (
        "chimera-gateway",
        &[
            "chimera-protocol",
            "chimera-circuit-breaker",
            "chimera-cache",
            "chimera-provider-pool",
            "chimera-transform",
            "chimera-optimizer",
        ],
    ),
    (
        "chimera-server",
        &[
            "chimera-gateway",
            "chimera-protocol",
            "chimera-circuit-breaker",
            "chimera-cache",
            "chimera-provider-pool",
            "chimera-transform",
            "chimera-optimizer",
            "chimera-http1",
            "chimera-sim",
            "chimera-console",
        ],
    ),
    ("chimera-load", &["chimera-loadgen"]),
    ("chimera-rig", &[]),
    (
        "chimera-gauge",
        &[
            "chimera-gateway",
            "chimera-protocol",
            "chimera-circuit-breaker",
            "chimera-cache",
            "chimera-provider-pool",
        ],
    ),
    ("xtask", &[]),
];

/// Fails with every dependency that the table does not allow.
pub(crate) fn check() -> Outcome {
    let text = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    for package in metadata.get("packages").and_then(Value::as_array).into_iter().flatten() {
        let name = package.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some((_, allowed)) = TABLE.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{name} is not in the table of xtask/src/layers.rs"));
            continue;
        };
        for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let other = dependency.get("name").and_then(Value::as_str).unwrap_or_default();
            let ours = other.starts_with("chimera-");
            if ours && dependency.get("kind").is_none_or(Value::is_null) && !allowed.contains(&other) {
                wrong.push(format!("{name} may not depend on {other}"));
            }
        }
    }
    if wrong.is_empty() {
        println!("layers: as the table says");
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}
