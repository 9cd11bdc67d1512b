//! What an error of DynamoDB says about the request, and how long to wait before the next try.

use std::{error::Error, io, time::Duration};

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use pangolin_ports::run_store::RunStoreError;

/// How often and how long a request is repeated inside a call.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Most requests for one call.
    pub tries: u32,
    /// Longest pause after the first failed try. It doubles with each try; the real pause is a random part of it.
    pub first_pause: Duration,
    /// Where the doubling ends.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 10, first_pause: Duration::from_millis(50), longest_pause: Duration::from_secs(3) }
    }
}

impl Retry {
    /// Waits after failed try number `failed`, counted from 1. False when there shall be no other.
    pub(crate) async fn pause(&self, failed: u32) -> bool {
        if failed >= self.tries {
            return false;
        }
        let doubled = self.first_pause.saturating_mul(1 << failed.saturating_sub(1).min(16));
        let longest = doubled.min(self.longest_pause);
        // Without randomness, losers of a race would meet again; half of the pause is then better than none.
        let part = getrandom::u32().unwrap_or(u32::MAX / 2);
        tokio::time::sleep(longest.mul_f64(f64::from(part) / f64::from(u32::MAX))).await;
        true
    }
}

/// What a failed request means for the caller.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It did nothing and may be repeated.
    Refused(String),
    /// It may have taken effect, now or a moment later.
    Unclear(String),
    /// The token of an earlier request came with another content.
    OtherContent,
    /// Repeating cannot help.
    Final(RunStoreError),
}

/// Sorts an error of `doing` something to `table`.
pub(crate) fn sort<E>(table: &str, doing: &str, error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let why = || {
        let code = error.code().map(|code| format!("{code}: ")).unwrap_or_default();
        format!(
            "{doing} table {table}: {code}{}",
            error.message().map_or_else(|| chain(&error), str::to_owned)
        )
    };
    match &error {
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => return Failure::Unclear(why()),
        SdkError::DispatchFailure(failure) if failure.is_user() => {}
        SdkError::DispatchFailure(_) if never_connected(&error) => return Failure::Refused(why()),
        SdkError::DispatchFailure(_) => return Failure::Unclear(why()),
        SdkError::ServiceError(service) => match error.code() {
            Some(
                "ProvisionedThroughputExceededException"
                | "ThrottlingException"
                | "Throttling"
                | "RequestLimitExceeded"
                | "TransactionConflictException",
            ) => return Failure::Refused(why()),
            Some("TransactionInProgressException") => return Failure::Unclear(why()),
            Some("IdempotentParameterMismatchException") => return Failure::OtherContent,
            _ if service.raw().status().is_server_error() => return Failure::Unclear(why()),
            _ => {}
        },
        _ => {}
    }
    let hint = match error.code() {
        Some("ResourceNotFoundException") => "; `pangolin deploy apply` creates the table",
        Some("AccessDeniedException") => "; the role needs the rights in `DynamoRunStore`'s documentation",
        _ => "",
    };
    Failure::Final(RunStoreError::Other {
        context: format!("{doing} table {table}{hint}"),
        source: Box::new(error),
    })
}

/// Whether the connection was refused, so that nothing was sent.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    sources(error).any(|source| {
        let refused = source.downcast_ref::<io::Error>();
        refused.is_some_and(|source| source.kind() == io::ErrorKind::ConnectionRefused)
    })
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = sources(error).map(ToString::to_string).collect();
    texts.join(": ")
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let this = next?;
        next = this.source();
        Some(this)
    })
}
