//! `pangolin.toml`: the declarative configuration. Unknown keys are errors; relative paths start at the file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pangolin_audit::note::VerifierKey;
use pangolin_core::{
    entry::{Isolation, RetryPolicy},
    ids::{QueueName, RunId},
};
use pangolin_plugin_authority::{OperatorPolicy, PluginId, PolicyError, ProjectGrant, read_regular_text};
use pangolin_ports::worker_backend::{Limits, Network};
use serde::Deserialize;
use thiserror::Error;

/// Name of the configuration file.
pub const CONFIG_FILE: &str = "pangolin.toml";

/// Largest configuration in bytes.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// What `visibility_seconds` may be. ECS is usually behind by less than a second; minutes are the exception.
const VISIBILITY_SECONDS: std::ops::RangeInclusive<u32> = 5..=3_600;

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No file in the directory or any parent.
    #[error("no {CONFIG_FILE} in {0} or a parent directory; `pangolin init` writes one")]
    NotFound(PathBuf),
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not valid TOML, a wrong type or an unknown key.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// With key path and position.
        message: String,
    },
    /// Values that contradict each other; all of them.
    #[error("{path}: {}", problems.join("; "))]
    Problems {
        /// The file.
        path: PathBuf,
        /// Each with its key path.
        problems: Vec<String>,
    },
}

/// A loaded configuration with absolute paths.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Deployment namespace, part of every dispatch id.
    pub namespace: String,
    /// State directory (ledger, blobs, keys, inbox).
    pub state: PathBuf,
    /// Where workspaces come from.
    pub workspace: WorkspaceConfig,
    /// Queues by name; at least one.
    pub queues: BTreeMap<QueueName, QueueConfig>,
    /// Executors by name; at least `dispatch`.
    pub executors: BTreeMap<String, ExecutorConfig>,
    /// Retry policy.
    pub retry: RetryPolicy,
    /// What the project grants plugins, by id.
    pub plugins: BTreeMap<String, ProjectGrant>,
    /// S3 in the place of directories, and where the anchor is.
    pub s3: Option<S3Config>,
    /// Where checkpoints of seals are held outside of the deployment.
    pub anchor: Option<AnchorConfig>,
    /// Whose messages are taken, by the name that the ledger gets. Empty: everybody's.
    pub senders: BTreeMap<String, VerifierKey>,
    /// Section `[deploy]` as written: how a stack in AWS is made. Only `pangolin deploy` reads it, and checks its keys.
    pub deploy: toml::Table,
    /// Where the operator's policy is.
    pub policy: PolicyPlace,
}

/// Where the operator's policy for plugins is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PolicyPlace {
    /// Where this machine has it ([`OperatorPolicy::load`]).
    #[default]
    Machine,
    /// In this file: that of the machine which deployed a stack.
    File(PathBuf),
    /// The machine which deployed a stack had none.
    Nowhere,
}

/// Where workspaces come from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceConfig {
    /// A git repository. Without one, workspaces start empty.
    pub repo: Option<PathBuf>,
    /// Revision that is resolved to a commit when a run is admitted; default `HEAD`.
    pub base: Option<String>,
}

/// Any S3, for a deployment on this machine. Credentials come from the usual places of AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// Bucket for blobs and the inbox. Without one they lie in the state directory.
    pub bucket: Option<String>,
    /// Before every key, empty or as `team-a/`.
    #[serde(default)]
    pub prefix: String,
    /// Where S3 is, as `http://127.0.0.1:9000`; default `AWS_ENDPOINT_URL_S3`, else AWS.
    pub endpoint: Option<String>,
    /// Region; default `AWS_REGION` or that of the profile.
    pub region: Option<String>,
    /// Whether buckets are in the path of URLs; default: when there is an endpoint.
    pub path_style: Option<bool>,
}

/// A bucket with Object Lock, in the S3 of [`S3Config`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorConfig {
    /// The bucket.
    pub bucket: String,
    /// Before every key, empty or as `team-a/`.
    #[serde(default)]
    pub prefix: String,
    /// Days for which a checkpoint is locked.
    pub retention_days: u32,
}

/// One queue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueConfig {
    /// Items that may run at once, at least 1.
    pub concurrency: u32,
    /// Admit, but do not start anything.
    #[serde(default)]
    pub paused: bool,
    /// Pattern: a built-in id or one of `pangolin.lock`; default `static-dag`.
    #[serde(default = "static_dag")]
    pub pattern: String,
    /// Parameters for the pattern.
    #[serde(default)]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// What a failure of the pattern means; default `closed`.
    #[serde(default)]
    pub on_failure: FailureSetting,
}

/// What a failure of a queue's pattern means for a run: `closed`, `open` or `builtin:<id>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum FailureSetting {
    /// The run fails; what is in it goes on, nothing is added.
    #[default]
    Closed,
    /// The run goes on without a pattern.
    Open,
    /// This built-in pattern takes over.
    Builtin(String),
}

impl TryFrom<String> for FailureSetting {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.strip_prefix("builtin:")) {
            ("closed", _) => Ok(Self::Closed),
            ("open", _) => Ok(Self::Open),
            (_, Some(id)) if !id.is_empty() => Ok(Self::Builtin(id.to_owned())),
            _ => Err(format!(
                "on_failure = {text:?} is not known; use \"closed\", \"open\" or \"builtin:<id>\", e.g. \
                 \"builtin:static-dag\""
            )),
        }
    }
}

fn static_dag() -> String {
    "static-dag".to_owned()
}

/// Which backend starts the workers of an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Host processes.
    Process,
    /// Docker containers.
    Docker,
    /// Tasks on AWS Fargate; only for a stack in AWS.
    Fargate,
}

impl BackendKind {
    /// The word used in configuration and manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Fargate => "fargate",
        }
    }
}

/// One executor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutorConfig {
    /// Backend.
    pub backend: BackendKind,
    /// Required isolation; default `sandbox` for `process`, `container` for the others.
    pub isolation: Option<Isolation>,
    /// Network; default none.
    pub network: Option<Network>,
    /// Image for containers; for `fargate` by digest.
    pub image: Option<String>,
    /// Memory per worker in MiB.
    pub memory_mb: Option<u64>,
    /// Processors per worker.
    pub cpus: Option<f64>,
    /// Processes per worker.
    pub pids: Option<u32>,
    /// Seconds between polite stop and kill.
    pub grace_seconds: Option<u32>,
    /// `fargate` only: seconds for which ECS may not show a task that was started; afterwards the task counts as lost.
    pub visibility_seconds: Option<u32>,
    /// Host variables the agent may inherit.
    #[serde(default)]
    pub env_allow: Vec<String>,
    /// Host directories that sandboxed commands may read.
    #[serde(default)]
    pub read_only_paths: Vec<String>,
    /// Model when neither item nor subagent names one.
    pub default_model: Option<String>,
}

impl ExecutorConfig {
    /// The isolation that must be in force.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.isolation.unwrap_or(match self.backend {
            BackendKind::Process => Isolation::Sandbox,
            BackendKind::Docker | BackendKind::Fargate => Isolation::Container,
        })
    }

    /// The network policy.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network.unwrap_or(Network::None)
    }

    /// Worker limits for an attempt of `timeout_ms`.
    #[must_use]
    pub fn limits(&self, timeout_ms: u64) -> Limits {
        let default = Limits::default();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "validated to 0 < cpus <= 1024"
        )]
        let cpu_milli = self.cpus.map_or(default.cpu_milli, |cpus| (cpus * 1000.0) as u32);
        Limits {
            memory_bytes: self.memory_mb.map_or(default.memory_bytes, |mb| mb << 20),
            cpu_milli,
            pids: self.pids.unwrap_or(default.pids),
            timeout_ms,
            grace_ms: self.grace_seconds.map_or(default.grace_ms, |s| u64::from(s) * 1000),
            output_bytes: default.output_bytes,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    namespace: String,
    #[serde(default = "default_state")]
    state: PathBuf,
    #[serde(default)]
    workspace: WorkspaceConfig,
    #[serde(default)]
    queues: BTreeMap<QueueName, QueueConfig>,
    #[serde(default)]
    executors: BTreeMap<String, ExecutorConfig>,
    #[serde(default)]
    retry: RetryFile,
    #[serde(default)]
    plugins: BTreeMap<String, serde_json::Value>,
    s3: Option<S3Config>,
    anchor: Option<AnchorConfig>,
    senders: Option<BTreeMap<String, String>>,
    #[serde(default)]
    deploy: toml::Table,
}

fn default_state() -> PathBuf {
    PathBuf::from(".pangolin")
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryFile {
    max_attempts: Option<u32>,
    base_ms: Option<i64>,
    cap_ms: Option<i64>,
    timeout_seconds: Option<i64>,
}

impl Config {
    /// Finds `pangolin.toml` in `dir` or its parents and loads it.
    ///
    /// # Errors
    /// [`ConfigError`] names file and key.
    pub fn find(dir: &Path) -> Result<Self, ConfigError> {
        dir.ancestors()
            .map(|dir| dir.join(CONFIG_FILE))
            // Also what is no file: that it is in the way is worth an error.
            .find(|file| file.exists())
            .map_or_else(|| Err(ConfigError::NotFound(dir.to_owned())), |file| Self::load(&file))
    }

    /// Loads one file.
    ///
    /// # Errors
    /// [`ConfigError`] names file and key.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: file.to_owned(), source };
        let text = read_regular_text(file, CONFIG_BYTES_MAX).map_err(read)?;
        let file = std::path::absolute(file).map_err(read)?;
        Self::parse(&file, &text)
    }

    /// The directory of the file; `pangolin.lock` is there too.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// The operator's policy as it is now.
    ///
    /// # Errors
    /// [`PolicyError`]: a policy that cannot be read is never taken for none.
    pub fn operator_policy(&self) -> Result<OperatorPolicy, PolicyError> {
        match &self.policy {
            PolicyPlace::Machine => OperatorPolicy::load(),
            PolicyPlace::File(file) => OperatorPolicy::read(file),
            PolicyPlace::Nowhere => Ok(OperatorPolicy::default()),
        }
    }

    /// What the project grants a plugin; nothing when it does not mention it.
    #[must_use]
    pub fn plugin_grant(&self, id: &str) -> ProjectGrant {
        self.plugins.get(id).cloned().unwrap_or_else(|| ProjectGrant::absent(self.file.display().to_string()))
    }

    /// This configuration with the plugin grants that its file has now: they may change while a daemon runs.
    ///
    /// # Errors
    /// [`ConfigError`] when the file has become unreadable.
    pub fn reread_plugins(&self) -> Result<Self, ConfigError> {
        let plugins = Self::load(&self.file)?.plugins;
        Ok(Self { plugins, ..self.clone() })
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let invalid = |message: String| ConfigError::Invalid { path: file.to_owned(), message };
        let parsed: File = toml::from_str(text).map_err(|e| invalid(e.to_string()))?;
        let root = file.parent().unwrap_or(Path::new("/"));
        let default = RetryPolicy::default();
        let mut config = Self {
            file: file.to_owned(),
            namespace: parsed.namespace,
            state: root.join(parsed.state),
            workspace: WorkspaceConfig {
                repo: parsed.workspace.repo.map(|path| root.join(path)),
                base: parsed.workspace.base,
            },
            queues: parsed.queues,
            executors: parsed.executors,
            retry: RetryPolicy {
                max_attempts: parsed.retry.max_attempts.unwrap_or(default.max_attempts),
                base_ms: parsed.retry.base_ms.unwrap_or(default.base_ms),
                cap_ms: parsed.retry.cap_ms.unwrap_or(default.cap_ms),
                timeout_ms: parsed
                    .retry
                    .timeout_seconds
                    .map_or(default.timeout_ms, |s| s.saturating_mul(1000)),
            },
            plugins: BTreeMap::new(),
            s3: parsed.s3,
            anchor: parsed.anchor,
            senders: BTreeMap::new(),
            deploy: parsed.deploy,
            policy: PolicyPlace::Machine,
        };
        let mut problems = config.problems();
        if parsed.senders.as_ref().is_some_and(BTreeMap::is_empty) {
            problems.push("senders: names nobody; add what `pangolin sender new` prints, or remove the section to believe everybody".to_owned());
        }
        for (name, key) in parsed.senders.unwrap_or_default() {
            if let Err(error) = RunId::new(name.as_str()) {
                problems.push(format!("senders: {error}"));
                continue;
            }
            match key.parse() {
                Ok(key) => drop(config.senders.insert(name, key)),
                Err(error) => problems
                    .push(format!("senders.{name}: {error}; expected what `pangolin sender new` prints")),
            }
        }
        for (id, value) in parsed.plugins {
            let at = format!("plugins.\"{id}\"");
            if let Err(error) = PluginId::new(&id) {
                problems.push(format!("plugins: {error}"));
                continue;
            }
            match ProjectGrant::from_value(&value, &at, file.display().to_string()) {
                Ok(grant) => drop(config.plugins.insert(id, grant)),
                Err(findings) => problems.extend(findings.iter().map(ToString::to_string)),
            }
        }
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Problems { path: file.to_owned(), problems })
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Err(error) = RunId::new(self.namespace.as_str()) {
            found.push(format!("namespace: {error}"));
        }
        if self.queues.is_empty() {
            found.push("queues: at least one is needed, e.g. [queues.default] concurrency = 2".to_owned());
        }
        for (name, queue) in &self.queues {
            if queue.concurrency == 0 {
                found.push(format!(
                    "queues.{name}.concurrency: must be at least 1 (use paused = true to stop it)"
                ));
            }
            if let FailureSetting::Builtin(id) = &queue.on_failure {
                if *id == queue.pattern {
                    found.push(format!(
                        "queues.{name}.on_failure: pattern {id:?} cannot take over from itself; name another one"
                    ));
                } else if pangolin_builtin_plugins::pattern(id).is_none() {
                    let known: Vec<&str> = pangolin_builtin_plugins::ids()
                        .filter(|(kind, _)| *kind == "pattern")
                        .map(|(_, id)| id)
                        .collect();
                    found.push(format!(
                        "queues.{name}.on_failure: no built-in pattern is called {id:?}; there are {}",
                        known.join(", ")
                    ));
                }
            }
        }
        if self.executors.is_empty() {
            found.push(
                "executors: at least one is needed, e.g. [executors.dispatch] backend = \"process\""
                    .to_owned(),
            );
        }
        for (name, executor) in &self.executors {
            match (executor.backend, executor.isolation()) {
                (BackendKind::Process, Isolation::Container) => found.push(format!(
                    "executors.{name}.isolation: a process worker cannot be a container; use backend = \"docker\""
                )),
                (kind @ (BackendKind::Docker | BackendKind::Fargate), Isolation::None | Isolation::Sandbox) => {
                    let kind = kind.as_str();
                    found.push(format!("executors.{name}.isolation: a {kind} worker is always a container"));
                }
                _ => {}
            }
            if executor.backend == BackendKind::Fargate && executor.network() == Network::None {
                found.push(format!(
                    "executors.{name}.network: must be \"host\" for fargate, which cannot take the network from an agent \
                     while its worker uploads"
                ));
            }
            if executor.cpus.is_some_and(|cpus| !(cpus > 0.0 && cpus <= 1024.0)) {
                found.push(format!("executors.{name}.cpus: must be above 0 and at most 1024"));
            }
            if executor.memory_mb.is_some_and(|mb| !(16..=1 << 24).contains(&mb)) {
                found.push(format!("executors.{name}.memory_mb: must be from 16 to 16777216"));
            }
            match executor.visibility_seconds {
                Some(_) if executor.backend != BackendKind::Fargate => found.push(format!(
                    "executors.{name}.visibility_seconds: only fargate has tasks that can be invisible; remove it"
                )),
                Some(seconds) if !VISIBILITY_SECONDS.contains(&seconds) => found.push(format!(
                    "executors.{name}.visibility_seconds: must be from {} to {}",
                    VISIBILITY_SECONDS.start(),
                    VISIBILITY_SECONDS.end()
                )),
                _ => {}
            }
            if executor.pids == Some(0) {
                found.push(format!("executors.{name}.pids: must be at least 1"));
            }
        }
        if let Some(s3) = &self.s3
            && s3.bucket.is_none()
            && self.anchor.is_none()
        {
            found
                .push("s3.bucket: without a bucket and without [anchor] the section does nothing".to_owned());
        }
        let buckets = [
            ("s3.bucket", self.s3.as_ref().and_then(|s3| s3.bucket.as_deref())),
            ("anchor.bucket", self.anchor.as_ref().map(|anchor| anchor.bucket.as_str())),
        ];
        for (key, bucket) in buckets {
            if bucket.is_some_and(|bucket| bucket.is_empty() || bucket.contains('/')) {
                found.push(format!("{key}: must be the name of a bucket"));
            }
        }
        if buckets[0].1.is_some() && buckets[0].1 == buckets[1].1 {
            found.push(
                "anchor.bucket: must be another one than s3.bucket, because nothing in it can be removed"
                    .to_owned(),
            );
        }
        let prefixes = [
            ("s3.prefix", self.s3.as_ref().map(|s3| s3.prefix.as_str())),
            ("anchor.prefix", self.anchor.as_ref().map(|anchor| anchor.prefix.as_str())),
        ];
        for (key, prefix) in prefixes {
            if prefix.is_some_and(|prefix| {
                !prefix.is_empty() && (!prefix.ends_with('/') || prefix.starts_with('/'))
            }) {
                found.push(format!("{key}: must be empty or end with a slash, as team-a/"));
            }
        }
        if self.anchor.as_ref().is_some_and(|anchor| !(1..=36_500).contains(&anchor.retention_days)) {
            found.push("anchor.retention_days: must be from 1 to 36500".to_owned());
        }
        let retry = &self.retry;
        if !(1..=100).contains(&retry.max_attempts) {
            found.push("retry.max_attempts: must be from 1 to 100".to_owned());
        }
        if retry.base_ms < 0 || retry.cap_ms < retry.base_ms {
            found.push("retry: 0 <= base_ms <= cap_ms must hold".to_owned());
        }
        if retry.timeout_ms < 1000 {
            found.push("retry.timeout_seconds: must be at least 1".to_owned());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/p/pangolin.toml"), text)
    }

    #[test]
    fn paths_start_at_the_file_and_defaults_are_strict() {
        let config = parse("namespace = 'n'\n[workspace]\nrepo = 'repo'\n[queues.default]\nconcurrency = 2\n[executors.dispatch]\nbackend = 'process'").unwrap();
        assert_eq!(config.state, Path::new("/p/.pangolin"));
        assert_eq!(config.workspace.repo.as_deref(), Some(Path::new("/p/repo")));
        assert_eq!(config.executors["dispatch"].isolation(), Isolation::Sandbox);
        assert_eq!(config.executors["dispatch"].network(), Network::None);
    }

    #[test]
    fn a_list_of_senders_without_anybody_is_no_open_door() {
        let base = "namespace = 'n'\n[queues.q]\nconcurrency = 1\n[executors.d]\nbackend = 'docker'\n";
        assert!(parse(base).unwrap().senders.is_empty());
        let error = parse(&format!("{base}[senders]\n")).unwrap_err().to_string();
        assert!(error.contains("senders: names nobody"), "{error}");
    }

    #[test]
    fn every_problem_is_reported_at_once_with_its_key() {
        let error = parse("namespace = '../x'\n[queues.q]\nconcurrency = 0\n[executors.d]\nbackend = 'docker'\nisolation = 'none'\n[retry]\nmax_attempts = 0").unwrap_err().to_string();
        for part in ["namespace:", "queues.q.concurrency", "executors.d.isolation", "retry.max_attempts"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        let queue = |line: &str| {
            parse(&format!(
                "namespace = 'n'\n[queues.q]\nconcurrency = 1\n{line}\n[executors.d]\nbackend = 'docker'"
            ))
        };
        for (line, words) in [
            ("on_failure = 'maybe'", "\"closed\", \"open\""),
            ("on_failure = 'builtin:ghost'", "no built-in pattern"),
            ("on_failure = 'builtin:static-dag'", "from itself"),
        ] {
            let error = queue(line).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
        let bound = queue(
            "pattern = 'acme/mine'\non_failure = 'builtin:static-dag'\nparams = { rounds = 3, deep = { a = [1] } }",
        );
        let bound = bound.unwrap().queues.into_values().next().unwrap();
        assert_eq!(bound.on_failure, FailureSetting::Builtin("static-dag".to_owned()));
        assert_eq!(serde_json::to_string(&bound.params).unwrap(), r#"{"deep":{"a":[1]},"rounds":3}"#);
        assert!(parse("namespace = 'n'\ntypo = 1").unwrap_err().to_string().contains("typo"));
    }

    #[test]
    fn only_tasks_have_a_time_in_which_they_may_be_invisible() {
        let of = |backend: &str, seconds: u32| {
            parse(&format!(
                "namespace = 'n'\n[queues.q]\nconcurrency = 1\n[executors.d]\nbackend = '{backend}'\nnetwork = 'host'\n\
                 visibility_seconds = {seconds}"
            ))
        };
        assert_eq!(of("fargate", 5).unwrap().executors["d"].visibility_seconds, Some(5));
        let error = of("fargate", 4).unwrap_err().to_string();
        assert!(error.contains("executors.d.visibility_seconds: must be from 5 to 3600"), "{error}");
        let error = of("docker", 5).unwrap_err().to_string();
        assert!(error.contains("executors.d.visibility_seconds: only fargate"), "{error}");
    }
}
