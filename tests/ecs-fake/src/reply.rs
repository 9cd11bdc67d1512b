//! Answers in awsJson1.1.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, header::HeaderValue};
use serde_json::{Value, json};

pub(crate) type Reply = Response<Full<Bytes>>;

/// An error of ECS.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) resource_ids: Vec<String>,
}

pub(crate) fn refuse<T>(code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into(), resource_ids: Vec::new() })
}

pub(crate) fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    refuse("InvalidParameterException", message)
}

pub(crate) fn client<T>(message: impl Into<String>) -> Result<T, Refusal> {
    refuse("ClientException", message)
}

pub(crate) fn reply(answer: Result<Value, Refusal>) -> Reply {
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(Refusal { code, message, resource_ids }) => {
            let mut body = json!({"__type": code, "message": message});
            if !resource_ids.is_empty() {
                body["resourceIds"] = json!(resource_ids);
            }
            (StatusCode::BAD_REQUEST, body)
        }
    };
    let mut reply = Response::new(Full::new(Bytes::from(body.to_string())));
    *reply.status_mut() = status;
    reply.headers_mut().insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
    reply
}
