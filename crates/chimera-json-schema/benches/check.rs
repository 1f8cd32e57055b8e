//! Reading a schema of structured output, and holding an answer of about 2 KB against it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use chimera_json_schema::Schema;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": { "items": { "type": "array", "items": { "$ref": "#/$defs/item" } } },
        "required": ["items"],
        "additionalProperties": false,
        "$defs": { "item": {
            "type": "object",
            "properties": {
                "name": { "type": "string", "minLength": 1, "pattern": "^[a-z -]+$" },
                "price": { "type": "number", "minimum": 0 },
                "kind": { "enum": ["new", "used"] },
                "note": { "anyOf": [{ "type": "null" }, { "type": "string" }] },
            },
            "required": ["name", "price", "kind", "note"],
            "additionalProperties": false,
        } },
    })
}

fn check(criterion: &mut Criterion) {
    let item = json!({ "name": "a plain chair", "price": 12.5, "kind": "used", "note": null });
    let answer = json!({ "items": vec![item; 30] });
    let source = schema();
    criterion.bench_function("read", |b| b.iter(|| Schema::new(black_box(&source)).unwrap()));
    let schema = Schema::new(&source).unwrap();
    criterion.bench_function("check", |b| b.iter(|| schema.check(black_box(&answer)).unwrap()));
}

criterion_group!(benches, check);
criterion_main!(benches);
