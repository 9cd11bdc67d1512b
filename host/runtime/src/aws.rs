//! A deployment that lies in a stack in AWS (ADR 8).
//!
//! [`Stack::open`] reads what the stack consists of. A person then takes [`Stack::deployment`], which reads ledger and
//! blobs with the person's own rights and sends messages; the function that ticks takes [`Stack::engine`], which needs
//! the signing key.

mod auditor;
mod engine;
mod project;
mod release;
mod secrets;

use std::{path::Path, sync::Arc};

use pangolin_aws::{Aws, CallError, Service};
use pangolin_blob_s3::S3BlobStore;
use pangolin_core::ids::Digest;
use pangolin_inbox_s3::S3Inbox;
use pangolin_ports::{memory::SystemClock, run_store::RunStoreError};
use pangolin_stack::{DeploymentDocument, DocumentError, Release, names};
use pangolin_store_dynamodb::{DynamoRunStore, Retry};
use thiserror::Error;

use crate::{
    config::{Config, ConfigError, WorkspaceConfig},
    deployment::{
        Deployment, RuntimeError,
        place::{Place, Stores},
    },
};

pub use auditor::{LookError, look_at_anchor};
pub use engine::{Engine, Look, Looked};
pub use pangolin_plugin_host::Compiler;
pub use project::{PackError, pack};
pub use release::{processor, release};
pub use secrets::StackSecrets;

/// Largest deployment document in bytes.
const DOCUMENT_BYTES_MAX: u64 = 1 << 20;

/// Largest project archive in bytes.
const PROJECT_BYTES_MAX: u64 = 512 << 20;

/// Why a stack cannot be worked with.
#[derive(Debug, Error)]
pub enum StackError {
    /// Not `s3://bucket/config/deployment.json`.
    #[error("{0:?} does not name a deployment document; expected s3://<bucket>/{path}", path = names::DEPLOYMENT_KEY)]
    Location(String),
    /// A call failed.
    #[error("{doing}")]
    Call {
        /// What was being done, with the name of the object.
        doing: String,
        /// What the service said.
        #[source]
        source: CallError,
    },
    /// The deployment document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The archive of the project.
    #[error(
        "the project archive s3://{bucket}/{key} cannot be used: {problem}; deploy again with `pangolin deploy apply`"
    )]
    Project {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The configuration in it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The archive is not the one that is pinned.
    #[error(
        "s3://{bucket}/{key} has digest {found}, and {expected} is pinned; somebody changed it: nothing of it is used. \
         Deploy again with `pangolin deploy apply`"
    )]
    OtherProject {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
        /// Of what is there.
        found: Digest,
        /// Of what must be there.
        expected: Digest,
    },
    /// The archive was made by another release than the one that would run it.
    #[error(
        "the project was packed by {packed}, and this function is {own}; deploy packages of one release, with \
         `pangolin deploy apply`"
    )]
    OtherRelease {
        /// Who packed.
        packed: Release,
        /// Who would run it.
        own: Release,
    },
    /// The public key of the deployment.
    #[error("the verifier key of the stack is malformed")]
    Key(#[source] pangolin_audit::note::NoteError),
    /// The signing key.
    #[error(transparent)]
    SigningKey(#[from] crate::keys::KeyError),
    /// The signing key has another public half than the deployment document says.
    #[error(
        "the signing key in secret {secret} is not the one of the stack ({expected}); nothing is signed with it"
    )]
    WrongKey {
        /// Name of the secret.
        secret: String,
        /// Verifier key of the document.
        expected: String,
    },
    /// The anchor.
    #[error(transparent)]
    Anchor(#[from] pangolin_ports::anchor::AnchorError),
    /// The worker backend.
    #[error(transparent)]
    Workers(#[from] pangolin_worker_fargate::ConfigError),
    /// The ledger.
    #[error(transparent)]
    Store(#[from] RunStoreError),
    /// A look was given up at its limit.
    #[error("the look took too long; what it committed stays, and the next one goes on")]
    TooLate,
    /// Everything else.
    #[error(transparent)]
    Runtime(Box<RuntimeError>),
}

impl From<RuntimeError> for StackError {
    fn from(error: RuntimeError) -> Self {
        Self::Runtime(Box::new(error))
    }
}

fn called(doing: impl Into<String>) -> impl FnOnce(CallError) -> StackError {
    let doing = doing.into();
    move |source| StackError::Call { doing, source }
}

/// A stack whose documents were read.
pub struct Stack {
    aws: Aws,
    document: DeploymentDocument,
    config: Config,
    /// Who packed the project.
    packed: Release,
}

/// The client of S3 with what is configured about it.
fn s3(aws: &Aws) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3)).force_path_style(aws.path_style());
    aws_sdk_s3::Client::from_conf(config.build())
}

async fn object(
    client: &aws_sdk_s3::Client,
    bucket: &str,
    key: &str,
    limit: u64,
) -> Result<Vec<u8>, StackError> {
    let doing = format!("reading s3://{bucket}/{key}");
    let answer = client.get_object().bucket(bucket).key(key).send().await;
    let answer = answer.map_err(CallError::new).map_err(called(doing))?;
    let project =
        |problem: String| StackError::Project { bucket: bucket.to_owned(), key: key.to_owned(), problem };
    let size = u64::try_from(answer.content_length().unwrap_or(0)).unwrap_or(0);
    if size > limit {
        return Err(project(format!("it has {size} bytes, at most {limit} are read")));
    }
    let body = answer.body.collect().await.map_err(|error| project(error.to_string()))?;
    Ok(body.to_vec())
}

async fn object_of(
    client: &aws_sdk_s3::Client,
    bucket: &str,
    project: Digest,
) -> Result<Vec<u8>, StackError> {
    object(client, bucket, &names::project_key(&project.hex()), PROJECT_BYTES_MAX).await
}

impl Stack {
    /// Reads the deployment document at `location` (`s3://bucket/config/deployment.json`) and a project, whose files go
    /// below `dir`. The project is the one with the digest `pinned`, as functions know it from their environment; without
    /// a digest the one that the document names, for people.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn open(
        aws: Aws,
        location: &str,
        pinned: Option<Digest>,
        dir: &Path,
    ) -> Result<Self, StackError> {
        let bad = || StackError::Location(location.to_owned());
        let (bucket, key) =
            location.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or_else(bad)?;
        if bucket.is_empty() || key != names::DEPLOYMENT_KEY {
            return Err(bad());
        }
        let client = s3(&aws);
        let document = async {
            let bytes = object(&client, bucket, key, DOCUMENT_BYTES_MAX).await?;
            Ok::<_, StackError>(DeploymentDocument::parse(&bytes)?)
        };
        let (document, expected, archive) = match pinned {
            Some(digest) => {
                let archive = object_of(&client, bucket, digest);
                let (document, archive) = tokio::try_join!(document, archive)?;
                (document, digest, archive)
            }
            None => {
                let document = document.await?;
                let digest = document.project.parse().map_err(|_| {
                    let problem = format!("project is {:?}, expected a digest", document.project);
                    DocumentError { problem }
                })?;
                let archive = object_of(&client, bucket, digest).await?;
                (document, digest, archive)
            }
        };
        let archive_key = names::project_key(&expected.hex());
        let unusable = |problem: String| {
            let (bucket, key) = (bucket.to_owned(), archive_key.clone());
            StackError::Project { bucket, key, problem }
        };
        let found = Digest::of(&archive);
        if found != expected {
            let (bucket, key) = (bucket.to_owned(), archive_key);
            return Err(StackError::OtherProject { bucket, key, found, expected });
        }
        let project::Unpacked { config, packed } = project::unpack(&archive, dir).map_err(unusable)?;
        Ok(Self { aws, document, config, packed })
    }

    /// What the stack consists of.
    #[must_use]
    pub const fn document(&self) -> &DeploymentDocument {
        &self.document
    }

    /// The project, as it was packed.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Bucket of everything but checkpoints.
    fn bucket(&self) -> &str {
        &self.document.data_bucket
    }

    async fn stores(&self) -> Result<(Stores, Arc<S3Inbox>), StackError> {
        let client = aws_sdk_dynamodb::Client::new(&self.aws.sdk(Service::DynamoDb));
        let store = DynamoRunStore::open(&client, self.document.table.clone(), Retry::default()).await?;
        let inbox = Arc::new(S3Inbox::new(&self.aws, self.bucket(), ""));
        let blobs = Arc::new(S3BlobStore::new(&self.aws, self.bucket(), ""));
        Ok((Stores { store: Arc::new(store), blobs, inbox: inbox.clone() }, inbox))
    }

    /// The deployment as a person sees it. `workspace` says where the base commits of submissions are.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn deployment(self, workspace: Option<WorkspaceConfig>) -> Result<Deployment, StackError> {
        let key = self.document.verifier_key.parse().map_err(StackError::Key)?;
        let (stores, _) = self.stores().await?;
        let anchor = self.anchor()?;
        let place = Place::Stack { key, workspace, anchor: Arc::new(anchor) };
        Ok(Deployment::over(self.config, stores, place))
    }

    fn anchor(&self) -> Result<pangolin_anchor_s3::S3Anchor, StackError> {
        let place = &self.document.anchor;
        let clock = Arc::new(SystemClock);
        let anchor =
            pangolin_anchor_s3::S3Anchor::new(&self.aws, &place.bucket, "", place.retention_days, clock)?;
        Ok(anchor)
    }
}
