//! What a schema says of some answers: `cargo run -p chimera-json-schema --example hold`.

use chimera_json_schema::Schema;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let schema = Schema::new(&json!({
        "type": "object",
        "properties": {
            "city": { "type": "string", "minLength": 1 },
            "degrees": { "type": "array", "items": { "type": "number" } },
        },
        "required": ["city"],
        "additionalProperties": false,
    }))?;
    for answer in [
        r#"{"city":"Oslo","degrees":[3,4.5]}"#,
        r#"{"city":"Oslo","degrees":["warm"]}"#,
        r#"{"town":"Oslo"}"#,
    ] {
        match schema.check(&serde_json::from_str(answer)?) {
            Ok(()) => println!("{answer}: it fits"),
            Err(misfit) => println!("{answer}: {misfit}"),
        }
    }
    Ok(())
}
