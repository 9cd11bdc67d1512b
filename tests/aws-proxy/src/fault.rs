//! How a call fails, in the words of its service.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Response, StatusCode, header::HeaderValue};
use serde_json::json;

use crate::{call::Call, server::Body};

/// Clients that are told to hurry wait so many milliseconds before the next try.
const HURRY_MS: u16 = 10;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before anything is forwarded.
    Reset,
    /// Nothing is forwarded; the caller gets this answer.
    Refuse(Refusal),
    /// The call takes effect; then the connection ends.
    LoseAnswer,
    /// The call takes effect, but the caller gets this answer, as from a gateway that gave up.
    RefuseAfterEffect(Refusal),
    /// Nothing is forwarded; the caller gets 200 with this body, as if all were well. For JSON protocols.
    Pretend(&'static str),
    /// Nothing is forwarded and nothing is answered until the caller goes away.
    Hang,
    /// The call takes effect; nothing is answered until the caller goes away.
    HangAfterEffect,
}

/// An error as AWS answers it. Each service has its own form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// 500.
    Internal,
    /// 503: `ServiceUnavailable`.
    Unavailable,
    /// Throttled, by the name that the service has for it.
    Throttled,
    /// Somebody else is at the same object: S3's 409 of conditional writes, DynamoDB's `TransactionConflict` for transactions.
    /// Services without such an error answer [`Refusal::Throttled`].
    Conflict,
    /// A transaction of DynamoDB is cancelled with this reason at its last action. Other calls get [`Refusal::Throttled`].
    Cancelled(&'static str),
    /// Any error by its code.
    Error(u16, &'static str),
}

impl Refusal {
    /// With `hurry` the client is told to repeat it at once, so that a test need not wait for the pauses of clients.
    pub(crate) fn response(&self, call: &Call, is_head: bool, hurry: bool) -> Response<Body> {
        let mut response = self.answer(call, is_head);
        if hurry {
            response.headers_mut().insert("x-amz-retry-after", HeaderValue::from(HURRY_MS));
        }
        response
    }

    fn answer(&self, call: &Call, is_head: bool) -> Response<Body> {
        let service = call.kind.service.as_str();
        let is_transaction = call.kind.operation == "TransactWriteItems";
        let (status, code) = match (self, service) {
            (Self::Error(status, code), _) => (*status, *code),
            (Self::Internal, "s3") => (500, "InternalError"),
            (Self::Internal, "ecs") => (500, "ServerException"),
            (Self::Internal, "secretsmanager") => (500, "InternalServiceError"),
            (Self::Internal, "sqs") => (500, "InternalFailure"),
            (Self::Internal, _) => (500, "InternalServerError"),
            (Self::Unavailable, _) => (503, "ServiceUnavailable"),
            (Self::Cancelled(reason), "dynamodb") if is_transaction => {
                return cancelled(call.actions, reason);
            }
            (Self::Conflict, "dynamodb") if is_transaction => {
                return cancelled(call.actions, "TransactionConflict");
            }
            (Self::Conflict, "s3") => (409, "ConditionalRequestConflict"),
            (_, "s3") => (503, "SlowDown"),
            (_, "dynamodb") => (400, "ProvisionedThroughputExceededException"),
            (_, "sqs") => (403, "RequestThrottled"),
            _ => (400, "ThrottlingException"),
        };
        if service == "s3" { xml(status, code, is_head) } else { error(service, status, code) }
    }
}

fn xml(status: u16, code: &str, is_head: bool) -> Response<Body> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>by a rule of the proxy</Message><RequestId>proxy</RequestId></Error>"
    );
    // The answer to a HEAD has no body.
    response(status, "application/xml", if is_head { String::new() } else { body })
}

fn error(service: &str, status: u16, code: &str) -> Response<Body> {
    let kind = match (service, code) {
        ("dynamodb", "ThrottlingException") => format!("com.amazon.coral.availability#{code}"),
        ("dynamodb", "InternalServerError" | "ServiceUnavailable") => code.to_owned(),
        ("dynamodb", _) => format!("com.amazonaws.dynamodb.v20120810#{code}"),
        ("sqs", _) => format!("com.amazonaws.sqs#{code}"),
        _ => code.to_owned(),
    };
    let body = json!({ "__type": kind, "message": "by a rule of the proxy" });
    response(status, "application/x-amz-json-1.0", body.to_string())
}

/// One reason for each action, in their order.
fn cancelled(actions: usize, reason: &str) -> Response<Body> {
    let mut codes = vec!["None"; actions.saturating_sub(1)];
    codes.push(reason);
    let reasons: Vec<_> = codes.iter().map(|code| json!({ "Code": code })).collect();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": format!(
            "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
            codes.join(", ")
        ),
        "CancellationReasons": reasons,
    });
    response(400, "application/x-amz-json-1.0", body.to_string())
}

pub(crate) fn response(status: u16, content_type: &'static str, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    response
}
