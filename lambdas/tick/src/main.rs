//! The Lambda `tick`: looks at the runs of a stack, does what can be done now, and says when to look again.
//!
//! Every event is the same to it: a doorbell means "look". One look serves all messages of a batch, so it succeeds or fails as a
//! whole, and a message that nobody understands is no different from any other.

mod bell;
mod look;
mod metric;

use std::process::ExitCode;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::error;

use crate::look::{Failed, Looker};

fn main() -> ExitCode {
    // Lambda writes the time beside each line.
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
        .and_then(|runtime| runtime.block_on(run()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!(problem = %problem, "the function ends");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let looker = &Mutex::new(Looker::from_env()?);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let mut looker = looker.lock().await;
        let looked = looker.look(&event.payload, event.context.deadline).await;
        if let Err(problem) = &looked {
            error!(request = %event.context.request_id, problem = %problem.words(), "the look failed");
        }
        // The answer to a batch of a queue: no message of it has to come again.
        looked.map(|()| json!({ "batchItemFailures": [] }))
    }))
    .await
}
