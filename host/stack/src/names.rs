//! Names that the stack, the functions and the command line have in common.

/// Environment variable of every function: where the [deployment document](crate::DeploymentDocument) is, as
/// `s3://bucket/config/deployment.json`.
pub const ENV_DEPLOYMENT: &str = "PANGOLIN_DEPLOYMENT";

/// Environment variable of every function: URL of the queue of doorbells.
pub const ENV_DOORBELL: &str = "PANGOLIN_DOORBELL_URL";

/// Environment variable of every function: the value of the dimension `Stack` of its metrics.
pub const ENV_STACK: &str = "PANGOLIN_STACK";

/// Key of the deployment document in the data bucket.
pub const DEPLOYMENT_KEY: &str = "config/deployment.json";

/// Environment variable of the tick: digest (`sha256:…`) of the archive with the project. It stands in the stack, so that
/// functions of a release read the project that was packed for them, and nobody else's.
pub const ENV_PROJECT: &str = "PANGOLIN_PROJECT";

/// Before the digest in the keys of [`project_key`].
pub const PROJECT_PREFIX: &str = "config/project-";

/// Key of an archive with the project's configuration, plugins and compiled code: by the hex digits of its digest.
#[must_use]
pub fn project_key(hex: &str) -> String {
    format!("{PROJECT_PREFIX}{hex}.tar")
}

/// Name of the secret with the signing key, behind the stack's prefix of secrets.
pub const SIGNING_KEY: &str = "deployment-key";

/// Prefix of the code of functions in the data bucket; the rest of a key is the SHA-256 of the archive and `.zip`.
pub const CODE_PREFIX: &str = "code/";

/// Prefix of start documents, which hold secrets; removed by rule after a day, and by the backend long before.
pub const STARTS_PREFIX: &str = "starts/";

/// Prefix of what single dispatches leave. The layout is that of `pangolin-worker-fargate`.
pub const DISPATCH_PREFIX: &str = "dispatches/";

/// How the name of a dispatch's completion object ends. Its creation rings the doorbell.
pub const COMPLETION_SUFFIX: &str = "completion.json";

/// Prefix of blobs.
pub const BLOBS_PREFIX: &str = "blobs/";

/// Prefix of waiting messages. Their creation rings the doorbell.
pub const INBOX_NEW_PREFIX: &str = "inbox/new/";

/// Namespace of metrics that the tick writes to its log in CloudWatch's embedded metric format. One dimension: `Stack`.
pub const METRICS_NAMESPACE: &str = "Pangolin";

/// Metric of the tick, in minutes (an alarm cannot convert units): for how long the active run that waits longest has had no
/// new entry; 0 without one.
pub const METRIC_STALLED: &str = "MinutesWithoutProgress";

/// What task definitions must be called, before a hash: the right to start tasks is for this family only.
#[must_use]
pub fn task_family_prefix(stack: &str) -> String {
    format!("pangolin-{stack}-")
}
