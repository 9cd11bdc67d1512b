//! From a project to one `.wasm` file.

mod c;
mod javascript;
mod python;
mod rust;

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{ComponentError, Inspection, Mismatch, embed, inspect, reconcile};
use thiserror::Error;

use crate::{
    language::Language,
    project::{Project, ProjectError},
    tools::{MissingTool, Tools, io_error, read},
};

/// Why there is no component.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Not a project.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// A program of the language is not there.
    #[error(transparent)]
    Missing(#[from] MissingTool),
    /// A program cannot be started.
    #[error("cannot start {what}")]
    Start {
        /// The program.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed. The log is its own and may be long.
    #[error("{what} failed:\n{log}")]
    Tool {
        /// The program and how it ended.
        what: String,
        /// What it printed.
        log: String,
    },
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The interfaces of the project are wrong.
    #[error("{}: {problem}", path.display())]
    Interfaces {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// What the tools made is no component, or cannot take the manifest.
    #[error("the tools made something that is no plugin")]
    Component(#[from] ComponentError),
    /// The component and its manifest do not fit.
    #[error("the component does not fit its manifest: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Mismatch(Vec<Mismatch>),
    /// A second build gave other bytes.
    #[error("the build is not reproducible: {first} here, {second} from a copy in another directory")]
    NotReproducible {
        /// Digest of the first build.
        first: Digest,
        /// Digest of the second.
        second: Digest,
    },
    /// The language cannot do it.
    #[error(
        "a {0} component differs from build to build, whatever its source, so --check-reproducible cannot hold; \
         the languages that can are rust and c"
    )]
    NeverReproducible(Language),
}

/// How to build.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Where the component goes; `<dir>/<name>.wasm` when absent.
    pub out: Option<PathBuf>,
    /// Wins over what the project's files say.
    pub language: Option<Language>,
    /// Where intermediate files go; `<dir>/target` when absent.
    pub work: Option<PathBuf>,
    /// Build a copy in another directory too and compare.
    pub check_reproducible: bool,
    /// Where programs are looked for.
    pub tools: Tools,
}

/// A component on disk.
#[derive(Debug, Clone)]
pub struct Built {
    /// The project it came from.
    pub project: Project,
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest, as in `pangolin.lock`.
    pub digest: Digest,
    /// What it imports, exports and asks for.
    pub inspection: Inspection,
    /// What an author should look at: of the compiler, and requests that the component makes no use of.
    pub warnings: Vec<String>,
    /// Whether a second build gave the same bytes; absent when that was not asked.
    pub reproduced: Option<bool>,
    /// Wall time of the first build.
    pub took: Duration,
}

/// What a language's tools made.
struct Made {
    component: Vec<u8>,
    warnings: Vec<String>,
}

fn make(project: &Project, work: &Path, locked: bool, tools: &Tools) -> Result<Made, BuildError> {
    fs::create_dir_all(work).map_err(|source| io_error(work, source))?;
    let mut made = match project.language {
        Language::Rust => rust::make(project, work, locked, tools)?,
        Language::JavaScript => javascript::make(project, work, tools)?,
        Language::Python => python::make(project, work, tools)?,
        Language::C => c::make(project, work, tools)?,
    };
    made.component = embed(&made.component, &project.manifest)?;
    Ok(made)
}

/// Builds the project in `dir` and writes the component. The file appears whole or not at all.
///
/// # Errors
/// [`BuildError`]. Nothing is written when the component does not fit its manifest.
pub fn build(dir: &Path, options: &BuildOptions) -> Result<Built, BuildError> {
    let project = Project::open(dir, options.language)?;
    if options.check_reproducible && !project.language.is_reproducible() {
        return Err(BuildError::NeverReproducible(project.language));
    }
    let work = options.work.clone().unwrap_or_else(|| project.dir.join("target"));
    let started = Instant::now();
    let Made { component, mut warnings } = make(&project, &work, false, &options.tools)?;
    let took = started.elapsed();
    let inspection = inspect(&component)?;
    let reconciled = reconcile(&project.manifest, &inspection).map_err(BuildError::Mismatch)?;
    warnings.extend(reconciled.warnings);
    let digest = Digest::of(&component);
    let reproduced = match options.check_reproducible {
        true => Some(reproduce(&project, digest, &options.tools)?),
        false => None,
    };
    let path = options.out.clone().unwrap_or_else(|| project.dir.join(format!("{}.wasm", project.name())));
    write(&path, &component)?;
    let size = component.len() as u64;
    Ok(Built { project, path, size, digest, inspection, warnings, reproduced, took })
}

/// Builds a copy in another directory.
fn reproduce(project: &Project, first: Digest, tools: &Tools) -> Result<bool, BuildError> {
    let elsewhere = tempfile::tempdir().map_err(|source| io_error(&std::env::temp_dir(), source))?;
    let dir = elsewhere.path().join("a-copy-somewhere-else");
    copy(&project.dir, &dir)?;
    let copy = Project { dir: dir.clone(), ..project.clone() };
    let second = Digest::of(&make(&copy, &elsewhere.path().join("work"), true, tools)?.component);
    if first == second { Ok(true) } else { Err(BuildError::NotReproducible { first, second }) }
}

/// Copies the sources: everything but what builds leave behind.
fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    const LEFT_BEHIND: [&str; 5] = ["target", "node_modules", ".venv", ".git", "__pycache__"];
    fs::create_dir_all(to).map_err(|source| io_error(to, source))?;
    for entry in fs::read_dir(from).map_err(|source| io_error(from, source))? {
        let entry = entry.map_err(|source| io_error(from, source))?;
        let (name, path) = (entry.file_name(), entry.path());
        if LEFT_BEHIND.iter().any(|left| name == *left) || path.extension().is_some_and(|end| end == "wasm") {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name)).map_err(|source| io_error(&path, source))?;
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|source| io_error(parent, source))?;
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(|source| io_error(parent, source))?;
    // Temporary files are private; this one is a product like any other.
    let mode = fs::Permissions::from_mode(0o644);
    file.write_all(bytes)
        .and_then(|()| file.as_file().set_permissions(mode))
        .map_err(|source| io_error(path, source))?;
    file.persist(path).map_err(|error| io_error(path, error.error))?;
    Ok(())
}

/// The component that a tool wrote to `path`.
fn collect(path: &Path, warnings: Vec<String>) -> Result<Made, BuildError> {
    let component = read(path)?;
    fs::remove_file(path).map_err(|source| io_error(path, source))?;
    Ok(Made { component, warnings })
}
