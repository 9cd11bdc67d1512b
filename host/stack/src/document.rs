//! The document that says what a stack consists of. Lambdas and `--remote` begin with it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::names;

/// Version of the document's format.
pub const SCHEMA_VERSION: u32 = 1;

/// A document that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {problem}; deploy again with `pangolin deploy apply`", names::DEPLOYMENT_KEY)]
pub struct DocumentError {
    /// What is wrong.
    pub problem: String,
}

/// Processor of the functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Architecture {
    /// Graviton: a fifth cheaper.
    #[default]
    #[serde(rename = "arm64")]
    Arm64,
    /// Intel and AMD.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Architecture {
    /// The word of Lambda.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
        }
    }
}

/// `config/deployment.json` in the data bucket. Holds no secret.
///
/// Fields may be added without another version: functions of an earlier release read a document that a later one wrote, until
/// the stack has switched them, so what they do not know does not stop them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentDocument {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Name of the stack; also the namespace of its runs.
    pub stack: String,
    /// Region.
    pub region: String,
    /// Table of the ledger.
    pub table: String,
    /// Bucket of blobs (`blobs/`), inbox (`inbox/`), dispatches (`dispatches/`) and configuration (`config/`).
    pub data_bucket: String,
    /// Digest (`sha256:…`) of the archive with the project, for people. Functions have it in their environment.
    pub project: String,
    /// Where checkpoints go.
    pub anchor: AnchorPlace,
    /// Queue that wakes the tick.
    pub doorbell_url: String,
    /// Where workers run.
    pub workers: Workers,
    /// Names of secrets begin with it.
    pub secrets_prefix: String,
    /// Name of the secret with the deployment's signing key: `{"name": origin, "seed": 64 hex digits}`.
    pub signing_key: String,
    /// The public half: the verifier key of the deployment log, a C2SP note key.
    pub verifier_key: String,
}

/// The anchor bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnchorPlace {
    /// Its name.
    pub bucket: String,
    /// For how long checkpoints are locked.
    pub retention_days: u32,
}

/// What `RunTask` needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workers {
    /// ARN of the cluster.
    pub cluster: String,
    /// Processor of the functions; images may have others.
    pub architecture: Architecture,
    /// Subnets.
    pub subnets: Vec<String>,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// Whether tasks get a public address.
    pub assign_public_ip: bool,
    /// What task definitions are called, before a hash.
    pub family_prefix: String,
    /// Role of the tasks; without rights.
    pub task_role_arn: String,
    /// Role of ECS for the tasks.
    pub execution_role_arn: String,
    /// Log group.
    pub log_group: String,
}

impl DeploymentDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// [`DocumentError`] for another format.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let document: Self =
            serde_json::from_slice(bytes).map_err(|error| DocumentError { problem: error.to_string() })?;
        if document.schema_version != SCHEMA_VERSION {
            let problem = format!("format {} is not known here", document.schema_version);
            return Err(DocumentError { problem });
        }
        Ok(document)
    }

    /// As it is stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_a_later_release_can_be_read_and_of_another_format_cannot() {
        let document = DeploymentDocument {
            schema_version: SCHEMA_VERSION,
            stack: "demo".to_owned(),
            region: "us-east-1".to_owned(),
            table: "demo".to_owned(),
            data_bucket: "demo-data".to_owned(),
            project: "sha256:00".to_owned(),
            anchor: AnchorPlace { bucket: "demo-anchor".to_owned(), retention_days: 2 },
            doorbell_url: "http://queue".to_owned(),
            workers: Workers {
                cluster: "demo".to_owned(),
                architecture: Architecture::Arm64,
                subnets: Vec::new(),
                security_groups: Vec::new(),
                assign_public_ip: false,
                family_prefix: "demo-".to_owned(),
                task_role_arn: String::new(),
                execution_role_arn: String::new(),
                log_group: String::new(),
            },
            secrets_prefix: "demo/".to_owned(),
            signing_key: "demo/key".to_owned(),
            verifier_key: "demo+00".to_owned(),
        };
        let mut value: serde_json::Value = serde_json::from_slice(&document.to_bytes()).unwrap();
        value["later"] = 1.into();
        value["workers"]["later"] = 1.into();
        assert_eq!(DeploymentDocument::parse(value.to_string().as_bytes()), Ok(document));
        value["schemaVersion"] = 2.into();
        let refused = DeploymentDocument::parse(value.to_string().as_bytes()).unwrap_err();
        assert!(refused.problem.contains("format 2"), "{refused}");
        assert!(DeploymentDocument::parse(b"{}").is_err());
    }
}
