//! The child's side of [`crate::compile`]: takes its limits, then looks at the component.

use std::{
    ffi::OsString,
    io::{Read, Write},
    process::ExitCode,
};

use nix::sys::resource::{Resource, setrlimit};
use wasmtime::Engine;

use crate::{
    compile::EXIT_INVALID,
    engine::{COMPONENT_BYTES_CEILING, Profile, engine_config_for},
    processor::Processor,
};

/// Exit status when the parent does not keep to the protocol.
const EXIT_USAGE: u8 = 2;

/// Exit status when a limit or the engine cannot be set up.
const EXIT_SETUP: u8 = 4;

/// Runs as the compiler: takes the limits of `arguments` (what follows [`COMPILE_COMMAND`](crate::COMPILE_COMMAND)),
/// reads a component from stdin, writes native code to stdout. Call it before any thread is started and before
/// anything is logged to stdout.
#[must_use]
pub fn compile_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match compile(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, words)) => {
            complain(&words);
            ExitCode::from(status)
        }
    }
}

/// stderr is read by the parent.
#[expect(clippy::print_stderr, reason = "the compiler has no other way to say why")]
fn complain(words: &str) {
    eprintln!("{words}");
}

type Problem = (u8, String);

fn compile(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Problem> {
    let usage = || (EXIT_USAGE, "the plugin compiler is started by the plugin host only".to_owned());
    let arguments: Vec<String> = arguments
        .into_iter()
        .map(|word| word.into_string().map_err(|_| usage()))
        .collect::<Result<_, _>>()?;
    let [processor, profile, memory, cpu] = arguments.as_slice() else { return Err(usage()) };
    let processor = Processor::from_name(processor).ok_or_else(usage)?;
    let profile = Profile::from_name(profile).ok_or_else(usage)?;
    let (memory, cpu): (u64, u64) = (memory.parse().map_err(|_| usage())?, cpu.parse().map_err(|_| usage())?);
    take_limits(memory, cpu).map_err(|error| (EXIT_SETUP, format!("cannot take limits: {error}")))?;

    let mut wasm = Vec::new();
    std::io::stdin()
        .lock()
        .take(COMPONENT_BYTES_CEILING as u64 + 1)
        .read_to_end(&mut wasm)
        .map_err(|error| (EXIT_SETUP, format!("no component on stdin: {error}")))?;
    let code = native_code(processor, profile, &wasm)?;
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&code)
        .and_then(|()| stdout.flush())
        .map_err(|error| (EXIT_SETUP, format!("cannot answer: {error}")))
}

/// Soft and hard alike, so that nothing in this process can raise them again.
fn take_limits(memory: u64, cpu: u64) -> nix::Result<()> {
    // Dies with the daemon instead of working on for nobody.
    nix::sys::prctl::set_pdeathsig(Some(nix::sys::signal::Signal::SIGKILL))?;
    nix::sys::prctl::set_no_new_privs()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // No files, no further threads or processes, a handful of descriptors; stdout is a pipe.
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16)?;
    setrlimit(Resource::RLIMIT_AS, memory, memory)?;
    // The kernel sends SIGXCPU, which has a name, at the soft limit and SIGKILL at the hard one.
    setrlimit(Resource::RLIMIT_CPU, cpu, cpu.saturating_add(2))
}

fn native_code(processor: Processor, profile: Profile, wasm: &[u8]) -> Result<Vec<u8>, Problem> {
    let engine = Engine::new(&engine_config_for(profile, processor))
        .map_err(|error| (EXIT_SETUP, format!("cannot create the engine: {error:#}")))?;
    compile_with(&engine, wasm)
}

/// Validates as a whole before the first function is compiled. What the engine's own glue needs (several memories in one
/// module) is still nothing for a plugin's modules.
pub(crate) fn compile_with(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, Problem> {
    let features = engine.get_wasm_features().difference(wasmtime::WasmFeatures::MULTI_MEMORY);
    wasmparser::Validator::new_with_features(features)
        .validate_all(wasm)
        .map_err(|error| (EXIT_INVALID, format!("not a valid component: {error}")))?;
    let code = engine.precompile_component(wasm).map_err(|error| (EXIT_INVALID, format!("{error:#}")))?;
    Ok(crate::strip::without_symbols(code))
}
