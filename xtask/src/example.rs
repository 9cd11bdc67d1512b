//! Runs one folder of `examples/` from a fresh copy, through the command line tool, the way a user would.

use std::{
    fs,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    binaries::{self, Binaries},
    daemon::Daemon,
    docker, process,
    workspace::Workspace,
};

/// Longest time for a whole run. A demo takes seconds; this only ends one that hangs.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// Longest time for a command that answers at once.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Where the workers of an example run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    /// Sandboxed host processes.
    Host,
    /// Containers.
    Docker,
}

/// Builds, copies the example to `target/demo/<name>` and runs it there.
pub(crate) fn run(workspace: &Workspace, name: &str, workers: Workers) -> Result<()> {
    let source = workspace.root.join("examples").join(name);
    if name.contains(['/', '\\']) || name.starts_with('.') || !source.join("plan.json").is_file() {
        bail!("there is no example {name:?}; examples: {}", names(workspace)?.join(", "));
    }
    if workers == Workers::Docker {
        docker::require_engine()?;
    }
    let binaries = binaries::build(workspace)?;
    let scratch = Scratch::create(workspace, &source, name, workers)?;
    let plan = Plan::read(&scratch.dir.join("plan.json"))?;
    Example { binaries: &binaries, scratch: &scratch, plan: &plan }.run()
}

/// The folders of `examples/` that have a plan.
fn names(workspace: &Workspace) -> Result<Vec<String>> {
    let folders = list(&workspace.root.join("examples"))?;
    Ok(folders.iter().filter(|dir| dir.join("plan.json").is_file()).map(|dir| file_name(dir)).collect())
}

/// A fresh copy of an example with a git repository of its own.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn create(workspace: &Workspace, source: &Path, name: &str, workers: Workers) -> Result<Self> {
        let folder = match workers {
            Workers::Host => name.to_owned(),
            Workers::Docker => format!("{name}-docker"),
        };
        let dir = workspace.target.join("demo").join(folder);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| {
                format!(
                    "cannot remove {} of the last demo; files of container workers need root",
                    dir.display()
                )
            })?;
        }
        copy_tree(source, &dir)?;
        if workers == Workers::Docker {
            use_docker_config(&dir, &docker::demo_image(workspace)?)?;
        }
        let repo = dir.join("repo");
        if repo.is_dir() {
            commit_all(&repo)?;
        }
        Ok(Self { dir })
    }
}

/// Replaces `pangolin.toml` by the example's container configuration with the image that is there.
fn use_docker_config(dir: &Path, image: &str) -> Result<()> {
    let path = dir.join("pangolin.docker.toml");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("this example has no container configuration ({})", path.display()))?;
    let default = format!("image = \"{}\"", docker::DEMO_IMAGE);
    if !text.contains(&default) {
        bail!("{} lacks the line {default}", path.display());
    }
    let path = dir.join("pangolin.toml");
    fs::write(&path, text.replace(&default, &format!("image = {image:?}")))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// One commit that is the same on every machine, whatever the user's git configuration says.
fn commit_all(repo: &Path) -> Result<()> {
    let steps: [&[&str]; 3] = [
        &["init", "--quiet", "--initial-branch=main"],
        &["add", "--all"],
        &["commit", "--quiet", "--no-verify", "--message=Three functions to implement"],
    ];
    for args in steps {
        let mut git = process::command("git", args);
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_TEMPLATE_DIR"]
        {
            git.env_remove(name);
        }
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "Pangolin example")
                .env(format!("GIT_{role}_EMAIL"), "example@pangolin.invalid")
                .env(format!("GIT_{role}_DATE"), "2026-01-01T00:00:00Z");
        }
        process::output(git.current_dir(repo))
            .with_context(|| format!("cannot prepare {}", repo.display()))?;
    }
    Ok(())
}

/// What xtask needs to know of `plan.json`.
struct Plan {
    run: String,
    /// Items that hold a lock: those that edit something.
    edits: Vec<String>,
}

impl Plan {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let plan: Value =
            serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let run = plan["id"].as_str().with_context(|| format!("{} has no id", path.display()))?.to_owned();
        let items = plan["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let holds_lock =
            |item: &&Value| item["resourceLocks"].as_array().is_some_and(|locks| !locks.is_empty());
        let edits = items.iter().filter(holds_lock).filter_map(|item| item["id"].as_str());
        Ok(Self { run, edits: edits.map(str::to_owned).collect() })
    }
}

struct Example<'a> {
    binaries: &'a Binaries,
    scratch: &'a Scratch,
    plan: &'a Plan,
}

impl Example<'_> {
    fn pangolin<const N: usize>(&self, args: [&str; N]) -> Command {
        self.binaries.pangolin(&self.scratch.dir, args)
    }

    fn run(&self) -> Result<()> {
        process::run_within(&mut self.pangolin(["init"]), COMMAND_LIMIT)?;
        self.register()?;
        let logs = self.scratch.dir.join("logs");
        let mut daemon = Daemon::start("orch-serve", &logs, &self.pangolin(["orch", "serve"]))?;
        let watched = self.submit_and_watch(&mut daemon);
        // A daemon that died explains a failed submit or watch better than the client can.
        daemon.check_alive()?;
        watched?;
        // A failed run has a bundle too, and its outcome says more than a patch that is not there.
        let patches = self.save_patches();
        let report = self.audit();
        daemon.stop()?;
        self.conclude(&report?, patches)
    }

    /// Registers everything below `capabilities/`, `env/`, `pipelines/` and `subagents/` (which need the first).
    fn register(&self) -> Result<()> {
        for dir in list(&self.scratch.dir.join("capabilities"))? {
            let name = file_name(&dir);
            let from = format!("capabilities/{name}");
            process::run_within(
                &mut self.pangolin(["capabilities", "register", "--name", &name, "--from", &from]),
                COMMAND_LIMIT,
            )?;
        }
        for file in list(&self.scratch.dir.join("pipelines"))? {
            let from = format!("pipelines/{}", file_name(&file));
            process::run_within(&mut self.pangolin(["pipeline", "register", &from]), COMMAND_LIMIT)?;
        }
        for file in list(&self.scratch.dir.join("subagents"))? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let from = format!("subagents/{}", file_name(&file));
            process::run_within(
                &mut self.pangolin(["subagent", "register", "--name", &name, "--from", &from]),
                COMMAND_LIMIT,
            )?;
        }
        Ok(())
    }

    /// Gives up at once when the daemon ends: without one a submission waits, and a watcher too.
    fn submit_and_watch(&self, daemon: &mut Daemon) -> Result<()> {
        process::run_while(&mut self.pangolin(["orch", "submit", "plan.json"]), COMMAND_LIMIT, || {
            daemon.check_alive()
        })?;
        process::run_while(&mut self.pangolin(["orch", "watch", &self.plan.run]), RUN_LIMIT, || {
            daemon.check_alive()
        })
    }

    /// Keeps the patch of each edit as a file and prints it.
    fn save_patches(&self) -> Result<()> {
        let dir = self.scratch.dir.join("patches");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for item in &self.plan.edits {
            let target = format!("{}/{item}", self.plan.run);
            let mut show = self.pangolin(["patch", "show", &target]);
            eprintln!("xtask: {}", process::describe(&show));
            let patch = process::output(&mut show)?;
            if patch.trim().is_empty() {
                bail!("{target} left an empty patch");
            }
            let file = dir.join(format!("{item}.patch"));
            fs::write(&file, &patch).with_context(|| format!("cannot write {}", file.display()))?;
            print_data(&patch)?;
        }
        Ok(())
    }

    /// Seals, verifies and gives the verifier's report.
    fn audit(&self) -> Result<Value> {
        let run = &self.plan.run;
        process::run_within(
            &mut self.pangolin(["orch", "audit", run, "--out", "bundle.json"]),
            COMMAND_LIMIT,
        )?;
        let mut verify = self.pangolin(["verify", "bundle.json", "--json"]);
        eprintln!("xtask: {}", process::describe(&verify));
        let report = process::output(&mut verify)?;
        serde_json::from_str(&report).context("`pangolin verify --json` printed something else than JSON")
    }

    /// Prints the block and where things are. Fails unless the bundle is intact and every item is done.
    fn conclude(&self, report: &Value, patches: Result<()>) -> Result<()> {
        let field = |name: &str| -> Result<String> {
            match &report[name] {
                Value::Bool(value) => Ok(value.to_string()),
                Value::String(value) => Ok(value.clone()),
                other => bail!("the verifier's report has {name} = {other}"),
            }
        };
        let block = format!(
            "\n=== Audit bundle ===\nintact: {}\nclaim: {}\nanchorId: {}\nguarantee: {}\n",
            field("intact")?,
            field("claim")?,
            field("anchorId")?,
            field("guarantee")?,
        );
        print_data(&block)?;
        if report["intact"] != Value::Bool(true) {
            bail!(
                "the bundle in {} is not intact; `pangolin verify --full bundle.json` says why",
                self.dir()
            );
        }
        if report["outcome"] != "done" {
            bail!(
                "the run ended as {}; in {}: `pangolin orch status {}` says why",
                report["outcome"],
                self.dir(),
                self.plan.run
            );
        }
        patches?;
        print_data(&self.places())
    }

    fn dir(&self) -> std::path::Display<'_> {
        self.scratch.dir.display()
    }

    fn places(&self) -> String {
        let dir = self.dir();
        let path = self.binaries.pangolin.parent().unwrap_or(Path::new("/")).display();
        let run = &self.plan.run;
        let item = self.plan.edits.first().map_or_else(|| run.clone(), |item| format!("{run}/{item}"));
        format!(
            "\nbundle:  {dir}/bundle.json\npatches: {dir}/patches/\n\n\
             To go on by hand:\n\
             \x20 cd {dir} && export PATH=\"{path}:$PATH\"\n\
             \x20 pangolin verify bundle.json --full      # verifies without configuration, store or network\n\
             \x20 pangolin patch show {item}\n\
             \x20 pangolin patch apply {item} --repo repo\n"
        )
    }
}

/// Data on stdout; a reader that went away is not a failure.
fn print_data(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    // On a terminal stdout and stderr mix; elsewhere stdout holds only the data.
    let framed = if out.is_terminal() { format!("\n{}\n", text.trim_matches('\n')) } else { text.to_owned() };
    match out.write_all(framed.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

/// Entries of a directory in name order; none when it does not exist.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        paths.push(entry.with_context(|| format!("cannot read {}", dir.display()))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for path in list(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}
