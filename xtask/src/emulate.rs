//! `cargo xtask emulate`: a whole stack of AWS emulators on this machine.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    binaries::{self, Binaries},
    emulators, example, process,
    suite::EMULATORS_VARIABLE,
    workspace::Workspace,
};

/// What the program says when everything runs.
pub(crate) const UP: &str = "the emulators are up";

const PROGRAM: &str = "pangolin-emulate";
const ENVIRONMENT: &str = "stack.env";
const EXAMPLE: &str = "offload-aws-local";

/// Examples that run on emulators.
pub(crate) const EXAMPLES: [&str; 2] = [EXAMPLE, "offload-minio"];

/// Longest time until it runs, and until it has stopped.
const LIMIT: Duration = Duration::from_secs(120);

/// Packages whose tests use a whole stack, or programs of one.
const PACKAGES: [&str; 8] = [
    "pangolin-aws-e2e",
    "pangolin-cli",
    "pangolin-deploy",
    "pangolin-lambda-doorbell",
    "pangolin-lambda-fake",
    "pangolin-lambda-inbox",
    "pangolin-lambda-task-events",
    "pangolin-lambda-tick",
];

/// The programs of the stack, and a `pangolin` that knows AWS.
const PROGRAMS: [&str; 6] = [
    "pangolin-aws-e2e",
    "pangolin-cli",
    "pangolin-lambda-inbox",
    "pangolin-lambda-task-events",
    "pangolin-lambda-tick",
    "pangolin-worker",
];

/// Builds everything that the stack runs. For a whole stack it installs the emulators too; S3 is our own.
pub(crate) fn build(workspace: &Workspace, kind: Kind) -> Result<Binaries> {
    if kind == Kind::Stack {
        let impossible = emulators::install(workspace)?;
        if !impossible.is_empty() {
            bail!("the emulators cannot be installed: {}", impossible.join("; "));
        }
    }
    let mut cargo = process::cargo();
    cargo.args(["build", "--bins", "--features", "pangolin-cli/aws"]).current_dir(&workspace.root);
    for package in PROGRAMS {
        cargo.args(["-p", package]);
    }
    process::run(&mut cargo)?;
    let built = binaries::binaries(workspace, "debug");
    // Workers are processes of this machine here, so the ordinary worker will do.
    Ok(Binaries { worker: built.pangolin.with_file_name("pangolin-worker"), ..built })
}

/// What is emulated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only S3, with the buckets that the project's configuration names.
    S3,
    /// A stack, into which the project is deployed.
    Stack,
}

/// The command that emulates for the project in `dir` until it is stopped.
pub(crate) fn command(binaries: &Binaries, kind: Kind, dir: &Path) -> Command {
    let kind = match kind {
        Kind::S3 => "s3",
        Kind::Stack => "stack",
    };
    let mut command = process::command(binaries.pangolin.with_file_name(PROGRAM), [kind]);
    command.arg(dir).arg(dir.join(ENVIRONMENT));
    command
}

/// What it wrote for the shells of users.
pub(crate) fn environment(dir: &Path) -> Result<Vec<(String, String)>> {
    let path = dir.join(ENVIRONMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let pair = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('\'').to_owned()))
    };
    text.lines().map(|line| pair(line).with_context(|| format!("{} has {line:?}", path.display()))).collect()
}

struct Place {
    dir: PathBuf,
    pid: PathBuf,
    log: PathBuf,
}

impl Place {
    fn new(workspace: &Workspace) -> Self {
        let dir = workspace.target.join("emulate");
        Self { pid: dir.join("pid"), log: dir.join("log"), dir }
    }

    /// The process, if it runs.
    fn running(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(&self.pid).ok()?.trim().parse().ok()?;
        // A number that another program has by now is not ours.
        let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        name.contains(PROGRAM).then_some(pid)
    }
}

/// Starts the stack in the background.
pub(crate) fn up(workspace: &Workspace, project: Option<&Path>) -> Result<()> {
    let place = Place::new(workspace);
    if let Some(pid) = place.running() {
        bail!("a stack is up already (pid {pid}); `cargo xtask emulate down` stops it");
    }
    let binaries = build(workspace, Kind::Stack)?;
    fs::create_dir_all(&place.dir).with_context(|| format!("cannot create {}", place.dir.display()))?;
    let project = match project {
        Some(project) => std::path::absolute(project)?,
        None => example::copy(workspace, EXAMPLE, &place.dir.join("project"))?,
    };
    let log = File::create(&place.log).with_context(|| format!("cannot create {}", place.log.display()))?;
    let mut command = command(&binaries, Kind::Stack, &project);
    command.stdout(log.try_clone()?).stderr(log).process_group(0);
    eprintln!("xtask: {} &   (log: {})", process::describe(&command), place.log.display());
    let mut child = command.spawn().with_context(|| format!("cannot start {PROGRAM}"))?;
    fs::write(&place.pid, child.id().to_string()).context("cannot keep the process id")?;
    until_up(&mut child, &place.log)?;
    let path = binaries.pangolin.parent().unwrap_or(Path::new("/")).display();
    println!("cd {}", project.display());
    println!(". ./{ENVIRONMENT}");
    println!("export PATH=\"{path}:$PATH\"");
    eprintln!("xtask: the stack is up; say the lines above to your shell, then `pangolin orch runs`");
    eprintln!("xtask: `cargo xtask emulate down` stops it and forgets everything");
    Ok(())
}

fn until_up(child: &mut Child, log: &Path) -> Result<()> {
    let said = || fs::read_to_string(log).unwrap_or_default();
    let mut ended = None;
    let is_up = process::wait_until(LIMIT, || {
        ended = child.try_wait().ok().flatten();
        ended.is_some() || said().contains(UP)
    });
    match (ended, is_up) {
        (Some(status), _) => bail!("{PROGRAM} ended at once: {status}\n{}", said()),
        (None, false) => bail!("the stack was not up after {} s; see {}", LIMIT.as_secs(), log.display()),
        (None, true) => Ok(()),
    }
}

/// Stops it.
pub(crate) fn down(workspace: &Workspace) -> Result<()> {
    let place = Place::new(workspace);
    let Some(pid) = place.running() else {
        eprintln!("xtask: no stack is up");
        return Ok(());
    };
    process::run(&mut process::command("kill", ["-TERM", &pid.to_string()]))?;
    if !process::wait_until(LIMIT, || place.running().is_none()) {
        bail!(
            "the stack still runs {} s after SIGTERM (pid {pid}); see {}",
            LIMIT.as_secs(),
            place.log.display()
        );
    }
    fs::remove_dir_all(&place.dir).with_context(|| format!("cannot remove {}", place.dir.display()))
}

/// Every test that uses a whole stack, then the examples.
pub(crate) fn test(workspace: &Workspace) -> Result<()> {
    build(workspace, Kind::Stack)?;
    let mut cargo = process::cargo();
    let nextest = process::succeeds(process::cargo().args(["nextest", "--version"]));
    match nextest {
        true => cargo.args(["nextest", "run", "--no-fail-fast"]),
        false => cargo.args(["test", "--no-fail-fast"]),
    };
    for package in PACKAGES {
        cargo.args(["-p", package]);
    }
    cargo.args(["--features", "pangolin-cli/aws"]).env(EMULATORS_VARIABLE, "1");
    process::run(cargo.current_dir(&workspace.root))?;
    for name in EXAMPLES {
        example::run(workspace, name, &example::Options::default())?;
    }
    Ok(())
}
