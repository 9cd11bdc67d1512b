//! What a look costs while many items run: `bench_tick <archive of tick> [<items>]`. `cargo xtask bench lambda` calls it. One
//! JSON line per figure on stdout.
//!
//! The function is the one of the archive, the stack around it is emulated, and its workers are programs that sleep. Processor
//! time includes everything that the process does: TLS is missing, because emulators have none.

#![expect(clippy::print_stderr, reason = "progress of a benchmark")]

use std::{
    collections::BTreeMap, error::Error, fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path,
};

use pangolin_aws_e2e::{EmulatedStack, IMAGE, Options};
use pangolin_core::ids::RunId;
use pangolin_lambda_fake::{Invocation, Kill, unpack};
use serde_json::{Value, json};

/// Looks of each kind.
const LOOKS: usize = 10;

const CPU_LIMIT_MS: f64 = 300.0;
const RSS_LIMIT_KIB: u64 = 128 * 1_024;

/// Minutes of the schedule until everything must be running.
const MINUTES_MAX: usize = 200;

fn config(items: usize) -> String {
    format!(
        "namespace = \"bench\"\n[queues.default]\nconcurrency = {items}\n[executors.dispatch]\nbackend = \"fargate\"\n\
         network = \"host\"\nimage = \"{IMAGE}\"\ncpus = 0.25\nmemory_mb = 512\n[retry]\ntimeout_seconds = 3600\n"
    )
}

fn program(path: &Path, text: &str) -> std::io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (archive, items) = match args.as_slice() {
        [archive] => (archive, 1_000),
        [archive, items] => (archive, items.parse()?),
        _ => return Err("expected the archive of tick, and a number of items".into()),
    };
    let dir = tempfile::tempdir()?;
    // The function as it is packed, and functions and workers that do nothing.
    let programs = dir.path().join("programs");
    let unpacked = unpack(Path::new(archive), &programs)?;
    fs::rename(unpacked, programs.join("pangolin-lambda-tick"))?;
    program(&programs.join("pangolin-worker"), "#!/bin/sh\nexec sleep 3600\n")?;
    for name in ["inbox", "task-events"] {
        program(&programs.join(format!("pangolin-lambda-{name}")), "#!/bin/sh\nexit 1\n")?;
    }
    let project = dir.path().join("project");
    fs::create_dir(&project)?;
    fs::write(project.join("pangolin.toml"), config(items))?;
    let Some(stack) = EmulatedStack::deploy(&programs, &project, Options::default()).await else {
        return Ok(());
    };
    let (home, _dir) = stack.at_home().await;
    stack.agent(&home, "sleep", "sleep 3600").await;
    let ids: Vec<String> = (0..items).map(|number| format!("item-{number}")).collect();
    let plan: Vec<(&str, &str, &[&str])> =
        ids.iter().map(|id| (id.as_str(), "sleep", [].as_slice())).collect();
    stack.submit(&home, "many", &plan).await;
    let run = RunId::new("many")?;
    for minute in 0.. {
        stack.lambda.tick_clock().await?;
        let running = match home.run_view(&run).await {
            Ok(view) => view.items.iter().filter(|item| item.status == "running").count(),
            // Not admitted yet.
            Err(_) => 0,
        };
        eprintln!("{running} of {items} items run after {minute} minutes of the schedule");
        if running == items {
            break;
        }
        if minute > MINUTES_MAX {
            let logs = stack.lambda.logs("tick");
            let said = logs.lines().find(|line| line.contains("WARN")).unwrap_or("the log has no warning");
            return Err(format!("only {running} of {items} items run: {said}").into());
        }
    }
    // One look sees all that started.
    stack.lambda.tick_clock().await?;
    let starts = figures(&stack, items, "starting", 0)?;
    let warm = looks(&stack, None).await?;
    figures(&stack, items, "warm", starts)?;
    looks(&stack, Some(Kill::AtResponse)).await?;
    figures(&stack, items, "cold", starts + warm)?;
    Ok(())
}

/// Answers how many there were.
async fn looks(stack: &EmulatedStack, kill: Option<Kill>) -> Result<usize, Box<dyn Error>> {
    let before = stack.lambda.invocations("tick")?.len();
    for _ in 0..LOOKS {
        if let Some(kill) = kill {
            stack.lambda.kill_next("tick", kill)?;
        }
        stack.lambda.tick_clock().await?;
    }
    Ok(stack.lambda.invocations("tick")?.len() - before)
}

fn figures(stack: &EmulatedStack, items: usize, kind: &str, from: usize) -> Result<usize, Box<dyn Error>> {
    let all = stack.lambda.invocations("tick")?;
    let looks: Vec<&Invocation> = all.iter().skip(from).collect();
    let mut cpu: Vec<f64> = looks.iter().map(|look| look.cpu.as_secs_f64() * 1e3).collect();
    cpu.sort_by(f64::total_cmp);
    let mut duration: Vec<f64> = looks.iter().map(|look| look.duration.as_secs_f64() * 1e3).collect();
    duration.sort_by(f64::total_cmp);
    let middle =
        |values: &[f64]| values.get(values.len() / 2).map_or(0.0, |value| (value * 100.0).round() / 100.0);
    let rss = looks.iter().map(|look| look.peak_rss / 1_024).max().unwrap_or_default();
    let outcomes = looks.iter().fold(BTreeMap::<&str, usize>::new(), |mut seen, look| {
        *seen.entry(if look.is_success() { "answered" } else { "other" }).or_default() += 1;
        seen
    });
    let line: Value = json!({
        "bench": "lambda",
        "shape": format!("tick-{kind}"),
        "items": items,
        "looks": outcomes,
        "cpu_ms": middle(&cpu),
        "cpu_max_ms": cpu.last(),
        "limit_cpu_ms": CPU_LIMIT_MS,
        "median_ms": middle(&duration),
        "peak_rss_kib": rss,
        "limit_rss_kib": RSS_LIMIT_KIB,
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(looks.len())
}
