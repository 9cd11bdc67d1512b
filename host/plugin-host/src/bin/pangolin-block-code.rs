//! Compiles a block for a worker: `pangolin-block-code <component.wasm> <code.out> <cache directory>` prints what the host would put into the
//! envelope. For the tests of the worker, which itself must be built without the compiler.

use std::{error::Error, io::Write as _, path::Path};

use pangolin_plugin_host::{CacheKey, Compiler, HostOptions, PluginHost};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [component, out, cache] = args.as_slice() else {
        return Err("usage: pangolin-block-code <component.wasm> <code.out> <cache directory>".into());
    };
    let wasm = std::fs::read(component)?;
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    let host = PluginHost::with_options(Path::new(cache), CacheKey::from_bytes([7; 32]), options)?;
    let compiled = host.block_code(&wasm)?;
    // Others may be reading an earlier one.
    let temporary = format!("{out}.{}", std::process::id());
    std::fs::write(&temporary, &compiled.code)?;
    std::fs::rename(&temporary, Path::new(out))?;
    let line = serde_json::json!({"contract": compiled.contract, "engine": compiled.engine});
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
