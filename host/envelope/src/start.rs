//! How a worker on another machine begins: the *start document*.
//!
//! A remote worker is started with one variable, [`START_URL`]: a signed URL of this document. The document names signed
//! URLs for everything that goes in and out, and holds the secrets of the dispatch and the key of its result. It is as secret
//! as they are; `Debug` shows none of it.
//!
//! The worker first *claims* the dispatch: it creates an object with a number of its own ([`Claim`]). Who finds somebody
//! else's number there ends without doing anything, so a dispatch runs once even if two workers were started for it. Then it
//! fetches what it was given, runs as a local worker does, and uploads the archive of its result directory and last of all
//! the [`Completion`]. Claim, archive and completion are created with a condition and can never be written twice.

use std::{collections::BTreeMap, fmt};

use pangolin_core::ids::{Digest, DispatchId};
use serde::{Deserialize, Serialize};

/// Variable with the signed URL of the [`StartDocument`]. The worker's own, never the agent's.
pub const START_URL: &str = "PANGOLIN_START_URL";

/// Variable with the directory that the worker may fill: absolute, empty, writable for the worker's user, on a disk that is
/// large enough. An image may set it; the default is [`TASK_DIR_DEFAULT`].
pub const TASK_DIR: &str = "PANGOLIN_TASK_DIR";

/// Where an image has its writable volume if it says nothing else.
pub const TASK_DIR_DEFAULT: &str = "/pangolin";

/// Version of [`StartDocument`] and of what the worker answers.
pub const START_VERSION: u32 = 1;

/// Largest start document in bytes.
pub const START_BYTES_MAX: u64 = 16 << 20;

/// Exit code of a worker that did nothing because another worker has claimed its dispatch: the end of its task is not the
/// end of the dispatch.
pub const CLAIMED_ELSEWHERE: i32 = 73;

/// A request that can be made without credentials, until it expires.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SignedRequest {
    /// The URL with its signature.
    pub url: String,
    /// Headers that are part of the signature: the request must carry them as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedRequest({}?…)", self.url.split('?').next().unwrap_or_default())
    }
}

/// One file that the worker fetches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RemoteFile {
    /// Path below the envelope directory; for an archive, its name.
    pub path: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Where it is.
    pub get: SignedRequest,
}

/// Bounds that the worker itself keeps, because nobody else may be awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RemoteLimits {
    /// Wall time from the claim to the end in milliseconds, after which the dispatch is stopped.
    pub timeout_ms: u64,
    /// Between polite stop and kill, in milliseconds.
    pub grace_ms: u64,
    /// Bytes kept of the event stream and of stderr, each.
    pub output_bytes: u64,
    /// Largest archive of the result directory in bytes.
    pub archive_bytes: u64,
}

/// Everything that a remote worker is given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StartDocument {
    /// [`START_VERSION`].
    pub schema_version: u32,
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Authenticates the result (64 hex digits).
    pub result_key: String,
    /// Secret values by name; becomes `secrets.json`.
    pub secrets: BTreeMap<String, String>,
    /// Files of the envelope directory.
    pub files: Vec<RemoteFile>,
    /// Archive (tar) of the workspace. Without it the workspace is empty.
    pub workspace: Option<RemoteFile>,
    /// Limits.
    pub limits: RemoteLimits,
    /// Creates the claim.
    pub claim: SignedRequest,
    /// Reads the claim, to see whose it is.
    pub claim_get: SignedRequest,
    /// Creates the archive (tar) of the result directory.
    pub archive: SignedRequest,
    /// Creates the completion object.
    pub completion: SignedRequest,
}

impl fmt::Debug for StartDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartDocument")
            .field("dispatch", &self.dispatch)
            .field("files", &self.files.len())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl StartDocument {
    /// Everything that makes the document unusable; empty when it can be used.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.schema_version != START_VERSION {
            found.push(format!(
                "start document version is {}, this worker reads {START_VERSION}; use the worker of the same release",
                self.schema_version
            ));
        }
        if self.result_key.len() != 64 || !self.result_key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            found.push("the result key is not 64 hex digits".to_owned());
        }
        for file in &self.files {
            if let Err(error) = crate::capability::check_path(&file.path) {
                found.push(error.to_string());
            }
        }
        let mut paths: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        paths.sort_unstable();
        for pair in paths.windows(2).filter(|pair| pair[0] == pair[1]) {
            found.push(format!("file {:?} is there twice", pair[0]));
        }
        found
    }
}

/// Content of the claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Claim {
    /// [`START_VERSION`].
    pub schema_version: u32,
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Random, of this one worker.
    pub nonce: String,
    /// Milliseconds since the epoch, by the worker's clock.
    pub at: i64,
}

/// What ended the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// Itself.
    Itself,
    /// A signal from outside asked it to stop.
    Stop,
    /// Its time limit.
    Timeout,
}

/// Content of the completion object: the truth about how a remote worker ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Completion {
    /// [`START_VERSION`].
    pub schema_version: u32,
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Nonce of the claim.
    pub nonce: String,
    /// Digest of the archive.
    pub digest: Digest,
    /// Size of the archive in bytes.
    pub size: u64,
    /// Exit code; 128 + signal when it was killed.
    pub exit: i32,
    /// Why.
    pub ended_by: EndedBy,
    /// Milliseconds since the epoch, by the worker's clock.
    pub at: i64,
}

/// Largest claim or completion object in bytes.
pub const ANSWER_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> StartDocument {
        let request = |name: &str| SignedRequest {
            url: format!("https://bucket.example/{name}?X-Amz-Signature=abc"),
            headers: vec![("if-none-match".to_owned(), "*".to_owned())],
        };
        let file = |path: &str| RemoteFile {
            path: path.to_owned(),
            digest: Digest::of(b"x"),
            size: 1,
            get: request("blob"),
        };
        StartDocument {
            schema_version: START_VERSION,
            dispatch: DispatchId::new("d-1").expect("is an id"),
            result_key: "5a".repeat(32),
            secrets: [("TOKEN".to_owned(), "hunter2".to_owned())].into(),
            files: vec![file("envelope.json"), file("blobs/a")],
            workspace: Some(file("workspace.tar")),
            limits: RemoteLimits { timeout_ms: 1, grace_ms: 2, output_bytes: 3, archive_bytes: 4 },
            claim: request("claim"),
            claim_get: request("claim"),
            archive: request("archive"),
            completion: request("completion"),
        }
    }

    #[test]
    fn it_round_trips_and_shows_no_secret() {
        let document = document();
        let text = serde_json::to_string(&document).expect("serialises");
        assert!(text.starts_with(r#"{"schemaVersion":1,"dispatch":"d-1","resultKey":"#), "{text}");
        assert_eq!(serde_json::from_str::<StartDocument>(&text).expect("parses"), document);
        assert_eq!(document.problems(), Vec::<String>::new());
        let shown = format!("{document:?} {:?}", document.files);
        for secret in ["hunter2", "X-Amz", "5a5a"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn all_problems_come_at_once() {
        let mut bad = document();
        bad.schema_version = 2;
        bad.result_key.pop();
        bad.files[0].path = "../outside".to_owned();
        bad.files.push(bad.files[1].clone());
        assert_eq!(bad.problems().len(), 4, "{:#?}", bad.problems());
    }
}
