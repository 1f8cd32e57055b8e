//! What changed between two states, as a JSON merge patch (RFC 7396).
//!
//! In such a patch null takes a member away, so a state holds no nulls: what is not known is not there.

use serde_json::{Map, Value};

/// The patch that makes `new` of `old`; `None` where they are the same.
pub(crate) fn between(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for (name, value) in after {
        match before.get(name) {
            None => patch.insert(name.clone(), value.clone()),
            Some(known) => match between(known, value) {
                Some(changed) => patch.insert(name.clone(), changed),
                None => None,
            },
        };
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The value without the members that are null.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let known = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(known.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Applies a patch, as the page does.
    fn applied(target: Value, patch: &Value) -> Value {
        let Value::Object(changes) = patch else { return patch.clone() };
        let mut target = match target {
            Value::Object(target) => target,
            _ => Map::new(),
        };
        for (name, change) in changes {
            if change.is_null() {
                target.remove(name);
            } else {
                let before = target.remove(name).unwrap_or(Value::Null);
                target.insert(name.clone(), applied(before, change));
            }
        }
        Value::Object(target)
    }

    #[test]
    fn a_patch_makes_the_new_state_of_the_old_one() {
        let states = [
            json!({ "a": 1, "b": { "c": [1, 2], "d": "x" } }),
            json!({ "a": 1, "b": { "c": [1, 3], "d": "x" } }),
            json!({ "b": { "d": "y", "e": {} }, "f": 0.5 }),
            json!({}),
            json!({ "b": 3 }),
            json!({ "b": { "c": { "d": 1 } } }),
        ];
        for old in &states {
            for new in &states {
                match between(old, new) {
                    Some(patch) => assert_eq!(&applied(old.clone(), &patch), new, "{old} {new}"),
                    None => assert_eq!(old, new),
                }
            }
        }
        let small = between(&states[0], &states[1]).unwrap();
        assert_eq!(small, json!({ "b": { "c": [1, 3] } }), "what stayed is not said again");
    }

    #[test]
    fn a_state_holds_no_nulls() {
        let value = json!({ "a": null, "b": { "c": null, "d": [ { "e": null } ] } });
        assert_eq!(without_nulls(value), json!({ "b": { "d": [{}] } }));
    }
}
