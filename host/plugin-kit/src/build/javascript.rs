//! JavaScript: the engine travels in the component. `package.json` says which one: StarlingMonkey (componentize-js) or
//! QuickJS (componentize-qjs).

use std::{path::Path, process::Command};

use serde_json::Value;

use super::{BuildError, Made, collect};
use crate::{
    project::Project,
    tools::{Tools, read, run},
};

const STARLING: &str = "@bytecodealliance/componentize-js";
const QUICK: &str = "componentize-qjs";

/// Everything of WASI that the engine would bring along.
const FEATURES: [&str; 5] = ["stdio", "random", "clocks", "http", "fetch-event"];

pub(super) fn make(project: &Project, work: &Path, tools: &Tools) -> Result<Made, BuildError> {
    let file = project.dir.join("package.json");
    let package: Value = serde_json::from_slice(&read(&file)?).map_err(|error| BuildError::Tool {
        what: file.display().to_string(),
        log: format!("not JSON: {error}"),
    })?;
    let names = |tool: &str| {
        ["dependencies", "devDependencies"].iter().any(|table| package[*table].get(tool).is_some())
    };
    let main = package["main"].as_str().unwrap_or("src/plugin.js");
    let bin = project.dir.join("node_modules/.bin");
    let out = work.join("component.wasm");
    let need = |program: &str, name: &str| {
        let hint = format!(
            "run `npm install` in {}, whose package.json should name {name} (or `npm install --save-dev {name}`)",
            project.dir.display()
        );
        tools.need(Some(&bin), program, &hint)
    };
    // Its launcher is a script for it.
    tools.need(None, "node", "install Node.js 20 or newer, e.g. `apt install nodejs npm`")?;
    let (program, what) = if names(QUICK) && !names(STARLING) {
        (need("componentize-qjs", QUICK)?, "componentize-qjs")
    } else {
        (need("componentize-js", STARLING)?, "componentize-js")
    };
    let mut command = Command::new(program);
    command.current_dir(&project.dir).env("PATH", tools.path()?);
    if what == "componentize-qjs" {
        command.args([
            "--sync",
            "--stub-wasi",
            "--opt-size",
            "--module-root",
            ".",
            "--wit",
            "wit",
            "--world",
            "plugin",
        ]);
        command.args(["--js", main]).arg("--output").arg(&out);
    } else {
        command.arg(main).args(["--wit", "wit", "--world-name", "plugin"]).arg("--out").arg(&out);
        command.arg("--disable").args(FEATURES);
    }
    run(&mut command, what)?;
    collect(&out, Vec::new())
}
