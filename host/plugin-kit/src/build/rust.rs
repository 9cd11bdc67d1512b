//! Rust: cargo makes components itself.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{BuildError, Made};
use crate::{
    project::Project,
    tools::{MissingTool, Tools, is_of_outer_build, read, run},
};

const TARGET: &str = "wasm32-wasip2";

pub(super) fn make(project: &Project, work: &Path, locked: bool, tools: &Tools) -> Result<Made, BuildError> {
    let cargo = tools.need(None, "cargo", "get it from rustup.rs")?;
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_outer_build(name)) {
        command.env_remove(name);
    }
    // Panic messages hold source paths. Without the machine's own paths the same source gives the same digest
    // everywhere. The last prefix that fits wins.
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=/plugin", project.dir.display())];
    flags.push(format!("--remap-path-prefix={}=/work", work.display()));
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    command
        .current_dir(&project.dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args([
            "build",
            "--release",
            "--quiet",
            "--message-format",
            "json-render-diagnostics",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(work);
    if locked {
        command.arg("--locked");
    }
    let messages = run(&mut command, "cargo build").map_err(|error| match error {
        BuildError::Tool { log, .. } if log.contains("E0463") || log.contains("may not be installed") => {
            MissingTool {
                program: format!("the Rust target {TARGET}"),
                hint: format!("run: rustup target add {TARGET}"),
            }
            .into()
        }
        other => other,
    })?;
    let component = read(&artifact(project, &messages)?)?;
    Ok(Made { component, warnings: Vec::new() })
}

/// The component among cargo's messages: the one of the project's own package.
fn artifact(project: &Project, messages: &[u8]) -> Result<PathBuf, BuildError> {
    let manifest = project.dir.join("Cargo.toml");
    let found = messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest))
        .filter_map(|message| {
            let files = message["filenames"].as_array()?;
            files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
        })
        .next_back();
    found.ok_or_else(|| BuildError::Tool {
        what: "cargo build".to_owned(),
        log: format!(
            "{} makes no component; it needs [lib] with crate-type = [\"cdylib\"]",
            manifest.display()
        ),
    })
}
