//! HTTP on loopback.

use std::convert::Infallible;

use http_body_util::BodyExt;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{
    Shared, handle,
    reply::{Reply, client, reply},
};

pub(crate) async fn serve(listener: TcpListener, state: Shared) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        // Without it a 40 ms pause may follow every small answer.
        let _ = stream.set_nodelay(true);
        let state = Shared::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Shared::clone(&state), request));
            // A client that goes away is no failure of the server.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(state: Shared, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
    let target = target.unwrap_or_default().to_owned();
    let Ok(body) = request.into_body().collect().await else {
        return Ok(reply(client("the body ended early")));
    };
    Ok(reply(handle::handle(&state, &target, &body.to_bytes())))
}
