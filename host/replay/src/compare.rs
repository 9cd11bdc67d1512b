//! The first difference between what was recorded and what comes out now.

use std::borrow::Cow;

use pangolin_audit::{canon::CanonError, decision::decisions_bytes};
use pangolin_core::pattern::{Decisions, SpawnSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Longest value that is shown, in bytes.
const SHOWN_BYTES: usize = 240;

/// How the absence of something is shown.
const NOTHING: &str = "(nothing)";

/// Where two answers differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Differs {
    /// The item that the decision is about; absent when it is about the run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub item: Option<String>,
    /// Which part: `spawned`, `spawned/<JSON pointer into the item>`, `supersedes`, `explanation`, `tolerated`, `close`,
    /// `ordered`, `held`, `finding`, `failure` or `decisions`.
    pub member: String,
    /// What the record says, as JSON, cut to 240 bytes.
    pub recorded: String,
    /// What comes out now, likewise.
    pub now: String,
}

impl Differs {
    pub(crate) fn new(
        item: Option<&str>,
        member: impl Into<String>,
        recorded: Option<&str>,
        now: Option<&str>,
    ) -> Self {
        let show = |text: Option<&str>| clip(text.unwrap_or(NOTHING)).into_owned();
        Self {
            item: item.map(|item| clip(item).into_owned()),
            member: member.into(),
            recorded: show(recorded),
            now: show(now),
        }
    }

    fn of<T: Serialize>(item: Option<&str>, member: &str, recorded: Option<&T>, now: Option<&T>) -> Self {
        let json = |value: Option<&T>| value.and_then(|value| serde_json::to_string(value).ok());
        Self::new(item, member, json(recorded).as_deref(), json(now).as_deref())
    }
}

/// The first difference, in the order in which decisions take effect; `None` when the canonical JSON of both is the
/// same.
///
/// # Errors
/// [`CanonError`] when one of them has no canonical form.
pub fn first_difference(recorded: &Decisions, now: &Decisions) -> Result<Option<Differs>, CanonError> {
    let (before, after) = (decisions_bytes(recorded)?, decisions_bytes(now)?);
    if before == after {
        return Ok(None);
    }
    // Both in their canonical form: 1.0 and 1 are the same number.
    let read = |bytes: &[u8]| {
        serde_json::from_slice::<Decisions>(bytes)
            .map_err(|error| CanonError::Unserialisable(error.to_string()))
    };
    let (before, after) = (read(&before)?, read(&after)?);
    let whole = || Differs::of(None, "decisions", Some(&before), Some(&after));
    Ok(Some(differs(&before, &after).unwrap_or_else(whole)))
}

fn differs(before: &Decisions, after: &Decisions) -> Option<Differs> {
    let findings =
        pair(&before.findings, &after.findings).map(|(old, new)| Differs::of(None, "finding", old, new));
    let ordered = || {
        pair(&before.ordered, &after.ordered).map(|(old, new)| {
            let item = old.or(new).map(|ordering| ordering.item.as_str());
            Differs::of(item, "ordered", old, new)
        })
    };
    let held = || {
        pair(&before.held, &after.held)
            .map(|(old, new)| Differs::of(old.or(new).map(|item| item.as_str()), "held", old, new))
    };
    let spawned = || {
        let (old, new) = pair(&before.spawned, &after.spawned)?;
        Some(match (old, new) {
            (Some(old), Some(new)) if old.id == new.id => spec(old, new),
            _ => {
                let id = old.or(new).map(|spec| spec.id.as_str());
                Differs::of(id, "spawned", old.map(|spec| &spec.id), new.map(|spec| &spec.id))
            }
        })
    };
    let explanations = || {
        pair(&before.explanations, &after.explanations).map(|(old, new)| {
            let item = old.or(new).map(|explanation| explanation.item.as_str());
            Differs::of(item, "explanation", old, new)
        })
    };
    let tolerated = || {
        pair(&before.tolerated, &after.tolerated).map(|(old, new)| {
            let item = old.or(new).and_then(|tolerated| tolerated.items.first()).map(|item| item.as_str());
            Differs::of(item, "tolerated", old, new)
        })
    };
    let close = || {
        (before.close != after.close)
            .then(|| Differs::of(None, "close", Some(&before.close), Some(&after.close)))
    };
    findings
        .or_else(ordered)
        .or_else(held)
        .or_else(spawned)
        .or_else(explanations)
        .or_else(tolerated)
        .or_else(close)
}

/// The first pair that is not equal.
fn pair<'a, T: PartialEq>(before: &'a [T], after: &'a [T]) -> Option<(Option<&'a T>, Option<&'a T>)> {
    let length = before.len().max(after.len());
    (0..length).map(|at| (before.get(at), after.get(at))).find(|(old, new)| old != new)
}

fn spec(old: &SpawnSpec, new: &SpawnSpec) -> Differs {
    let id = Some(old.id.as_str());
    match object(&old.item.to_json(), &new.item.to_json(), &mut "spawned".to_owned()) {
        Some((member, old, new)) => Differs::of(id, &member, old.as_ref(), new.as_ref()),
        None => Differs::of(id, "supersedes", old.supersedes.as_ref(), new.supersedes.as_ref()),
    }
}

type Place = (String, Option<Value>, Option<Value>);

fn object(old: &Map<String, Value>, new: &Map<String, Value>, at: &mut String) -> Option<Place> {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    old.keys().chain(added).find_map(|key| value(old.get(key), new.get(key), key, at))
}

fn value(old: Option<&Value>, new: Option<&Value>, key: &str, at: &mut String) -> Option<Place> {
    if old == new {
        return None;
    }
    let length = at.len();
    at.push('/');
    at.push_str(&key.replace('~', "~0").replace('/', "~1"));
    let inside = match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => object(old, new, at),
        (Some(Value::Array(old)), Some(Value::Array(new))) => (0..old.len().max(new.len()))
            .find_map(|index| value(old.get(index), new.get(index), &index.to_string(), at)),
        _ => None,
    };
    let place = inside.unwrap_or_else(|| (at.clone(), old.cloned(), new.cloned()));
    at.truncate(length);
    Some(place)
}

fn clip(text: &str) -> Cow<'_, str> {
    if text.len() <= SHOWN_BYTES {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(SHOWN_BYTES);
    Cow::Owned(format!("{}… ({} bytes)", &text[..end], text.len()))
}
