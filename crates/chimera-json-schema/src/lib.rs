//! JSON Schema, as far as it describes what a model is to answer: read once, then held against values.
//!
//! ```
//! use chimera_json_schema::Schema;
//! use serde_json::json;
//!
//! let schema = Schema::new(&json!({
//!     "type": "object",
//!     "properties": { "price": { "type": "number", "minimum": 0 } },
//!     "required": ["price"],
//! }))?;
//! assert!(schema.check(&json!({ "price": 3 })).is_ok());
//! let misfit = schema.check(&json!({ "price": -1 })).unwrap_err();
//! assert_eq!(misfit.to_string(), "$.price: it must be at least 0");
//! # Ok::<(), chimera_json_schema::SchemaError>(())
//! ```
//!
//! # What is read
//! Every assertion and applicator of draft 2020-12 that structured output knows, `$ref` to places of the same
//! schema, and of OpenAPI `nullable` and type names in capitals, as Gemini spells them. `format` and what
//! else only annotates is passed over. A keyword that would be an assertion and is not read (`unevaluatedItems`,
//! references to elsewhere) is refused by its place: a schema that was half understood would let pass what it
//! forbids.
//!
//! # Guarantees
//! - **Time**: a check looks at values half a million times at most, and patterns are matched in linear time;
//!   schemas may come from callers who mean harm.
//! - **Memory**: a schema is at most 10,000 schemas, nested 64 deep.
//! - **Errors**: the first misfit, with its JSON path and what is wanted there. What a value says is not quoted; names
//!   of members are, in the path.
//!
//! # What it does not do
//! It fetches nothing, fills in no defaults, and collects no list of all misfits. Patterns are ASCII and have no
//! look-around.

mod check;
mod compile;

pub use check::{Misfit, Schema};
pub use compile::SchemaError;

#[cfg(test)]
mod tests;
