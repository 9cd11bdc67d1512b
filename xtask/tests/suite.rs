//! `cargo xtask test` as a program, against a scripted cargo, npm and Docker: what it runs with which environment, that
//! one failure does not hide the others, that the summary is honest, and that the engine it started is stopped.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const CARGO: &str = r#"#!/bin/sh
set -eu
case $1 in
    metadata) printf '{"target_directory":"%s/target"}\n' "$FAKE"; exit 0 ;;
    build)
        mkdir -p "$FAKE/target/debug" "$FAKE/target/x86_64-unknown-linux-musl/debug"
        : >"$FAKE/target/debug/pangolin"
        echo static >"$FAKE/target/x86_64-unknown-linux-musl/debug/pangolin-worker"
        ;;
    nextest)
        [ "$2" = run ] || { [ -e "$FAKE/has-nextest" ]; exit; }
        cat "$FAKE/running" >"$FAKE/engine-seen"
        sh -c "$PANGOLIN_TEST_DOCKERD_RESTART"
        cat "$FAKE/running" >"$FAKE/engine-restarted"
        "$PANGOLIN_TEST_CLAUDE" --version >"$FAKE/claude-seen"
        cat "$PANGOLIN_WORKER" >"$FAKE/worker-seen"
        echo "a dynamic one" >"$FAKE/target/debug/pangolin-worker"
        ;;
esac
echo "$*" >>"$FAKE/calls"
[ "$1" != "$(cat "$FAKE/fails" 2>/dev/null)" ]
"#;

const NPM: &str = r#"#!/bin/sh
set -eu
[ "$1" = install ]
for last; do :; done
while [ "$1" != --prefix ]; do shift; done
mkdir -p "$2/node_modules/.bin"
printf '#!/bin/sh\necho "%s (Claude Code)"\n' "${last##*@}" >"$2/node_modules/.bin/claude"
chmod +x "$2/node_modules/.bin/claude"
"#;

/// Answers while the scripted engine runs.
const DOCKER: &str = "#!/bin/sh\n[ -e \"$FAKE/running\" ]\n";

const DOCKERD: &str = r#"#!/bin/sh
[ $# -gt 0 ] || { echo "no right to change the packet filter"; exit 1; }
trap 'rm -f "$FAKE/running"; exit 0' TERM
echo $$ >"$FAKE/running"
while :; do sleep 0.05; done
"#;

struct Fake(PathBuf);

impl Fake {
    fn new(name: &str, with_docker: bool) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("suite").join(name);
        fs::remove_dir_all(&dir).ok();
        fs::create_dir_all(dir.join("bin")).unwrap();
        let mut programs =
            vec![("cargo", CARGO), ("npm", NPM), ("id", "#!/bin/sh\necho 0\n"), ("docker", DOCKER)];
        if with_docker {
            programs.push(("dockerd", DOCKERD));
        }
        for (name, text) in programs {
            let file = dir.join("bin").join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(dir)
    }

    fn xtask(&self, task: &str) -> Output {
        // Only what the scripts need: a dockerd of the machine must not be found.
        let tools = self.0.join("tools");
        fs::create_dir_all(&tools).unwrap();
        for tool in ["sh", "cat", "sleep", "mv", "rm", "mkdir", "chmod", "rustc"] {
            let path = std::env::var_os("PATH").unwrap();
            let found =
                std::env::split_paths(&path).map(|dir| dir.join(tool)).find(|file| file.is_file()).unwrap();
            std::os::unix::fs::symlink(found, tools.join(tool)).unwrap();
        }
        let path = std::env::join_paths([self.0.join("bin"), tools]).unwrap();
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg(task)
            .env("PATH", path)
            .env("CARGO", self.0.join("bin/cargo"))
            .env("FAKE", &self.0)
            .output()
            .unwrap()
    }

    fn set(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

fn text(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn everything_is_prepared_run_and_cleaned_up() {
    let fake = Fake::new("all", true);
    fake.set("has-nextest", "");
    let output = fake.xtask("test");
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let calls = fake.read("calls");
    for call in [
        "fmt --all --check",
        "check -p pangolin-core -p pangolin-audit --target wasm32-unknown-unknown",
        "clippy --workspace --all-targets --features pangolin-cli/aws --quiet -- --deny warnings",
        "nextest run --workspace --no-fail-fast",
        "test --workspace --doc --no-fail-fast",
    ] {
        assert!(calls.lines().any(|line| line == call), "{call} is not among\n{calls}");
    }
    assert_eq!(fake.read("claude-seen"), "2.1.329 (Claude Code)\n");
    assert_eq!(fake.read("worker-seen"), "static\n");
    assert_ne!(fake.read("engine-seen"), fake.read("engine-restarted"), "the restart command did nothing");
    assert!(!fake.0.join("running").exists(), "the engine still runs");
    assert_eq!(fake.read("target/debug/pangolin-worker"), "static\n", "the static worker was not put back");
    assert!(stdout.contains("passed") && stdout.contains("  docker engine\n"), "{stdout}");
    assert!(!stdout.contains("FAILED"), "{stdout}");
}

#[test]
fn a_failing_step_fails_the_suite_and_hides_no_other() {
    let fake = Fake::new("failing", true);
    fake.set("has-nextest", "");
    fake.set("fails", "clippy");
    let output = fake.xtask("test");
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{stdout}\n{stderr}");
    assert!(stdout.lines().any(|line| line.starts_with("FAILED") && line.contains("  lints: ")), "{stdout}");
    assert!(fake.read("calls").contains("nextest run"), "the tests did not run");
    assert!(stderr.contains("steps failed"), "{stderr}");
}

#[test]
fn without_nextest_and_engine_it_says_so_and_uses_cargo_test() {
    let fake = Fake::new("bare", false);
    let output = fake.xtask("test");
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let calls = fake.read("calls");
    assert!(calls.contains("test --workspace --exclude pangolin-worker-docker --no-fail-fast"), "{calls}");
    assert!(calls.contains("test -p pangolin-worker-docker --no-fail-fast -- --test-threads=1"), "{calls}");
    let skipped =
        stdout.lines().find(|line| line.starts_with("SKIPPED") && line.contains("docker engine")).unwrap();
    assert!(skipped.contains("dockerd") && skipped.contains("cannot run here"), "{skipped}");
}
