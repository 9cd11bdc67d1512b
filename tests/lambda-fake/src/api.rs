//! The runtime API of one environment, version 2018-06-01. Paths and status codes are those of the developer guide.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

const VERSION: &str = "/2018-06-01/runtime/";

/// What the runtime says about an invocation, or about its start.
#[derive(Debug)]
pub(crate) enum Said {
    Answer(Bytes),
    Error { error_type: String, message: String },
}

/// A request of the runtime. Who drops `reply` without an answer breaks the connection.
#[derive(Debug)]
pub(crate) enum Call {
    Next(oneshot::Sender<Reply>),
    Done { id: String, said: Said, reply: oneshot::Sender<Reply> },
    InitError { said: Said, reply: oneshot::Sender<Reply> },
    Unknown { what: String, reply: oneshot::Sender<Reply> },
}

/// An invocation for the runtime.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) request_id: String,
    pub(crate) deadline_ms: u128,
    pub(crate) arn: String,
    pub(crate) trace: String,
    pub(crate) payload: Bytes,
}

/// What the runtime gets.
#[derive(Debug)]
pub(crate) enum Reply {
    Event(Box<Event>),
    Accepted,
    Refused { status: StatusCode, error_type: &'static str, message: String },
}

/// Serves until it is aborted.
pub(crate) async fn serve(listener: TcpListener, calls: mpsc::UnboundedSender<Call>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        // Without it a 40 ms pause may follow every small answer.
        let _ = stream.set_nodelay(true);
        let calls = calls.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(calls.clone(), request));
            // A runtime that goes away is seen by the end of its process.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The environment is gone: the connection breaks.
#[derive(Debug, thiserror::Error)]
#[error("the environment has ended")]
struct Ended;

async fn answer(
    calls: mpsc::UnboundedSender<Call>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Ended> {
    let (parts, body) = request.into_parts();
    let (reply, replied) = oneshot::channel();
    let path = parts.uri.path().strip_prefix(VERSION).unwrap_or_default().to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    let body = body.collect().await.map_err(|_| Ended)?.to_bytes();
    let call = match (&parts.method, segments.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => Call::Next(reply),
        (&Method::POST, ["invocation", id, "response"]) => {
            Call::Done { id: (*id).to_owned(), said: Said::Answer(body), reply }
        }
        (&Method::POST, ["invocation", id, "error"]) => {
            Call::Done { id: (*id).to_owned(), said: error(&parts.headers, &body), reply }
        }
        (&Method::POST, ["init", "error"]) => Call::InitError { said: error(&parts.headers, &body), reply },
        (method, _) => Call::Unknown { what: format!("{method} {}", parts.uri.path()), reply },
    };
    calls.send(call).map_err(|_| Ended)?;
    match replied.await.map_err(|_| Ended)? {
        Reply::Event(event) => respond(*event),
        Reply::Accepted => Ok(with_json(StatusCode::ACCEPTED, json!({ "status": "OK" }))),
        Reply::Refused { status, error_type, message } => {
            Ok(with_json(status, json!({ "errorType": error_type, "errorMessage": message })))
        }
    }
}

/// A reported error. The body is what a caller gets; the header is a category for the service, often just `unhandled`.
fn error(headers: &HeaderMap, body: &[u8]) -> Said {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let header = headers.get("lambda-runtime-function-error-type").and_then(|value| value.to_str().ok());
    Said::Error {
        error_type: body["errorType"].as_str().or(header).unwrap_or_default().to_owned(),
        message: body["errorMessage"].as_str().unwrap_or_default().to_owned(),
    }
}

fn respond(event: Event) -> Result<Response<Full<Bytes>>, Ended> {
    Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", event.request_id)
        .header("lambda-runtime-deadline-ms", event.deadline_ms.to_string())
        .header("lambda-runtime-invoked-function-arn", event.arn)
        .header("lambda-runtime-trace-id", event.trace)
        .body(Full::new(event.payload))
        .map_err(|_| Ended)
}

fn with_json(status: StatusCode, body: serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
}

/// Takes requests of one kind on a port of its own: bodies go to `take`, the sender gets an empty 200.
pub(crate) async fn take_posts(listener: TcpListener, take: impl Fn(Bytes) + Clone + Send + Sync + 'static) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let take = take.clone();
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let take = take.clone();
                async move {
                    if let Ok(body) = request.into_body().collect().await {
                        take(body.to_bytes());
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// When the runtime must have answered, in milliseconds since 1970.
pub(crate) fn deadline_ms(limit: Duration) -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now + limit).as_millis()
}
