//! What stands in for AWS in the tests, and what checks the template: below `target/tools`, from the ordinary registries.

use anyhow::Result;

use crate::{languages, process, workspace::Workspace};

/// Folder, PyPI packages and program.
const FROM_PYPI: [(&str, &[&str], &str); 2] = [
    ("emulators", &["ministack==1.5.33", "cryptography", "cbor2"], "ministack"),
    ("cfn-checks", &["cfn-lint==1.58.0", "checkov==3.3.30"], "checkov"),
];

/// Crate and version of a DynamoDB for tests; a program, because its SQLite and ours cannot be in one build.
const DYNOXIDE: (&str, &str) = ("dynoxide-rs", "=3.2.0");

/// Installs what is missing. Answers what cannot be installed here, with the reason.
pub(crate) fn install(workspace: &Workspace) -> Result<Vec<String>> {
    let tools = workspace.target.join("tools");
    let mut impossible = Vec::new();
    for (folder, packages, program) in FROM_PYPI {
        let prefix = tools.join(folder);
        if prefix.join("bin").join(program).exists() {
            continue;
        }
        if process::is_on_path("python3") {
            languages::pip(&prefix, packages, program)?;
        } else {
            impossible.push(format!("python3 is not installed, so there is no {program}"));
        }
    }
    let prefix = tools.join("emulators");
    if !prefix.join("bin/dynoxide").exists() {
        let (name, version) = DYNOXIDE;
        let features = ["--no-default-features", "--features", "native-sqlite,http-server,cli"];
        let mut install = process::cargo();
        install.args(["install", name, "--version", version, "--locked"]).args(features);
        // Outside of the workspace: its toolchain file and target directory are not meant for it.
        install.arg("--root").arg(&prefix).arg("--target-dir").arg(tools.join("dynoxide-build"));
        process::run(install.current_dir(&tools))?;
    }
    Ok(impossible)
}
