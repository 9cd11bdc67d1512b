//! Figures of the functions as they are packed: cold start, and one ring. `cargo xtask bench lambda` calls it with pairs of
//! a function's name and its archive. One JSON line per figure on stdout.
//!
//! A cold start is from the start of the process to its first poll of the runtime API, as this machine does it: without
//! the download and the virtual machine that AWS adds, and with a whole processor.

use std::{error::Error, io::Write as _, path::Path, time::Duration};

use pangolin_aws::{Aws, Service};
use pangolin_lambda_fake::{Function, Init, Kill, LambdaFake, Outcome, Queue, unpack};
use pangolin_s3_fake::Ministack;
use serde_json::{Value, json};

/// Starts of each function.
const STARTS: usize = 40;

/// Rings of a warm function.
const RINGS: usize = 40;

/// What a start may take.
const INIT_LIMIT_MS: f64 = 30.0;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut problems = Vec::new();
    for pair in args.chunks(2) {
        let [name, package] = pair else { return Err("expected pairs of a name and an archive".into()) };
        let program = unpack(Path::new(package), &dir.path().join(name))?;
        let function = Function::new(name, program)
            .env("PANGOLIN_DOORBELL_URL", "http://127.0.0.1:9/000000000000/doorbell")
            .env("PANGOLIN_DEPLOYMENT", "s3://bench-data/config/deployment.json")
            .env("PANGOLIN_PROJECT", &format!("sha256:{}", "0".repeat(64)))
            .env("PANGOLIN_STACK", "bench");
        let figures = runtime.block_on(async {
            cold(&function).await?;
            if name == "tick" { Ok(()) } else { ring(function).await }
        });
        // The others have figures all the same.
        problems.extend(figures.err().map(|problem| problem.to_string()));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ").into()) }
}

fn line(value: &Value) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{value}")
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 100.0
}

fn middle<T: Copy + Ord>(values: impl Iterator<Item = T>) -> Option<(T, T)> {
    let mut all: Vec<T> = values.collect();
    all.sort();
    Some((*all.get(all.len() / 2)?, *all.last()?))
}

async fn cold(function: &Function) -> Result<(), Box<dyn Error>> {
    let service = LambdaFake::start()?;
    service.function(function.clone())?;
    let mut starts: Vec<Init> = Vec::new();
    for _ in 0..STARTS {
        // Only the start is of interest.
        service.kill_next(&function.name, Kill::AtInvocation)?;
        let invocation = service.invoke(&function.name, "{}").await?;
        match (invocation.outcome, invocation.init) {
            (Outcome::Killed, Some(init)) => starts.push(init),
            (outcome, _) => return Err(format!("{} does not start: {outcome:?}", function.name).into()),
        }
    }
    let (duration, slowest) = middle(starts.iter().map(|init| init.duration)).ok_or("no starts")?;
    let (cpu, _) = middle(starts.iter().map(|init| init.cpu)).ok_or("no starts")?;
    let (memory, _) = middle(starts.iter().map(|init| init.peak_rss)).ok_or("no starts")?;
    line(&json!({
        "bench": "lambda",
        "shape": format!("{}-cold", function.name),
        "median_ms": ms(duration),
        "max_ms": ms(slowest),
        "limit_ms": INIT_LIMIT_MS,
        "cpu_ms": ms(cpu),
        "peak_rss_kib": memory / 1_024,
        "starts": STARTS,
    }))?;
    Ok(())
}

async fn ring(mut function: Function) -> Result<(), Box<dyn Error>> {
    let Some(server) = Ministack::start("figures of a ring").await else { return Ok(()) };
    let endpoint = server.endpoint();
    let aws = Aws::for_tests(&endpoint, 3, Aws::http())?;
    let client = aws_sdk_sqs::Client::new(&aws.sdk(Service::Sqs));
    let made = client.create_queue().queue_name("doorbell").send().await?;
    let queue = Queue::new(&aws, made.queue_url().ok_or("no URL")?);
    function = function.env("AWS_ENDPOINT_URL", &endpoint).env("PANGOLIN_DOORBELL_URL", queue.url());
    let service = LambdaFake::start()?;
    let name = function.name.clone();
    service.function(function)?;
    for _ in 0..=RINGS {
        let invocation = service.invoke(&name, r#"{"Records":[]}"#).await?;
        if !invocation.is_success() {
            return Err(format!("{name} does not ring: {:?}", invocation.outcome).into());
        }
    }
    let all = service.invocations(&name)?;
    let warm = all.iter().filter(|invocation| invocation.init.is_none());
    let (duration, _) = middle(warm.clone().map(|invocation| invocation.duration)).ok_or("no rings")?;
    let (cpu, _) = middle(warm.map(|invocation| invocation.cpu)).ok_or("no rings")?;
    let memory = all.iter().map(|invocation| invocation.peak_rss).max().unwrap_or_default();
    let first = all.first().map(|invocation| invocation.cpu).unwrap_or_default();
    line(&json!({
        "bench": "lambda",
        "shape": format!("{name}-ring"),
        "median_ms": ms(duration),
        "cpu_ms": ms(cpu),
        "first_cpu_ms": ms(first),
        "peak_rss_kib": memory / 1_024,
        "rings": RINGS,
    }))?;
    Ok(())
}
