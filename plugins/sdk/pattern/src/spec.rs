//! Items to add: from scratch, from a template, or as a copy.

use std::rc::Rc;

use serde_json::{Map, Value};

use crate::{
    Item, Texts,
    host::{Fault, fault},
    json,
};

/// Names and what they stand for. A list, because an item has few and a map is a lot of code.
pub(crate) type Pairs = Vec<(Rc<str>, Rc<str>)>;

fn set(pairs: &mut Pairs, key: &str, value: Rc<str>) {
    match pairs.iter_mut().find(|pair| &*pair.0 == key) {
        Some(pair) => pair.1 = value,
        None => pairs.push((key.into(), value)),
    }
}

/// What an item gets of others.
#[derive(Debug, Clone)]
pub(crate) enum Need {
    /// The captured diff.
    Patch { key: String, source: String },
    /// A file below `outputs/`.
    Output { key: String, source: String, path: String },
    /// The same file of many items: every key belongs to the source of its number.
    Outputs { keys: Texts, sources: Texts, path: String },
}

impl Need {
    /// Key, source and path of each hand-off; no path is the diff.
    fn each(&self) -> Box<dyn Iterator<Item = (&str, &str, Option<&str>)> + '_> {
        match self {
            Self::Patch { key, source } => Box::new(std::iter::once((&**key, &**source, None))),
            Self::Output { key, source, path } => {
                Box::new(std::iter::once((&**key, &**source, Some(&**path))))
            }
            Self::Outputs { keys, sources, path } => {
                Box::new(keys.iter().zip(sources.iter()).map(|(key, source)| (key, source, Some(&**path))))
            }
        }
    }
}

/// How to make items: a part of a plan item that a user writes into a pattern's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnTemplate {
    pub(crate) executor: Rc<str>,
    pub(crate) inputs: Pairs,
    pub(crate) locks: Vec<Rc<str>>,
    pub(crate) attrs: Pairs,
}

impl SpawnTemplate {
    /// Bytes that one item of it takes, without ids and edges. For decisions about how many to add in one step.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pairs = |map: &Pairs| map.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        self.executor.len()
            + pairs(&self.inputs)
            + pairs(&self.attrs)
            + self.locks.iter().map(|lock| lock.len()).sum::<usize>()
    }
}

/// One item to add.
#[derive(Debug, Clone)]
pub struct ItemSpec {
    pub(crate) id: String,
    pub(crate) executor: Rc<str>,
    /// JSON text by key.
    pub(crate) inputs: Pairs,
    pub(crate) depends_on: Vec<String>,
    /// Of those with the same key the last one counts.
    pub(crate) needs: Vec<Need>,
    pub(crate) locks: Vec<Rc<str>>,
    /// Optional members by their name in a plan, JSON text.
    pub(crate) attrs: Pairs,
    pub(crate) supersedes: Option<String>,
}

impl ItemSpec {
    /// An item without inputs and edges.
    #[must_use]
    pub fn new(id: &str, executor: &str) -> Self {
        Self {
            id: id.to_owned(),
            executor: executor.into(),
            inputs: Vec::new(),
            depends_on: Vec::new(),
            needs: Vec::new(),
            locks: Vec::new(),
            attrs: Vec::new(),
            supersedes: None,
        }
    }

    /// An item as the template says.
    #[must_use]
    pub fn from_template(id: &str, template: &SpawnTemplate) -> Self {
        Self {
            executor: Rc::clone(&template.executor),
            inputs: template.inputs.clone(),
            locks: template.locks.clone(),
            attrs: template.attrs.clone(),
            ..Self::new(id, "")
        }
    }

    /// A copy of an item of the run under another id, every member included. `edge` says what each of its edges goes to
    /// now: another id, or `None` to drop it. A need whose edge is dropped goes with it.
    ///
    /// # Errors
    /// A fault `bad-spec` when the host's text is not an item.
    pub fn copy_of(
        item: &Item<'_>,
        id: &str,
        mut edge: impl FnMut(&str) -> Option<String>,
    ) -> Result<Self, Fault> {
        let bad = |what: &str| fault("bad-spec", format!("item {} as the host gives it: {what}", item.id()));
        let fields = match json::parse(&item.spec_json()) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(bad("not an object")),
            Err(problem) => return Err(bad(&problem)),
        };
        let mut copy = Self::new(id, "");
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("id", _) => {}
                ("executor", Value::String(name)) => copy.executor = name.into(),
                ("inputs", Value::Object(inputs)) => {
                    copy.inputs = inputs
                        .iter()
                        .map(|(key, value)| (key.as_str().into(), json::write(value).into()))
                        .collect();
                }
                ("depends_on", Value::Array(deps)) => {
                    for dep in deps {
                        let dep = dep.as_str().ok_or_else(|| bad("depends_on"))?;
                        if let Some(dep) = edge(dep) {
                            copy.add_dependency(dep);
                        }
                    }
                }
                ("resourceLocks", Value::Array(locks)) => {
                    let names = locks
                        .iter()
                        .map(|lock| lock.as_str().map(Rc::from).ok_or_else(|| bad("resourceLocks")));
                    copy.locks = names.collect::<Result<_, _>>()?;
                }
                ("needs", Value::Object(needs)) => {
                    for (key, need) in needs {
                        let from = need["from"].as_str().ok_or_else(|| bad("needs"))?;
                        let path = match (need["select"]["kind"].as_str(), need["select"]["path"].as_str()) {
                            (Some("patch"), _) => None,
                            (Some("output"), Some(path)) => Some(path.to_owned()),
                            _ => return Err(bad("a need selects what this SDK does not know")),
                        };
                        if let Some(source) = edge(from) {
                            copy.needs.push(match path {
                                None => Need::Patch { key, source },
                                Some(path) => Need::Output { key, source, path },
                            });
                        }
                    }
                }
                (_, value) => copy.attrs.push((key.into(), json::write(&value).into())),
            }
        }
        if copy.executor.is_empty() {
            return Err(bad("it has no executor"));
        }
        Ok(copy)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sets an input.
    #[must_use]
    pub fn input(mut self, key: &str, value: impl Into<Value>) -> Self {
        set(&mut self.inputs, key, json::write(&value.into()).into());
        self
    }

    /// Tells whoever does the item something: as input `key`, and in `workerInput`, which is what an agent of the
    /// `dispatch` executor gets to see. What `workerInput` says already is kept.
    #[must_use]
    pub fn tell(self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let before = self.input_value("workerInput");
        let told = match before.unwrap_or_else(|| Map::new().into()) {
            Value::Object(mut fields) if !fields.contains_key(key) => {
                fields.insert(key.to_owned(), value.clone());
                Some(fields)
            }
            _ => None,
        };
        let spec = self.input(key, value);
        match told {
            Some(fields) => spec.input("workerInput", fields),
            None => spec,
        }
    }

    /// An input set so far.
    #[must_use]
    pub fn input_value(&self, key: &str) -> Option<Value> {
        json::parse(&self.inputs.iter().find(|pair| &*pair.0 == key)?.1).ok()
    }

    fn add_dependency(&mut self, id: String) {
        if !self.depends_on.contains(&id) {
            self.depends_on.push(id);
        }
    }

    /// Waits for an item.
    #[must_use]
    pub fn depend_on(mut self, id: &str) -> Self {
        self.add_dependency(id.to_owned());
        self
    }

    /// Gets the patch of an item as `inputs/<key>` and waits for it.
    #[must_use]
    pub fn need_patch(mut self, key: &str, source: &str) -> Self {
        self.needs.push(Need::Patch { key: key.to_owned(), source: source.to_owned() });
        self
    }

    /// Gets an output of an item as `inputs/<key>` and waits for it.
    #[must_use]
    pub fn need_output(mut self, key: &str, source: &str, path: &str) -> Self {
        let (key, source, path) = (key.to_owned(), source.to_owned(), path.to_owned());
        self.needs.push(Need::Output { key, source, path });
        self
    }

    /// [`need_output`](Self::need_output) for many items that have the same output: every key belongs to the source of
    /// its number. For an item that puts the products of thousands together.
    ///
    /// # Panics
    /// When there are more keys than sources or the other way round.
    #[must_use]
    pub fn need_outputs(mut self, path: &str, keys: Texts, sources: Texts) -> Self {
        assert!(keys.len() == sources.len(), "every key of a need belongs to a source");
        if keys.is_empty() {
            return self;
        }
        self.needs.push(Need::Outputs { keys, sources, path: path.to_owned() });
        self
    }

    /// Takes an exclusive lock while it runs.
    #[must_use]
    pub fn lock(mut self, key: &str) -> Self {
        self.locks.push(key.into());
        self
    }

    /// Sets an optional member by its name in a plan, e.g. `maxAttempts`.
    #[must_use]
    pub fn attr(mut self, key: &str, value: impl Into<Value>) -> Self {
        set(&mut self.attrs, key, json::write(&value.into()).into());
        self
    }

    /// Takes the place of an item that ended without success or with a red verify: the run is judged by this one.
    #[must_use]
    pub fn supersede(mut self, id: &str) -> Self {
        self.supersedes = Some(id.to_owned());
        self
    }

    /// The item as in a plan. For hosts and tests.
    #[must_use]
    pub fn to_plan_item(&self) -> Map<String, Value> {
        let json = |map: &Pairs| -> Map<String, Value> {
            map.iter()
                .map(|(key, text)| (key.to_string(), json::parse(text).unwrap_or(Value::Null)))
                .collect()
        };
        let mut item = Map::new();
        item.insert("id".into(), self.id.clone().into());
        item.insert("executor".into(), self.executor.to_string().into());
        item.insert("inputs".into(), json(&self.inputs).into());
        item.insert("depends_on".into(), self.depends_on.clone().into());
        item.insert(
            "resourceLocks".into(),
            self.locks.iter().map(ToString::to_string).collect::<Vec<_>>().into(),
        );
        if !self.needs.is_empty() {
            let needs = self.each_need().map(|(key, from, path)| (key.to_owned(), need(from, path)));
            item.insert("needs".into(), needs.collect::<Map<_, _>>().into());
        }
        item.extend(json(&self.attrs));
        item
    }

    fn each_need(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        self.needs.iter().flat_map(Need::each)
    }

    /// The item whose place it takes.
    #[must_use]
    pub fn superseded(&self) -> Option<&str> {
        self.supersedes.as_deref()
    }
}

/// Two are equal when they become the same item, however their needs were added.
impl PartialEq for ItemSpec {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.executor == other.executor
            && self.inputs == other.inputs
            && self.depends_on == other.depends_on
            && self.each_need().eq(other.each_need())
            && self.locks == other.locks
            && self.attrs == other.attrs
            && self.supersedes == other.supersedes
    }
}

impl Eq for ItemSpec {}

/// A need as in a plan.
fn need(from: &str, path: Option<&str>) -> Value {
    let kind = if path.is_some() { "output" } else { "patch" };
    let kind = [("kind".to_owned(), Value::from(kind))].into_iter();
    let select: Map<_, _> = kind.chain(path.map(|path| ("path".to_owned(), path.into()))).collect();
    Value::Object(
        [("from".to_owned(), from.into()), ("select".to_owned(), select.into())].into_iter().collect(),
    )
}
