//! Answers of AWS that nothing on a developer's machine gives.

use aws_smithy_runtime_api::{client::orchestrator::HttpResponse, http::StatusCode};
use aws_smithy_types::body::SdkBody;

/// An answer: status and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Answer {
    /// An error as S3 writes it.
    #[must_use]
    pub fn s3_error(status: u16, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>by the fault script</Message><RequestId>fault</RequestId></Error>"
        );
        Self { status, content_type: "application/xml", body }
    }

    /// Two conditional writes met. The caller repeats.
    #[must_use]
    pub fn s3_conflict() -> Self {
        Self::s3_error(409, "ConditionalRequestConflict")
    }

    /// S3 throttles.
    #[must_use]
    pub fn s3_slow_down() -> Self {
        Self::s3_error(503, "SlowDown")
    }

    /// An error as the JSON protocols write it. `kind` is what stands in `__type`, for DynamoDB with its namespace.
    #[must_use]
    pub fn json_error(status: u16, kind: &str, message: &str) -> Self {
        let body = format!("{{\"__type\":{},\"message\":{}}}", quoted(kind), quoted(message));
        Self { status, content_type: "application/x-amz-json-1.0", body }
    }

    /// DynamoDB throttles a table.
    #[must_use]
    pub fn dynamodb_throttled() -> Self {
        Self::dynamodb_error("ProvisionedThroughputExceededException")
    }

    /// An error of DynamoDB by its name.
    #[must_use]
    pub fn dynamodb_error(name: &str) -> Self {
        let kind = match name {
            "ThrottlingException" => format!("com.amazon.coral.availability#{name}"),
            _ => format!("com.amazonaws.dynamodb.v20120810#{name}"),
        };
        Self::json_error(400, &kind, "by the fault script")
    }

    /// DynamoDB cancels a transaction. One reason per action: `None`, `ConditionalCheckFailed`, `TransactionConflict`,
    /// `ThrottlingError`, `ProvisionedThroughputExceeded`, …
    #[must_use]
    pub fn dynamodb_cancelled(reasons: &[&str]) -> Self {
        let list: Vec<String> =
            reasons.iter().map(|reason| format!("{{\"Code\":{}}}", quoted(reason))).collect();
        let message = format!(
            "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
            reasons.join(", ")
        );
        let body = format!(
            "{{\"__type\":\"com.amazonaws.dynamodb.v20120810#TransactionCanceledException\",\"Message\":{},\"CancellationReasons\":[{}]}}",
            quoted(&message),
            list.join(",")
        );
        Self { status: 400, content_type: "application/x-amz-json-1.0", body }
    }

    /// 429 without a word, as from a proxy.
    #[must_use]
    pub fn too_many_requests() -> Self {
        Self { status: 429, content_type: "text/plain", body: "too many requests".to_owned() }
    }

    /// 500 in the form of the JSON protocols.
    #[must_use]
    pub fn json_internal_error() -> Self {
        Self::json_error(500, "InternalServerError", "by the fault script")
    }

    /// Any answer.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<String>) -> Self {
        Self { status, content_type, body: body.into() }
    }

    pub(super) fn response(&self, is_head: bool) -> Option<HttpResponse> {
        let status = StatusCode::try_from(self.status).ok()?;
        // The answer to a HEAD has no body.
        let body = if is_head { SdkBody::empty() } else { SdkBody::from(self.body.as_str()) };
        let mut response = HttpResponse::new(status, body);
        response.headers_mut().try_insert("content-type", self.content_type).ok()?;
        Some(response)
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
