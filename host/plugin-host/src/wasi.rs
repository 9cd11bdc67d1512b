//! The 14 WASI interfaces that ordinary guests import whether they use them or not, all inert: empty environment,
//! closed stdin, discarded output, a pinned seed. Nothing else of WASI is linked: no clocks, no random, no files,
//! no sockets.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    cli::{WasiCli, WasiCliView},
    p2::bindings::{cli, random},
    random::WasiRandom,
};
use wasmtime_wasi_io::bindings::wasi::io;

use crate::state::CallState;

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// The interfaces, without version.
pub(crate) const INERT: [&str; 14] = [
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:random/insecure-seed",
];

/// Links [`INERT`].
pub(crate) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<CallState, HasTable>(linker, |state| &mut state.table)?;
    io::poll::add_to_linker::<CallState, HasTable>(linker, |state| &mut state.table)?;
    io::streams::add_to_linker::<CallState, HasTable>(linker, |state| &mut state.table)?;
    cli::environment::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::exit::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::stdin::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::stdout::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::stderr::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_input::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_output::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_stdin::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_stdout::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_stderr::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    random::insecure_seed::add_to_linker::<CallState, WasiRandom>(linker, CallState::random)?;
    Ok(())
}
