//! Registered artifacts: capabilities, subagents, env bundles and pipelines. Content-addressed; a name is a
//! pointer to the newest registration, a run pins digests when it is admitted.

use std::{collections::BTreeMap, fmt, sync::Arc};

use pangolin_audit::canon;
use pangolin_core::{
    ids::{Digest, IdError, RunId},
    manifest::NamedDigest,
};
use pangolin_envelope::{
    envelope::{ContextRequirement, VerifySpec},
    pipeline::PipelineSpec,
};
use pangolin_ports::{
    blob_store::{BlobError, BlobStore},
    run_store::{Batch, Commit, Guard, RunStore, RunStoreError, Write},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How often a registration is written while the store cannot say what became of it.
const UNCLEAR_TRIES: u32 = 5;

/// Largest registered artifact (a capability bundle).
pub const ARTIFACT_BYTES_MAX: u64 = 64 << 20;

/// What can be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Files that are overlaid onto the workspace.
    Capability,
    /// An agent's definition.
    Subagent,
    /// Environment values and secret references.
    Env,
    /// A block pipeline.
    Pipeline,
}

impl Kind {
    /// The word in records and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capability => "capability",
            Self::Subagent => "subagent",
            Self::Env => "env",
            Self::Pipeline => "pipeline",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An agent's definition as it is stored and hashed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubagentDoc {
    /// Registered name.
    pub name: String,
    /// System prompt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub system_prompt: Option<String>,
    /// Prompt template over the item's `workerInput`: `{{field}}`, nested as `{{a.b}}`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt_template: Option<String>,
    /// Model or level (`fast`, `standard`, `max`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Capabilities, frozen to digests at registration.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub capabilities: Vec<NamedDigest>,
    /// Which adapter drives the agent, with its parameters.
    pub adapter: AdapterBinding,
    /// Self-verify command.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verify: Option<VerifySpec>,
    /// What must be in the workspace before the agent starts.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub context_requires: Vec<ContextRequirement>,
    /// Whether an attempt that changed nothing and left no output is a failure. Default: yes for every adapter
    /// but `command`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub require_changes: Option<bool>,
}

/// Adapter and parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterBinding {
    /// Built-in or configured adapter id.
    pub id: String,
    /// JSON object for the adapter.
    #[serde(default = "empty_object")]
    pub params: serde_json::Value,
}

fn empty_object() -> serde_json::Value {
    serde_json::json!({})
}

/// An env bundle as it is stored and hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvDoc {
    /// Registered name.
    pub name: String,
    /// Plain values.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// Variable → secret reference (`env://NAME`, `file:///path`, `local-secret://name`).
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
}

/// One registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Reference that pins exactly these bytes, usable wherever the name is.
    pub pinned: String,
    /// Milliseconds since the epoch of the registration that set the pointer.
    pub registered_at: i64,
}

/// Failures of the registry.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The name breaks the id rules.
    #[error("{kind} name is invalid")]
    BadName {
        /// Kind.
        kind: Kind,
        /// Why.
        #[source]
        source: IdError,
    },
    /// Nothing registered under this name.
    #[error("{kind} {name:?} is not registered; register it with `pangolin {} register`", verb(*.kind))]
    NotFound {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
    },
    /// A reference that is neither a name nor a pinned reference.
    #[error(
        "{text:?} is not a {kind} reference; expected <name>, <name>@sha256:… or pangolin://<ns>/{kind}/<name>/sha256:…"
    )]
    BadReference {
        /// Kind.
        kind: Kind,
        /// The text.
        text: String,
    },
    /// The document breaks its rules; all of them.
    #[error("{kind} {name:?} is invalid: {}", problems.join("; "))]
    Invalid {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
        /// Every problem.
        problems: Vec<String>,
    },
    /// The stored bytes are not a document of this kind.
    #[error("stored {kind} {digest} cannot be read: {problem}")]
    Unreadable {
        /// Kind.
        kind: Kind,
        /// Digest.
        digest: Digest,
        /// Why.
        problem: String,
    },
    /// Two registrations of one name at the same time.
    #[error("{kind} {name:?} was registered by somebody else at the same moment; try again")]
    Conflict {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
    },
    /// The ledger failed.
    #[error(transparent)]
    Store(#[from] RunStoreError),
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Canonical JSON failed (a number that JSON cannot hold).
    #[error("cannot encode the document")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

const fn verb(kind: Kind) -> &'static str {
    match kind {
        Kind::Capability => "capabilities",
        Kind::Subagent => "subagent",
        Kind::Env => "env",
        Kind::Pipeline => "pipeline",
    }
}

/// The registry of a deployment.
#[derive(Clone)]
pub struct Registry {
    namespace: String,
    store: Arc<dyn RunStore>,
    blobs: Arc<dyn BlobStore>,
}

#[derive(Serialize, Deserialize)]
struct Pointer {
    digest: Digest,
    at: i64,
}

impl Registry {
    /// A registry over the given stores.
    #[must_use]
    pub fn new(namespace: String, store: Arc<dyn RunStore>, blobs: Arc<dyn BlobStore>) -> Self {
        Self { namespace, store, blobs }
    }

    /// The same registry with its blobs seen through `blobs`.
    pub(crate) fn through(&self, blobs: Arc<dyn BlobStore>) -> Self {
        Self { blobs, ..self.clone() }
    }

    /// Stores `bytes` and points `name` at them. The same bytes again change nothing.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn register_bytes(
        &self,
        kind: Kind,
        name: &str,
        bytes: &[u8],
        now: i64,
    ) -> Result<Registration, RegistryError> {
        RunId::new(name).map_err(|source| RegistryError::BadName { kind, source })?;
        let digest = self.blobs.put(bytes).await?;
        let key = format!("registry/{kind}/{name}");
        let current = self.store.get(&key).await?;
        if let Some(cell) = &current
            && let Ok(pointer) = serde_json::from_slice::<Pointer>(&cell.value)
            && pointer.digest == digest
        {
            return Ok(self.registration(kind, name, &pointer));
        }
        let pointer = Pointer { digest, at: now };
        let version = current.as_ref().map_or(0, |cell| cell.version);
        let batch = Batch {
            id: format!("{key}/{}/{digest}", version + 1),
            guards: vec![Guard::seen(key.clone(), version)],
            writes: vec![Write::Put {
                key,
                value: serde_json::to_vec(&pointer).map_err(|e| RegistryError::Encode(e.into()))?,
            }],
            appends: Vec::new(),
        };
        for _ in 0..UNCLEAR_TRIES {
            match self.store.commit(batch.clone()).await? {
                Commit::Committed => return Ok(self.registration(kind, name, &pointer)),
                Commit::GuardFailed { .. } => {
                    return Err(RegistryError::Conflict { kind, name: name.to_owned() });
                }
                Commit::Unknown if self.store.was_committed(&batch.id).await? => {
                    return Ok(self.registration(kind, name, &pointer));
                }
                // Not there: the same batch again has the same effect once.
                Commit::Unknown => {}
            }
        }
        let why = format!("it cannot say whether {name:?} was registered; look with `list`, then try again");
        Err(RunStoreError::Busy(why).into())
    }

    /// Registers a subagent.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] lists every problem.
    pub async fn register_subagent(
        &self,
        doc: &SubagentDoc,
        now: i64,
    ) -> Result<Registration, RegistryError> {
        let mut problems = Vec::new();
        if !doc.adapter.params.is_object() {
            problems.push("/adapter/params: must be an object".to_owned());
        }
        if doc.verify.as_ref().is_some_and(|v| v.command.trim().is_empty() || v.timeout == 0) {
            problems.push("/verify: needs a command and a timeout of at least 1 second".to_owned());
        }
        if !problems.is_empty() {
            return Err(RegistryError::Invalid { kind: Kind::Subagent, name: doc.name.clone(), problems });
        }
        self.register_doc(Kind::Subagent, &doc.name, doc, now).await
    }

    /// Registers an env bundle.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] lists every problem.
    pub async fn register_env(&self, doc: &EnvDoc, now: i64) -> Result<Registration, RegistryError> {
        let mut problems = Vec::new();
        for name in doc.values.keys().chain(doc.secrets.keys()) {
            if !crate::secrets::is_variable_name(name) {
                problems.push(format!("{name:?} is not a variable name"));
            }
            if crate::secrets::is_reserved_variable(name) {
                problems.push(format!("{name:?} is reserved for the worker"));
            }
        }
        for (name, reference) in &doc.secrets {
            if let Err(error) = crate::secrets::SecretRef::parse(reference) {
                problems.push(format!("{name}: {error}"));
            }
        }
        for (name, value) in &doc.values {
            if let Some(found) = crate::secrets::looks_like_credential(value) {
                problems
                    .push(format!("value of {name} looks like {found}; register it with --secret instead"));
            }
        }
        if !problems.is_empty() {
            return Err(RegistryError::Invalid { kind: Kind::Env, name: doc.name.clone(), problems });
        }
        self.register_doc(Kind::Env, &doc.name, doc, now).await
    }

    /// Registers a pipeline under its own id.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] lists every problem.
    pub async fn register_pipeline(
        &self,
        spec: &PipelineSpec,
        now: i64,
    ) -> Result<Registration, RegistryError> {
        let problems: Vec<String> =
            spec.problems().into_iter().map(|(at, what)| format!("{at} {what}")).collect();
        if !problems.is_empty() {
            return Err(RegistryError::Invalid { kind: Kind::Pipeline, name: spec.id.clone(), problems });
        }
        self.register_doc(Kind::Pipeline, &spec.id, spec, now).await
    }

    async fn register_doc<T: Serialize + Sync>(
        &self,
        kind: Kind,
        name: &str,
        doc: &T,
        now: i64,
    ) -> Result<Registration, RegistryError> {
        let bytes = canon::to_vec(doc).map_err(|e| RegistryError::Encode(e.into()))?;
        self.register_bytes(kind, name, &bytes, now).await
    }

    /// Every registration of a kind, by name.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub async fn list(&self, kind: Kind) -> Result<Vec<Registration>, RegistryError> {
        let prefix = format!("registry/{kind}/");
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.scan(&prefix, after.as_deref(), 256).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            after = Some(last.clone());
            for (key, cell) in &page {
                if let Ok(pointer) = serde_json::from_slice::<Pointer>(&cell.value) {
                    found.push(self.registration(kind, &key[prefix.len()..], &pointer));
                }
            }
        }
    }

    /// Resolves a name or pinned reference.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] or [`RegistryError::BadReference`].
    pub async fn resolve(&self, kind: Kind, reference: &str) -> Result<Registration, RegistryError> {
        let (name, pinned) = parse_reference(kind, reference)?;
        let not_found = || RegistryError::NotFound { kind, name: reference.to_owned() };
        if let Some(digest) = pinned {
            self.blobs.size(&digest).await?.ok_or_else(not_found)?;
            return Ok(self.registration(kind, &name, &Pointer { digest, at: 0 }));
        }
        let cell = self.store.get(&format!("registry/{kind}/{name}")).await?.ok_or_else(not_found)?;
        let pointer = serde_json::from_slice(&cell.value).map_err(|_| not_found())?;
        Ok(self.registration(kind, &name, &pointer))
    }

    /// The bytes of a registered artifact.
    ///
    /// # Errors
    /// [`RegistryError::Blob`].
    pub async fn bytes(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        Ok(self.blobs.get(digest, ARTIFACT_BYTES_MAX).await?)
    }

    /// A registered JSON document.
    ///
    /// # Errors
    /// [`RegistryError::Unreadable`] when the bytes are something else.
    pub async fn doc<T: serde::de::DeserializeOwned>(
        &self,
        kind: Kind,
        digest: &Digest,
    ) -> Result<T, RegistryError> {
        serde_json::from_slice(&self.bytes(digest).await?).map_err(|error| RegistryError::Unreadable {
            kind,
            digest: *digest,
            problem: error.to_string(),
        })
    }

    fn registration(&self, kind: Kind, name: &str, pointer: &Pointer) -> Registration {
        Registration {
            kind,
            name: name.to_owned(),
            digest: pointer.digest,
            pinned: format!("pangolin://{}/{kind}/{name}/{}", self.namespace, pointer.digest),
            registered_at: pointer.at,
        }
    }
}

/// Splits a reference into name and optional pinned digest.
fn parse_reference(kind: Kind, text: &str) -> Result<(String, Option<Digest>), RegistryError> {
    let bad = || RegistryError::BadReference { kind, text: text.to_owned() };
    let (name, digest) = if let Some(path) = text.strip_prefix("pangolin://") {
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            [_, found, name] if found == kind.to_string() => (name, None),
            [_, found, name, digest] if found == kind.to_string() => (name, Some(digest)),
            _ => return Err(bad()),
        }
    } else if let Some((name, digest)) = text.split_once("@sha256:") {
        (name, Some(&text[text.len() - digest.len() - "sha256:".len()..]))
    } else {
        (text, None)
    };
    RunId::new(name).map_err(|_| bad())?;
    let digest = digest.map(|digest| digest.parse::<Digest>().map_err(|_| bad())).transpose()?;
    Ok((name.to_owned(), digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_names_or_pins() {
        let digest = Digest::of(b"x");
        let parse = |text: &str| parse_reference(Kind::Pipeline, text);
        assert_eq!(parse("ci.test").unwrap(), ("ci.test".to_owned(), None));
        assert_eq!(parse(&format!("ci.test@{digest}")).unwrap(), ("ci.test".to_owned(), Some(digest)));
        assert_eq!(
            parse(&format!("pangolin://ns/pipeline/ci.test/{digest}")).unwrap(),
            ("ci.test".to_owned(), Some(digest))
        );
        assert!(parse("pangolin://ns/subagent/x").is_err());
        assert!(parse("ci.test@sha256:12").is_err());
        assert!(parse("../etc/passwd").is_err());
    }
}
