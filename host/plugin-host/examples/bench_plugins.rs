//! Prints what plugins cost, one JSON line per figure. `cargo xtask bench plugins`

use std::{
    borrow::Cow, error::Error, io::Write as _, path::Path, process::ExitCode, sync::Arc, time::Instant,
};

use pangolin_core::pattern::{ItemPhase, RunItem, RunView};
use pangolin_pattern_map_reduce::MapReduce;
use pangolin_pattern_sdk::{
    Phase,
    host::View as _,
    mock::{MockRun, Outcome, Serving},
};
use pangolin_plugin_host::{
    AdapterTask, Allocation, CacheKey, HostOptions, Limits, LoadedFrom, PatternComponent, PluginHost,
};
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
        _ => runtime().and_then(|runtime| runtime.block_on(measure())),
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

fn line(shape: &str, figures: Value) -> Result<()> {
    let mut line = json!({ "bench": "plugins", "shape": shape });
    if let (Some(line), Value::Object(figures)) = (line.as_object_mut(), figures) {
        line.extend(figures);
    }
    line["profile"] = if cfg!(debug_assertions) { "dev" } else { "release" }.into();
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Least and median microseconds of something done often.
struct Times(Vec<f64>);

impl Times {
    fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or_default()
    }

    fn figures(&self, limit_us: f64) -> Value {
        let round = |us: f64| (us * 10.0).round() / 10.0;
        let median = self.0.get(self.0.len() / 2).copied().unwrap_or_default();
        json!({ "us_min": round(self.least()), "us_median": round(median), "limit_us": limit_us })
    }
}

async fn times(rounds: usize, mut what: impl AsyncFnMut() -> Result<()>) -> Result<Times> {
    let mut all = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let started = Instant::now();
        what().await?;
        all.push(started.elapsed().as_secs_f64() * 1e6);
    }
    all.sort_by(f64::total_cmp);
    Ok(Times(all))
}

fn with(mut figures: Value, more: Value) -> Value {
    if let (Some(figures), Value::Object(more)) = (figures.as_object_mut(), more) {
        figures.extend(more);
    }
    figures
}

/// A map over `parts` of which `done` have ended: what the pattern sees next.
fn mapped(parts: usize, done: usize) -> MockRun {
    let template = json!({ "executor": "dispatch", "inputs": { "subagent": "s" } });
    let split = json!({ "id": "split", "inputs": { "mapReduce": { "map": template, "reduce": template } } });
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
            output_keys: item.output_keys(),
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
    let run = mapped(items, items / 2);
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

async fn measure() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("pangolin-bench-plugins-{}", std::process::id()));
    let answer = figures(&dir).await;
    let _ = std::fs::remove_dir_all(&dir);
    answer
}

async fn figures(dir: &Path) -> Result<()> {
    let component = shipped("map-reduce")?;
    let host = PluginHost::new(dir, key())?;
    let started = Instant::now();
    let pattern = host.load_pattern(component)?;
    let compile = json!({ "us": started.elapsed().as_micros(), "component_bytes": component.len() });
    line("compile-in-child", compile)?;

    // A host of its own each time: nothing is warm but the file.
    let load = times(100, async || {
        if host.load_pattern(component)?.loaded_from() == LoadedFrom::Cache {
            Ok(())
        } else {
            Err("compiled".into())
        }
    })
    .await?;
    let code = std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).max();
    line("load-from-cache", with(load.figures(300.0), json!({ "file_bytes": code })))?;
    let static_dag = shipped("static-dag")?;
    host.load_pattern(static_dag)?;
    let load = times(100, async || host.load_pattern(static_dag).map(|_| ()).map_err(Into::into)).await?;
    line("load-from-cache-static-dag", load.figures(300.0))?;

    let pooled_options = HostOptions { allocation: Allocation::Pool { calls: 16 }, ..HostOptions::default() };
    let started = Instant::now();
    let pooled_host = PluginHost::with_options(dir, key(), pooled_options)?;
    line("create-host-with-pool", json!({ "us": started.elapsed().as_micros() }))?;
    let pooled = pooled_host.load_pattern(component)?;
    for (allocation, pattern) in [("on-demand", &pattern), ("pool", &pooled)] {
        let instantiate = times(ROUNDS, async || {
            pattern.instantiate().await?;
            Ok(())
        })
        .await?;
        line(&format!("instantiate-{allocation}"), instantiate.figures(40.0))?;
    }

    step("step-100-spawned", &pattern, &mapped(100, 0), ROUNDS, 500.0).await?;
    step("step-100-spawned-pool", &pooled, &mapped(100, 0), ROUNDS, 500.0).await?;
    step("step-over-100", &pattern, &mapped(100, 50), ROUNDS, 500.0).await?;
    let large = mapped(10_000, 5_000);
    step("step-over-10000", &pattern, &large, ROUNDS, 5_000.0).await?;
    step("step-over-10000-pool", &pooled, &large, ROUNDS, 5_000.0).await?;
    step("step-10000-reduce", &pattern, &mapped(10_000, 10_000), 20, 5_000.0).await?;
    scan(&host, 100, 500.0).await?;
    scan(&host, 10_000, 5_000.0).await?;

    let adapter = pangolin_builtin_plugins::adapter("claude-code").ok_or("claude-code ships")?;
    let adapter = host.load_adapter(adapter)?;
    let task = AdapterTask { prompt: "fix it".into(), workspace: "/w".into(), ..AdapterTask::default() };
    let prepare =
        times(ROUNDS, async || adapter.prepare(&task).await.map(|_| ()).map_err(Into::into)).await?;
    line("adapter-prepare", prepare.figures(1_000.0))?;

    let mut fresh = Vec::new();
    for _ in 0..20 {
        let output = std::process::Command::new(std::env::current_exe()?).arg(COLD).arg(dir).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        fresh.push(String::from_utf8(output.stdout)?.trim().parse()?);
    }
    fresh.sort_by(f64::total_cmp);
    line("cold-path-fresh-process", Times(fresh).figures(4_000.0))
}

/// Engine, load, link, instantiate and one step over 100 items in a process that did nothing before.
async fn cold(begun: Instant, dir: &Path) -> Result<()> {
    // Making the view is the caller's work, not the plugin's.
    let prepared = Instant::now();
    let view = view(&mapped(100, 0))?;
    let aside = prepared.elapsed();
    let host = PluginHost::new(dir, key())?;
    let pattern = host.load_pattern(shipped("map-reduce")?)?;
    if pattern.loaded_from() != LoadedFrom::Cache {
        return Err("it was compiled".into());
    }
    pattern.step(&view).await?;
    writeln!(std::io::stdout(), "{}", (begun.elapsed() - aside).as_secs_f64() * 1e6)?;
    Ok(())
}
