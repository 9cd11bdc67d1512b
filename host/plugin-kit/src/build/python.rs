//! Python: interpreter, standard library and the project's modules travel in the component.

use std::{path::Path, process::Command};

use super::{BuildError, Made, collect};
use crate::{
    project::Project,
    tools::{Tools, run},
};

pub(super) fn make(project: &Project, work: &Path, tools: &Tools) -> Result<Made, BuildError> {
    let venv = project.dir.join(".venv");
    let hint =
        format!("run: python3 -m venv {0} && {0}/bin/pip install componentize-py==0.25.1", venv.display());
    let program = tools.need(Some(&venv.join("bin")), "componentize-py", &hint)?;
    let out = work.join("component.wasm");
    let mut command = Command::new(program);
    command
        .current_dir(&project.dir)
        .env("PATH", tools.path()?)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["--quiet", "--wit-path", "wit", "--world", "plugin", "componentize", "--stub-wasi"])
        .args(["--python-path", ".", "--output"])
        .arg(&out)
        .arg("app");
    run(&mut command, "componentize-py")?;
    collect(&out, Vec::new())
}
