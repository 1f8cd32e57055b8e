//! The one screen at the start: where it listens, who answers, what to try.

use crate::{
    config::{Dialect, File},
    surroundings::Addresses,
};

/// A question in one vendor's words: path, and a body that names a model.
type Example = (String, String);

/// The banner. Its curl line works as printed; where client keys are configured it takes one of them
/// from `CHIMERA_KEY`.
pub(crate) fn text(file: &File, listening: &Addresses) -> String {
    let names = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let providers = match file.providers.is_empty() {
        true => "sim (simulated: no provider key in the environment)".to_owned(),
        false => names(file.providers.keys().collect()),
    };
    let mut text = format!(
        "chimera {}\n  listening  http://{}   OpenAI, Anthropic and Gemini APIs\n  admin      http://{}   \
         console, /metrics, /api/v1/cache/metrics, …\n  providers  {providers}\n",
        env!("CARGO_PKG_VERSION"),
        listening.data,
        listening.admin,
    );
    if !file.groups.is_empty() {
        text.push_str(&format!("  groups     {}\n", names(file.groups.keys().collect())));
    }
    text.push_str(match file.clients.is_empty() {
        true => "try\n",
        false => "try, with one of the client keys in CHIMERA_KEY\n",
    });
    text.push_str(&curl(file, listening));
    text
}

fn curl(file: &File, listening: &Addresses) -> String {
    let key = if file.clients.is_empty() { "" } else { " -H \"x-api-key: $CHIMERA_KEY\"" };
    match example(file) {
        Some((path, body)) => format!(
            "  curl http://{}{path}{key} -H 'content-type: application/json' \\\n    -d '{body}'\n",
            listening.data
        ),
        None => format!("  curl http://{}/v1/models{key}\n", listening.data),
    }
}

/// A question that somebody here answers; `None` when no model's name is known.
fn example(file: &File) -> Option<Example> {
    if file.providers.is_empty() {
        return Some(question(Dialect::OpenAi, "sim-small"));
    }
    let of_group = file.groups.iter().find_map(|(name, group)| {
        let provider = file.providers.get(&group.deployments.first()?.provider)?;
        Some(question(provider.dialect, name))
    });
    of_group.or_else(|| {
        file.providers.iter().find_map(|(name, provider)| {
            let named = provider.models.iter().find(|model| !model.ends_with('*')).map(String::as_str);
            let vendors = match (name.as_str(), provider.dialect) {
                _ if !provider.models.is_empty() => None,
                ("openai", Dialect::OpenAi) => Some("gpt-4o-mini"),
                ("anthropic", Dialect::Anthropic) => Some("claude-haiku-4-5"),
                ("gemini", Dialect::Gemini) => Some("gemini-2.5-flash"),
                _ => None,
            };
            named.or(vendors).map(|model| question(provider.dialect, model))
        })
    })
}

fn question(dialect: Dialect, model: &str) -> Example {
    let messages = r#""messages":[{"role":"user","content":"Hello"}]"#;
    match dialect {
        Dialect::OpenAi => {
            ("/v1/chat/completions".to_owned(), format!(r#"{{"model":"{model}",{messages}}}"#))
        }
        Dialect::Anthropic => {
            ("/v1/messages".to_owned(), format!(r#"{{"model":"{model}","max_tokens":100,{messages}}}"#))
        }
        Dialect::Gemini => (
            format!("/v1beta/models/{model}:generateContent"),
            r#"{"contents":[{"parts":[{"text":"Hello"}]}]}"#.to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(config: &str) -> String {
        let file = crate::config::parse(config, []).unwrap();
        let address = |port| ([127, 0, 0, 1], port).into();
        text(&file, &Addresses { data: address(8080), admin: address(8081) })
    }

    fn provider(name: &str, dialect: &str, rest: &str) -> String {
        format!("[providers.{name}]\ndialect = \"{dialect}\"\nbase_url = \"http://h\"\n{rest}\n")
    }

    #[test]
    fn the_line_to_try_is_one_that_somebody_answers() {
        let anthropic = shown(&provider("anthropic", "anthropic", ""));
        assert!(
            anthropic.contains("/v1/messages ") && anthropic.contains("\"model\":\"claude-"),
            "{anthropic}"
        );
        let gemini = shown(&provider("gemini", "gemini", ""));
        assert!(gemini.contains("/v1beta/models/gemini-"), "{gemini}");
        let local = shown(&provider("local", "openai", "models = [\"llama-*\", \"qwen\"]"));
        assert!(local.contains("\"model\":\"qwen\""), "{local}");
        let unnamed = shown(&provider("local", "openai", "models = [\"llama-*\"]"));
        assert!(unnamed.contains("curl http://127.0.0.1:8080/v1/models\n"), "{unnamed}");
        let group = "[groups.fast]\ndeployments = [{ provider = \"anthropic\", model = \"m\" }]";
        let grouped = shown(&provider("anthropic", "anthropic", group));
        assert!(grouped.contains("/v1/messages ") && grouped.contains("\"model\":\"fast\""), "{grouped}");
    }

    #[test]
    fn where_keys_are_asked_for_the_line_sends_one() {
        let keyed = shown(&format!("[clients.c]\nkey_sha256 = [\"{}\"]", "ab".repeat(32)));
        assert!(keyed.contains("-H \"x-api-key: $CHIMERA_KEY\""), "{keyed}");
        assert!(!shown("").contains("CHIMERA_KEY"));
    }
}
