//! Prints what plugins cost, one JSON line per figure. `cargo xtask bench plugins`

use std::{
    borrow::Cow, error::Error, io::Write as _, path::Path, process::ExitCode, sync::Arc, time::Instant,
};

use pangolin_core::{
    ids::Digest,
    pattern::{Decisions, ItemPhase, RunItem, RunView},
};
use pangolin_pattern_map_reduce::MapReduce;
use pangolin_pattern_sdk::{
    Phase,
    host::View as _,
    mock::{MockRun, Outcome, Serving},
};
use pangolin_plugin_host::{
    AdapterTask, Allocation, CacheKey, HostOptions, Limits, LoadedFrom, PatternComponent, PluginHost,
};
use pangolin_test_scan::Scan;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROUNDS: usize = 300;

/// First argument of the fresh process.
const COLD: &str = "--cold";

fn main() -> ExitCode {
    let begun = Instant::now();
    let mut arguments = std::env::args_os().skip(1);
    let answer = match arguments.next() {
        Some(first) if first == pangolin_plugin_host::COMPILE_COMMAND => {
            return pangolin_plugin_host::compile_main(arguments);
        }
        Some(first) if first == COLD => match arguments.next() {
            Some(dir) => runtime().and_then(|runtime| runtime.block_on(cold(begun, Path::new(&dir)))),
            None => Err("--cold takes the directory of the cache".into()),
        },
        // For a profiler: only the figures whose name contains this.
        only => {
            let only = only.map(|only| only.to_string_lossy().into_owned()).unwrap_or_default();
            runtime().and_then(|runtime| runtime.block_on(measure(&only)))
        }
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_time().build()?)
}

fn key() -> CacheKey {
    CacheKey::from_bytes([1; 32])
}

fn shipped(id: &str) -> Result<&'static [u8]> {
    pangolin_builtin_plugins::pattern(id).ok_or_else(|| format!("{id} ships").into())
}

/// Known since the build, as for every caller who loads what ships.
fn digest(id: &str) -> Result<Digest> {
    let digest = pangolin_builtin_plugins::digest("pattern", id).ok_or_else(|| format!("{id} ships"))?;
    Ok(Digest::from_bytes(digest))
}

fn line(shape: &str, figures: Value) -> Result<()> {
    let mut line = json!({ "bench": "plugins", "shape": shape });
    if let (Some(line), Value::Object(figures)) = (line.as_object_mut(), figures) {
        line.extend(figures);
    }
    line["profile"] = if cfg!(debug_assertions) { "dev" } else { "release" }.into();
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Microseconds of something done often.
struct Times {
    /// Ascending.
    wall: Vec<f64>,
    /// Mean time on the processor, this thread only, which the machine's other work changes least. A mean, because the
    /// kernel counts in ticks of some milliseconds.
    cpu: Option<f64>,
}

impl Times {
    fn of(mut wall: Vec<f64>, cpu: Option<f64>) -> Self {
        wall.sort_by(f64::total_cmp);
        Self { wall, cpu }
    }

    fn least(&self) -> f64 {
        self.wall.first().copied().unwrap_or_default()
    }

    fn figures(&self, limit_us: f64) -> Value {
        let median = self.wall.get(self.wall.len() / 2).copied().unwrap_or_default();
        json!({
            "us_min": rounded(self.least()), "us_median": rounded(median), "cpu_us_mean": self.cpu.map(rounded),
            "limit_us": limit_us,
        })
    }
}

fn rounded(us: f64) -> f64 {
    (us * 10.0).round() / 10.0
}

/// Nanoseconds that this thread was on a processor.
fn on_cpu() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "durations far below 2^53 ns")]
async fn times(rounds: usize, mut what: impl AsyncFnMut() -> Result<()>) -> Result<Times> {
    let mut wall = Vec::with_capacity(rounds);
    let before = on_cpu();
    for _ in 0..rounds {
        let started = Instant::now();
        what().await?;
        wall.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let cpu = before.zip(on_cpu()).map(|(before, after)| (after - before) as f64 / 1e3 / rounds as f64);
    Ok(Times::of(wall, cpu))
}

fn with(mut figures: Value, more: Value) -> Value {
    if let (Some(figures), Value::Object(more)) = (figures.as_object_mut(), more) {
        figures.extend(more);
    }
    figures
}

/// A map over `parts` of which `done` have ended: what the pattern sees next.
fn mapped(parts: usize, done: usize, on_map_failure: &str) -> MockRun {
    let template = json!({ "executor": "dispatch", "inputs": { "subagent": "s" } });
    let split = json!({ "id": "split", "inputs": { "mapReduce": {
        "map": template, "reduce": template, "onMapFailure": on_map_failure } } });
    let mut run = MockRun::of_items([split]);
    run.plan::<MapReduce>();
    let keys: Vec<String> = (0..parts).map(|number| format!("part-{number:05}.csv")).collect();
    run.end_item("split", &Outcome::done().outputs(keys.iter().map(String::as_str)));
    if done == 0 {
        return run;
    }
    for _ in 0..done {
        run.step::<MapReduce>();
        let Some(item) = run.ready().first().map(|item| (*item).to_owned()) else { break };
        run.end_item(&item, &Outcome::done().outputs(["result"]));
    }
    run
}

/// What the mock shows, as the driver would show it.
fn view(run: &MockRun) -> Result<Arc<RunView>> {
    let shown = run.view();
    let mut view = RunView::default();
    view.run_id = shown.run_id();
    view.tick = shown.tick();
    view.seed = shown.seed();
    view.params_json = shown.params_json();
    for index in 0..shown.item_count() {
        let item = shown.item(index).ok_or("an item is missing")?;
        let brief = shown.items(index, 1).pop().ok_or("a brief is missing")?;
        view.push(RunItem {
            spec: Arc::new(serde_json::from_str(&item.spec_json())?),
            phase: match brief.phase {
                Phase::Waiting => ItemPhase::Waiting,
                Phase::Active => ItemPhase::Active,
                Phase::Succeeded => ItemPhase::Succeeded,
                Phase::Unsuccessful => ItemPhase::Unsuccessful,
            },
            state: Cow::Owned(item.state()),
            attempts: brief.attempts,
            depends_on: item.depends_on(),
            verify_passed: item.verify_passed(),
            output_keys: item.output_keys().into(),
            attrs: Default::default(),
        });
    }
    let mut offset = 0;
    loop {
        let page = shown.changed(offset, 1_024);
        if page.is_empty() {
            return Ok(Arc::new(view));
        }
        offset += u32::try_from(page.len())?;
        view.changed.extend(page.iter().map(|brief| brief.index));
    }
}

/// What is compared must do the same.
fn is_same(
    native: &std::result::Result<pangolin_pattern_sdk::mock::Record, pangolin_pattern_sdk::Fault>,
    decisions: &Decisions,
) -> Result<()> {
    let native = native.as_ref().map_err(|fault| fault.message.clone())?;
    let spawned = native.spawned.iter().map(|(item, _)| item.clone());
    let explained = native.explanations.iter().map(|(item, why)| (item.as_str(), why.as_str()));
    let is_same = spawned.eq(decisions.spawned.iter().map(|spec| spec.item.to_json()))
        && explained.eq(decisions.explanations.iter().map(|it| (it.item.as_str(), it.why.as_str())))
        && native.close == decisions.close;
    if is_same { Ok(()) } else { Err("the component decides other things than the native code".into()) }
}

/// One step of map-reduce in a cold store, beside the same step natively.
async fn step(
    shape: &str,
    pattern: &PatternComponent,
    run: &MockRun,
    rounds: usize,
    limit_us: f64,
) -> Result<()> {
    let view = view(run)?;
    let outcome = pattern.step(&view).await?;
    is_same(&run.ask_step::<MapReduce>(Serving::default()).result, &outcome.decisions)?;
    let wasm = times(rounds, async || {
        pattern.step(&view).await?;
        Ok(())
    })
    .await?;
    let native = times(rounds, async || {
        let call = run.ask_step::<MapReduce>(Serving::default());
        call.result.map_err(|fault| fault.message)?;
        Ok(())
    })
    .await?;
    let ratio = (wasm.least() / native.least() * 10.0).round() / 10.0;
    let bill = outcome.bill;
    let more = json!({
        "items": view.items().len(), "spawned": outcome.decisions.spawned.len(),
        "native_us_min": (native.least() * 10.0).round() / 10.0, "ratio_to_native": ratio,
        "native_cpu_us_mean": native.cpu.map(rounded),
        "fuel": bill.fuel, "host_calls": bill.host_calls, "peak_memory_bytes": bill.peak_memory_bytes,
    });
    line(shape, with(wasm.figures(limit_us), more))
}

/// A pattern that reads every item through its views: the test guest that is kept compiled.
async fn scan(host: &PluginHost, items: usize, limit_us: f64) -> Result<()> {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/corpus/plugins/pattern/1.0.0-rust-hostile.wasm");
    let limits = Limits { fuel_base: 1 << 40, fuel_max: 1 << 40, ..Limits::pure() };
    let pattern = host.load_pattern_with(&std::fs::read(path)?, limits)?;
    let run = mapped(items, items / 2, "fail");
    let mut view = RunView::clone(&*view(&run)?);
    view.params_json = "count 1024".into();
    let view = Arc::new(view);
    let outcome = pattern.step(&view).await?;
    let wasm = times(100, async || {
        pattern.step(&view).await?;
        Ok(())
    })
    .await?;
    // The same reads without a border: every brief, its item's id, and the item looked up by id.
    let native = times(100, async || {
        for item in view.items() {
            let id = std::hint::black_box(item.id().as_str().to_owned());
            std::hint::black_box(view.find(&id));
        }
        Ok(())
    })
    .await?;
    let more = json!({
        "items": view.items().len(), "host_calls": outcome.bill.host_calls, "fuel": outcome.bill.fuel,
        "native_us_min": (native.least() * 10.0).round() / 10.0,
        "ratio_to_native": (wasm.least() / native.least() * 10.0).round() / 10.0,
    });
    line(&format!("scan-every-item-{items}"), with(wasm.figures(limit_us), more))
}

/// The guest of [`bulk_scan`], built now: nobody ships it.
fn scanner() -> Result<Vec<u8>> {
    let plugins = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins"));
    let status = std::process::Command::new("cargo")
        .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2", "-p", "pangolin-test-scan"])
        .env("CARGO_TARGET_DIR", plugins.join("target"))
        .current_dir(plugins)
        .status()?;
    if !status.success() {
        return Err("the guest pangolin-test-scan cannot be built".into());
    }
    Ok(std::fs::read(plugins.join("target/wasm32-wasip2/release/pangolin_test_scan.wasm"))?)
}

/// A pattern that looks at every item in pages: only its phase, or all that is mostly asked of it.
async fn bulk_scan(
    shape: &str,
    pattern: &PatternComponent,
    what: &str,
    items: usize,
    limit_us: f64,
) -> Result<()> {
    let run = mapped(items, items, "fail").params(&json!(what).to_string());
    let view = view(&run)?;
    let outcome = pattern.step(&view).await?;
    is_same(&run.ask_step::<Scan>(Serving::default()).result, &outcome.decisions)?;
    let wasm = times(100, async || {
        pattern.step(&view).await?;
        Ok(())
    })
    .await?;
    let native = times(100, async || {
        run.ask_step::<Scan>(Serving::default()).result.map_err(|fault| fault.message)?;
        Ok(())
    })
    .await?;
    let more = json!({
        "items": view.items().len(), "host_calls": outcome.bill.host_calls, "fuel": outcome.bill.fuel,
        "to_guest_bytes": outcome.bill.to_guest_bytes,
        "native_us_min": rounded(native.least()),
        "ratio_to_native": rounded(wasm.least() / native.least()),
    });
    line(shape, with(wasm.figures(limit_us), more))
}

async fn measure(only: &str) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("pangolin-bench-plugins-{}", std::process::id()));
    let answer = figures(&dir, |shape| shape.contains(only)).await;
    let _ = std::fs::remove_dir_all(&dir);
    answer
}

async fn figures(dir: &Path, wants: impl Fn(&str) -> bool) -> Result<()> {
    let component = shipped("map-reduce")?;
    let host = PluginHost::new(dir, key())?;
    let started = Instant::now();
    let pattern = host.load_pattern(component)?;
    let compile = json!({ "us": started.elapsed().as_micros(), "component_bytes": component.len() });
    line("compile-in-child", compile)?;

    for id in ["static-dag", "quorum", "pipeline", "map-reduce"] {
        let shape = format!("load-{id}");
        if !wants(&shape) {
            continue;
        }
        let (component, digest) = (shipped(id)?, digest(id)?);
        host.load_pattern(component)?;
        let load = times(ROUNDS, async || {
            if host.load_pattern_of(digest, component, Limits::pure())?.loaded_from() == LoadedFrom::Cache {
                Ok(())
            } else {
                Err("compiled".into())
            }
        })
        .await?;
        let name = format!("{}-", Digest::of(component).hex());
        let file = std::fs::read_dir(dir)?
            .filter_map(std::result::Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&name))
            .ok_or("the cache has no file")?;
        let sizes = json!({ "component_bytes": component.len(), "file_bytes": file.metadata()?.len() });
        line(&shape, with(load.figures(300.0), sizes))?;
    }

    let pooled_options = HostOptions { allocation: Allocation::Pool { calls: 16 }, ..HostOptions::default() };
    let started = Instant::now();
    let pooled_host = PluginHost::with_options(dir, key(), pooled_options)?;
    line("create-host-with-pool", json!({ "us": started.elapsed().as_micros() }))?;
    let pooled = pooled_host.load_pattern(component)?;
    for (allocation, pattern) in [("on-demand", &pattern), ("pool", &pooled)] {
        let shape = format!("instantiate-{allocation}");
        if wants(&shape) {
            let instantiate = times(ROUNDS, async || {
                pattern.instantiate().await?;
                Ok(())
            })
            .await?;
            line(&shape, instantiate.figures(40.0))?;
        }
    }

    for (shape, parts, done, policy, rounds, limit_us) in [
        ("step-100-spawned", 100, 0, "fail", ROUNDS, 500.0),
        ("step-over-100", 100, 50, "fail", ROUNDS, 500.0),
        ("step-over-10000", 10_000, 5_000, "fail", ROUNDS, 5_000.0),
        ("step-10000-reduce", 10_000, 10_000, "fail", 50, 5_000.0),
        // Looks at the outputs of every map as well.
        ("step-10000-reduce-skip", 10_000, 10_000, "skip", 50, 5_000.0),
    ] {
        for (suffix, pattern) in [("", &pattern), ("-pool", &pooled)] {
            let shape = format!("{shape}{suffix}");
            if wants(&shape) {
                step(&shape, pattern, &mapped(parts, done, policy), rounds, limit_us).await?;
            }
        }
    }
    for (items, limit_us) in [(100, 500.0), (10_000, 5_000.0)] {
        if wants("scan-every-item") {
            scan(&host, items, limit_us).await?;
        }
    }

    if wants("bulk-scan") {
        let guest = scanner()?;
        for (suffix, host) in [("", &host), ("-pool", &pooled_host)] {
            let scan = host.load_pattern(&guest)?;
            for what in ["phases", "details"] {
                let shape = format!("bulk-scan-{what}-10000{suffix}");
                bulk_scan(&shape, &scan, what, 10_000, 5_000.0).await?;
            }
        }
    }

    if wants("adapter-prepare") {
        let adapter = pangolin_builtin_plugins::adapter("claude-code").ok_or("claude-code ships")?;
        let adapter = host.load_adapter(adapter)?;
        let task = AdapterTask { prompt: "fix it".into(), workspace: "/w".into(), ..AdapterTask::default() };
        let prepare =
            times(ROUNDS, async || adapter.prepare(&task).await.map(|_| ()).map_err(Into::into)).await?;
        line("adapter-prepare", prepare.figures(1_000.0))?;
    }

    if wants("cold-path-fresh-process") {
        let mut fresh = Vec::new();
        for _ in 0..40 {
            let output = std::process::Command::new(std::env::current_exe()?).arg(COLD).arg(dir).output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
            fresh.push(String::from_utf8(output.stdout)?.trim().parse()?);
        }
        line("cold-path-fresh-process", Times::of(fresh, None).figures(4_000.0))?;
    }
    Ok(())
}

/// Engine, load, link, instantiate and one step over 100 items in a process that did nothing before.
async fn cold(begun: Instant, dir: &Path) -> Result<()> {
    // Making the view is the caller's work, not the plugin's.
    let prepared = Instant::now();
    let view = view(&mapped(100, 0, "fail"))?;
    let aside = prepared.elapsed();
    let host = PluginHost::new(dir, key())?;
    let pattern = host.load_pattern_of(digest("map-reduce")?, shipped("map-reduce")?, Limits::pure())?;
    if pattern.loaded_from() != LoadedFrom::Cache {
        return Err("it was compiled".into());
    }
    pattern.step(&view).await?;
    writeln!(std::io::stdout(), "{}", (begun.elapsed() - aside).as_secs_f64() * 1e6)?;
    Ok(())
}
