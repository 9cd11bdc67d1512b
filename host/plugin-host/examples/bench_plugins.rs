//! Prints what plugins cost as one JSON line. `cargo run --release -p pangolin-plugin-host --example bench_plugins`

use std::{error::Error, io::Write, sync::Arc, time::Instant};

use pangolin_core::pattern::{RunItem, RunView};
use pangolin_plugin_host::{AdapterTask, CacheKey, LoadedFrom, PluginHost};

const ROUNDS: u32 = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("pangolin-bench-plugins-{}", std::process::id()));
    let key = CacheKey::from_bytes([1; 32]);
    let component = pangolin_builtin_plugins::adapter("claude-code").ok_or("claude-code ships")?;
    let pattern = pangolin_builtin_plugins::pattern("static-dag").ok_or("static-dag ships")?;

    let host = PluginHost::new(&dir, key.clone())?;
    let started = Instant::now();
    host.load_adapter(component)?;
    let compile_us = started.elapsed().as_micros();
    host.load_pattern(pattern)?;
    drop(host);

    let started = Instant::now();
    let host = PluginHost::new(&dir, key)?;
    let adapter = host.load_adapter(component)?;
    let cold_load_us = started.elapsed().as_micros();
    assert_eq!(adapter.loaded_from(), LoadedFrom::Cache);
    let pattern = host.load_pattern(pattern)?;

    let task = AdapterTask { prompt: "fix it".into(), workspace: "/w".into(), ..AdapterTask::default() };
    let mut prepare = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        adapter.prepare(&task).await?;
        prepare.push(started.elapsed().as_micros());
    }
    let mut view = RunView::default();
    for index in 0..100 {
        view.push(item(index)?);
    }
    let view = Arc::new(view);
    let (mut step, mut fuel) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        fuel = pattern.step(&view).await?.bill.fuel;
        step.push(started.elapsed().as_micros());
    }
    std::fs::remove_dir_all(&dir)?;
    prepare.sort_unstable();
    step.sort_unstable();
    let middle = ROUNDS as usize / 2;
    let line = serde_json::json!({
        "bench": "plugins", "component_bytes": component.len(), "compile_us": compile_us, "cold_load_us": cold_load_us,
        "prepare_us_min": prepare[0], "prepare_us_median": prepare[middle],
        "static_step_100_items_us_min": step[0], "static_step_100_items_us_median": step[middle], "static_step_fuel": fuel,
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn item(index: u32) -> Result<RunItem, Box<dyn Error>> {
    let text = format!(
        r#"{{"id":"item-{index}","executor":"dispatch","inputs":{{}},"depends_on":[],"resourceLocks":[]}}"#
    );
    Ok(RunItem::waiting(Arc::new(serde_json::from_str(&text)?), vec![]))
}
