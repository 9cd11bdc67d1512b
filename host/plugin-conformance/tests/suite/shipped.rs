//! What ships and what is kept passes; the hostile ones fail where they must.

use pangolin_plugin_conformance::{Options, Verdict};

use super::{assert_fails, assert_passes, fixtures, kept, report};

async fn passes(kind: &str, id: &str, component: &[u8]) {
    let fixtures = fixtures(&format!("{kind}/{id}"), component);
    assert!(!fixtures.is_empty(), "{kind} {id} has recorded cases");
    let report = report(component, &fixtures, &Options::default()).await;
    assert_passes(id, &report);
    for fixture in &fixtures {
        let name = format!("fixture:{}", fixture.name);
        assert!(report.checks.iter().any(|check| check.name == name), "{name} was looked at");
    }
    for name in ["twice-run", "limits"] {
        let check = report.checks.iter().find(|check| check.name == name).expect("always there");
        assert_eq!(check.verdict, Verdict::Passed);
        assert!(check.bill.is_some_and(|bill| bill.peak_memory_bytes.used > 0), "{id}: {name} shows a bill");
    }
}

#[tokio::test]
async fn patterns() {
    for id in ["static-dag", "pipeline", "map-reduce", "quorum"] {
        passes("pattern", id, pangolin_builtin_plugins::pattern(id).expect("ships")).await;
    }
}

#[tokio::test]
async fn adapters() {
    for id in ["command", "claude-code"] {
        passes("adapter", id, pangolin_builtin_plugins::adapter(id).expect("ships")).await;
    }
}

#[tokio::test]
async fn blocks() {
    for id in ["diff-policy", "licence-check", "secret-scan", "test-report"] {
        passes("block", id, pangolin_builtin_plugins::block(id).expect("ships")).await;
    }
}

#[tokio::test]
async fn kept_plugins() {
    let few = Options { large_items: 1_000 };
    for name in ["pattern/1.0.0-rust-static-dag.wasm", "block/1.0.0-rust-minimal.wasm"] {
        assert_passes(name, &report(&kept(name), &[], &few).await);
    }
    let command = kept("runtime-adapter/1.0.0-rust-command.wasm");
    assert_passes("command", &report(&command, &fixtures("adapter/command", &command), &few).await);
    // Its parameters make it hostile; without any it keeps every rule.
    let hostile = kept("pattern/1.0.0-rust-hostile.wasm");
    assert_passes("hostile", &report(&hostile, &[], &few).await);
    for (what, check) in
        [("panic", "no-traps"), ("exit", "no-traps"), ("memory", "limits"), ("order", "seed-swap")]
    {
        assert_fails(what, &report(&hostile, &super::broken::hostile(what), &few).await, check);
    }
}
