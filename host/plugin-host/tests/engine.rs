//! One set of engine settings for everybody: code crosses processes and kinds of allocation, and nothing else loads.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    fs,
    hash::{Hash, Hasher},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use pangolin_core::ids::Digest;
use pangolin_plugin_host::{
    Allocation, COMPILE_COMMAND, CacheKey, Compiler, HostOptions, Limits, LoadedFrom, OnFailure, PluginHost,
    Profile, engine_config, engine_id,
};
use wasmtime::{Config, Engine};

const KEY: u8 = 9;

fn component() -> Vec<u8> {
    support::good()
}

fn host(dir: &Path, allocation: Allocation) -> PluginHost {
    let compiler = Compiler::Child(support::compiler(COMPILE_COMMAND));
    let options = HostOptions { compiler, allocation, ..HostOptions::default() };
    PluginHost::with_options(dir, CacheKey::from_bytes([KEY; 32]), options).unwrap()
}

fn load(dir: &Path) -> LoadedFrom {
    host(dir, Allocation::OnDemand).load_pattern(&component()).unwrap().loaded_from()
}

fn only_file(dir: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

/// A file of the cache as the documentation of its format says.
fn authentic(settings: Digest, code: &[u8]) -> Vec<u8> {
    let target = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" };
    let identity = format!("{}\n{}\n{target}-linux\n", engine_id(), Profile::Pure.id());
    let key = blake3::derive_key("pangolin 2026-11-21 plugin cache: native code", &[KEY; 32]);
    let mut mac = blake3::Hasher::new_keyed(&key);
    for part in [
        code,
        b"PNGAOT5\n".as_slice(),
        Digest::of(identity.as_bytes()).as_bytes(),
        Digest::of(&component()).as_bytes(),
        settings.as_bytes(),
    ] {
        mac.update(part);
    }
    [b"PNGAOT5\n".as_slice(), settings.as_bytes(), mac.finalize().as_bytes(), code].concat()
}

#[test]
fn the_engine_is_called_by_its_exact_version() {
    let lock = fs::read_to_string(support::repository().join("Cargo.lock")).unwrap();
    let (name, version) = engine_id().split_once(' ').unwrap();
    assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")), "{}", engine_id());
    assert_eq!((Profile::Pure.id(), Profile::Effect.id()), ("pure/1", "effect/1"));
}

/// What decides about native code and what a guest observes, as a digest. It is the same on every machine of a processor
/// family, because features of the building machine are not used.
fn settings(config: &Config) -> Digest {
    struct Sink(Vec<u8>);
    impl Hasher for Sink {
        fn write(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let engine = Engine::new(config).unwrap();
    let mut sink = Sink(Vec::new());
    engine.precompile_compatibility_hash().hash(&mut sink);
    Digest::of(&sink.0)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn settings_only_change_with_their_profile_id() {
    // Whoever changes a digest here changes the number in the id, too: old decision records name the old settings.
    let known = [
        ("wasmtime 48.0.8", "pure/1", "69a09e83d608ef43"),
        ("wasmtime 48.0.8", "effect/1", "3cca3cd0ff9072e5"),
    ];
    for profile in [Profile::Pure, Profile::Effect] {
        let now = settings(&engine_config(profile)).hex()[..16].to_owned();
        let entry = known.iter().find(|entry| (entry.0, entry.1) == (engine_id(), profile.id()));
        assert_eq!(entry.map(|entry| entry.2), Some(now.as_str()), "{}", profile.id());
    }
}

#[test]
fn code_made_with_other_settings_is_rebuilt_even_when_it_is_authentic() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(dir.path()), LoadedFrom::Compiled);
    let file = only_file(dir.path());
    let good = fs::read(&file).unwrap();
    // The format in the documentation is the format on disk.
    let ours = settings(&engine_config(Profile::Pure));
    assert!(authentic(ours, &good[72..]) == good);
    // With the last column: the engine itself would notice.
    type Change = fn(&mut Config);
    let others: [(&str, Change, bool); 7] = [
        ("fuel", |config| _ = config.consume_fuel(false), true),
        ("epochs", |config| _ = config.epoch_interruption(false), true),
        ("memory reservation", |config| _ = config.memory_reservation(1 << 20), true),
        ("guard size", |config| _ = config.memory_guard_size(1 << 16), true),
        ("NaN", |config| _ = config.cranelift_nan_canonicalization(false), false),
        ("SIMD", |config| _ = config.relaxed_simd_deterministic(false), true),
        ("proposals", |config| _ = config.wasm_features(wasmtime::WasmFeatures::MEMORY64, true), true),
    ];
    for (what, change, noticed) in others {
        let mut config = engine_config(Profile::Pure);
        change(&mut config);
        let code = Engine::new(&config).unwrap().precompile_component(&component()).unwrap();
        // As a build with these settings writes it, and as one that claims ours.
        fs::write(&file, authentic(settings(&config), &code)).unwrap();
        assert_eq!(load(dir.path()), LoadedFrom::Rebuilt, "{what}");
        assert!(fs::read(&file).unwrap() == good, "{what}: the rebuilt file is the good one");
        if noticed {
            fs::write(&file, authentic(ours, &code)).unwrap();
            assert_eq!(load(dir.path()), LoadedFrom::Rebuilt, "{what}");
        }
    }
    // Authentic, but not even code; and code of the other profile.
    fs::write(&file, authentic(ours, b"\x7fELF and no more")).unwrap();
    assert_eq!(load(dir.path()), LoadedFrom::Rebuilt);
    let effect =
        Engine::new(&engine_config(Profile::Effect)).unwrap().precompile_component(&component()).unwrap();
    fs::write(&file, authentic(ours, &effect)).unwrap();
    assert_eq!(load(dir.path()), LoadedFrom::Rebuilt);
    // Who cannot rebuild says so and does not run it.
    fs::write(&file, authentic(ours, &effect)).unwrap();
    let options = HostOptions { compiler: Compiler::Never, ..HostOptions::default() };
    let never = PluginHost::with_options(dir.path(), CacheKey::from_bytes([KEY; 32]), options).unwrap();
    assert_eq!(never.load_pattern(&component()).err().unwrap().code(), "not-compiled");
}

#[tokio::test]
async fn a_pool_runs_the_same_code() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(dir.path()), LoadedFrom::Compiled);
    let pooled = host(dir.path(), Allocation::Pool { calls: 2 });
    assert_eq!(pooled.allocation(), Allocation::Pool { calls: 2 });
    let pattern = pooled.load_pattern(&component()).unwrap();
    assert_eq!(pattern.loaded_from(), LoadedFrom::Cache);
    let on_demand = host(dir.path(), Allocation::OnDemand).load_pattern(&component()).unwrap();
    let (one, other) = (
        pattern.step(&Default::default()).await.unwrap(),
        on_demand.step(&Default::default()).await.unwrap(),
    );
    assert_eq!((one.decisions, one.bill.fuel), (other.decisions, other.bill.fuel));
    // And what was compiled for the pool loads without.
    let dir = tempfile::tempdir().unwrap();
    host(dir.path(), Allocation::Pool { calls: 1 }).load_pattern(&component()).unwrap();
    assert_eq!(load(dir.path()), LoadedFrom::Cache);
}

#[tokio::test]
async fn one_call_more_than_the_pool_has_is_host_busy() {
    let dir = tempfile::tempdir().unwrap();
    let pooled = host(dir.path(), Allocation::Pool { calls: 1 });
    let guest = support::guest("pangolin-test-hostile");
    let limits =
        Limits { fuel_base: u64::MAX, fuel_max: u64::MAX, wall: Duration::from_secs(5), ..Limits::pure() };
    let slow = pooled.load_pattern_with(&guest, limits).unwrap();
    let quick = pooled.load_pattern(&component()).unwrap();
    let mut view = pangolin_core::pattern::RunView::default();
    view.params_json = "spin".into();
    let view = std::sync::Arc::new(view);
    let spinning = slow.step(&view);
    let mut spinning = std::pin::pin!(spinning);
    // The first turn takes the only slot; the guest gives the thread back after 10 ms.
    let first = one_turn(spinning.as_mut()).await;
    assert!(first.is_none());
    let error = quick.step(&Default::default()).await.expect_err("no slot is free");
    assert_eq!(error.code(), "host-busy", "{error}");
    assert!(error.failure.is_retryable() && error.to_string().contains('1'), "{error}");
    assert_eq!(spinning.await.expect_err("spins").code(), "deadline");
    quick.step(&Default::default()).await.unwrap();
}

/// One turn of a future: its answer if it is there.
async fn one_turn<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => Some(answer),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

const CHILD_DIR: &str = "PANGOLIN_TEST_CACHE_DIR";

#[test]
fn processes_share_a_cache() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let pattern = host(Path::new(&dir), Allocation::OnDemand).load_pattern(&component()).unwrap();
        runtime.block_on(pattern.step(&Default::default())).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "processes_share_a_cache"])
                .env(CHILD_DIR, dir.path())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    only_file(dir.path());
    assert_eq!(load(dir.path()), LoadedFrom::Cache);
}

#[test]
fn sweeping_removes_what_no_current_engine_reads() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(dir.path()), LoadedFrom::Compiled);
    let good = only_file(dir.path());
    let name = good.file_name().unwrap().to_str().unwrap();
    let digest = name.split('-').next().unwrap();
    let old = dir.path().join(format!("{digest}-pure-0123456789abcdef.aot"));
    fs::write(&old, b"of an earlier version").unwrap();
    let fresh = dir.path().join(format!("{name}.1.0.tmp"));
    let stale = dir.path().join(format!("{name}.2.0.tmp"));
    let unknown = dir.path().join("notes.txt");
    for path in [&fresh, &stale, &unknown] {
        fs::write(path, b"x").unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
    fs::File::options().write(true).open(&stale).unwrap().set_modified(long_ago).unwrap();
    let swept = host(dir.path(), Allocation::OnDemand).sweep_cache().unwrap();
    assert_eq!((swept.removed, swept.bytes), (2, 22));
    assert!(!old.exists() && !stale.exists());
    assert!(good.exists() && fresh.exists() && unknown.exists());
    assert_eq!(load(dir.path()), LoadedFrom::Cache);
}

#[test]
fn a_cache_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o770, 0o702] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = PluginHost::new(dir.path(), CacheKey::from_bytes([KEY; 32])).err().unwrap();
        assert_eq!(error.code(), "integrity");
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
}

#[test]
fn failure_policies_are_written_as_they_are_read() {
    for (text, policy) in [
        ("closed", OnFailure::Closed),
        ("open", OnFailure::Open),
        ("builtin:static-dag", OnFailure::Builtin("static-dag".into())),
    ] {
        assert_eq!(text.parse::<OnFailure>().unwrap(), policy);
        assert_eq!(policy.to_string(), text);
        assert_eq!(serde_json::to_value(&policy).unwrap(), text);
        assert_eq!(serde_json::from_value::<OnFailure>(text.into()).unwrap(), policy);
    }
    for bad in ["", "Open", "builtin:", "builtin:a b", "builtin:../x", "closed ", "retry"] {
        let error = bad.parse::<OnFailure>().unwrap_err().to_string();
        assert!(error.contains("builtin:<id>"), "{error}");
        assert!(serde_json::from_value::<OnFailure>(bad.into()).is_err());
    }
    assert_eq!(OnFailure::default(), OnFailure::Closed);
}
