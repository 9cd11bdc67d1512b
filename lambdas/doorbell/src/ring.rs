//! One message into the queue.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lambda_runtime::Diagnostic;
use pangolin_aws::{Aws, AwsConfig, CallError, OpenError, Retries, Service, Timeouts};
use pangolin_stack::names::ENV_DOORBELL;
use thiserror::Error;

use crate::Bell;

/// Left for the report of a failure when the time limit of the function is near.
const RESERVE: Duration = Duration::from_millis(500);

/// Three tries of at most three seconds: a failure is known and reported before the time limit of 15 s.
const RETRIES: Retries = Retries { attempts: 3, first_pause_ms: 100, max_pause_ms: 1_000 };
const TIMEOUTS: Timeouts = Timeouts { connect_ms: 2_000, read_ms: 3_000 };

/// Why the function cannot start.
#[derive(Debug, Error)]
pub(crate) enum SetUpError {
    /// No queue.
    #[error("{ENV_DOORBELL} is not set: it must be the URL of the queue of doorbells; the stack sets it")]
    NoQueue,
    /// No region or a wrong one.
    #[error(transparent)]
    Aws(#[from] OpenError),
}

/// Why the doorbell did not ring, or not for sure.
#[derive(Debug, Error)]
pub(crate) enum RingError {
    /// SQS refused, or could not be reached.
    #[error("the doorbell {queue} does not ring: {source}")]
    Call {
        /// URL of the queue.
        queue: String,
        /// What SQS said.
        source: CallError,
    },
    /// No answer in time.
    #[error("the doorbell {queue} did not answer before the time limit of the function")]
    TooLate {
        /// URL of the queue.
        queue: String,
    },
}

impl From<RingError> for Diagnostic {
    fn from(error: RingError) -> Self {
        let error_type = match error {
            RingError::Call { .. } => "Doorbell.Call",
            RingError::TooLate { .. } => "Doorbell.TooLate",
        };
        Self { error_type: error_type.to_owned(), error_message: error.to_string() }
    }
}

/// The queue of doorbells.
#[derive(Debug)]
pub(crate) struct Doorbell {
    client: aws_sdk_sqs::Client,
    queue: String,
}

impl Doorbell {
    /// From the environment. Makes no request, and certificates are read with the first one.
    pub(crate) async fn from_env() -> Result<Self, SetUpError> {
        let queue = env::var(ENV_DOORBELL).ok().filter(|url| !url.is_empty()).ok_or(SetUpError::NoQueue)?;
        let config = AwsConfig { retries: RETRIES, timeouts: TIMEOUTS, ..AwsConfig::default() };
        let aws = Aws::open(config).await?;
        Ok(Self { client: aws_sdk_sqs::Client::new(&aws.sdk(Service::Sqs)), queue })
    }

    /// Rings once. After an error the message may be there or not.
    ///
    /// `deadline_ms` is when Lambda ends the function, in milliseconds since 1970.
    pub(crate) async fn ring(&self, bell: Bell, deadline_ms: u64) -> Result<(), RingError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_millis(deadline_ms).saturating_sub(now).saturating_sub(RESERVE);
        let send = self.client.send_message().queue_url(&self.queue).message_body(bell.body()).send();
        match tokio::time::timeout(left, send).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                Err(RingError::Call { queue: self.queue.clone(), source: CallError::new(error) })
            }
            Err(_) => Err(RingError::TooLate { queue: self.queue.clone() }),
        }
    }
}
