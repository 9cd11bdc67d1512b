//! JavaScript: the engine (StarlingMonkey) travels in the component.

use std::{path::Path, process::Command};

use serde_json::Value;

use super::{BuildError, Made, collect};
use crate::{
    project::Project,
    tools::{Tools, read, run},
};

const PACKAGE: &str = "@bytecodealliance/componentize-js";

/// Everything of WASI that the engine would bring along.
const FEATURES: [&str; 5] = ["stdio", "random", "clocks", "http", "fetch-event"];

pub(super) fn make(project: &Project, work: &Path, tools: &Tools) -> Result<Made, BuildError> {
    let file = project.dir.join("package.json");
    let package: Value = serde_json::from_slice(&read(&file)?).map_err(|error| BuildError::Tool {
        what: file.display().to_string(),
        log: format!("not JSON: {error}"),
    })?;
    let main = package["main"].as_str().unwrap_or("src/plugin.js");
    let hint =
        format!("run `npm install` in {}, whose package.json should name {PACKAGE}", project.dir.display());
    // Its launcher is a script for Node.js.
    tools.need(None, "node", "install Node.js 20 or newer, e.g. `apt install nodejs npm`")?;
    let program = tools.need(Some(&project.dir.join("node_modules/.bin")), "componentize-js", &hint)?;
    let out = work.join("component.wasm");
    let mut command = Command::new(program);
    command
        .current_dir(&project.dir)
        .env("PATH", tools.path()?)
        .arg(main)
        .args(["--wit", "wit", "--world-name", "plugin"])
        .arg("--out")
        .arg(&out)
        .arg("--disable")
        .args(FEATURES);
    run(&mut command, "componentize-js")?;
    collect(&out, Vec::new())
}
