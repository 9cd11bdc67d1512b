//! Compiling in a bounded child: what may go wrong there ends as `not-compiled` with a number, and the host lives.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{path::Path, time::Instant};

use pangolin_plugin_host::{
    COMPILE_COMMAND, CacheKey, CompileCommand, CompileLimits, Compiler, Failure, HostOptions, LoadedFrom,
    PluginHost, Profile, engine_id,
};

fn static_dag() -> Vec<u8> {
    support::good()
}

fn host(dir: &Path, compiler: Compiler) -> PluginHost {
    let options = HostOptions { compiler, ..HostOptions::default() };
    PluginHost::with_options(dir, CacheKey::from_bytes([3; 32]), options).unwrap()
}

/// Loads a good component with a compiler that misbehaves, then with a good one on the same cache.
fn failure(mode: &str, limits: CompileLimits) -> Failure {
    let dir = tempfile::tempdir().unwrap();
    let bad = CompileCommand { limits, ..support::compiler(mode) };
    let failure = host(dir.path(), Compiler::Child(bad)).load_pattern(&static_dag()).err().unwrap().failure;
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left in the cache: {failure}");
    let good = host(dir.path(), Compiler::Child(support::compiler(COMPILE_COMMAND)));
    assert_eq!(good.load_pattern(&static_dag()).unwrap().loaded_from(), LoadedFrom::Compiled);
    failure
}

#[track_caller]
fn check(failure: &Failure, words: &[&str]) {
    assert_eq!(failure.code(), "not-compiled", "{failure}");
    let text = failure.to_string();
    for word in words.iter().chain([&engine_id(), &Profile::Pure.id()]) {
        assert!(text.contains(word), "{word:?} is missing in {text:?}");
    }
}

fn short() -> CompileLimits {
    CompileLimits { cpu_base_seconds: 1, cpu_per_mib_seconds: 0, wall_per_cpu: 3, ..CompileLimits::default() }
}

#[test]
fn too_much_processor_time() {
    // However little of the processor this test gets.
    let limits = CompileLimits { wall_per_cpu: 200, ..short() };
    check(&failure("limits-then-spin", limits), &["more than 1 s of processor time"]);
}

#[test]
fn too_much_memory() {
    let limits = CompileLimits { memory_base: 400_000_000, memory_per_byte: 0, ..CompileLimits::default() };
    check(&failure("limits-then-memory", limits), &["more than 400000000 bytes of address space"]);
}

#[test]
fn a_real_compilation_that_needs_more_memory_than_it_may_have() {
    let limits = CompileLimits { memory_base: 8_000_000, memory_per_byte: 0, ..CompileLimits::default() };
    check(&failure(COMPILE_COMMAND, limits), &["more than 8000000 bytes of address space"]);
}

#[test]
fn a_compiler_that_hangs_is_stopped() {
    let started = Instant::now();
    let failure = failure("hang", short());
    check(&failure, &["longer than 3 s"]);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn a_compiler_that_crashes() {
    check(&failure("crash", CompileLimits::default()), &["crashed with SIGABRT (6)"]);
    check(&failure("limits-then-recurse", CompileLimits::default()), &["crashed with SIG", "overflow"]);
}

#[test]
fn too_much_native_code() {
    let limits = CompileLimits { code_bytes: 100_000, ..CompileLimits::default() };
    check(&failure("flood", limits), &["larger than 100000 bytes"]);
    check(
        &failure(COMPILE_COMMAND, CompileLimits { code_bytes: 1_000, ..limits }),
        &["larger than 1000 bytes"],
    );
}

#[test]
fn the_compiler_cannot_write_files() {
    check(&failure("limits-then-file", CompileLimits::default()), &["SIGXFSZ"]);
}

#[test]
fn the_compiler_gets_no_environment_and_an_empty_directory() {
    check(&failure("environment", CompileLimits::default()), &["0 variables, 0 files here"]);
}

#[test]
fn a_program_that_is_no_compiler_is_a_host_error() {
    for mode in ["nothing", "--help"] {
        let failure = failure(mode, CompileLimits::default());
        assert_eq!(failure.code(), "host-error", "{failure}");
        assert!(failure.to_string().contains("compile_main"), "{failure}");
    }
    let dir = tempfile::tempdir().unwrap();
    let missing = CompileCommand { program: "/does/not/exist".into(), ..support::compiler("x") };
    let error = host(dir.path(), Compiler::Child(missing)).load_pattern(&static_dag()).err().unwrap();
    assert_eq!(error.code(), "host-error");
    assert!(error.to_string().contains("/does/not/exist"), "{error}");
}

#[test]
fn who_never_compiles_takes_what_is_in_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let lambda = || host(dir.path(), Compiler::Never);
    let failure = lambda().load_pattern(&static_dag()).err().unwrap().failure;
    check(&failure, &["does not compile", "pangolin plugin rebuild"]);
    let control = host(dir.path(), Compiler::Child(support::compiler(COMPILE_COMMAND)));
    assert_eq!(control.rebuild(Profile::Pure, &static_dag()).unwrap(), LoadedFrom::Compiled);
    assert_eq!(control.rebuild(Profile::Pure, &static_dag()).unwrap(), LoadedFrom::Cache);
    assert_eq!(lambda().load_pattern(&static_dag()).unwrap().loaded_from(), LoadedFrom::Cache);
}

#[test]
fn both_ways_to_compile_give_the_same_code() {
    let code = |compiler| {
        let dir = tempfile::tempdir().unwrap();
        host(dir.path(), compiler).load_pattern(&static_dag()).unwrap();
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        std::fs::read(file).unwrap()
    };
    assert!(code(Compiler::InProcess) == code(Compiler::Child(support::compiler(COMPILE_COMMAND))));
}

#[test]
fn loading_at_the_same_time_compiles_once() {
    let dir = tempfile::tempdir().unwrap();
    let shared = host(dir.path(), Compiler::Child(support::compiler(COMPILE_COMMAND)));
    let mut from: Vec<LoadedFrom> = std::thread::scope(|scope| {
        let loads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| shared.load_pattern(&static_dag()).unwrap().loaded_from()))
            .collect();
        loads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    from.sort_by_key(|from| *from == LoadedFrom::Cache);
    assert_eq!(from, [LoadedFrom::Compiled, LoadedFrom::Cache, LoadedFrom::Cache, LoadedFrom::Cache]);
}

#[test]
fn sizes_of_components_are_capped_before_anything_looks_at_them() {
    let dir = tempfile::tempdir().unwrap();
    let shared = host(dir.path(), Compiler::Child(support::compiler(COMPILE_COMMAND)));
    let big = vec![0; (20 << 20) + 1];
    match shared.load_pattern(&big).err().unwrap().failure {
        Failure::OutputLimit { size, cap, .. } => assert_eq!((size, cap), ((20 << 20) + 1, 20 << 20)),
        other => panic!("{other:?}"),
    }
    let allowed = HostOptions {
        component_bytes_max: 64 << 20,
        compiler: Compiler::Child(support::compiler(COMPILE_COMMAND)),
        ..HostOptions::default()
    };
    let key = || CacheKey::from_bytes([3; 32]);
    let larger = PluginHost::with_options(dir.path(), key(), allowed.clone()).unwrap();
    assert_eq!(larger.load_pattern(&big).err().unwrap().code(), "not-compiled");
    let too_large = HostOptions { component_bytes_max: (64 << 20) + 1, ..allowed };
    assert_eq!(PluginHost::with_options(dir.path(), key(), too_large).err().unwrap().code(), "host-error");
}
