//! Code for the other processor. That it runs there is shown where there is such a processor, or an emulator:
//! `lambdas/tick/tests/arm64.rs`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{fs, path::Path};

use pangolin_plugin_host::{
    COMPILE_COMMAND, CacheKey, Compiler, HostOptions, LoadedFrom, PluginHost, Processor, Profile,
};

const OTHER: Processor = match Processor::HERE {
    Processor::X86_64 => Processor::Aarch64,
    Processor::Aarch64 => Processor::X86_64,
};

fn host(dir: &Path, compiler: Compiler) -> PluginHost {
    let options = HostOptions { compiler, ..HostOptions::default() };
    PluginHost::with_options(dir, CacheKey::from_bytes([3; 32]), options).unwrap()
}

/// What a cache has, by name.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_bounded_child_and_this_process_make_the_same_code_for_the_other_processor() {
    let wasm = support::good();
    let compiled =
        [Compiler::Child(support::compiler(COMPILE_COMMAND)), Compiler::InProcess].map(|compiler| {
            let dir = tempfile::tempdir().unwrap();
            for profile in [Profile::Pure, Profile::Effect] {
                let from = host(dir.path(), compiler.clone()).rebuild_for(OTHER, profile, &wasm).unwrap();
                assert_eq!(from, LoadedFrom::Compiled);
            }
            files(dir.path())
        });
    assert_eq!(compiled[0].len(), 2);
    assert!(compiled[0] == compiled[1]);
    // ELF for the right machine: the number of the processor is at 18 (System V ABI, chapter 4).
    let machine: u16 = if OTHER == Processor::Aarch64 { 183 } else { 62 };
    for (name, bytes) in &compiled[0] {
        let elf = bytes.windows(4).position(|bytes| bytes == b"\x7fELF").unwrap();
        assert_eq!(bytes[elf + 18..elf + 20], machine.to_le_bytes(), "{name}");
    }
}

#[test]
fn code_for_the_other_processor_is_never_found_here() {
    let (wasm, dir) = (support::good(), tempfile::tempdir().unwrap());
    host(dir.path(), Compiler::InProcess).rebuild_for(OTHER, Profile::Pure, &wasm).unwrap();
    let error = host(dir.path(), Compiler::Never).load_pattern(&wasm).err().unwrap();
    assert_eq!(error.failure.code(), "not-compiled", "{error}");
    assert_eq!(
        host(dir.path(), Compiler::InProcess).load_pattern(&wasm).unwrap().loaded_from(),
        LoadedFrom::Compiled
    );
    // Under the name of code for this processor it is refused all the same: the MAC covers the processor.
    let names: Vec<String> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2);
    let both = [0, 1].map(|index| dir.path().join(&names[index]));
    let bytes = both.each_ref().map(|path| fs::read(path).unwrap());
    for (path, other) in both.iter().zip([&bytes[1], &bytes[0]]) {
        fs::write(path, other).unwrap();
    }
    let error = host(dir.path(), Compiler::Never).load_pattern(&wasm).err().unwrap();
    assert_eq!(error.failure.code(), "not-compiled", "{error}");
}

#[test]
fn what_is_no_component_fails_as_it_does_for_this_processor() {
    let dir = tempfile::tempdir().unwrap();
    for compiler in [Compiler::Child(support::compiler(COMPILE_COMMAND)), Compiler::InProcess] {
        let error = host(dir.path(), compiler).rebuild_for(OTHER, Profile::Effect, b"junk").unwrap_err();
        assert_eq!(error.failure.code(), "not-compiled", "{error}");
        assert!(error.to_string().contains("not a valid component"), "{error}");
    }
    let error = host(dir.path(), Compiler::Never).rebuild_for(OTHER, Profile::Effect, &support::good());
    assert_eq!(error.unwrap_err().failure.code(), "not-compiled");
    assert_eq!(files(dir.path()), []);
}
