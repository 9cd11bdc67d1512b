//! The item that a pattern wants added, as plain JSON but for its needs: an item that puts together what thousands made
//! has one for each of them.

use std::{ops::Index, sync::Arc};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value, json};

const NEEDS: &str = "needs";

/// An item exactly as in a plan, id included. Checked like a submitted one (`validate::parse_items`) before it is added.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "Map<String, Value>")]
pub struct SpawnItem {
    /// Everything else; `needs` too when it is empty or has not the form of a plan, so that nothing is lost.
    members: Map<String, Value>,
    /// Ascending by key, each key once.
    needs: SpawnNeeds,
}

/// Hand-offs to an item that is to be added. One text for all of them, because there may be thousands.
#[derive(Debug, Clone, Default)]
pub struct SpawnNeeds {
    /// Of every need its key and its source.
    text: String,
    places: Vec<Place>,
    /// Of outputs.
    paths: Vec<Arc<str>>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    /// Where the key begins, the source begins, and the source ends.
    key: usize,
    from: usize,
    end: usize,
    /// Position of the path; none for the patch.
    path: Option<usize>,
}

/// One hand-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnNeed<'n> {
    /// Path below `inputs/`.
    pub key: &'n str,
    /// The producing item.
    pub from: &'n str,
    /// The file below `outputs/`; `None` is the captured workspace diff.
    pub output: Option<&'n str>,
}

impl SpawnNeeds {
    /// Adds one for the captured diff of an item.
    pub fn push_patch(&mut self, key: &str, from: &str) {
        self.push(key, from, None);
    }

    /// Adds those for outputs of the same path: pairs of key and source.
    pub fn push_outputs<T: AsRef<str>>(&mut self, path: &str, needs: impl IntoIterator<Item = (T, T)>) {
        let position = self.paths.len();
        self.paths.push(path.into());
        for (key, from) in needs {
            self.push(key.as_ref(), from.as_ref(), Some(position));
        }
    }

    fn push(&mut self, key: &str, from: &str, path: Option<usize>) {
        let start = self.text.len();
        self.text.push_str(key);
        self.text.push_str(from);
        self.places.push(Place { key: start, from: start + key.len(), end: self.text.len(), path });
    }

    fn key(&self, place: &Place) -> &str {
        &self.text[place.key..place.from]
    }

    /// All of them, in the order they came in.
    pub fn iter(&self) -> impl Iterator<Item = SpawnNeed<'_>> {
        self.places.iter().map(|place| SpawnNeed {
            key: self.key(place),
            from: &self.text[place.from..place.end],
            output: place.path.and_then(|path| self.paths.get(path)).map(|path| &**path),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// In order, and of those with the same key only the last one.
    fn settled(mut self) -> Self {
        let is_settled = self.places.is_sorted_by(|one, next| self.key(one) < self.key(next));
        if !is_settled {
            let mut places = std::mem::take(&mut self.places);
            places.sort_by(|one, other| self.key(one).cmp(self.key(other)));
            places.dedup_by(|later, earlier| {
                let is_same = self.key(later) == self.key(earlier);
                if is_same {
                    *earlier = *later;
                }
                is_same
            });
            self.places = places;
        }
        self
    }
}

impl PartialEq for SpawnNeeds {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl SpawnItem {
    /// An item of these members and needs. Of needs with the same key the last one counts.
    #[must_use]
    pub fn new(members: Map<String, Value>, needs: SpawnNeeds) -> Self {
        Self { members, needs: needs.settled() }
    }

    /// A member other than `needs`.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<&Value> {
        self.members.get(key)
    }

    /// The item as JSON.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut whole = self.members.clone();
        if !self.needs.is_empty() {
            let needs = self.needs.iter().map(|need| (need.key.to_owned(), json!(need)));
            whole.insert(NEEDS.to_owned(), Value::Object(needs.collect()));
        }
        whole
    }
}

/// A member other than `needs`; null when there is none.
impl Index<&str> for SpawnItem {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        self.member(key).unwrap_or(&Value::Null)
    }
}

/// `None` when one of them has another form than this type writes.
fn needs_of(json: &Map<String, Value>) -> Option<SpawnNeeds> {
    let mut needs = SpawnNeeds::default();
    for (key, value) in json {
        let need = value.as_object().filter(|need| need.len() == 2)?;
        let (from, select) = (need.get("from")?.as_str()?, need.get("select")?.as_object()?);
        match (select.get("kind")?.as_str()?, select.get("path"), select.len()) {
            ("patch", None, 1) => needs.push_patch(key, from),
            ("output", Some(path), 2) => {
                let path = path.as_str()?;
                // Mostly all have the same one.
                let last = needs.paths.len().checked_sub(1).filter(|last| *needs.paths[*last] == *path);
                match last {
                    Some(_) => needs.push(key, from, last),
                    None => needs.push_outputs(path, [(key.as_str(), from)]),
                }
            }
            _ => return None,
        }
    }
    Some(needs)
}

impl From<Map<String, Value>> for SpawnItem {
    fn from(mut members: Map<String, Value>) -> Self {
        match members.get(NEEDS).and_then(Value::as_object).and_then(needs_of) {
            Some(needs) if !needs.is_empty() => {
                members.remove(NEEDS);
                Self::new(members, needs)
            }
            _ => Self { members, needs: SpawnNeeds::default() },
        }
    }
}

impl Serialize for SpawnItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in &self.members {
            map.serialize_entry(key, value)?;
        }
        if !self.needs.is_empty() {
            map.serialize_entry(NEEDS, &self.needs)?;
        }
        map.end()
    }
}

impl Serialize for SpawnNeeds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|need| (need.key, need)))
    }
}

impl Serialize for SpawnNeed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("from", self.from)?;
        match self.output {
            None => map.serialize_entry("select", &Select { kind: "patch", path: None })?,
            path => map.serialize_entry("select", &Select { kind: "output", path })?,
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Select<'n> {
    kind: &'n str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'n str>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::SpawnItem;

    fn item(value: &Value) -> SpawnItem {
        serde_json::from_value(value.clone()).expect("an item")
    }

    #[test]
    fn json_of_any_form_comes_back_as_it_was() {
        let patch = json!({ "from": "a", "select": { "kind": "patch" } });
        let output = json!({ "from": "a", "select": { "kind": "output", "path": "out/x" } });
        for needs in [
            json!({ "b": patch, "a": output }),
            json!({}),
            json!(null),
            json!([1]),
            json!({ "a": 1 }),
            json!({ "a": { "from": "not an id", "select": { "kind": "patch" } } }),
            json!({ "a": { "from": 1, "select": { "kind": "patch" } } }),
            json!({ "c": output, "a": patch, "b": { "from": "", "select": { "kind": "output", "path": "y" } } }),
            json!({ "a": { "from": "a", "select": { "kind": "patch", "path": "x" } } }),
            json!({ "a": { "from": "a", "select": { "kind": "output" } } }),
            json!({ "a": { "from": "a", "select": { "kind": "other" }, } }),
            json!({ "a": { "from": "a", "select": { "kind": "patch" }, "more": 1 } }),
            json!({ "a": patch, "b": { "from": "a" } }),
        ] {
            let whole = json!({ "id": "x", "inputs": { "z": 1, "a": 2 }, "needs": needs });
            let made = item(&whole);
            assert_eq!(serde_json::to_value(&made).expect("json"), whole);
            assert_eq!(Value::Object(made.to_json()), whole);
            assert_eq!(made.member("id"), Some(&json!("x")));
        }
        let without = json!({ "id": "x" });
        assert_eq!(serde_json::to_value(item(&without)).expect("json"), without);
    }

    #[test]
    fn the_order_of_needs_does_not_count_and_the_last_of_a_key_does() {
        let mut needs = super::SpawnNeeds::default();
        needs.push_patch("b", "1");
        needs.push_outputs("out", [("a", "2"), ("b", "3")]);
        needs.push_patch("b", "4");
        let made = SpawnItem::new(serde_json::Map::new(), needs);
        let a = json!({ "from": "2", "select": { "kind": "output", "path": "out" } });
        let b = json!({ "from": "4", "select": { "kind": "patch" } });
        let text = format!(r#"{{"needs":{{"a":{a},"b":{b}}}}}"#);
        assert_eq!(serde_json::to_string(&made).expect("json"), text);
        assert_eq!(item(&json!({ "needs": { "b": b, "a": a } })), made);
        assert_ne!(item(&json!({ "needs": { "b": a, "a": a } })), made);
    }
}
