//! `cargo xtask bench`: figures as JSON lines on stdout. What is measured beside the code stays there; only the sizes
//! and the idle daemon are measured here.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{
    binaries,
    daemon::Daemon,
    docker, emulate,
    package::{self, Arch},
    process,
    workspace::{GUEST_TARGET, Workspace},
};

/// How long the idle daemon is watched. Long enough that one clock tick (10 ms) is 0.1 % of a processor.
const IDLE_WATCH: Duration = Duration::from_secs(10);

/// How long the daemon may take until its processor time stands still.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// Largest archive of a function.
const PACKAGE_LIMIT: u64 = 15 * 1_024 * 1_024;

/// What is counted: `pangolin-count-calls` says what the words mean.
const CALLS: [&str; 9] = [
    "stack runs=10 items=20",
    "stack items=100",
    "stack items=100 layered=1",
    // Each worker ends alone, so that each end has a look of its own: the most that there can be.
    "engine items=100 concurrency=20 ends=1",
    "engine items=200 concurrency=20 ends=1 layered=1",
    "engine items=1000 concurrency=20 ends=1",
    "engine items=1000 concurrency=100 ends=100",
    // Two execution environments take turns, and now and then there is a new one.
    "engine items=200 concurrency=20 ends=5 engines=2 cold=10",
    "engine items=1000 concurrency=20 ends=5 engines=2 cold=50",
];

/// Runs one benchmark.
pub(crate) fn run(workspace: &Workspace, what: &str) -> Result<()> {
    let example = |package: &str, name: &str| {
        process::run(
            process::cargo()
                .args(["run", "--release", "--quiet", "-p", package, "--example", name])
                .current_dir(&workspace.root),
        )
    };
    match what {
        "engine" => example("pangolin-runtime", "bench_engine"),
        "dispatch" => dispatch(workspace),
        "verify" => {
            example("pangolin-audit", "bench_verify")?;
            example("pangolin-replay", "bench_replay")
        }
        "size" => size(workspace),
        "plugins" => example("pangolin-plugin-host", "bench_plugins"),
        "lambda" => lambda(workspace),
        "calls" => calls(workspace),
        _ => {
            bail!(
                "do not know the benchmark {what:?}; there are engine, dispatch, verify, size, plugins, lambda and calls"
            )
        }
    }
}

/// Host workers, then containers where an engine answers.
fn dispatch(workspace: &Workspace) -> Result<()> {
    let worker = binaries::release_musl(workspace, "pangolin-worker", "pangolin-worker")?;
    let example = |package: &str, name: &str| {
        let mut cargo = process::cargo();
        cargo
            .args(["run", "--release", "--quiet", "-p", package, "--example", name])
            .current_dir(&workspace.root);
        cargo
    };
    process::run(example("pangolin-runtime", "bench_dispatch").env("PANGOLIN_WORKER", &worker))?;
    if !docker::engine_answers() {
        eprintln!("SKIPPED: no Docker engine answers; the container figure is missing");
        return Ok(());
    }
    let image = docker::demo_image(workspace)?;
    let worker = binaries::release_musl(workspace, "pangolin-worker-process", "pangolin-conformance-worker")?;
    process::run(example("pangolin-worker-docker", "overhead").arg("--").arg(worker).arg(image))
}

/// The functions as they would be uploaded. Their process is what is measured, so the program that starts them may be a
/// debug build.
fn lambda(workspace: &Workspace) -> Result<()> {
    let packages = package::build(workspace, Arch::here()?, &[])?;
    let mut bench = process::cargo();
    bench
        .args(["run", "--quiet", "-p", "pangolin-lambda-fake", "--example", "bench_lambda", "--"])
        .current_dir(&workspace.root);
    let mut looks = process::cargo();
    looks
        .args(["run", "--quiet", "-p", "pangolin-lambda-tick", "--example", "bench_tick", "--"])
        .current_dir(&workspace.root);
    for package in packages {
        let shape = format!("{}-package", package.function);
        line(
            &json!({ "bench": "lambda", "shape": shape, "bytes": package.bytes, "limit_bytes": PACKAGE_LIMIT }),
        );
        if package.function == "tick" {
            looks.arg(&package.path);
        }
        bench.arg(package.function).arg(package.path);
    }
    process::run(&mut bench)?;
    process::run(&mut looks)
}

/// What runs ask of AWS, counted: whole stacks with real workers, then the engine alone with as many items as a stack on this
/// machine could not have. Calls do not depend on the profile, so these are debug builds.
fn calls(workspace: &Workspace) -> Result<()> {
    let built = emulate::build(workspace, emulate::Kind::Stack)?;
    let program = built.pangolin.with_file_name("pangolin-count-calls");
    for load in CALLS {
        process::run(&mut process::command(&program, load.split(' ')))?;
    }
    Ok(())
}

fn line(value: &Value) {
    println!("{value}");
}

fn size(workspace: &Workspace) -> Result<()> {
    let binaries = binaries::build_release(workspace)?;
    for (name, path) in [("pangolin", &binaries.pangolin), ("pangolin-worker", &binaries.worker)] {
        line(&json!({ "bench": "size", "shape": name, "bytes": file_bytes(path)? }));
    }
    for path in guest_files(workspace)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        line(&json!({ "bench": "size", "shape": name, "bytes": file_bytes(&path)? }));
    }
    let dir = workspace.target.join("bench").join("idle-daemon");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let config = dir.join("pangolin.toml");
    fs::write(
        &config,
        "namespace = \"idle\"\nstate = \".pangolin\"\n[queues.default]\nconcurrency = 2\n\
         [executors.dispatch]\nbackend = \"process\"\nisolation = \"sandbox\"\nnetwork = \"none\"\n",
    )
    .with_context(|| format!("cannot write {}", config.display()))?;
    process::run(&mut binaries.pangolin(&dir, ["init"]))?;
    let mut daemon = Daemon::start("orch-serve", &dir, &binaries.pangolin(&dir, ["orch", "serve"]))?;
    let idle = idle(&mut daemon);
    daemon.stop()?;
    line(&idle?);
    Ok(())
}

/// Memory and processor time of a daemon without work.
fn idle(daemon: &mut Daemon) -> Result<Value> {
    let pid = settled_pid(daemon)?;
    let before = cpu_ticks(pid)?;
    let started = Instant::now();
    // A measurement over time: the length of this wait is part of the figure.
    std::thread::sleep(IDLE_WATCH);
    let ticks = cpu_ticks(pid)? - before;
    let seconds = started.elapsed().as_secs_f64();
    daemon.check_alive()?;
    let hertz: f64 = process::output(&mut process::command("getconf", ["CLK_TCK"]))?.trim().parse()?;
    #[expect(clippy::cast_precision_loss, reason = "a handful of ticks")]
    let percent = ticks as f64 / hertz / seconds * 100.0;
    Ok(json!({
        "bench": "size",
        "shape": "idle-daemon",
        "rss_kib": status_kib(pid, "VmRSS")?,
        "peak_rss_kib": status_kib(pid, "VmHWM")?,
        "cpu_percent": (percent * 1000.0).round() / 1000.0,
        "seconds": (seconds * 10.0).round() / 10.0,
    }))
}

/// Its pid once it is ready and did nothing for two seconds.
fn settled_pid(daemon: &mut Daemon) -> Result<u32> {
    let mut pid = None;
    let mut last = (0, Instant::now());
    let pid_file = daemon.pid_file().to_owned();
    daemon.wait_ready(SETTLE_LIMIT, || {
        pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
        let Some(ticks) = pid.and_then(|pid| cpu_ticks(pid).ok()) else { return false };
        if ticks != last.0 {
            last = (ticks, Instant::now());
        }
        // Starting may cost less than one tick.
        last.1.elapsed() > Duration::from_secs(2)
    })?;
    pid.context("the daemon wrote no pid")
}

/// User and system time in clock ticks: fields 14 and 15 of `/proc/<pid>/stat`, see proc(5).
fn cpu_ticks(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field is the program's name in parentheses and may contain spaces.
    let (_, rest) = text.rsplit_once(')').with_context(|| format!("{path} is malformed"))?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let tick = |index: usize| -> Result<u64> {
        fields.get(index).and_then(|field| field.parse().ok()).with_context(|| format!("{path} is malformed"))
    };
    Ok(tick(11)? + tick(12)?)
}

/// One size of `/proc/<pid>/status` in KiB.
fn status_kib(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).with_context(|| format!("{path} has no {name}"))
}

fn file_bytes(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len())
}

/// The components that the build embeds.
fn guest_files(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let dir = workspace.root.join("plugins/target").join(GUEST_TARGET).join("release");
    let mut files = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
