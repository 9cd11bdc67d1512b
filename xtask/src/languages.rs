//! The tools that turn JavaScript, Python and C into plugins, for the tests of the scaffolds. Below
//! `target/tools/<language>`, from the language's own registry, in the versions that the scaffolds name.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace::Workspace};

/// npm package and program.
const JAVASCRIPT: (&str, &str) = ("@bytecodealliance/componentize-js@0.23.0", "componentize-js");

/// Folder, PyPI package and program.
const FROM_PYPI: [(&str, &str, &str); 2] =
    [("py", "componentize-py==0.25.1", "componentize-py"), ("c", "ziglang==0.17.1", "python-zig")];

/// Installs what is missing. Answers what cannot be installed here, with the reason.
pub(crate) fn install(workspace: &Workspace) -> Result<Vec<String>> {
    let tools = workspace.target.join("tools");
    let mut impossible = Vec::new();
    let (package, program) = JAVASCRIPT;
    let prefix = tools.join("js");
    if !prefix.join("node_modules/.bin").join(program).exists() {
        match ["node", "npm"].iter().find(|tool| !process::is_on_path(tool)) {
            Some(tool) => impossible.push(format!("{tool} is not installed, so there is no {package}")),
            None => npm(&prefix, package, program)?,
        }
    }
    for tool in FROM_PYPI {
        impossible.extend(from_pypi(workspace, tool)?);
    }
    Ok(impossible)
}

/// Installs the C compiler alone. Answers why it cannot be installed here.
pub(crate) fn install_c(workspace: &Workspace) -> Result<Option<String>> {
    from_pypi(workspace, FROM_PYPI[1])
}

fn from_pypi(
    workspace: &Workspace,
    (folder, package, program): (&str, &str, &str),
) -> Result<Option<String>> {
    let prefix = workspace.target.join("tools").join(folder);
    if prefix.join("bin").join(program).exists() {
        return Ok(None);
    }
    if !process::is_on_path("python3") {
        return Ok(Some(format!("python3 is not installed, so there is no {package}")));
    }
    pip(&prefix, &[package], program).map(|()| None)
}

fn make(prefix: &Path) -> Result<()> {
    std::fs::create_dir_all(prefix).with_context(|| format!("cannot create {}", prefix.display()))
}

fn npm(prefix: &Path, package: &str, program: &str) -> Result<()> {
    make(prefix)?;
    let install = ["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix"];
    process::run(process::command("npm", install).arg(prefix).arg(package))?;
    let file = prefix.join("node_modules/.bin").join(program);
    if file.exists() { Ok(()) } else { bail!("npm did not make {}", file.display()) }
}

/// Installs packages of PyPI into an environment of their own.
pub(crate) fn pip(prefix: &Path, packages: &[&str], program: &str) -> Result<()> {
    make(prefix)?;
    process::run(process::command("python3", ["-m", "venv"]).arg(prefix))?;
    process::run(process::command(prefix.join("bin/pip"), ["install", "--quiet"]).args(packages))?;
    let file = prefix.join("bin").join(program);
    if file.exists() { Ok(()) } else { bail!("pip did not make {}", file.display()) }
}
