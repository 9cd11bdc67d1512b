//! The document that says what a stack consists of. Lambdas and `--remote` begin with it.

use serde::{Deserialize, Serialize};

use crate::{DeployError, settings::Architecture, stack::Described};

/// Version of the document's format.
pub const SCHEMA_VERSION: u32 = 1;

/// `config/deployment.json` in the data bucket. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
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
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AnchorPlace {
    /// Its name.
    pub bucket: String,
    /// For how long checkpoints are locked.
    pub retention_days: u32,
}

/// What `RunTask` needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
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
    pub(crate) fn of(
        stack: &str,
        region: &str,
        described: &Described,
        verifier_key: &str,
    ) -> Result<Self, DeployError> {
        let text = |name| described.output(name).map(str::to_owned);
        let retention_days = described.output("AnchorRetentionDays")?.parse().map_err(|error| {
            DeployError::Unexpected(format!(
                "output AnchorRetentionDays of stack {stack} is no number: {error}"
            ))
        })?;
        let secrets_prefix = text("SecretsPrefix")?;
        let x86 =
            described.parameters.get("Architecture").is_some_and(|it| it == Architecture::X86_64.as_str());
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            stack: stack.to_owned(),
            region: region.to_owned(),
            table: text("TableName")?,
            data_bucket: text("DataBucket")?,
            anchor: AnchorPlace { bucket: text("AnchorBucket")?, retention_days },
            doorbell_url: text("DoorbellUrl")?,
            workers: Workers {
                cluster: text("ClusterArn")?,
                architecture: if x86 { Architecture::X86_64 } else { Architecture::Arm64 },
                subnets: described.output("Subnets")?.split(',').map(str::to_owned).collect(),
                security_groups: vec![text("SecurityGroup")?],
                assign_public_ip: described.output("AssignPublicIp")? == "ENABLED",
                family_prefix: crate::names::task_family_prefix(stack),
                task_role_arn: text("TaskRoleArn")?,
                execution_role_arn: text("ExecutionRoleArn")?,
                log_group: text("WorkerLogGroup")?,
            },
            signing_key: crate::key::secret_name(&secrets_prefix),
            secrets_prefix,
            verifier_key: verifier_key.to_owned(),
        })
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`DeployError::Unexpected`] for another format.
    pub fn parse(bytes: &[u8]) -> Result<Self, DeployError> {
        let wrong = |problem: String| {
            DeployError::Unexpected(format!("{}: {problem}; apply again", crate::names::DEPLOYMENT_KEY))
        };
        let document: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        if document.schema_version != SCHEMA_VERSION {
            return Err(wrong(format!("format {} is not known here", document.schema_version)));
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
