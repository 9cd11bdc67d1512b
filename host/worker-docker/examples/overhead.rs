//! Measures what a dispatch costs over plain `docker run --rm` of the same image, and prints one JSON line.
//!
//! `cargo run -p pangolin-worker-docker --example overhead -- <static worker> <image> [rounds]`, where the worker is
//! `pangolin-conformance-worker` (musl). Both sides run that binary with a script that ends at once.
#![expect(clippy::print_stdout, reason = "the line is the product")]

use std::{
    error::Error,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pangolin_core::{entry::Isolation, ids::DispatchId};
use pangolin_ports::worker_backend::{Limits, Network, WorkerBackend, WorkerSpec};
use pangolin_worker_docker::DockerBackend;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn stage(base: &Path, image: &str, round: usize) -> Result<WorkerSpec, Box<dyn Error>> {
    let dir = |kind: &str| {
        let dir = base.join(round.to_string()).join(kind);
        std::fs::create_dir_all(&dir).map(|()| dir)
    };
    let spec = WorkerSpec {
        dispatch: DispatchId::new(format!("overhead-{}-{round}", std::process::id()))?,
        envelope_dir: dir("envelope")?,
        workspace_dir: dir("workspace")?,
        result_dir: dir("result")?,
        result_key: "00".repeat(32),
        image: Some(image.to_owned()),
        isolation: Isolation::Container,
        network: Network::None,
        limits: Limits::default(),
    };
    std::fs::write(spec.envelope_dir.join("script.json"), r#"[{"do":"exit","code":0}]"#)?;
    Ok(spec)
}

fn docker_run(spec: &WorkerSpec, worker: &str, image: &str) -> Result<Duration, Box<dyn Error>> {
    let mount = |source: &Path, target: &str| format!("{}:{target}", source.display());
    let start = Instant::now();
    let status = Command::new("docker")
        .args(["run", "--rm", "--network", "none", "--entrypoint", "/worker"])
        .args(["-v", &format!("{worker}:/worker:ro")])
        .args(["-v", &mount(&spec.envelope_dir, "/e"), "-v", &mount(&spec.workspace_dir, "/w")])
        .args(["-v", &mount(&spec.result_dir, "/r"), "-e", "PANGOLIN_ENVELOPE_DIR=/e"])
        .args(["-e", "PANGOLIN_WORKSPACE_DIR=/w", "-e", "PANGOLIN_RESULT_DIR=/r", image])
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("docker run: {status}").into());
    }
    Ok(start.elapsed())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(worker), Some(image)) = (arguments.next(), arguments.next()) else {
        return Err("usage: overhead <static worker> <image> [rounds]".into());
    };
    let rounds: usize = arguments.next().map_or(Ok(15), |text| text.parse())?;
    let base = tempfile::tempdir()?;
    let backend = DockerBackend::connect(&worker).await?;
    let (mut plain, mut ours, mut ensures, mut waits, mut removes) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..=rounds {
        // Alternating, so that both see the same machine.
        let run = docker_run(&stage(base.path(), &image, 2 * round)?, &worker, &image)?;
        let spec = stage(base.path(), &image, 2 * round + 1)?;
        let start = Instant::now();
        backend.ensure(&spec).await?;
        let ensured = start.elapsed();
        backend.wait(&spec.dispatch).await?;
        let waited = start.elapsed();
        backend.remove(&spec.dispatch).await?;
        let removed = start.elapsed();
        if round > 0 {
            // The first of each warms caches.
            plain.push(run);
            ours.push(removed);
            ensures.push(ensured);
            waits.push(waited - ensured);
            removes.push(removed - waited);
        }
    }
    let (plain, ours) = (median(plain), median(ours));
    println!(
        r#"{{"bench":"docker-overhead","rounds":{rounds},"docker_run_ms":{plain:.1},"dispatch_ms":{ours:.1},"overhead_ms":{:.1},"ensure_ms":{:.1},"wait_ms":{:.1},"remove_ms":{:.1}}}"#,
        ours - plain,
        median(ensures),
        median(waits),
        median(removes),
    );
    Ok(())
}
