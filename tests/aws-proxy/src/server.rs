//! HTTP on loopback, in and out.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Method, Request, Response, Uri,
    body::{Frame, Incoming},
    http::{request::Parts, uri::Authority},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

use crate::{
    call::{Call, Kind, Outcome},
    classes,
    fault::{Fault, response},
    proxy::Traffic,
};

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

/// The connection ends without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut by a rule")
    }
}

impl std::error::Error for Cut {}

/// One address with what it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    caller: Arc<str>,
    upstream: Authority,
    traffic: Arc<Traffic>,
    client: Client<HttpConnector, Body>,
}

impl Front {
    pub(crate) fn new(caller: &str, upstream: Authority, traffic: Arc<Traffic>) -> Self {
        let mut connector = HttpConnector::new();
        // Without it a 40 ms pause may follow every small answer.
        connector.set_nodelay(true);
        // The client's own host stays: signatures cover it.
        let client = Client::builder(TokioExecutor::new()).set_host(false).build(connector);
        Self { caller: caller.into(), upstream, traffic, client }
    }
}

pub(crate) async fn serve(listener: TcpListener, front: Front) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_nodelay(true);
        let front = front.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(front.clone(), request));
            // A client that goes away is no failure of the proxy, and neither is a cut.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(front: Front, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (parts, body) = request.into_parts();
    let (kind, actions, body) = match classes::target(&parts) {
        Some(target) => {
            let bytes = body.collect().await.map_err(|_| Cut)?.to_bytes();
            let (kind, actions) = classes::json(&front.caller, target, &bytes);
            (kind, actions, Full::new(bytes).map_err(|never| match never {}).boxed())
        }
        None => (classes::s3(&front.caller, &parts), 0, body.boxed()),
    };
    let (logical, attempt) = classes::attempt(&parts).unwrap_or((String::new(), 1));
    let (path, creates) = (parts.uri.path().to_owned(), parts.headers.contains_key("if-none-match"));
    let call = Call { kind, nth: 0, logical, attempt, path, creates, actions };
    let (call, fault) = front.traffic.begin(call);
    let is_head = parts.method == Method::HEAD;
    match fault {
        None => {}
        Some(fault @ (Fault::Reset | Fault::Refuse(_) | Fault::Pretend(_))) => {
            // Read to its end, or the answer may be lost with the connection.
            let answer = match (&fault, body.collect().await) {
                (Fault::Refuse(refusal), Ok(_)) => {
                    Ok(refusal.response(&call, is_head, front.traffic.hurries()))
                }
                (Fault::Pretend(body), Ok(_)) => {
                    Ok(response(200, "application/x-amz-json-1.0", (*body).to_owned()))
                }
                _ => Err(Cut),
            };
            front.traffic.end(call, Outcome::FailedBefore);
            return answer;
        }
        Some(Fault::Hang) => {
            front.traffic.end(call, Outcome::FailedBefore);
            return std::future::pending().await;
        }
        Some(fault @ (Fault::LoseAnswer | Fault::RefuseAfterEffect(_) | Fault::HangAfterEffect)) => {
            let effect = forward(&front, &call.kind, parts, body).await?;
            // Whoever streams its answer has had all of its effect only at the end.
            let whole = effect.into_body().collect().await;
            let answer = match (&fault, whole) {
                (Fault::RefuseAfterEffect(refusal), Ok(_)) => {
                    Ok(refusal.response(&call, is_head, front.traffic.hurries()))
                }
                _ => Err(Cut),
            };
            front.traffic.end(call, Outcome::FailedAfter);
            if fault == Fault::HangAfterEffect {
                return std::future::pending().await;
            }
            return answer;
        }
    }
    forwarded(&front, call, parts, body).await
}

async fn forwarded(front: &Front, call: Call, parts: Parts, body: Body) -> Result<Response<Body>, Cut> {
    match forward(front, &call.kind, parts, body).await {
        Ok(answer) => {
            front.traffic.end(call, Outcome::Answered(answer.status().as_u16()));
            Ok(answer)
        }
        Err(Cut) => {
            front.traffic.end(call, Outcome::Unreachable);
            Ok(response(502, "text/plain", "the proxy cannot reach the emulator".to_owned()))
        }
    }
}

/// Sends a request on, with bodies counted as they pass.
async fn forward(front: &Front, kind: &Kind, mut parts: Parts, body: Body) -> Result<Response<Body>, Cut> {
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(hyper::http::uri::Scheme::HTTP);
    uri.authority = Some(front.upstream.clone());
    parts.uri = Uri::from_parts(uri).map_err(|_| Cut)?;
    // Between the proxy and the emulator there are other connections.
    parts.headers.remove("connection");
    let (traffic, of) = (Arc::clone(&front.traffic), kind.clone());
    let sent = move |length: u64| traffic.bytes(&of, length, 0);
    let request = Request::from_parts(parts, counted(body, sent));
    let answer = front.client.request(request).await.map_err(|_| Cut)?;
    let (traffic, of) = (Arc::clone(&front.traffic), kind.clone());
    let received = move |length: u64| traffic.bytes(&of, 0, length);
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove("connection");
    Ok(Response::from_parts(parts, counted(body.boxed(), received)))
}

fn counted(body: Body, count: impl Fn(u64) + Send + Sync + 'static) -> Body {
    let pass = move |frame: Frame<Bytes>| {
        count(frame.data_ref().map_or(0, |data| data.len() as u64));
        frame
    };
    body.map_frame(pass).boxed()
}
