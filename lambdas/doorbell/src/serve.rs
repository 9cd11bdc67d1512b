//! The loop of a function.

use std::{future::Future, process::ExitCode};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tracing::{error, info, warn};

use crate::{
    Bell, Heard,
    ring::{Doorbell, RingError},
};

/// Serves events until the execution environment ends. The answer is for `main`.
#[must_use]
pub fn serve(bell: Bell) -> ExitCode {
    start(run(bell))
}

/// Starts a function: its log, JSON lines on stderr, and one thread on which it runs until it ends. The answer is for
/// `main`.
#[must_use]
pub fn start(function: impl Future<Output = Result<(), Error>>) -> ExitCode {
    // Nothing below INFO: at TRACE the runtime would log events. Lambda writes the time beside each line.
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .without_time()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .init();
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::from)
        .and_then(|runtime| runtime.block_on(function));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!(problem = %problem, "the function ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(bell: Bell) -> Result<(), Error> {
    let doorbell = &Doorbell::from_env().await?;
    // Raw: what cannot be read rings too.
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| handle(bell, doorbell, event)))
        .await
}

async fn handle(bell: Bell, doorbell: &Doorbell, event: LambdaEvent<Box<RawValue>>) -> Result<(), RingError> {
    let request = event.context.request_id.as_str();
    let heard = Heard::read(bell, event.payload.get());
    let Heard { expected, other } = heard;
    if !heard.is_expected() {
        let bytes = event.payload.get().len();
        warn!(request, expected, other, bytes, "an event of another kind; it rings all the same");
    }
    let rung = doorbell.ring(bell, event.context.deadline).await;
    match &rung {
        Ok(()) => info!(request, doorbell = bell.word(), expected, other, "rang"),
        Err(problem) => error!(request, doorbell = bell.word(), problem = %problem, "did not ring"),
    }
    rung
}
