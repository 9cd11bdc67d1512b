//! Compiled code on disk: used when authentic, rebuilt in every other case, never run.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use pangolin_plugin_host::{COMPILE_COMMAND, CacheKey, Compiler, HostOptions, LoadedFrom, PluginHost};

fn component() -> Vec<u8> {
    support::good()
}

fn load(dir: &Path, key: u8) -> LoadedFrom {
    let host = support::host(dir, key);
    host.load_pattern(&component()).unwrap().loaded_from()
}

fn file(dir: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

#[tokio::test]
async fn the_second_load_comes_from_the_cache_and_works() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/here");
    assert_eq!(load(&dir, 1), LoadedFrom::Compiled);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(file(&dir)).unwrap().permissions().mode() & 0o777, 0o600);
    let host = support::host(&dir, 1);
    let pattern = host.load_pattern(&component()).unwrap();
    assert_eq!(pattern.loaded_from(), LoadedFrom::Cache);
    assert_eq!(pattern.step(&Default::default()).await.unwrap().decisions, Default::default());
}

#[test]
fn one_changed_byte_anywhere_means_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(dir.path(), 1), LoadedFrom::Compiled);
    let path = file(dir.path());
    let good = fs::read(&path).unwrap();
    // Magic, settings, MAC, first, middle and last byte of the code.
    for at in [0, 8, 39, 40, 71, 72, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert_eq!(load(dir.path(), 1), LoadedFrom::Rebuilt, "byte {at}");
        assert_eq!(load(dir.path(), 1), LoadedFrom::Cache, "byte {at}");
    }
    for length in [0, 7, 39, 71, good.len() - 1] {
        fs::write(&path, &good[..length]).unwrap();
        assert_eq!(load(dir.path(), 1), LoadedFrom::Rebuilt, "length {length}");
    }
}

#[test]
fn a_file_of_another_installation_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(dir.path(), 1), LoadedFrom::Compiled);
    assert_eq!(load(dir.path(), 2), LoadedFrom::Rebuilt);
}

#[test]
fn code_of_another_component_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let host = support::host(dir.path(), 1);
    host.load_pattern(&component()).unwrap();
    let authentic = fs::read(file(dir.path())).unwrap();
    fs::remove_file(file(dir.path())).unwrap();
    host.load_adapter(pangolin_builtin_plugins::adapter("command").unwrap()).unwrap();
    // Written by this installation, but for other bytes.
    fs::write(file(dir.path()), authentic).unwrap();
    let adapter = host.load_adapter(pangolin_builtin_plugins::adapter("command").unwrap()).unwrap();
    assert_eq!(adapter.loaded_from(), LoadedFrom::Rebuilt);
}

#[test]
fn the_key_is_made_once_and_only_taken_when_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/key");
    let keys: Vec<_> = std::thread::scope(|scope| {
        let made: Vec<_> = (0..8).map(|_| scope.spawn(|| CacheKey::load_or_create(&path).unwrap())).collect();
        made.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let stored = fs::read(&path).unwrap();
    assert_eq!(stored.len(), 32);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 1, "no temporary files are left");
    // All hold the same key: what one compiled, the others take.
    for (index, key) in keys.into_iter().enumerate() {
        let options = HostOptions {
            compiler: Compiler::Child(support::compiler(COMPILE_COMMAND)),
            ..HostOptions::default()
        };
        let host = PluginHost::with_options(&dir.path().join("cache"), key, options).unwrap();
        let from = host.load_pattern(&component()).unwrap().loaded_from();
        assert_eq!(from, if index == 0 { LoadedFrom::Compiled } else { LoadedFrom::Cache });
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(CacheKey::load_or_create(&path).unwrap_err().code(), "integrity");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, b"short").unwrap();
    let error = CacheKey::load_or_create(&path).unwrap_err().to_string();
    assert!(error.contains("32 bytes") && error.contains("key"), "{error}");
    // A pipe would be waited for until somebody writes.
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    let error = CacheKey::load_or_create(&path).unwrap_err();
    assert!(error.code() == "integrity" && error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn a_pipe_in_place_of_a_cache_file_is_replaced_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(dir.path(), 1), LoadedFrom::Compiled);
    let path = file(dir.path());
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    assert_eq!(load(dir.path(), 1), LoadedFrom::Rebuilt);
    assert!(fs::metadata(&path).unwrap().is_file());
    assert_eq!(load(dir.path(), 1), LoadedFrom::Cache);
}
