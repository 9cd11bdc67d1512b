//! The suite over everything that ships, over every kept plugin, and over plugins that break one rule each.

mod broken;
mod shipped;

use std::{
    fs,
    path::{Path, PathBuf},
};

use pangolin_plugin_authority::{Kind, inspect};
use pangolin_plugin_conformance::{FixtureFile, Options, Report, Verdict, check, explain};
use pangolin_plugin_host::{CacheKey, Compiler, HostOptions, PluginHost};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// Our own components, so they may be compiled in this process.
fn host() -> PluginHost {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-cache");
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    PluginHost::with_options(&cache, CacheKey::from_bytes([5; 32]), options).expect("a host")
}

/// Recorded cases below `tests/conformance`.
fn fixtures(dir: &str, component: &[u8]) -> Vec<FixtureFile> {
    let kind = inspect(component).expect("a component").kind.expect("a kind");
    let dir = repository().join("tests/conformance").join(dir);
    FixtureFile::read_all(&dir, kind).expect("fixtures")
}

/// With `UPDATE_FIXTURES=1`, what is answered becomes what is expected.
async fn report(component: &[u8], fixtures: &[FixtureFile], options: &Options) -> Report {
    let host = host();
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        let own = |fixture: &&FixtureFile| {
            fixture.path.is_file() && !fixture.path.to_string_lossy().contains("/broken/")
        };
        for fixture in fixtures.iter().filter(own) {
            explain(&host, component, fixture, true).await.expect("the fixture is written");
        }
    }
    check(&host, component, fixtures, options).await.expect("a component")
}

fn kept(name: &str) -> Vec<u8> {
    fs::read(repository().join("tests/corpus/plugins").join(name)).expect("kept")
}

/// What failed, and why.
fn failed(report: &Report) -> String {
    let failed = report.checks.iter().filter(|check| check.verdict == Verdict::Failed);
    failed.map(|check| format!("\n  {}: {}", check.name, check.detail)).collect()
}

#[track_caller]
fn assert_passes(name: &str, report: &Report) {
    assert!(report.passed(), "{name}: {}", failed(report));
}

#[track_caller]
fn assert_fails(name: &str, report: &Report, wanted: &str) {
    let failed: Vec<&str> = report.failed().collect();
    assert_eq!(failed, [wanted], "{name}: {}", self::failed(report));
}

#[test]
fn a_fixture_that_is_none_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let bad = [
        ("a.json", "{", "a.json: "),
        ("b.json", "{\"plan\": {}}", "schemaVersion must be 1, it is missing"),
        ("c.json", "{\"schemaVersion\": 2}", "schemaVersion must be 1, it is 2"),
        (
            "d.json",
            "{\"schemaVersion\": 1, \"kind\": \"block\"}",
            "the fixture is for a block, the plugin is a pattern",
        ),
        ("e.json", "{\"schemaVersion\": 1, \"plan\": {}, \"stepz\": []}", "stepz"),
    ];
    for (name, text, _) in bad {
        fs::write(dir.path().join(name), text).expect("written");
    }
    let errors = FixtureFile::read_all(dir.path(), Kind::Pattern).expect_err("none of them is one");
    assert_eq!(errors.len(), bad.len(), "all at once");
    for (error, (_, _, words)) in errors.iter().zip(bad) {
        assert!(error.to_string().contains(words), "{error}");
    }
}
