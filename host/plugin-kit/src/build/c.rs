//! C: the bindings are made here, clang or zig compile for a machine without an operating system, and the core module
//! becomes a component here.

use std::{
    ffi::OsStr,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use wit_bindgen_c::Enabled;
use wit_bindgen_core::{Files, wit_parser::Resolve};

use super::{BuildError, Made};
use crate::{
    project::Project,
    tools::{MissingTool, Tools, io_error, read, run},
};

/// World of the project.
const WORLD: &str = "plugin";

const FLAGS: [&str; 6] = ["-std=c17", "-Os", "-g0", "-ffreestanding", "-fno-sanitize=all", "-fno-ident"];

/// A compiler for wasm32.
struct Compiler {
    program: PathBuf,
    first: &'static [&'static str],
}

impl Compiler {
    /// clang when its linker is there too, else zig, which brings everything.
    fn find(tools: &Tools) -> Result<Self, MissingTool> {
        const CLANG: &[&str] = &["--target=wasm32-unknown-unknown"];
        const ZIG: &[&str] = &["cc", "-target", "wasm32-freestanding"];
        if let (Some(program), Some(_)) = (tools.find(None, "clang"), tools.find(None, "wasm-ld")) {
            return Ok(Self { program, first: CLANG });
        }
        ["zig", "python-zig"]
            .iter()
            .find_map(|name| tools.find(None, name))
            .map(|program| Self { program, first: ZIG })
            .ok_or_else(|| MissingTool {
                program: "a C compiler for wasm32 (clang with wasm-ld, or zig)".to_owned(),
                hint: "run `apt install clang lld`, or `pip install ziglang` in a virtual environment that is active"
                    .to_owned(),
            })
    }

    fn command(&self, project: &Project, tools: &Tools) -> Result<Command, BuildError> {
        let mut command = Command::new(&self.program);
        command.current_dir(&project.dir).env("PATH", tools.path()?).args(self.first).args(FLAGS);
        Ok(command)
    }
}

pub(super) fn make(project: &Project, work: &Path, tools: &Tools) -> Result<Made, BuildError> {
    let compiler = Compiler::find(tools)?;
    let bindings = work.join("bindings");
    let generated = generate(&project.dir.join("wit"), &bindings)?;
    let mut objects: Vec<PathBuf> = generated.iter().filter(|path| has_end(path, "o")).cloned().collect();
    let mut warnings = Vec::new();
    let own = sources(&project.dir.join("src"))?;
    let libc = sources(&project.dir.join("libc"))?;
    let theirs = generated.into_iter().filter(|path| has_end(path, "c"));
    let all = own.into_iter().chain(libc).map(|path| (path, true)).chain(theirs.map(|path| (path, false)));
    for (number, (source, is_own)) in all.enumerate() {
        let object = work.join(format!("{number}.o"));
        let mut command = compiler.command(project, tools)?;
        command.arg("-c").arg(&source).arg("-o").arg(&object);
        command.arg("-I").arg(&bindings).args(["-I", "src", "-isystem", "libc"]);
        command.arg(format!("-ffile-prefix-map={}=/plugin", project.dir.display()));
        // Memory functions are written as loops; they must not become calls of themselves.
        command.args(if is_own {
            ["-Wall", "-Wextra", "-fno-builtin"]
        } else {
            ["-w", "-w", "-fno-builtin"]
        });
        warnings.extend(compile(&mut command, &source)?);
        objects.push(object);
    }
    let core = work.join("core.wasm");
    let mut link = compiler.command(project, tools)?;
    link.args(["-nostdlib", "-Wl,--no-entry", "-Wl,--gc-sections", "-Wl,--strip-all", "-o"])
        .arg(&core)
        .args(&objects);
    run(&mut link, "the linker")?;
    let module = read(&core)?;
    let component = wit_component::ComponentEncoder::default()
        .validate(true)
        .debug_names(false)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| BuildError::Tool {
            what: "making a component".to_owned(),
            log: format!("{error:#}"),
        })?;
    Ok(Made { component, warnings })
}

fn has_end(path: &Path, end: &str) -> bool {
    path.extension() == Some(OsStr::new(end))
}

/// Compiles one file; answers the compiler's warnings.
fn compile(command: &mut Command, source: &Path) -> Result<Option<String>, BuildError> {
    let what = format!("the C compiler on {}", source.display());
    let output = command.output().map_err(|source| BuildError::Start { what: what.clone(), source })?;
    let log = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        return Err(BuildError::Tool { what, log });
    }
    Ok((!log.is_empty()).then_some(log))
}

/// The C files directly in `dir`, in order. None when there is no such folder.
fn sources(dir: &Path) -> Result<Vec<PathBuf>, BuildError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| io_error(dir, source))? {
        let path = entry.map_err(|source| io_error(dir, source))?.path();
        if has_end(&path, "c") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes the bindings of the project's world and answers the files.
fn generate(wit: &Path, to: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit).map_err(|error| wrong(wit, &error))?;
    let world = resolve.select_world(&[package], Some(WORLD)).map_err(|error| wrong(wit, &error))?;
    let mut files = Files::default();
    // Handles that a call lends are given back by the generated code; a forgotten one would end the call with a trap.
    let options = wit_bindgen_c::Opts { autodrop_borrows: Enabled::Yes, ..wit_bindgen_c::Opts::default() };
    options.build().generate(&mut resolve, world, &mut files).map_err(|error| wrong(wit, &error))?;
    fs::create_dir_all(to).map_err(|source| io_error(to, source))?;
    let mut written = Vec::new();
    for (name, bytes) in files.iter() {
        let path = to.join(name);
        fs::write(&path, bytes).map_err(|source| io_error(&path, source))?;
        written.push(path);
    }
    written.sort();
    Ok(written)
}

fn wrong(wit: &Path, problem: &impl Display) -> BuildError {
    BuildError::Interfaces { path: wit.to_owned(), problem: format!("{problem:#}") }
}
