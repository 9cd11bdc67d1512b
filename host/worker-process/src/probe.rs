//! Asks the worker binary whether it can sandbox here.

use std::{path::Path, process::Stdio, time::Duration};

use pangolin_core::entry::{Isolation, IsolationUsed};
use pangolin_ports::worker_backend::{BackendError, Network};
use serde::Deserialize;

use crate::supervise::inherited_environment;

/// Longest a dry run of the sandbox may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What `pangolin-worker probe` prints.
#[derive(Debug, Deserialize)]
struct Answer {
    available: bool,
    #[serde(default)]
    mechanisms: Vec<String>,
    /// A text, or a list of texts.
    #[serde(default)]
    missing: serde_json::Value,
}

impl Answer {
    fn missing(&self) -> String {
        match &self.missing {
            serde_json::Value::String(text) if !text.is_empty() => text.clone(),
            serde_json::Value::Array(parts) if !parts.is_empty() => {
                let parts =
                    parts.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
                parts.collect::<Vec<_>>().join("; ")
            }
            _ => "the worker's probe gives no reason; run `pangolin-worker probe --isolation sandbox`"
                .to_owned(),
        }
    }
}

pub(crate) const fn network_name(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Host => "host",
    }
}

/// Runs a dry run of the sandbox with this worker.
pub(crate) async fn sandbox(worker: &Path, network: Network) -> Result<IsolationUsed, BackendError> {
    let unavailable =
        |missing: String| BackendError::IsolationUnavailable { requested: Isolation::Sandbox, missing };
    let mut command = tokio::process::Command::new(worker);
    command
        .args(["probe", "--isolation", "sandbox", "--network", network_name(network)])
        .env_clear()
        .envs(inherited_environment())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(PATIENCE, command.output()).await {
        Err(_) => {
            return Err(unavailable(format!(
                "{} probe did not answer within {PATIENCE:?}",
                worker.display()
            )));
        }
        Ok(Err(error)) => {
            return Err(unavailable(format!("cannot run {}: {error}; is it built?", worker.display())));
        }
        Ok(Ok(output)) => output,
    };
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().chars().take(500).collect();
        unavailable(format!("{} probe ({}) printed no answer: {said}", worker.display(), output.status))
    })?;
    if !answer.available {
        return Err(unavailable(answer.missing()));
    }
    Ok(IsolationUsed {
        level: Isolation::Sandbox,
        mechanisms: answer.mechanisms,
        network: network_name(network).to_owned(),
        image: None,
    })
}
