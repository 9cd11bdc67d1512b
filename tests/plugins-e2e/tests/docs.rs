//! The commands of `docs/plugins`, run as a reader would: in order, one shell and one empty directory per page.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use pangolin_plugins_e2e::{commands, fits};

/// Marks the output of command number N.
const MARK: &str = "@@pangolin-docs ";

/// A missing tool of a language other than Rust.
fn missing(tool: &str) -> bool {
    let path = path();
    !std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

fn path() -> std::ffi::OsString {
    let pangolin = pangolin_e2e::binaries().pangolin.parent().unwrap().to_owned();
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tools");
    let before = [pangolin, tools.join("js/node_modules/.bin"), tools.join("py/bin"), tools.join("c/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(before.into_iter().chain(std::env::split_paths(&path))).unwrap()
}

fn run(page: &str) {
    let file = pangolin_e2e::root().join("docs/plugins").join(page);
    let found =
        commands(&fs::read_to_string(&file).unwrap()).unwrap_or_else(|problem| panic!("{page}: {problem}"));
    assert!(!found.is_empty(), "{page} has no commands");
    let dir = tempfile::tempdir().unwrap();
    // Whatever happens, no daemon outlives the page.
    let mut script = String::from(
        "set -e\ntrap 'for job in $(jobs -p); do kill $job 2>/dev/null || true; done; wait' EXIT\n",
    );
    for (number, command) in found.iter().enumerate() {
        script.push_str(&format!("echo '{MARK}{number}'\n{}\n", command.text));
    }
    let programs = pangolin_e2e::binaries();
    let mut shell = Command::new("bash");
    for (name, _) in std::env::vars_os() {
        // What a test runner leaves behind is not what a reader has.
        if name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME" {
            shell.env_remove(&name);
        }
    }
    shell
        .args(["-m", "-c", &format!("exec 2>&1\n{script}")])
        .current_dir(dir.path())
        .env("PATH", path())
        .env("PANGOLIN_WORKER", &programs.worker)
        // Plugins are compiled at their first submission.
        .env("PANGOLIN_WAIT", "60")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    let output = shell.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut parts: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix(MARK) {
            Some(_) => parts.push(Vec::new()),
            None => parts.last_mut().unwrap_or_else(|| panic!("{page}: {text}")).push(line),
        }
    }
    let at = |number: usize| format!("{}:{}: $ {}", file.display(), found[number].line, found[number].text);
    assert!(
        output.status.success(),
        "{}\nended with {}\n{}",
        at(parts.len() - 1),
        output.status,
        parts.last().map(|lines| lines.join("\n")).unwrap_or_default()
    );
    assert_eq!(parts.len(), found.len());
    for (number, lines) in parts.iter().enumerate() {
        let mut rest = lines.iter();
        for expected in &found[number].expected {
            assert!(
                rest.any(|line| fits(expected, line)),
                "{}\nis expected to print {expected:?}, it printed\n{}",
                at(number),
                lines.join("\n")
            );
        }
    }
}

#[test]
fn from_nothing_to_a_running_pattern() {
    run("README.md");
}

#[test]
fn patterns() {
    if missing("zig") && missing("python-zig") && (missing("clang") || missing("wasm-ld")) {
        assert!(
            std::env::var_os("PANGOLIN_REQUIRE_LANGS").is_none(),
            "no C compiler for wasm32: apt install clang lld, or pip install ziglang into target/tools/c"
        );
        eprintln!("SKIPPED: no C compiler for wasm32 (clang with wasm-ld, or zig)");
        return;
    }
    run("pattern.md");
}

#[test]
fn an_adapter_for_an_agent_that_does_not_ship() {
    run("adapter.md");
}

#[test]
fn a_block_in_a_pipeline() {
    run("block.md");
}

/// A page that nobody runs would say so.
#[test]
fn every_page_with_commands_is_run() {
    let run = ["README.md", "pattern.md", "adapter.md", "block.md"];
    let dir: PathBuf = pangolin_e2e::root().join("docs/plugins");
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let has = commands(&fs::read_to_string(&path).unwrap()).is_ok_and(|found| !found.is_empty());
        assert!(!has || run.contains(&name.as_str()), "{name} has console blocks that no test runs");
    }
}
