//! HTTP on loopback.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::BodyExt;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{
    buckets::State,
    handle::{Asking, handle},
    reply::{Refusal, Reply},
};

pub(crate) async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        // Without it a 40 ms pause may follow every small answer.
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            // A client that goes away is no failure of the server.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let (parts, body) = request.into_parts();
    let is_head = parts.method == hyper::Method::HEAD;
    let Ok(body) = body.collect().await else {
        let message = "the body ended early".to_owned();
        let refusal = Refusal { status: 400, code: "IncompleteBody", message, marker: false };
        return Ok(refusal.reply(is_head));
    };
    let asking = Asking::new(&parts, body.to_bytes());
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(handle(&mut state, &asking).unwrap_or_else(|refusal| refusal.reply(is_head)))
}
