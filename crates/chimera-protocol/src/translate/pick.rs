//! Reads the values of a request strictly: what has the wrong kind is refused by name.

use std::borrow::Cow;

use super::{refuse::Refused, text::Text};
use crate::json::{Kind, Value};

pub(crate) type Picked<T> = Result<T, Refused>;

pub(crate) fn text(value: Value<'_>) -> Picked<Text<'_>> {
    Text::of(value).ok_or_else(|| Refused::here("it must be a string"))
}

/// A string that is compared with words.
pub(crate) fn word(value: Value<'_>) -> Picked<Cow<'_, str>> {
    value.as_str().ok_or_else(|| Refused::here("it must be a string"))
}

pub(crate) fn boolean(value: Value<'_>) -> Picked<bool> {
    value.as_bool().ok_or_else(|| Refused::here("it must be true or false"))
}

/// A number as it is spelled.
pub(crate) fn number(value: Value<'_>) -> Picked<&str> {
    match value.kind() {
        Kind::Number => Ok(value.raw()),
        _ => Err(Refused::here("it must be a number")),
    }
}

/// A whole number from zero up.
pub(crate) fn count(value: Value<'_>) -> Picked<u64> {
    let number = value.raw().parse::<u64>().ok();
    number.ok_or_else(|| Refused::here("it must be a whole number, not below zero"))
}

/// An object as it is spelled.
pub(crate) fn object(value: Value<'_>) -> Picked<&str> {
    match value.kind() {
        Kind::Object => Ok(value.raw()),
        _ => Err(Refused::here("it must be an object")),
    }
}

/// A member that must be there.
pub(crate) fn required<'a>(value: Value<'a>, name: &str) -> Picked<Value<'a>> {
    let found = value.get(name).filter(|value| !value.is_null());
    found.ok_or_else(|| Refused::here("it is required").inside(name))
}

/// The string in a member that must be there.
pub(crate) fn text_in<'a>(value: Value<'a>, name: &str) -> Picked<Text<'a>> {
    text(required(value, name)?).map_err(|refused| refused.inside(name))
}

/// The string in a member that may be there.
pub(crate) fn maybe_text<'a>(value: Value<'a>, name: &str) -> Picked<Option<Text<'a>>> {
    let found = value.get(name).filter(|value| !value.is_null());
    found.map(text).transpose().map_err(|refused| refused.inside(name))
}

/// Reads every member of an object that is not null, by its name.
pub(crate) fn members<'a>(
    value: Value<'a>,
    mut each: impl FnMut(&str, Value<'a>) -> Picked<()>,
) -> Picked<()> {
    object(value)?;
    for (key, value) in value.members().filter(|(_, value)| !value.is_null()) {
        let name = key.as_str().unwrap_or_default();
        each(&name, value).map_err(|refused| refused.inside(&name))?;
    }
    Ok(())
}

/// Reads every element of an array.
pub(crate) fn elements<'a>(
    value: Value<'a>,
    mut each: impl FnMut(usize, Value<'a>) -> Picked<()>,
) -> Picked<()> {
    if value.kind() != Kind::Array {
        return Err(Refused::here("it must be an array"));
    }
    let mut elements = value.elements().enumerate();
    elements.try_for_each(|(index, element)| each(index, element).map_err(|refused| refused.item(index)))
}

/// Refuses every member that is not among the known names.
pub(crate) fn only(value: Value<'_>, known: &[&str]) -> Picked<()> {
    members(value, |name, _| if known.contains(&name) { Ok(()) } else { Err(Refused::unknown()) })
}

/// The value of a number as a double.
pub(crate) fn float(spelled: &str) -> f64 {
    spelled.parse().unwrap_or(0.0)
}
