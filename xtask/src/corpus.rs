//! `cargo xtask corpus add <package>@<version>…`: one compiled plugin per language of a released contract, into
//! `tests/corpus`. The plugins are the scaffolds, made and built with `pangolin` as an author would do it.
//!
//! Deliberately not here: what a kept plugin must do. `host/plugin-host/tests/corpus.rs` says and checks it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    binaries::{self, Binaries},
    languages, process,
    workspace::Workspace,
};

const LANGUAGES: [&str; 4] = ["c", "js", "py", "rust"];

/// Components that carry an interpreter have megabytes, most of them equal: they go into one solid archive per language.
const ARCHIVED: [&str; 2] = ["js", "py"];

/// Package, folder of the corpus, `--kind` and what the scaffold of that kind does.
const KINDS: [(&str, &str, &str, &str); 3] = [
    ("pangolin:pattern", "pattern", "pattern", "follow-up"),
    ("pangolin:runtime-adapter", "runtime-adapter", "adapter", "fake-agent"),
    ("pangolin:block", "block", "block", "large-files"),
];

/// A released contract.
struct Contract {
    package: &'static str,
    folder: &'static str,
    kind: &'static str,
    plugin: &'static str,
    version: String,
}

impl Contract {
    fn parse(workspace: &Workspace, text: &str) -> Result<Self> {
        let known = || KINDS.map(|kind| kind.0).join(", ");
        let (package, version) = text
            .split_once('@')
            .with_context(|| format!("{text:?}: expected <package>@<version>, e.g. pangolin:block@1.0.0"))?;
        let (package, folder, kind, plugin) = KINDS
            .into_iter()
            .find(|kind| kind.0 == package)
            .with_context(|| format!("{package:?} is not a contract of plugins; they are {}", known()))?;
        let contract = Self { package, folder, kind, plugin, version: version.to_owned() };
        let frozen = workspace.root.join("wit/frozen.toml");
        let text =
            fs::read_to_string(&frozen).with_context(|| format!("cannot read {}", frozen.display()))?;
        // A contract that can still change would make what is kept worthless.
        ensure!(
            text.lines().any(|line| line.starts_with(&format!("\"{}/", contract.wit_folder()))),
            "{package}@{version} is not released; release it first: cargo xtask wit --freeze {package}@{version}"
        );
        Ok(contract)
    }

    fn wit_folder(&self) -> String {
        format!("{}@{}", self.package.replace(':', "-"), self.version)
    }

    /// Its path below `tests/corpus/plugins`.
    fn path(&self, language: &str) -> String {
        format!("{}/{}-{language}-{}.wasm", self.folder, self.version, self.plugin)
    }

    /// The range that a manifest names: `^1.0`.
    fn range(&self) -> String {
        let minor = self.version.rsplit_once('.').map_or(self.version.as_str(), |(minor, _)| minor);
        format!("^{minor}")
    }
}

/// Where it happens.
struct Bench<'a> {
    workspace: &'a Workspace,
    binaries: &'a Binaries,
    /// Projects are made here, always at the same place: interpreters keep paths in the component.
    projects: PathBuf,
}

/// Builds and keeps what is not kept yet, and runs the test of the corpus. `built`: with the programs that are there.
pub(crate) fn add(workspace: &Workspace, names: &[&str], built: bool) -> Result<()> {
    ensure!(!names.is_empty(), "name released contracts, e.g. pangolin:pattern@1.0.0");
    let contracts = names.iter().map(|name| Contract::parse(workspace, name)).collect::<Result<Vec<_>>>()?;
    for tool in ["tar", "xz", "sha256sum"] {
        ensure!(process::is_on_path(tool), "{tool} is not installed; `apt install tar xz-utils coreutils`");
    }
    let impossible = languages::install(workspace)?;
    ensure!(impossible.is_empty(), "{}", impossible.join("; "));
    let binaries = if built { binaries::built(workspace)? } else { binaries::build(workspace)? };
    let corpus = workspace.root.join("tests/corpus/plugins");
    let list = corpus.join("digests.txt");
    let mut digests = read_digests(&list)?;
    let work = workspace.target.join("corpus");
    fs::remove_dir_all(&work).ok();
    let bench =
        Bench { workspace, binaries: &binaries, projects: std::env::temp_dir().join("pangolin-corpus") };
    for language in LANGUAGES {
        let stage = work.join(language);
        let mut made = Vec::new();
        for contract in &contracts {
            let path = contract.path(language);
            if digests.contains_key(&path) {
                eprintln!("xtask: {path} is kept already");
                continue;
            }
            if bench.build(contract, language, &stage.join(&path))? {
                made.push(path);
            }
        }
        fs::remove_dir_all(&bench.projects).ok();
        if made.is_empty() {
            continue;
        }
        let sums = process::output(process::command("sha256sum", &made).current_dir(&stage))?;
        digests.extend(parse_digests(&sums)?);
        if ARCHIVED.contains(&language) {
            archive(&stage, &made, &corpus.join("archives"), language)?;
        } else {
            for path in &made {
                let to = corpus.join(path);
                fs::copy(stage.join(path), &to).with_context(|| format!("cannot write {}", to.display()))?;
            }
        }
        // After each language, so that the list and what is there agree whatever happens next.
        let text: String = digests.iter().map(|(path, digest)| format!("{digest}  {path}\n")).collect();
        fs::write(&list, text).with_context(|| format!("cannot write {}", list.display()))?;
    }
    process::run(
        process::cargo()
            .args(["test", "-p", "pangolin-plugin-host", "--test", "corpus"])
            .current_dir(&workspace.root),
    )
}

impl Bench<'_> {
    /// False when this language cannot speak that version any more.
    fn build(&self, contract: &Contract, language: &str, to: &Path) -> Result<bool> {
        fs::remove_dir_all(&self.projects).ok();
        make(&self.projects)?;
        let mut new = self.pangolin(&["plugin", "new", contract.plugin, "--kind", contract.kind, "--lang"]);
        process::run(new.arg(language))?;
        let project = self.projects.join(contract.plugin);
        if !self.pin(contract, language, &project)? {
            return Ok(false);
        }
        if let Some(parent) = to.parent() {
            make(parent)?;
        }
        process::run(self.pangolin(&["plugin", "build", contract.plugin, "--out"]).arg(to))?;
        Ok(true)
    }

    fn pangolin(&self, arguments: &[&str]) -> Command {
        let tools = self.workspace.target.join("tools");
        let before = [tools.join("js/node_modules/.bin"), tools.join("py/bin"), tools.join("c/bin")];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut command = self.binaries.pangolin(&self.projects, arguments);
        if let Ok(path) = std::env::join_paths(before.into_iter().chain(std::env::split_paths(&path))) {
            command.env("PATH", path);
        }
        command
    }

    /// A scaffold speaks the newest version; this takes it back to the one that is asked for.
    fn pin(&self, contract: &Contract, language: &str, project: &Path) -> Result<bool> {
        let manifest = project.join("pangolin-plugin.toml");
        let text = read(&manifest)?;
        let newest = text
            .lines()
            .find_map(|line| line.strip_prefix("contract = \"")?.strip_suffix('"'))
            .with_context(|| format!("{} names no contract", manifest.display()))?;
        if newest == contract.range() {
            return Ok(true);
        }
        if language == "rust" {
            eprintln!(
                "xtask: the Rust SDK speaks {} {newest}, so there is no Rust plugin for {}",
                contract.package, contract.version
            );
            return Ok(false);
        }
        write(&manifest, &text.replace(newest, &contract.range()))?;
        let deps = project.join("wit/deps").join(contract.package.replace(':', "-"));
        fs::remove_dir_all(&deps).with_context(|| format!("cannot replace {}", deps.display()))?;
        make(&deps)?;
        let released = self.workspace.root.join("wit").join(contract.wit_folder());
        for file in list(&released)? {
            let to = deps.join(file.file_name().unwrap_or_default());
            fs::copy(&file, &to).with_context(|| format!("cannot write {}", to.display()))?;
        }
        for file in
            [list(project)?, list(&project.join("src"))?, vec![project.join("wit/world.wit")]].concat()
        {
            // The only place of a version in a source: `pangolin:pattern/graph@1.1.0`.
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let pinned: String = text.split_inclusive('\n').map(|line| pinned(line, contract)).collect();
            write(&file, &pinned)?;
        }
        Ok(true)
    }
}

/// The line with every `<package>/<interface>@<version>` of the contract at its version.
fn pinned(line: &str, contract: &Contract) -> String {
    let start = format!("{}/", contract.package);
    let mut done = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(&start) {
        let (before, name) = rest.split_at(at);
        done.push_str(before);
        let Some(end) = name.find('@') else { break };
        let (name, version) = name.split_at(end + 1);
        done.push_str(name);
        done.push_str(&contract.version);
        rest = version.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    }
    done + rest
}

/// Puts `made` below `stage` into the next archive of the language. Equal input gives equal bytes.
fn archive(stage: &Path, made: &[String], archives: &Path, language: &str) -> Result<()> {
    make(archives)?;
    let file = (1..)
        .map(|number| archives.join(format!("{language}-{number}.tar.xz")))
        .find(|file| !file.exists())
        .context("no number is free")?;
    let tar = stage.with_extension("tar");
    let options = ["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
    let mut command = process::command("tar", options);
    process::run(command.args(["--mode=644", "--directory"]).arg(stage).arg("--file").arg(&tar).args(made))?;
    // The window is larger than two components, so that the second one costs only its difference.
    process::run(process::command("xz", ["--threads=1", "--lzma2=preset=9e,dict=64MiB"]).arg(&tar))?;
    let packed = stage.with_extension("tar.xz");
    fs::copy(&packed, &file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

fn read_digests(file: &Path) -> Result<BTreeMap<String, String>> {
    parse_digests(&read(file)?)
}

/// Path and digest of each line of `sha256sum`.
fn parse_digests(text: &str) -> Result<BTreeMap<String, String>> {
    let line = |line: &str| match line.split_once("  ") {
        Some((digest, path)) => Ok((path.to_owned(), digest.to_owned())),
        None => bail!("{line:?} is no line of sha256sum"),
    };
    text.lines().map(line).collect()
}

/// The regular files of a directory; none when there is no such directory.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
