//! Runs one folder of `examples/` from a fresh copy, through the command line tool, the way a user would.

mod record;
mod scratch;
mod script;

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
    docker, emulate,
    example::{
        record::Record,
        scratch::{Scratch, file_name, list},
        script::{Emulated, Run, Script, Step, UntilStep},
    },
    process,
    workspace::Workspace,
};

/// Longest time for a whole run. A demo takes seconds; this only ends one that hangs.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// Longest time for a command that answers at once.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Where the workers of an example run.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Workers {
    /// Sandboxed host processes.
    #[default]
    Host,
    /// Containers.
    Docker,
}

/// How to run an example.
#[derive(Default)]
pub(crate) struct Options {
    workers: Workers,
    /// Directory of the copy, instead of `target/demo/<name>`.
    into: Option<PathBuf>,
    /// The drawings go back into `examples/<name>`.
    keep_drawings: bool,
    /// Use the programs that are there.
    built: bool,
}

impl Options {
    /// `--docker`, `--into <dir>`, `--keep-drawings`, `--built`.
    pub(crate) fn parse(args: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--docker" => options.workers = Workers::Docker,
                "--keep-drawings" => options.keep_drawings = true,
                "--built" => options.built = true,
                "--into" => {
                    let dir = args.next().context("--into needs a directory that does not exist yet")?;
                    options.into = Some(PathBuf::from(dir));
                }
                other => {
                    bail!("do not know {other:?}; there is --docker, --into <dir>, --keep-drawings, --built")
                }
            }
        }
        Ok(options)
    }
}

/// Builds, copies the example and runs it there.
pub(crate) fn run(workspace: &Workspace, name: &str, options: &Options) -> Result<()> {
    let source = workspace.root.join("examples").join(name);
    if name.contains(['/', '\\']) || name.starts_with('.') || !source.join("plan.json").is_file() {
        bail!("there is no example {name:?}; examples: {}", names(workspace)?.join(", "));
    }
    if options.workers == Workers::Docker {
        docker::require_engine()?;
    }
    let script = Script::read(&source)?;
    if script.emulated == Emulated::Stack && options.workers == Workers::Docker {
        bail!(
            "{name} has its workers in a stack of emulators, where they are processes; leave --docker away"
        );
    }
    let binaries = match (options.built, script.emulated) {
        (true, _) => binaries::built(workspace)?,
        (false, Emulated::Nothing) => binaries::build(workspace)?,
        (false, Emulated::S3) => emulate::build(workspace, emulate::Kind::S3)?,
        (false, Emulated::Stack) => emulate::build(workspace, emulate::Kind::Stack)?,
    };
    let scratch = Scratch::create(workspace, &source, name, options.workers, options.into.as_deref())?;
    introduce(&scratch.dir);
    let mut example = Example { binaries: &binaries, scratch: &scratch, script: &script, env: Vec::new() };
    match script.emulated {
        Emulated::Nothing => example.run_here()?,
        Emulated::S3 => example.run_beside_s3()?,
        Emulated::Stack => example.run_in_stack()?,
    }
    if options.keep_drawings {
        for drawing in script.runs.iter().filter(|run| run.draw).map(Run::drawing) {
            let target = source.join(&drawing);
            fs::copy(scratch.dir.join(&drawing), &target)
                .with_context(|| format!("cannot write {}", target.display()))?;
            eprintln!("xtask: wrote {}", target.display());
        }
    }
    Ok(())
}

/// A fresh copy of an example in `dir`, which is replaced.
pub(crate) fn copy(workspace: &Workspace, name: &str, dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let source = workspace.root.join("examples").join(name);
    Ok(Scratch::create(workspace, &source, name, Workers::Host, Some(dir))?.dir)
}

/// The folders of `examples/` that have a plan.
fn names(workspace: &Workspace) -> Result<Vec<String>> {
    let folders = list(&workspace.root.join("examples"))?;
    Ok(folders.iter().filter(|dir| dir.join("plan.json").is_file()).map(|dir| file_name(dir)).collect())
}

/// Says what to expect, in the words of the example's README.
fn introduce(dir: &Path) {
    let text = fs::read_to_string(dir.join("README.md")).unwrap_or_default();
    let section = text.split_once("\n## What to expect\n").map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default().trim();
    if !section.is_empty() {
        eprintln!("\n{section}\n");
    }
}

impl Run {
    /// File of the drawing.
    fn drawing(&self) -> String {
        format!("{}.svg", self.plan.trim_end_matches(".json"))
    }
}

struct Example<'a> {
    binaries: &'a Binaries,
    scratch: &'a Scratch,
    script: &'a Script,
    /// Where the stack is.
    env: Vec<(String, String)>,
}

impl Example<'_> {
    fn pangolin<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.binaries.pangolin(&self.scratch.dir, args);
        command.envs(self.env.iter().cloned());
        command
    }

    /// Against a stack of emulators, which needs neither `init` nor a daemon.
    fn run_in_stack(&mut self) -> Result<()> {
        let stack = self.emulate(emulate::Kind::Stack)?;
        for step in &self.script.prepare {
            self.step("", step, &mut || Ok(()))?;
        }
        self.register()?;
        self.runs(stack)
    }

    /// With a daemon of this machine that keeps its things in S3.
    fn run_beside_s3(&mut self) -> Result<()> {
        let s3 = self.emulate(emulate::Kind::S3)?;
        self.run_here()?;
        s3.stop()
    }

    fn emulate(&mut self, kind: emulate::Kind) -> Result<Daemon> {
        let dir = &self.scratch.dir;
        let command = emulate::command(self.binaries, kind, dir);
        let mut emulators = Daemon::start("emulate", &dir.join("logs"), &command)?;
        emulators.wait_said(RUN_LIMIT, emulate::UP)?;
        self.env = emulate::environment(dir)?;
        Ok(emulators)
    }

    fn run_here(&self) -> Result<()> {
        process::run_within(&mut self.pangolin(["init"]), COMMAND_LIMIT)?;
        for step in &self.script.prepare {
            self.step("", step, &mut || Ok(()))?;
        }
        self.register()?;
        for run in self.script.runs.iter().filter(|run| run.draw) {
            self.draw(run)?;
        }
        let logs = self.scratch.dir.join("logs");
        let mut daemon = Daemon::start("orch-serve", &logs, &self.pangolin(["orch", "serve"]))?;
        daemon.wait_said(COMMAND_LIMIT, "serving (pid")?;
        self.runs(daemon)
    }

    /// Submits, watches, shows and audits every run while `daemon` serves them.
    fn runs(&self, mut daemon: Daemon) -> Result<()> {
        let mut problems = Vec::new();
        let mut records = Vec::new();
        for run in &self.script.runs {
            let watched = self.submit_and_watch(run, &mut daemon);
            // A daemon that died explains a failed submit or watch better than the client can.
            daemon.check_alive()?;
            watched?;
            // A failed run has a bundle too, and its outcome says more than a patch that is not there.
            problems.extend(self.show(run).err());
            records.push(self.audit(run)?);
        }
        daemon.stop()?;
        self.conclude(&records, problems)
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

    /// The graph as text to stdout and as a drawing to a file.
    fn draw(&self, run: &Run) -> Result<()> {
        let drawing = run.drawing();
        let svg = ["orch", "render", &run.plan, "--format", "svg", "--out", &drawing];
        process::run_within(&mut self.pangolin(svg), COMMAND_LIMIT)?;
        let mut text = self.pangolin(["orch", "render", &run.plan]);
        eprintln!("xtask: {}", process::describe(&text));
        print_data(&format!("{}\n", process::output(&mut text)?))
    }

    /// Gives up at once when the daemon ends: without one a submission waits, and a watcher too.
    fn submit_and_watch(&self, run: &Run, daemon: &mut Daemon) -> Result<()> {
        say(&run.say);
        let mut alive = || daemon.check_alive();
        process::run_while(&mut self.pangolin(["orch", "submit", &run.plan]), COMMAND_LIMIT, &mut alive)?;
        for step in &run.steps {
            self.step(&run.id, step, &mut alive)?;
        }
        process::run_while(&mut self.pangolin(["orch", "watch", &run.id]), RUN_LIMIT, &mut alive)
    }

    fn step(&self, run: &str, step: &Step, alive: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        match step {
            Step::Command(step) => {
                say(&step.say);
                // Building a plugin takes longer than a command that answers at once.
                process::end_within(&mut self.pangolin(&step.pangolin), step.exit, RUN_LIMIT, alive)
            }
            Step::Until(step) => self.until(run, step, alive),
        }
    }

    /// Asks for the status until it is the one that is waited for.
    fn until(&self, run: &str, step: &UntilStep, alive: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let UntilStep { until, is } = step;
        eprintln!("xtask: waiting until {run}/{until} is {is}");
        let mut answer = Ok(false);
        process::wait_until(RUN_LIMIT, || {
            answer = alive().and_then(|()| {
                Ok(self.statuses(run)?.iter().any(|(id, status)| id == until && status == is))
            });
            !matches!(answer, Ok(false))
        });
        match answer? {
            true => Ok(()),
            false => bail!("{run}/{until} was not {is} after {} s", RUN_LIMIT.as_secs()),
        }
    }

    /// Items with their status words, in the order of the run.
    fn statuses(&self, run: &str) -> Result<Vec<(String, String)>> {
        let text = process::output(&mut self.pangolin(["orch", "status", run, "--json"]))?;
        let view: Value =
            serde_json::from_str(&text).context("`pangolin orch status` printed something else than JSON")?;
        let word = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let items = view["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(items.iter().map(|item| (word(item, "id"), word(item, "status"))).collect())
    }

    /// What became of the items, and what they left.
    fn show(&self, run: &Run) -> Result<()> {
        if !run.items.is_empty() {
            let mut status = self.pangolin(["orch", "status", &run.id]);
            eprintln!("xtask: {}", process::describe(&status));
            print_data(&format!("{}\n", process::output(&mut status)?))?;
        }
        for item in &run.logs {
            let mut logs = self.pangolin(["orch", "logs", &format!("{}/{item}", run.id)]);
            eprintln!("xtask: {}", process::describe(&logs));
            print_data(&format!("{}\n", process::output(&mut logs)?))?;
        }
        self.save_patches(run)?;
        if run.items.is_empty() {
            return Ok(());
        }
        let found = self.statuses(&run.id)?.into_iter().collect();
        if run.items == found {
            return Ok(());
        }
        bail!("{} has the items {found:?}, example.json expects {:?}", run.id, run.items)
    }

    /// Keeps patches as files and prints them.
    fn save_patches(&self, run: &Run) -> Result<()> {
        if run.patches.is_empty() {
            return Ok(());
        }
        let dir = self.scratch.dir.join("patches");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for item in &run.patches {
            let target = format!("{}/{item}", run.id);
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

    /// Seals, verifies and executes the decisions again.
    fn audit(&self, run: &Run) -> Result<Record> {
        let file = match self.script.runs.len() {
            1 => "bundle.json".to_owned(),
            _ => format!("{}.bundle.json", run.id),
        };
        process::run_within(&mut self.pangolin(["orch", "audit", &run.id, "--out", &file]), COMMAND_LIMIT)?;
        let verdict = |args: &[&str]| -> Result<Value> {
            let mut verify = self.pangolin(args);
            eprintln!("xtask: {}", process::describe(&verify));
            let report = process::output(&mut verify)?;
            serde_json::from_str(&report).context("`pangolin verify --json` printed something else than JSON")
        };
        // Only a look at the anchor makes a record tamper-evident.
        let report = match self.script.emulated {
            Emulated::Nothing => verdict(&["verify", &file, "--json"])?,
            Emulated::S3 | Emulated::Stack => verdict(&["verify", "--live", &file, "--json"])?,
        };
        let replay = verdict(&["verify", "--replay", &file, "--json"])?;
        Ok(Record { run: run.id.clone(), file, report, replay })
    }

    /// Prints the blocks and where things are. Fails unless every bundle is intact and every run ended as it should.
    fn conclude(&self, records: &[Record], problems: Vec<anyhow::Error>) -> Result<()> {
        for record in records {
            let title = if records.len() > 1 { format!(" of {}", record.run) } else { String::new() };
            print_data(&record.block(&title)?)?;
        }
        for (record, run) in records.iter().zip(&self.script.runs) {
            record.check(&run.outcome, self.script.emulated != Emulated::Nothing, &self.dir().to_string())?;
        }
        if let Some(problem) = problems.into_iter().next() {
            return Err(problem);
        }
        print_data(&self.places(records))
    }

    fn dir(&self) -> std::path::Display<'_> {
        self.scratch.dir.display()
    }

    fn places(&self, records: &[Record]) -> String {
        let dir = self.dir();
        let path = self.binaries.pangolin.parent().unwrap_or(Path::new("/")).display();
        let mut places = String::new();
        for record in records {
            places.push_str(&format!("\nbundle:  {dir}/{}", record.file));
        }
        let patch = self.script.runs.iter().find_map(|run| Some((&run.id, run.patches.last()?)));
        if patch.is_some() {
            places.push_str(&format!("\npatches: {dir}/patches/"));
        }
        places.push_str(&format!("\n\nTo go on by hand:\n  cd {dir} && export PATH=\"{path}:$PATH\"\n"));
        for record in records {
            places.push_str(&format!(
                "  pangolin verify {} --full      # verifies without configuration, store or network\n",
                record.file
            ));
        }
        match patch {
            Some((run, item)) => places.push_str(&format!(
                "  pangolin patch show {run}/{item}\n  pangolin patch apply {run}/{item} --repo repo\n"
            )),
            None => {
                for record in records {
                    places.push_str(&format!("  pangolin orch status {}\n", record.run));
                }
            }
        }
        places
    }
}

/// A line for whoever watches.
fn say(text: &str) {
    if !text.is_empty() {
        eprintln!("\n── {text}");
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
