//! Recorded cases: what a plugin is given, and what it must make of it. `docs/plugins/testing.md` describes the format.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use pangolin_envelope::plugin::BlockGrant;
use pangolin_plugin_authority::Kind;
use pangolin_plugin_host::ExitInfo;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// Version of the format.
pub(crate) const VERSION: u64 = 1;

/// Largest fixture or transcript in bytes.
const BYTES_MAX: u64 = 64 << 20;

/// Why a file is no fixture.
#[derive(Debug, Error)]
pub enum FixtureError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not JSON, or a member is unknown, missing or of the wrong type.
    #[error("{}: {source}; docs/plugins/testing.md has the members of a fixture", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Written for another version of the format.
    #[error("{}: schemaVersion must be {VERSION}, it is {found}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// For a plugin of another kind.
    #[error("{}: the fixture is for a {found}, the plugin is a {plugin}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// The plugin.
        plugin: Kind,
    },
    /// Too large to be a fixture.
    #[error("{}: {size} bytes, a fixture has at most {BYTES_MAX}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
    /// It cannot be written back.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A fixture with the file it came from.
#[derive(Debug, Clone)]
pub struct FixtureFile {
    /// The file.
    pub path: PathBuf,
    /// Its name without ending.
    pub name: String,
    /// What it says.
    pub fixture: Fixture,
}

/// What a fixture is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Fixture {
    /// A course of a run.
    Pattern(Box<PatternFixture>),
    /// A task and a transcript.
    Adapter(Box<AdapterFixture>),
    /// A workspace.
    Block(Box<BlockFixture>),
}

/// A course of a run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatternFixture {
    /// The submitted plan.
    pub plan: Value,
    /// Parameters of the queue.
    #[serde(default)]
    pub params: Value,
    /// What the planner must decide; absent: anything.
    #[serde(default)]
    pub expect_plan: Option<PatternExpect>,
    /// What happens then.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// Items that end, and what the pattern must decide when it hears of it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// Item → how it ends. One that waits for another of the same step ends after it.
    pub outcomes: BTreeMap<String, Outcome>,
    /// What must be decided; absent: anything.
    #[serde(default)]
    pub expect: Option<PatternExpect>,
}

/// How an item ends.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcome {
    /// `done`, `failed`, `cancelled` or `denied`.
    #[serde(default = "done")]
    pub status: String,
    /// Result of self-verify; absent: it did not run.
    #[serde(default)]
    pub verify_passed: Option<bool>,
    /// Output paths.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// The item left a patch.
    #[serde(default = "yes")]
    pub has_patch: bool,
    /// Message of a failure.
    #[serde(default)]
    pub message: Option<String>,
}

impl Default for Outcome {
    fn default() -> Self {
        Self { status: done(), verify_passed: None, outputs: Vec::new(), has_patch: true, message: None }
    }
}

fn done() -> String {
    "done".to_owned()
}

const fn yes() -> bool {
    true
}

/// What a step must decide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatternExpect {
    /// Ids of the added items, in any order.
    #[serde(default)]
    pub spawned: Vec<String>,
    /// Whether the pattern is done with the run; absent: either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<bool>,
    /// JSON pointers of findings, in any order; planner only. A plan that must be rejected has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// Code of the fault that it must answer with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A task and what the agent printed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdapterFixture {
    /// The task.
    #[serde(default)]
    pub task: TaskFixture,
    /// What it printed; absent: nothing, exit code 0.
    #[serde(default)]
    pub transcript: TranscriptFixture,
    /// What must be understood; absent members: anything.
    #[serde(default)]
    pub expect: AdapterExpect,
}

/// One attempt of one item.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TaskFixture {
    /// System prompt.
    pub system_prompt: Option<String>,
    /// Prompt.
    pub prompt: String,
    /// Model or level.
    pub model: Option<String>,
    /// Absolute path.
    pub workspace: String,
    /// Wall time of the agent in seconds.
    pub timeout_seconds: u32,
    /// Input as JSON text.
    pub input_json: String,
    /// Names of secrets.
    pub secret_names: Vec<String>,
    /// Parameters of the subagent: the attribute `params`.
    pub params: Option<Value>,
    /// Further attributes.
    pub attrs: BTreeMap<String, String>,
}

impl Default for TaskFixture {
    fn default() -> Self {
        Self {
            system_prompt: None,
            prompt: "do it".to_owned(),
            model: None,
            workspace: "/workspace".to_owned(),
            timeout_seconds: 600,
            input_json: "{}".to_owned(),
            secret_names: Vec::new(),
            params: None,
            attrs: BTreeMap::new(),
        }
    }
}

/// What an agent printed and how it ended. Paths are relative to the fixture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TranscriptFixture {
    /// File with standard output.
    pub stdout: Option<String>,
    /// File with standard error.
    pub stderr: Option<String>,
    /// How the process ended.
    pub exit: Option<ExitFixture>,
    /// Bytes of `stdout`.
    #[serde(skip)]
    pub stdout_bytes: Vec<u8>,
    /// Bytes of `stderr`.
    #[serde(skip)]
    pub stderr_bytes: Vec<u8>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExitFixture {
    /// Exit code.
    pub code: Option<i32>,
    /// Signal.
    pub signal: Option<i32>,
    /// Ended by its time limit.
    pub timed_out: bool,
    /// Output was cut.
    pub truncated: bool,
}

impl TranscriptFixture {
    pub(crate) fn exit(&self) -> ExitInfo {
        let exit = self.exit.unwrap_or(ExitFixture { code: Some(0), ..ExitFixture::default() });
        ExitInfo {
            code: exit.code,
            signal: exit.signal,
            timed_out: exit.timed_out,
            truncated: exit.truncated,
        }
    }
}

/// What an adapter must make of it. What is absent is not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AdapterExpect {
    /// Code of the fault of `prepare`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Variable → secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_secrets: Option<BTreeMap<String, String>>,
    /// How the session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Models in order of first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<BTreeMap<String, u64>>,
    /// Cost in millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_microusd: Option<u64>,
    /// `exact`, `partial`, `estimated` or `missing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// Subjects of denials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denials: Option<Vec<String>>,
}

/// A workspace and a verdict.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlockFixture {
    /// Parameters.
    #[serde(default)]
    pub params: Value,
    /// Virtual path (`workspace/…`, `base/…`, `outputs/…`) → content. Without `changes.json` it is made from the others.
    #[serde(default)]
    pub files: BTreeMap<String, Content>,
    /// Records of earlier blocks by id.
    #[serde(default)]
    pub earlier: BTreeMap<String, Value>,
    /// Command line → what the program answers.
    #[serde(default)]
    pub programs: BTreeMap<String, ProgramAnswer>,
    /// `METHOD url` → what the host answers.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostAnswer>,
    /// Names of secrets that the dispatch has.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Facts about the dispatch.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
    /// `gate` (default) or `verify`.
    #[serde(default = "gate")]
    pub lens: String,
    /// What it may do; absent: everything its manifest asks for.
    #[serde(default)]
    pub grant: Option<BlockGrant>,
    /// What it must answer; absent members: anything.
    #[serde(default)]
    pub expect: BlockExpect,
}

fn gate() -> String {
    "gate".to_owned()
}

/// Content of a file: text, or a JSON document that is written as text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Content(Value);

impl Content {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match &self.0 {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        }
    }
}

/// What a program answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProgramAnswer {
    /// Exit code.
    pub exit_code: i32,
    /// Its output.
    pub stdout: String,
    /// Its errors.
    pub stderr: String,
    /// It ran out of time.
    pub timed_out: bool,
}

/// What a host answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HostAnswer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
}

/// What a block must answer. What is absent is not compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BlockExpect {
    /// Green or red.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// The line of the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Code of the failure that it must end with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Evidence by key; other keys may be there too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<BTreeMap<String, Value>>,
    /// Paths of committed artifacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Vec<String>>,
}

impl BlockFixture {
    /// All files with `changes.json`.
    #[must_use]
    pub fn world_files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<String, Vec<u8>> =
            self.files.iter().map(|(path, content)| (path.clone(), content.bytes())).collect();
        if !files.contains_key("changes.json") {
            files.insert("changes.json".to_owned(), changes(&files).to_string().into_bytes());
        }
        files
    }
}

/// What is different between `base/` and `workspace/`. As in a worker, `base/` holds only what changed.
fn changes(files: &BTreeMap<String, Vec<u8>>) -> Value {
    let state =
        |bytes: &Vec<u8>| json!({ "mode": "100644", "size": bytes.len(), "digest": Digest::of(bytes) });
    let side = |root: &str| -> BTreeMap<&str, &Vec<u8>> {
        files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(root)?, bytes))).collect()
    };
    let (now, before) = (side("workspace/"), side("base/"));
    let paths: std::collections::BTreeSet<&&str> = now.keys().chain(before.keys()).collect();
    let change = |path: &&str| {
        let (old, new) = (before.get(path), now.get(path));
        let kind = match (old, new) {
            (None, _) => "added",
            (_, None) => "deleted",
            (Some(old), Some(new)) if old == new => return None,
            _ => "modified",
        };
        let binary = old.into_iter().chain(new).any(|bytes| bytes.contains(&0));
        let mut change = Map::new();
        change.insert("path".to_owned(), json!(path));
        change.insert("kind".to_owned(), json!(kind));
        change.extend(old.map(|bytes| ("before".to_owned(), state(bytes))));
        change.extend(new.map(|bytes| ("after".to_owned(), state(bytes))));
        change.insert("binary".to_owned(), json!(binary));
        Some(Value::Object(change))
    };
    json!({ "schemaVersion": 1, "changes": paths.into_iter().filter_map(change).collect::<Vec<_>>() })
}

impl FixtureFile {
    /// Reads a fixture for a plugin of this kind.
    ///
    /// # Errors
    /// [`FixtureError`].
    pub fn read(path: &Path, plugin: Kind) -> Result<Self, FixtureError> {
        let mut document = members(path)?;
        if let Some(found) = document.remove("kind") {
            let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            let word = if found == "adapter" { "runtime-adapter" } else { &found };
            if word != plugin.as_str() {
                return Err(FixtureError::Kind { path: path.to_owned(), found, plugin });
            }
        }
        document.remove("schemaVersion");
        // For people: what the case is about.
        document.remove("description");
        let json = |source| FixtureError::Json { path: path.to_owned(), source };
        let body = Value::Object(document);
        let fixture = match plugin {
            Kind::Pattern => Fixture::Pattern(Box::new(serde_json::from_value(body).map_err(json)?)),
            Kind::Block => Fixture::Block(Box::new(serde_json::from_value(body).map_err(json)?)),
            Kind::RuntimeAdapter => {
                let mut fixture: AdapterFixture = serde_json::from_value(body).map_err(json)?;
                let dir = path.parent().unwrap_or_else(|| Path::new("."));
                let transcript = &mut fixture.transcript;
                let load = |name: &Option<String>| {
                    name.as_ref().map_or_else(|| Ok(Vec::new()), |name| bytes(&dir.join(name)))
                };
                (transcript.stdout_bytes, transcript.stderr_bytes) =
                    (load(&transcript.stdout)?, load(&transcript.stderr)?);
                Fixture::Adapter(Box::new(fixture))
            }
        };
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Self { path: path.to_owned(), name, fixture })
    }

    /// Reads every `*.json` of a directory, by name. A directory that is not there has none.
    ///
    /// # Errors
    /// Every [`FixtureError`] of it.
    pub fn read_all(dir: &Path, plugin: Kind) -> Result<Vec<Self>, Vec<FixtureError>> {
        let read = |source| vec![FixtureError::Read { path: dir.to_owned(), source }];
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(read)?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(read)?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for path in paths {
            match Self::read(&path, plugin) {
                Ok(fixture) => found.push(fixture),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(found) } else { Err(errors) }
    }

    /// Writes the fixture back with these expectations; `steps` has one entry per step.
    pub(crate) fn write(&self, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<(), FixtureError> {
        let mut document = members(&self.path)?;
        edit(&mut document);
        let mut text = format!("{:#}", Value::Object(document));
        text.push('\n');
        fs::write(&self.path, text).map_err(|source| FixtureError::Write { path: self.path.clone(), source })
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, FixtureError> {
    let read = |source| FixtureError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(read)?.len();
    if size > BYTES_MAX {
        return Err(FixtureError::TooLarge { path: path.to_owned(), size });
    }
    fs::read(path).map_err(read)
}

fn members(path: &Path) -> Result<Map<String, Value>, FixtureError> {
    let document: Map<String, Value> = serde_json::from_slice(&bytes(path)?)
        .map_err(|source| FixtureError::Json { path: path.to_owned(), source })?;
    match document.get("schemaVersion") {
        Some(version) if version.as_u64() == Some(VERSION) => Ok(document),
        other => {
            let found = other.map_or_else(|| "missing".to_owned(), Value::to_string);
            Err(FixtureError::Version { path: path.to_owned(), found })
        }
    }
}
