//! `cargo xtask package`: the functions of the AWS stack as archives for Lambda.

mod archive;
mod cross;
mod git;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use pangolin_stack::{Architecture, LABEL_FILE, Label, Release};
use serde_json::json;

use crate::{
    process,
    workspace::{Workspace, ensure_rust_targets},
};
use archive::Entry;

/// Folder of `lambdas/` and name in the stack.
const FUNCTIONS: [&str; 3] = ["inbox", "tick", "task-events"];

/// The function that makes patches, and carries a git for it.
const WITH_GIT: &str = "tick";

/// The function that loads native code, which must be of its own release.
const WITH_CODE: &str = "tick";

/// Profile of the functions in `Cargo.toml`.
const PROFILE: &str = "lambda";

/// A processor that Lambda has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    Arm64,
}

impl Arch {
    /// By Lambda's name.
    fn parse(name: &str) -> Result<Self> {
        match name {
            "x86_64" => Ok(Self::X86_64),
            "arm64" => Ok(Self::Arm64),
            _ => bail!("do not know the architecture {name:?}; there are x86_64 and arm64"),
        }
    }

    /// That of this machine.
    pub(crate) fn here() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("Lambda has no {other}; say --arch x86_64 or --arch arm64"),
        }
    }

    /// Lambda's name.
    const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// The name that compilers use.
    const fn machine(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    const fn architecture(self) -> Architecture {
        match self {
            Self::X86_64 => Architecture::X86_64,
            Self::Arm64 => Architecture::Arm64,
        }
    }

    const fn rust_target(self) -> &'static str {
        match self {
            Self::X86_64 => crate::workspace::MUSL_TARGET,
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }
}

/// An archive that was made.
pub(crate) struct Package {
    pub(crate) function: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// `package [--arch x86_64|arm64] [<function>...]`: one JSON line for each archive.
pub(crate) fn run(workspace: &Workspace, args: &[&str]) -> Result<()> {
    let (arch, names) = match args {
        ["--arch", name, names @ ..] => (Arch::parse(name)?, names),
        names => (Arch::here()?, names),
    };
    for Package { function, path, bytes } in build(workspace, arch, names)? {
        println!("{}", json!({ "package": function, "arch": arch.name(), "path": path, "bytes": bytes }));
    }
    Ok(())
}

/// Builds the functions with these names, or without names all that there are, and packs each.
pub(crate) fn build(workspace: &Workspace, arch: Arch, names: &[&str]) -> Result<Vec<Package>> {
    if let Some(name) = names.iter().find(|name| !FUNCTIONS.contains(name)) {
        bail!("do not know the function {name:?}; there are {}", FUNCTIONS.join(", "));
    }
    let (there, missing): (Vec<&'static str>, Vec<_>) = FUNCTIONS
        .into_iter()
        .filter(|function| names.is_empty() || names.contains(function))
        .partition(|function| workspace.root.join("lambdas").join(function).join("Cargo.toml").is_file());
    for function in missing {
        eprintln!("SKIPPED: there is no lambdas/{function}; its package is missing");
    }
    if there.is_empty() {
        return Ok(Vec::new());
    }
    // First what may lack a tool: the other build takes minutes.
    let git = match there.contains(&WITH_GIT) {
        true => Some(git::build(workspace, arch).context("cannot make the static git of the tick")?),
        false => None,
    };
    ensure_rust_targets(workspace, &[arch.rust_target()])?;
    let mut cargo = process::cargo();
    cargo.args(["build", "--profile", PROFILE, "--target", arch.rust_target()]);
    for function in &there {
        cargo.args(["-p", &format!("pangolin-lambda-{function}")]);
    }
    cross::set_up(workspace, arch, &mut cargo)?;
    process::run(cargo.current_dir(&workspace.root))?;
    let mut packages = Vec::new();
    for function in there {
        let built = workspace.target.join(arch.rust_target()).join(PROFILE);
        let program = built.join(format!("pangolin-lambda-{function}"));
        let label = label(function, arch, &program)?;
        let mut entries =
            vec![Entry::program("bootstrap", program), Entry::bytes(LABEL_FILE, label.to_bytes())];
        if let (WITH_GIT, Some(git)) = (function, &git) {
            entries.extend(git.entries());
        }
        let path = workspace.target.join("packages").join(format!("{function}-{}.zip", arch.name()));
        let bytes = archive::write(&path, entries)?;
        packages.push(Package { function, path, bytes });
    }
    Ok(packages)
}

/// What an archive says about itself: `deploy` compares it with the program that deploys. A program for another processor
/// cannot be asked, so its release is read out of its bytes.
fn label(function: &str, arch: Arch, program: &Path) -> Result<Label> {
    if function != WITH_CODE {
        return Ok(Label::plain(function, arch.architecture(), env!("CARGO_PKG_VERSION")));
    }
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let release = Release::find(&bytes)
        .with_context(|| format!("{} does not say of which release it is", program.display()))?;
    Ok(Label::of(function, arch.architecture(), &release))
}
