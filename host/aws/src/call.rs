//! A failed call, in words.

use std::{error::Error, fmt};

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// What became of a call that failed: the code of the service, or what went wrong on the way, and a next step.
///
/// An error of the SDK displays as "service error" and hides the rest in its sources; this one says it.
#[derive(Debug)]
pub struct CallError {
    status: Option<u16>,
    code: Option<String>,
    text: String,
    may_have_taken_effect: bool,
}

impl CallError {
    /// From any error of an SDK client.
    pub fn new<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let service = error.as_service_error();
        let code = service.and_then(ProvideErrorMetadata::code).map(str::to_owned);
        let may_have_taken_effect = match &error {
            SdkError::ConstructionFailure(_) => false,
            SdkError::ServiceError(_) => status.is_none_or(|status| status >= 500),
            _ => true,
        };
        let mut text = match (&code, service.and_then(ProvideErrorMetadata::message)) {
            (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
            (Some(code), _) => code.clone(),
            (None, _) => chain(&error),
        };
        if let Some(status) = status {
            text.push_str(&format!(" (status {status})"));
        }
        if let Some(hint) = hint(status, code.as_deref(), &text) {
            text.push_str("; ");
            text.push_str(hint);
        }
        Self { status, code, text, may_have_taken_effect }
    }

    /// Status of the answer; `None` without an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The service's code, as `NoSuchKey`. Answers to HEAD have none.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Whether the service may have done what was asked: no answer, or an error of its own side.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        self.may_have_taken_effect
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for CallError {}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        // Layers of the SDK often repeat each other.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = cause.source();
    }
    text
}

fn hint(status: Option<u16>, code: Option<&str>, text: &str) -> Option<&'static str> {
    match (code, status) {
        (Some("NoSuchBucket"), _) => Some("check the bucket's name and the account"),
        (Some("ExpiredToken" | "ExpiredTokenException"), _) => {
            Some("the credentials have expired: log in again")
        }
        (Some("InvalidAccessKeyId" | "UnrecognizedClientException" | "SignatureDoesNotMatch"), _) => {
            Some("check the credentials and the endpoint")
        }
        (Some("RequestTimeTooSkewed"), _) => Some("set this machine's clock"),
        (Some("PermanentRedirect" | "AuthorizationHeaderMalformed"), _) | (_, Some(301)) => {
            Some("the bucket is in another region: set the region")
        }
        (_, Some(403)) => Some("the role or profile in use lacks a right for this"),
        (None, None) if text.contains("credentials") => Some(
            "no AWS credentials: set AWS_PROFILE, log in, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        _ => None,
    }
}
