//! Measures how long `ensure` takes and how long after a worker's exit `wait` answers; prints one JSON line.
//!
//! `cargo run -p pangolin-worker-process --example latency -- <supervisor> <worker> [rounds]`, where the two are
//! `pangolin-supervise` and `pangolin-conformance-worker`. `release_to_wait_ms` starts when the worker is told to end,
//! so it includes up to 1 ms until the worker notices, its exit, the tree check, the record and the wake-up.
#![expect(clippy::print_stdout, reason = "the line is the product")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use pangolin_core::{entry::Isolation, ids::DispatchId};
use pangolin_ports::worker_backend::{Limits, Network, WorkerBackend, WorkerSpec};
use pangolin_worker_process::{ProcessBackend, SupervisorCommand};

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(supervisor), Some(worker)) = (arguments.next(), arguments.next()) else {
        return Err("usage: latency <supervisor> <worker> [rounds]".into());
    };
    let rounds: usize = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let base = tempfile::tempdir()?;
    let supervisor = SupervisorCommand { program: supervisor.into(), arguments: Vec::new() };
    let backend = ProcessBackend::open(base.path().join("state"), supervisor, worker)?;
    let (mut ensures, mut adoptions, mut wakes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let dir = |kind: &str| {
            let dir = base.path().join(round.to_string()).join(kind);
            std::fs::create_dir_all(&dir).map(|()| dir)
        };
        let spec = WorkerSpec {
            dispatch: DispatchId::new(format!("latency-{round}"))?,
            envelope_dir: dir("envelope")?,
            workspace_dir: dir("workspace")?,
            result_dir: dir("result")?,
            result_key: "00".repeat(32),
            image: None,
            isolation: Isolation::None,
            network: Network::Host,
            limits: Limits::default(),
        };
        // Touching the file is the worker's last act before its exit.
        let script =
            r#"[{"do":"await-file","name":"go"},{"do":"inspect","paths":[]},{"do":"exit","code":0}]"#;
        std::fs::write(spec.envelope_dir.join("script.json"), script)?;
        let start = Instant::now();
        backend.ensure(&spec).await?;
        ensures.push(start.elapsed());
        let start = Instant::now();
        backend.ensure(&spec).await?;
        adoptions.push(start.elapsed());
        let waiting = backend.wait(&spec.dispatch);
        let go = spec.workspace_dir.join("go");
        while !spec.result_dir.join("starts").exists() {
            tokio::task::yield_now().await;
        }
        let start = Instant::now();
        std::fs::write(go, b"")?;
        waiting.await?;
        wakes.push(start.elapsed());
    }
    println!(
        r#"{{"bench":"process-worker-latency","rounds":{rounds},"ensure_ms":{:.2},"adopt_ms":{:.2},"release_to_wait_ms":{:.2}}}"#,
        median(ensures),
        median(adoptions),
        median(wakes),
    );
    Ok(())
}
