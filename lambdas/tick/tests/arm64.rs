//! The packed tick for arm64, on any machine: it runs under qemu and loads what was compiled for its processor here.
//!
//! Needs `qemu-aarch64-static` (Debian: `qemu-user-static`) and `target/packages/tick-arm64.zip` of this release
//! (`cargo xtask package --arch arm64 tick`). What is missing is said on stderr and nothing is tested. Workers are programs
//! of this machine; qemu is no Graviton.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(target_arch = "x86_64")]

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use pangolin_aws_e2e::{EmulatedStack, Options};
use pangolin_core::ids::RunId;
use pangolin_runtime::aws::{processor, release};
use pangolin_stack::{Architecture, LABEL_FILE, Label};
use zip::ZipArchive;

const TICK: &str = env!("CARGO_BIN_EXE_pangolin-lambda-tick");
const QEMU: &str = "qemu-aarch64-static";

/// Tells that nothing is tested, unless everything must be.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped(why: &str) {
    assert!(env::var_os("PANGOLIN_REQUIRE_ARM64").is_none(), "{why}");
    eprintln!("SKIPPED the tick for arm64: {why}");
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The program of the package, unpacked; `None` with a word when there is none of this release.
fn unpacked(dir: &Path) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/packages/tick-arm64.zip");
    let Ok(file) = File::open(&path) else {
        skipped(&format!("{} is missing: cargo xtask package --arch arm64 tick", path.display()));
        return None;
    };
    let mut archive = ZipArchive::new(file).unwrap();
    let mut label = Vec::new();
    if let Ok(mut file) = archive.by_name(LABEL_FILE) {
        file.read_to_end(&mut label).unwrap();
    }
    let expected = release(processor(Architecture::Arm64));
    let differs = match Label::read(&label) {
        Ok(label) => label.differences("tick", Architecture::Arm64, &expected),
        Err(error) => vec![error.to_string()],
    };
    if !differs.is_empty() {
        skipped(&format!("{} {}: package it again", path.display(), differs.join(", ")));
        return None;
    }
    let to = dir.join("bootstrap");
    io::copy(&mut archive.by_name("bootstrap").unwrap(), &mut File::create(&to).unwrap()).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    Some(to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_the_packed_tick_for_arm64() {
    let dir = tempfile::tempdir().unwrap();
    let Some(qemu) = find(QEMU) else { return skipped(&format!("{QEMU} is not installed")) };
    let Some(bootstrap) = unpacked(dir.path()) else { return };
    // The other programs are those of this machine, git as well: qemu starts no programs for its guest.
    let programs = dir.path().join("programs");
    fs::create_dir(&programs).unwrap();
    for entry in fs::read_dir(Path::new(TICK).parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let is_ours = |name: &OsStr| name.to_string_lossy().starts_with("pangolin-");
        if is_ours(&entry.file_name()) && entry.path() != Path::new(TICK) {
            symlink(entry.path(), programs.join(entry.file_name())).unwrap();
        }
    }
    let tick = programs.join(Path::new(TICK).file_name().unwrap());
    let script = format!("#!/bin/sh\nexec '{}' '{}'\n", qemu.display(), bootstrap.display());
    fs::write(&tick, script).unwrap();
    fs::set_permissions(&tick, fs::Permissions::from_mode(0o755)).unwrap();

    let options = Options { architecture: Architecture::Arm64, ..Options::default() };
    let Some(stack) = EmulatedStack::start(&tick, options).await else { return };
    let (home, _dir) = stack.at_home().await;
    stack.agent(&home, "write", "echo more > part").await;
    stack.submit(&home, "arm", &[("a", "write", &[]), ("b", "write", &["a"])]).await;
    assert_eq!(stack.until_ended(&home, "arm").await, "Done", "{}", stack.logs());
    let view = home.run_view(&RunId::new("arm").unwrap()).await.unwrap();
    assert!(view.items.iter().all(|item| item.status == "done" && item.attempts.len() == 1), "{view:?}");
    stack.is_tamper_evident(&home, "arm").await;
}
