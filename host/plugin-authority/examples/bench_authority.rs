//! How long the check before an effect takes; one JSON line. The comparison compiles globs for each check, which is
//! what a first version would do.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{hint::black_box, time::Instant};

use globset::GlobBuilder;
use pangolin_plugin_authority::{Grant, SecretPlace};

fn nanos(rounds: u32, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..rounds {
            work();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
    best
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Twenty rules per capability; what is asked for is the last.
    let exec: Vec<_> = (0..20)
        .map(|n| serde_json::json!({ "program": format!("tool-{n}"), "args": ["test", "--package", "*", "**"] }))
        .collect();
    let net: Vec<_> = (0..20)
        .map(|n| serde_json::json!({ "host": format!("*.h{n}.acme.dev"), "methods": ["GET", "POST"], "schemes": ["https"], "ports": [443] }))
        .collect();
    let read: Vec<String> = (0..20).map(|n| format!("workspace/crates/c{n}*/**/*.rs")).collect();
    let secret: Vec<_> = (0..20)
        .map(|n| serde_json::json!({ "name": format!("T{n}"), "place": "header:Authorization", "to": "api.acme.dev" }))
        .collect();
    let grant: Grant = serde_json::from_value(
        serde_json::json!({ "exec": exec, "net": net, "read": read, "secret": secret }),
    )?;
    let place = SecretPlace::Header("authorization".into());
    let path = "workspace/crates/c9-core/src/deep/er/module.rs";

    let exec = nanos(20_000, || {
        drop(black_box(grant.allows_exec("tool-9", &["test", "--package", "core", "--", "-q"])))
    });
    let net = nanos(20_000, || drop(black_box(grant.allows_net("api.h9.acme.dev", 443, "https", "GET"))));
    let file = nanos(20_000, || drop(black_box(grant.allows_read(path))));
    let secret = nanos(20_000, || drop(black_box(grant.allows_secret("T9", &place, "api.acme.dev"))));
    let denied = nanos(20_000, || drop(black_box(grant.allows_read("workspace/other/file.rs"))));
    let naive = nanos(50, || {
        black_box(grant.rules().read().any(|rule| {
            let glob = GlobBuilder::new(&rule.to_string()).literal_separator(true).build();
            glob.is_ok_and(|glob| glob.compile_matcher().is_match(path))
        }));
    });
    let worst = exec.max(net).max(file).max(secret);
    println!(
        "{}",
        serde_json::json!({
            "bench": "plugin-authority", "rulesPerCapability": 20,
            "execNs": exec.round(), "netNs": net.round(), "readNs": file.round(), "secretNs": secret.round(),
            "deniedReadNs": denied.round(), "naiveReadNs": naive.round(), "naiveRatio": (naive / file).round(),
            "limitNs": 2000, "met": worst < 2000.0,
        })
    );
    Ok(())
}
