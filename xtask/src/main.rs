//! `cargo xtask`: builds what the `pangolin` binary needs beside it, runs the examples, the whole test suite and the
//! benchmarks.
//!
//! Deliberately not here: any logic of Pangolin. Everything goes through the binaries, as a user would do it, so this
//! crate depends on no other crate of the workspace and builds in seconds.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool: data on stdout, progress on stderr"
)]

mod bench;
mod binaries;
mod corpus;
mod daemon;
mod docker;
mod emulate;
mod emulators;
mod example;
mod languages;
mod package;
mod process;
mod suite;
mod wit;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

const USAGE: &str = "\
cargo xtask <task>

  demo [--docker]             build, run examples/offload-fanout live, print the patches and the audit block
  example <name> [--docker]   the same for any folder of examples/ that has a plan.json; --into <dir> runs it there,
                              --built uses the programs that are there, --keep-drawings renews its drawings
  build                       build `pangolin` and the static worker beside it (target/debug)
  check                       format, lints and the wasm32 check of the pure crates
  test                        everything: check, unit, conformance and end-to-end tests, doc tests, guests
  bench <what>                engine | dispatch | verify | size | plugins | lambda | calls; one JSON line per figure on
                              stdout
  package [--arch <arch>]     the functions of the AWS stack as target/packages/<function>-<arch>.zip, for x86_64 or arm64;
                              with names of functions only those
  emulate up [<dir>]          a stack of AWS emulators for the project in <dir> (default: examples/offload-aws-local)
  emulate down | test         stops it; runs every test of whole stacks, and the examples on emulators
  wit [--freeze <pkg>@<ver>]  the contracts of wit/ against every released version; --freeze releases one
  corpus add <pkg>@<ver>...   keeps a compiled plugin per language of released contracts in tests/corpus;
                              --built uses the programs that are there
  ci                          what a fresh machine runs: .ci/run (installs packages, needs root)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if matches!(args.as_slice(), [] | ["help" | "--help" | "-h"]) {
        print!("{USAGE}");
        return if args.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    let workspace = Workspace::locate()?;
    match args {
        ["demo", options @ ..] => {
            example::run(&workspace, "offload-fanout", &example::Options::parse(options)?)
        }
        ["example", "--docker", name] => {
            example::run(&workspace, name, &example::Options::parse(&["--docker"])?)
        }
        ["example", name, options @ ..] => example::run(&workspace, name, &example::Options::parse(options)?),
        ["build"] => binaries::build(&workspace).map(|_| ()),
        ["check"] => suite::check(&workspace),
        ["test"] => suite::test(&workspace),
        ["bench", what] => bench::run(&workspace, what),
        ["package", options @ ..] => package::run(&workspace, options),
        ["emulate", "up"] => emulate::up(&workspace, None),
        ["emulate", "up", project] => emulate::up(&workspace, Some(project.as_ref())),
        ["emulate", "down"] => emulate::down(&workspace),
        ["emulate", "test"] => emulate::test(&workspace),
        ["wit"] => wit::run(&workspace, &[]),
        ["wit", "--freeze", name] => wit::run(&workspace, &["--freeze", name]),
        ["corpus", "add", "--built", names @ ..] => corpus::add(&workspace, names, true),
        ["corpus", "add", names @ ..] => corpus::add(&workspace, names, false),
        ["ci"] => process::run(process::command("bash", [".ci/run"]).current_dir(&workspace.root)),
        _ => bail!("do not know {:?}\n\n{USAGE}", args.join(" ")),
    }
}
