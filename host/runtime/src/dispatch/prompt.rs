//! Prompt templates: `{{field}}` and `{{a.b}}` over the item's input. Text is inserted as it is, everything else
//! as JSON. Sections and partials of Mustache are not supported; an unknown field is an error, not an empty string.

use serde_json::Value;

/// A piece of a template.
enum Piece<'t> {
    Text(&'t str),
    /// What is between the braces.
    Field(&'t str),
    /// Braces that are not closed.
    Open,
}

fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once("{{") {
        found.push(Piece::Text(before));
        let Some((tag, after)) = tail.split_once("}}") else {
            found.push(Piece::Open);
            return found;
        };
        found.push(Piece::Field(tag.trim()));
        rest = after;
    }
    found.push(Piece::Text(rest));
    found
}

fn field<'v>(input: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(input, |value, key| value.get(key))
}

/// What is wrong with a template whatever the input is.
pub(crate) fn malformed(template: &str) -> Option<&'static str> {
    let open = pieces(template).iter().any(|piece| matches!(piece, Piece::Open));
    open.then_some("promptTemplate has a {{ without }}")
}

/// Everything that keeps a template from being rendered: fields that the input does not have, each once, and a tag that is
/// not closed.
pub(super) fn problems(template: &str, input: &Value) -> Vec<String> {
    let mut found: Vec<String> = malformed(template).map(str::to_owned).into_iter().collect();
    for piece in pieces(template) {
        let Piece::Field(path) = piece else { continue };
        let problem = format!("promptTemplate uses {{{{{path}}}}}, which workerInput does not have");
        if field(input, path).is_none() && !found.contains(&problem) {
            found.push(problem);
        }
    }
    found
}

/// Renders `template`.
///
/// # Errors
/// Names every field that the input does not have, and a tag that is not closed.
pub(super) fn render(template: &str, input: &Value) -> Result<String, String> {
    let problems = problems(template, input);
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let mut text = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece {
            Piece::Text(before) => text.push_str(before),
            Piece::Field(path) => match field(input, path) {
                Some(Value::String(value)) => text.push_str(value),
                Some(value) => text.push_str(&value.to_string()),
                None => {}
            },
            Piece::Open => {}
        }
    }
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

    #[test]
    fn everything_that_is_missing_is_named_once() {
        let input = serde_json::json!({"file": "x"});
        let found = problems("{{a}} {{file}} {{b.c}} {{a}} {{open", &input);
        assert_eq!(
            found,
            [
                "promptTemplate has a {{ without }}",
                "promptTemplate uses {{a}}, which workerInput does not have",
                "promptTemplate uses {{b.c}}, which workerInput does not have",
            ]
        );
    }
}
