//! The short form: a prompt or messages, turned into an OpenAI chat call and sent its way.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    aside::{LARGE_REQUEST, aside},
    failure::Failure,
};

/// Makes the chat body of a short form, of a large one beside the event loop.
/// Where a pipeline may follow, a prompt may be an object: it names a template.
pub(crate) async fn chat(body: Bytes, templates: bool) -> Result<Bytes, Failure> {
    if body.len() <= LARGE_REQUEST {
        return chat_body(&body, templates);
    }
    aside(move || chat_body(&body, templates)).await?
}

/// Makes the chat body of `{model, prompt | messages, …}`. All other members go on as they are.
fn chat_body(body: &[u8], templates: bool) -> Result<Bytes, Failure> {
    // Duplicate keys and the rest of what a body must not be are refused here, before they could be
    // merged away by parsing.
    chimera_protocol::json::Document::parse(body)
        .map_err(|error| Failure::invalid(format!("the body is not valid JSON: {error}")))?;
    let mut members: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| Failure::invalid("the body must be an object"))?;
    let names_template = templates && members.get("prompt").is_some_and(Value::is_object);
    if names_template || (members.contains_key("messages") && !members.contains_key("prompt")) {
        return Ok(Bytes::copy_from_slice(body));
    }
    if members.contains_key("messages") {
        return Err(Failure::invalid("send prompt or messages, not both").param("prompt"));
    }
    match members.shift_remove("prompt") {
        Some(Value::String(prompt)) => {
            members.insert("messages".into(), json!([{ "role": "user", "content": prompt }]));
        }
        Some(_) => return Err(Failure::invalid("prompt must be a string").param("prompt")),
        None => return Err(Failure::invalid("prompt or messages is required").param("prompt")),
    }
    serde_json::to_vec(&members)
        .map(Bytes::from)
        .map_err(|_| Failure::invalid("the body cannot be written as JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_becomes_one_user_message_and_the_rest_stays() {
        let body = chat_body(br#"{"model":"sim-small","prompt":"hi","temperature":0.5}"#, false).unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            value,
            json!({
                "model": "sim-small", "temperature": 0.5, "messages": [{"role": "user", "content": "hi"}],
            })
        );
    }

    #[test]
    fn messages_go_on_untouched_and_both_are_refused() {
        let body = br#"{ "model":"m", "messages":[] }"#;
        assert_eq!(chat_body(body, false).unwrap(), &body[..]);
        let both = chat_body(br#"{"model":"m","prompt":"x","messages":[]}"#, false).unwrap_err();
        assert_eq!(both.param.as_deref(), Some("prompt"));
        assert!(chat_body(b"{}", false).is_err());
        assert!(chat_body(b"[]", false).is_err());
        assert!(chat_body(br#"{"prompt":1}"#, false).is_err());
        assert!(chat_body(br#"{"prompt":"a","prompt":"b"}"#, false).is_err());
        let template = br#"{"prompt":{"id":"a"}}"#;
        assert!(chat_body(template, false).is_err());
        assert_eq!(chat_body(template, true).unwrap(), &template[..]);
    }
}
