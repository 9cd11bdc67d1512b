//! `cargo xtask test`: every check there is, one summary at the end.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    binaries::{self, Binaries},
    docker::{self, Engine},
    emulate, emulators, example, languages, process,
    workspace::{GUEST_TARGET, MUSL_TARGET, PURE_TARGET, Workspace, ensure_rust_targets},
};

/// Version of the Claude Code CLI that the tests drive; the recorded transcripts come from it.
const CLAUDE_VERSION: &str = "2.1.329";

/// Its package in the npm registry.
const CLAUDE_PACKAGE: &str = "@anthropic-ai/claude-code";

/// Path of the Claude Code CLI for tests that drive the real one.
const CLAUDE_VARIABLE: &str = "PANGOLIN_TEST_CLAUDE";

/// Shell command that restarts the Docker engine, set only when this program started the engine.
const RESTART_VARIABLE: &str = "PANGOLIN_TEST_DOCKERD_RESTART";

/// Set when the tools of all plugin languages are there: then a test that misses one fails instead of being skipped.
const LANGUAGES_VARIABLE: &str = "PANGOLIN_REQUIRE_LANGS";

/// Set when the emulators of AWS are there: then a test that misses one fails instead of being skipped.
pub(crate) const EMULATORS_VARIABLE: &str = "PANGOLIN_REQUIRE_EMULATORS";

/// Set when a Docker engine answers: then a test that misses it fails instead of being skipped.
const DOCKER_VARIABLE: &str = "PANGOLIN_REQUIRE_DOCKER";

/// How a step ended.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Steps and how they ended, in order.
#[derive(Default)]
struct Report {
    steps: Vec<(String, Outcome, Duration)>,
}

impl Report {
    /// Runs a step. A failure is recorded and does not stop the others.
    fn step(&mut self, name: &str, action: impl FnOnce() -> Result<Outcome>) {
        eprintln!("\nxtask: === {name} ===");
        let started = Instant::now();
        let outcome = action().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        match &outcome {
            Outcome::Passed => {}
            Outcome::Failed(why) => eprintln!("xtask: {name}: FAILED: {why}"),
            Outcome::Skipped(why) => eprintln!("xtask: {name}: SKIPPED: {why}"),
        }
        self.steps.push((name.to_owned(), outcome, started.elapsed()));
    }

    /// A step that is one command.
    fn run(&mut self, name: &str, command: &mut Command) {
        self.step(name, || process::run(command).map(|()| Outcome::Passed));
    }

    /// Prints all steps; an error when one failed.
    fn conclude(&self) -> Result<()> {
        println!("\n=== Summary ===");
        let mut failed = 0;
        for (name, outcome, took) in &self.steps {
            let seconds = took.as_secs_f64();
            match outcome {
                Outcome::Passed => println!("passed   {seconds:8.1} s  {name}"),
                Outcome::Skipped(why) => println!("SKIPPED  {seconds:8.1} s  {name}: {why}"),
                Outcome::Failed(why) => {
                    failed += 1;
                    println!("FAILED   {seconds:8.1} s  {name}: {}", why.lines().next().unwrap_or_default());
                }
            }
        }
        if failed > 0 {
            bail!("{failed} of {} steps failed", self.steps.len());
        }
        Ok(())
    }
}

/// Format, lints, the purity check and the dependency policy.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut report = Report::default();
    static_checks(workspace, &mut report);
    report.conclude()
}

/// Everything.
pub(crate) fn test(workspace: &Workspace) -> Result<()> {
    let mut report = Report::default();
    static_checks(workspace, &mut report);
    let mut built = None;
    report.step("build", || {
        built = Some(binaries::build(workspace)?);
        Ok(Outcome::Passed)
    });
    // The scripted worker of the backend conformance suite; container tests mount it into an empty image.
    report.run(
        "static worker for container tests",
        process::cargo()
            .args(["build", "-p", "pangolin-worker-process", "--bin", "pangolin-conformance-worker"])
            .args(["--target", MUSL_TARGET])
            .current_dir(&workspace.root),
    );
    if let Some(binaries) = built {
        let mut claude = None;
        report.step("claude-code CLI for tests", || {
            let (path, outcome) = install_claude(workspace)?;
            claude = path;
            Ok(outcome)
        });
        let mut has_languages = false;
        report.step("tools of the plugin languages", || {
            let impossible = languages::install(workspace)?;
            has_languages = impossible.is_empty();
            Ok(if has_languages { Outcome::Passed } else { Outcome::Skipped(impossible.join("; ")) })
        });
        let mut has_emulators = false;
        report.step("emulators of AWS", || {
            let impossible = emulators::install(workspace)?;
            has_emulators = impossible.is_empty();
            Ok(if has_emulators { Outcome::Passed } else { Outcome::Skipped(impossible.join("; ")) })
        });
        let (mut engine, mut has_engine) = (None, true);
        report.step("docker engine", || {
            Ok(match docker::start_engine(workspace)? {
                Engine::Running => Outcome::Passed,
                Engine::Started(daemon) => {
                    engine = Some(daemon);
                    Outcome::Passed
                }
                Engine::Unavailable(why) => {
                    has_engine = false;
                    Outcome::Skipped(format!("{why}; container tests cannot run here"))
                }
            })
        });
        let restart = engine.as_ref().map(|daemon| daemon.restart_script());
        let required = [
            (has_languages, LANGUAGES_VARIABLE),
            (has_emulators, EMULATORS_VARIABLE),
            (has_engine, DOCKER_VARIABLE),
        ];
        tests(workspace, &binaries, claude.as_ref(), restart.as_deref(), &required, &mut report);
        report.step("examples on emulators of AWS", || {
            if !has_emulators {
                return Ok(Outcome::Skipped("the emulators are missing, see above".to_owned()));
            }
            for name in emulate::EXAMPLES {
                example::run(workspace, name, &example::Options::default())?;
            }
            Ok(Outcome::Passed)
        });
        if let Some(engine) = engine {
            report.step("docker engine stops", || engine.stop().map(|()| Outcome::Passed));
        }
        // The test build replaced the static worker beside `pangolin`.
        binaries::place_worker(workspace)?;
    }
    report.conclude()
}

fn static_checks(workspace: &Workspace, report: &mut Report) {
    let cargo = |args: &[&str]| {
        let mut cargo = process::cargo();
        cargo.args(args).current_dir(&workspace.root);
        cargo
    };
    report.step("rust targets", || {
        ensure_rust_targets(workspace, &[MUSL_TARGET, GUEST_TARGET, PURE_TARGET]).map(|()| Outcome::Passed)
    });
    report.run("format", &mut cargo(&["fmt", "--all", "--check"]));
    report.run(
        "pure crates build for wasm32",
        &mut cargo(&["check", "-p", "pangolin-core", "-p", "pangolin-audit", "--target", PURE_TARGET]),
    );
    // With everything that release archives have; the tests build the command line without.
    let mut lints = cargo(&["clippy", "--workspace", "--all-targets", "--features", "pangolin-cli/aws"]);
    report.run("lints", lints.args(["--quiet", "--", "--deny", "warnings"]));
    if let Some(plugins) = workspace.plugins() {
        report.run("format of the plugins", cargo(&["fmt", "--all", "--check"]).current_dir(&plugins));
        report.run(
            "lints of the plugins",
            cargo(&[
                "clippy",
                "--workspace",
                "--quiet",
                "--target",
                GUEST_TARGET,
                "--",
                "--deny",
                "warnings",
            ])
            .current_dir(&plugins),
        );
    }
    report.step("dependency policy", || {
        if !process::is_on_path("cargo-deny") {
            return Ok(Outcome::Skipped("cargo-deny is not installed".to_owned()));
        }
        process::run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"])).map(|()| Outcome::Passed)
    });
}

fn tests(
    workspace: &Workspace,
    binaries: &Binaries,
    claude: Option<&PathBuf>,
    restart: Option<&str>,
    required: &[(bool, &str)],
    report: &mut Report,
) {
    let cargo = |args: &[&str]| {
        let mut cargo = process::cargo();
        cargo.args(args).current_dir(&workspace.root).env("PANGOLIN_WORKER", &binaries.worker);
        if let Some(claude) = claude {
            cargo.env(CLAUDE_VARIABLE, claude);
        }
        if let Some(restart) = restart {
            cargo.env(RESTART_VARIABLE, restart);
        }
        cargo.envs(required.iter().filter(|(there, _)| *there).map(|(_, variable)| (variable, "1")));
        cargo
    };
    // Cargo itself looks for subcommands in its own bin directory too, so ask it and not PATH.
    if process::succeeds(&mut cargo(&["nextest", "--version"])) {
        report.run("tests", &mut cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]));
        // In the same selection, so that only the command line is built once more.
        let with_aws = [
            "nextest",
            "run",
            "--workspace",
            "--features",
            "pangolin-cli/aws",
            "--no-fail-fast",
            "-E",
            "package(pangolin-cli) and test(/(^|::)(deploy|remote)::|command_line_of_deploy/)",
        ];
        report.run("tests of the command line with AWS", &mut cargo(&with_aws));
        report.run("doc tests", &mut cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]));
    } else {
        eprintln!("xtask: cargo-nextest is not installed; using cargo test");
        // Tests that share the engine, and one that restarts it, must not overlap; nextest has a group for them.
        let docker = "pangolin-worker-docker";
        report.run("tests", &mut cargo(&["test", "--workspace", "--exclude", docker, "--no-fail-fast"]));
        report.run(
            "tests of the Docker backend",
            &mut cargo(&["test", "-p", docker, "--no-fail-fast", "--", "--test-threads=1"]),
        );
        let with_aws = ["test", "-p", "pangolin-cli", "--features", "pangolin-cli/aws", "--no-fail-fast"];
        report.run("tests of the command line with AWS", &mut cargo(&with_aws));
    }
    if let Some(plugins) = workspace.plugins() {
        // The logic of a guest is plain Rust and is tested on the host.
        report.step("tests of the plugins", || {
            let host = host_triple(workspace)?;
            process::run(
                cargo(&["test", "--workspace", "--no-fail-fast", "--target", &host]).current_dir(&plugins),
            )
            .map(|()| Outcome::Passed)
        });
    }
}

fn host_triple(workspace: &Workspace) -> Result<String> {
    let text =
        process::output(process::command("rustc", ["--version", "--verbose"]).current_dir(&workspace.root))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

/// Installs the CLI with npm below `target/tools/claude`, once.
fn install_claude(workspace: &Workspace) -> Result<(Option<PathBuf>, Outcome)> {
    let prefix = workspace.target.join("tools").join("claude");
    let program = prefix.join("node_modules/.bin/claude");
    let is_there = || {
        process::output(&mut process::command(&program, ["--version"]))
            .is_ok_and(|version| version.starts_with(CLAUDE_VERSION))
    };
    if !(program.exists() && is_there()) {
        if !process::is_on_path("npm") {
            let why = format!("npm is not installed; tests that drive {CLAUDE_PACKAGE} cannot run here");
            return Ok((None, Outcome::Skipped(why)));
        }
        std::fs::create_dir_all(&prefix).with_context(|| format!("cannot create {}", prefix.display()))?;
        process::run(
            process::command(
                "npm",
                ["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix"],
            )
            .arg(&prefix)
            .arg(format!("{CLAUDE_PACKAGE}@{CLAUDE_VERSION}")),
        )?;
        if !is_there() {
            bail!("{} does not answer with version {CLAUDE_VERSION}", program.display());
        }
    }
    Ok((Some(program), Outcome::Passed))
}
