//! Prompt templates: `{{field}}` and `{{a.b}}` over the item's input. Text is inserted as it is, everything else
//! as JSON. Sections and partials of Mustache are not supported; an unknown field is an error, not an empty string.

use serde_json::Value;

/// Renders `template`.
///
/// # Errors
/// Names the field that the input does not have, or the tag that is not closed.
pub(super) fn render(template: &str, input: &Value) -> Result<String, String> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once("{{") {
        let (tag, after) = tail.split_once("}}").ok_or("promptTemplate has a {{ without }}")?;
        text.push_str(before);
        let path = tag.trim();
        let value = path.split('.').try_fold(input, |value, key| value.get(key));
        match value {
            Some(Value::String(value)) => text.push_str(value),
            Some(value) => text.push_str(&value.to_string()),
            None => {
                return Err(format!("promptTemplate uses {{{{{path}}}}}, which workerInput does not have"));
            }
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_inserted_and_missing_ones_are_named() {
        let input = serde_json::json!({"file": "a<b>.ts", "n": {"k": [1, 2]}});
        assert_eq!(render("edit {{file}} with {{ n.k }}", &input).unwrap(), "edit a<b>.ts with [1,2]");
        assert!(render("{{nope}}", &input).unwrap_err().contains("nope"));
        assert!(render("{{file", &input).is_err());
    }
}
