//! Looks over a request and fingerprints it: spelling does not matter, meaning does.
#![allow(clippy::print_stdout, missing_docs)]

use chimera_protocol::{DialectId, Fingerprint, LookOver, Operation, Scope, json::Document};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let requests = [
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}],"temperature":0.5}"#,
        r#"{ "temperature": 5e-1, "messages": [{"content":"Hell\u006f","role":"user"}], "model":"gpt-4o" }"#,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello!"}],"temperature":0.5}"#,
        r#"{"model":"gpt-4o","model":"gpt-4o-mini","messages":[]}"#,
    ];
    for body in requests {
        let document = match Document::parse(body.as_bytes()) {
            Ok(document) => document,
            Err(error) => {
                println!("refused: {error}");
                continue;
            }
        };
        let request = LookOver::of(DialectId::OpenAi, Operation::Chat, &document)?;
        let model = request.model.unwrap_or_default();
        let scope = Scope { model: &model, ..Scope::new("acme", DialectId::OpenAi) };
        let fingerprint = Fingerprint::compute(&[7; 32], &scope, &document, &mut Vec::new());
        println!("{model}: {fingerprint:?}");
    }
    Ok(())
}
