//! Documents with one thing wrong.

use serde_json::{Map, Value, json};

/// What a member is replaced by.
fn wrong() -> [Value; 10] {
    [
        Value::Null,
        json!(true),
        json!(-1),
        json!(9_007_199_254_740_991_u64),
        json!(""),
        json!("unknown"),
        json!([]),
        json!([null]),
        json!({}),
        json!({ "unknown": { "deep": [1, "x"] } }),
    ]
}

/// Copies of a document: each member once removed, once replaced by each of [`wrong`], and one unknown member per
/// object. At most `most`, spread evenly.
pub(crate) fn mutations(document: &Value, most: usize) -> Vec<Value> {
    let mut pointers = Vec::new();
    collect(document, String::new(), &mut pointers);
    let mut edits: Vec<(String, Option<Value>)> = Vec::new();
    for pointer in pointers {
        edits.push((pointer.clone(), None));
        edits.extend(wrong().into_iter().map(|value| (pointer.clone(), Some(value))));
    }
    let step = edits.len().div_ceil(most.max(1)).max(1);
    edits.into_iter().step_by(step).filter_map(|(pointer, value)| edited(document, &pointer, value)).collect()
}

fn collect(value: &Value, at: String, out: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        let pointer = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        out.push(pointer.clone());
        collect(value, pointer, out);
    };
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| below(key, value));
            out.push(format!("{at}/xUnknown"));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| below(&at.to_string(), value))
        }
        _ => {}
    }
}

fn edited(document: &Value, pointer: &str, value: Option<Value>) -> Option<Value> {
    let mut copy = document.clone();
    let (parent, key) = pointer.rsplit_once('/')?;
    let key = key.replace("~1", "/").replace("~0", "~");
    match (copy.pointer_mut(parent)?, value) {
        (Value::Object(members), Some(value)) => {
            members.insert(key, value);
        }
        (Value::Object(members), None) => {
            members.remove(&key)?;
        }
        (Value::Array(values), Some(value)) => *values.get_mut(key.parse::<usize>().ok()?)? = value,
        (Value::Array(values), None) => {
            let index = key.parse::<usize>().ok().filter(|index| *index < values.len())?;
            values.remove(index);
        }
        _ => return None,
    }
    Some(copy)
}

/// The members of an object; nothing of anything else.
pub(crate) fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
