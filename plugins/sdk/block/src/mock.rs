//! A host in memory, for tests of block logic without WebAssembly.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use serde_json::{Value, json};

use crate::{
    Block, Input, Output,
    output::unsealable,
    stage::{ArtifactWriter, Entry, Fault, LogLevel, Refusal, Stage},
};

#[derive(Debug, Clone)]
struct Side {
    bytes: Vec<u8>,
    mode: &'static str,
}

/// A host with files, parameters and answers; `run` runs a block on it.
///
/// `changes.json` is made from what [`added`](Self::added), [`modified`](Self::modified), [`deleted`](Self::deleted) and
/// [`changed`](Self::changed) say, unless the test gives one with [`file`](Self::file). Digests in it and of artifacts
/// are `mock:<length>:<hash>`.
#[derive(Debug, Clone)]
pub struct Mock {
    params: String,
    attrs: BTreeMap<String, String>,
    earlier: BTreeMap<String, String>,
    files: BTreeMap<String, Vec<u8>>,
    changes: BTreeMap<String, (Option<Side>, Option<Side>)>,
    refused: BTreeSet<String>,
    page: u32,
    piece: u32,
    fail_at: Option<usize>,
}

impl Default for Mock {
    fn default() -> Self {
        Self::new()
    }
}

/// A regular file's mode.
pub const FILE: &str = "100644";
/// An executable file's mode.
pub const EXECUTABLE: &str = "100755";
/// A symbolic link's mode.
pub const LINK: &str = "120000";

impl Mock {
    /// A host without files.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            params: String::new(),
            attrs: BTreeMap::new(),
            earlier: BTreeMap::new(),
            files: BTreeMap::new(),
            changes: BTreeMap::new(),
            refused: BTreeSet::new(),
            page: u32::MAX,
            piece: u32::MAX,
            fail_at: None,
        }
    }

    /// Parameters, JSON text.
    #[must_use]
    pub fn params(mut self, json: &str) -> Self {
        json.clone_into(&mut self.params);
        self
    }

    /// A fact about the dispatch.
    #[must_use]
    pub fn attr(mut self, key: &str, value: &str) -> Self {
        self.attrs.insert(key.into(), value.into());
        self
    }

    /// Record of an earlier step.
    #[must_use]
    pub fn earlier(mut self, block: &str, json: &str) -> Self {
        self.earlier.insert(block.into(), json.into());
        self
    }

    /// A file under its virtual path, without a change.
    #[must_use]
    pub fn file(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), bytes.as_ref().to_vec());
        self
    }

    /// A changed path with mode and content of each side. A link's content is its target.
    #[must_use]
    pub fn changed(
        mut self,
        path: &str,
        before: Option<(&'static str, &[u8])>,
        after: Option<(&'static str, &[u8])>,
    ) -> Self {
        let side = |(mode, bytes): (&'static str, &[u8])| Side { bytes: bytes.to_vec(), mode };
        self.changes.insert(path.into(), (before.map(side), after.map(side)));
        self
    }

    /// A new file.
    #[must_use]
    pub fn added(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.changed(path, None, Some((FILE, bytes.as_ref())))
    }

    /// A file with other content.
    #[must_use]
    pub fn modified(self, path: &str, before: impl AsRef<[u8]>, after: impl AsRef<[u8]>) -> Self {
        self.changed(path, Some((FILE, before.as_ref())), Some((FILE, after.as_ref())))
    }

    /// A file that is gone.
    #[must_use]
    pub fn deleted(self, path: &str, before: impl AsRef<[u8]>) -> Self {
        self.changed(path, Some((FILE, before.as_ref())), None)
    }

    /// Refuses to read a virtual path.
    #[must_use]
    pub fn refuse(mut self, path: &str) -> Self {
        self.refused.insert(path.into());
        self
    }

    /// Answers listings in pages of at most `size`, whatever is asked for.
    #[must_use]
    pub const fn pages_of(mut self, size: u32) -> Self {
        self.page = size;
        self
    }

    /// Answers reads with at most `size` bytes, whatever is asked for.
    #[must_use]
    pub const fn pieces_of(mut self, size: u32) -> Self {
        self.piece = size;
        self
    }

    /// Refuses the `number`th call (from 0) that can be refused.
    #[must_use]
    pub const fn refuse_call(mut self, number: usize) -> Self {
        self.fail_at = Some(number);
        self
    }

    /// Runs a block.
    #[must_use]
    pub fn run<B: Block>(&self) -> Outcome {
        let host = Host::new(self.clone());
        let result = B::run(&Input::new(&host), &Output::new(&host));
        let calls = host.calls.get();
        let answers =
            Rc::try_unwrap(host.answers).map_or_else(|shared| shared.borrow().clone(), RefCell::into_inner);
        Outcome { result, calls, answers }
    }

    /// What every block must keep, on this host: two runs give the same answers; so do listings in pages of 1 and 7 and
    /// reads in pieces of 1 and 1021 bytes; each call that can be refused is refused once, and nothing panics; evidence
    /// can be sealed.
    ///
    /// # Panics
    /// When a rule is broken; the message names it.
    #[track_caller]
    pub fn conforms<B: Block>(&self) -> Outcome {
        let plain = self.run::<B>();
        for (key, json) in &plain.answers.evidence {
            let value: Value = serde_json::from_str(json).unwrap_or_default();
            assert_eq!(
                unsealable(&value, &mut String::new()),
                None,
                "evidence {key} cannot be sealed: {json}"
            );
        }
        let same = |what: &str, other: &Outcome| {
            assert!(
                plain.result == other.result && plain.answers == other.answers,
                "{what} changes the answers:\n{plain:#?}\n{other:#?}"
            );
        };
        same("running it again", &self.run::<B>());
        for size in [1, 7] {
            same("the size of a page", &self.clone().pages_of(size).run::<B>());
        }
        for size in [1, 1021] {
            same("the size of a piece", &self.clone().pieces_of(size).run::<B>());
        }
        for number in 0..plain.calls {
            let refused = self.clone().refuse_call(number).run::<B>();
            assert!(
                refused.result.is_err() || refused.answers.verdict.is_some(),
                "call {number} was refused and the block ended without verdict and fault"
            );
        }
        plain
    }

    fn changes_json(&self) -> Vec<u8> {
        let is_binary = |side: &Option<Side>| {
            side.as_ref().is_some_and(|side| side.bytes.iter().take(8_000).any(|byte| *byte == 0))
        };
        let state =
            |side: &Side| json!({"mode": side.mode, "size": side.bytes.len(), "digest": digest(&side.bytes)});
        let changes: Vec<Value> = self
            .changes
            .iter()
            .map(|(path, (before, after))| {
                let is_link = |side: &Side| side.mode == LINK;
                let kind = match (before, after) {
                    (None, _) => "added",
                    (_, None) => "deleted",
                    (Some(one), Some(two)) if is_link(one) != is_link(two) => "type-changed",
                    _ => "modified",
                };
                let mut change = json!({
                    "path": path, "kind": kind, "binary": is_binary(before) || is_binary(after),
                });
                if let Some(before) = before {
                    change["before"] = state(before);
                }
                if let Some(after) = after {
                    change["after"] = state(after);
                    if is_link(after) {
                        change["symlinkTarget"] = String::from_utf8_lossy(&after.bytes).into();
                    }
                }
                change
            })
            .collect();
        json!({"schemaVersion": 1, "changes": changes}).to_string().into_bytes()
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("mock:{}:{:016x}", bytes.len(), crate::hash_line(bytes))
}

/// What a block answered.
#[derive(Debug, Clone)]
pub struct Outcome {
    result: Result<(), Fault>,
    calls: usize,
    answers: Answers,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Answers {
    verdict: Option<(bool, String)>,
    evidence: BTreeMap<String, String>,
    artifacts: BTreeMap<String, Vec<u8>>,
    log: VecDeque<(LogLevel, String)>,
}

impl Outcome {
    /// Whether there is a green verdict and no fault.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.result.is_ok() && self.answers.verdict.as_ref().is_some_and(|verdict| verdict.0)
    }

    /// Whether there is a red verdict and no fault.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.result.is_ok() && self.answers.verdict.as_ref().is_some_and(|verdict| !verdict.0)
    }

    /// The fault, if there was one.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.result.as_ref().err()
    }

    /// The summary of the verdict; empty without one.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.answers.verdict.as_ref().map_or("", |verdict| &verdict.1)
    }

    /// The evidence under a key; null when there is none.
    #[must_use]
    pub fn evidence(&self, key: &str) -> Value {
        self.answers.evidence.get(key).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    }

    /// Everything that the block said, as one text: for tests of what must not be in it.
    #[must_use]
    pub fn everything(&self) -> String {
        format!("{self:?}")
    }

    /// The committed artifacts.
    #[must_use]
    pub const fn artifacts(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.answers.artifacts
    }

    /// The log lines.
    pub fn log(&self) -> impl Iterator<Item = (LogLevel, &str)> {
        self.answers.log.iter().map(|(level, line)| (*level, line.as_str()))
    }
}

struct Host {
    mock: Mock,
    files: BTreeMap<String, Vec<u8>>,
    /// Listed, but not read.
    links: BTreeSet<String>,
    calls: Cell<usize>,
    answers: Rc<RefCell<Answers>>,
}

impl Host {
    fn new(mock: Mock) -> Self {
        let mut files = mock.files.clone();
        let mut links = BTreeSet::new();
        for (path, (before, after)) in &mock.changes {
            if let Some(before) = before {
                files.insert(format!("base/{path}"), before.bytes.clone());
            }
            if let Some(after) = after {
                files.insert(format!("workspace/{path}"), after.bytes.clone());
            }
            for (side, root) in [(before, "base"), (after, "workspace")] {
                if side.as_ref().is_some_and(|side| side.mode == LINK) {
                    links.insert(format!("{root}/{path}"));
                }
            }
        }
        files.entry("changes.json".into()).or_insert_with(|| mock.changes_json());
        Self { mock, files, links, calls: Cell::new(0), answers: Rc::default() }
    }

    fn gate(&self, capability: &str, subject: &str) -> Result<(), Refusal> {
        let refusal = |reason: &str| Refusal {
            capability: capability.into(),
            subject: subject.into(),
            reason: reason.into(),
        };
        let number = self.calls.replace(self.calls.get() + 1);
        if self.mock.fail_at == Some(number) {
            return Err(refusal("refused by the test"));
        }
        if self.mock.refused.contains(subject) {
            return Err(refusal("not granted"));
        }
        Ok(())
    }
}

impl Stage for Host {
    fn params_json(&self) -> String {
        self.mock.params.clone()
    }

    fn position(&self) -> u32 {
        u32::try_from(self.mock.earlier.len()).unwrap_or(u32::MAX)
    }

    fn earlier_json(&self, block: &str) -> Option<String> {
        self.mock.earlier.get(block).cloned()
    }

    fn list_files(&self, prefix: &str, offset: u32, limit: u32) -> Result<Vec<Entry>, Refusal> {
        self.gate("read", prefix)?;
        let limit = limit.min(self.mock.page) as usize;
        let entry = |(path, bytes): (&String, &Vec<u8>)| Entry {
            path: path.clone(),
            size: bytes.len() as u64,
            digest: Some(digest(bytes)),
        };
        let listed = self.files.iter().filter(|file| file.0.starts_with(prefix));
        Ok(listed.skip(offset as usize).take(limit).map(entry).collect())
    }

    fn read(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, Refusal> {
        self.gate("read", path)?;
        let bytes = self.files.get(path).ok_or_else(|| Refusal {
            capability: "read".into(),
            subject: path.into(),
            reason: "no such file".into(),
        })?;
        if self.links.contains(path) {
            return Err(Refusal {
                capability: "read".into(),
                subject: path.into(),
                reason: "it is a symbolic link; links are not followed".into(),
            });
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let until = bytes.len().min(from.saturating_add(length.min(self.mock.piece) as usize));
        Ok(bytes[from..until].to_vec())
    }

    fn attr(&self, key: &str) -> Option<String> {
        self.mock.attrs.get(key).cloned()
    }

    fn artifact(&self, path: &str) -> Result<Box<dyn ArtifactWriter>, Refusal> {
        self.gate("write", path)?;
        Ok(Box::new(Writer { path: path.into(), bytes: Vec::new(), answers: Rc::clone(&self.answers) }))
    }

    fn verdict(&self, passed: bool, summary: &str) {
        self.answers.borrow_mut().verdict = Some((passed, summary.into()));
    }

    fn evidence(&self, key: &str, json: &str) {
        self.answers.borrow_mut().evidence.insert(key.into(), json.into());
    }

    fn log(&self, level: LogLevel, message: &str) {
        self.answers.borrow_mut().log.push_back((level, message.into()));
    }
}

struct Writer {
    path: String,
    bytes: Vec<u8>,
    answers: Rc<RefCell<Answers>>,
}

impl ArtifactWriter for Writer {
    fn write(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<String, Refusal> {
        let digest = digest(&self.bytes);
        self.answers.borrow_mut().artifacts.insert(self.path, self.bytes);
        Ok(digest)
    }
}
