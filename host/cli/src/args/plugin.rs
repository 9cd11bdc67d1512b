//! `pangolin plugin …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pangolin_core::ids::Digest;

use super::ItemTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    // For authors.
    /// Start a plugin: source, manifest, interfaces, fixtures, README
    New(PluginNew),
    /// Build the component of a plugin's directory
    Build(PluginBuild),
    /// Run the conformance checks and the fixtures of a plugin
    Test(PluginTest),
    /// Run one fixture and print what the plugin decides, why, and what it costs
    Run(PluginRun),
    /// Say what a component is, what it can do and what it asks for, without running it
    Inspect(PluginInspect),
    // For operators.
    /// Look at a plugin, approve what it gets and pin it in pangolin.lock
    #[command(
        after_help = "Shows what the plugin asks for with its author's reasons, what it would get and why not more. What it gets is
what its manifest asks for, the project grants in pangolin.toml and the operator's policy allows; what is absent
is denied. Nothing is installed before somebody approves: with `yes` at the terminal, or with --yes.

The source is a file, an https address with --sha256, oci://registry/repository:tag, or the id of an installed
plugin, to approve what it would get now.

Examples:
  pangolin plugin add ./my-pattern.wasm
  pangolin plugin add ./suite.wasm --grant-asked
  pangolin plugin add https://plugins.acme.dev/suite.wasm --sha256 sha256:9f86d0… --yes
  pangolin plugin add oci://registry.acme.dev/plugins/suite:0.4.1
  pangolin plugin add acme/suite"
    )]
    Add(PluginAdd),
    /// Show the plugins that can be used, who approved them and whether they would run
    List,
    /// Ask every source whether it has something else than what is pinned
    #[command(
        after_help = "Installs nothing. Exit codes: 0 nothing new, 1 something new or a source that does not answer."
    )]
    Outdated,
    /// Say why plugins were denied something in a run, and the line that would grant it
    #[command(name = "why-denied")]
    WhyDenied {
        /// <run>/<item>
        target: ItemTarget,
    },
    /// Fetch pinned plugins that this machine lacks, and compile plugins into the cache
    Rebuild {
        /// Ids [default: all, the built-in ones included]
        ids: Vec<String>,
    },
    /// Take a plugin out of pangolin.lock
    Remove {
        /// Id, <owner>/<name>
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PluginAdd {
    /// File, https address, oci artifact, or the id of an installed plugin
    pub(crate) source: String,
    /// Expected digest of the component; https needs it
    #[arg(long, value_name = "DIGEST")]
    pub(crate) sha256: Option<Digest>,
    /// Signature file, when it is not beside the component
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,
    /// Also grant everything it asks for in pangolin.toml
    #[arg(long)]
    pub(crate) grant_asked: bool,
    /// Approve without being asked
    #[arg(long)]
    pub(crate) yes: bool,
    /// Who approves, recorded in the lock [default: human:<os user>]
    #[arg(long, env = "PANGOLIN_ACTOR", hide_env_values = true)]
    pub(crate) approver: Option<String>,
}

/// What a plugin is for, in the words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PluginKind {
    /// Decides which items a run gets next
    Pattern,
    /// Drives one agent command
    #[value(alias = "runtime-adapter")]
    Adapter,
    /// One step of a worker pipeline
    Block,
}

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PluginLanguage {
    /// Needs cargo and the target wasm32-wasip2
    #[value(alias = "rs")]
    Rust,
    /// Needs Node.js and componentize-js
    #[value(alias = "javascript")]
    Js,
    /// Needs componentize-py
    #[value(alias = "python")]
    Py,
    /// Needs clang with wasm-ld, or zig
    C,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Never replaces a file. The directory is called like the plugin unless --dir says otherwise.

Examples:
  pangolin plugin new my-pattern --kind pattern --lang rust
  pangolin plugin new mini --kind adapter --lang py --id acme/mini"
)]
pub(crate) struct PluginNew {
    /// Name: a-z, 0-9 and inner hyphens
    pub(crate) name: String,
    /// What it is for
    #[arg(long, value_enum)]
    pub(crate) kind: PluginKind,
    /// What it is written in
    #[arg(long, value_enum)]
    pub(crate) lang: PluginLanguage,
    /// Id, <owner>/<name> [default: local/<name>]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Directory [default: the name]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The tools of the language must be installed; what is missing is named with the command that
installs it. The manifest pangolin-plugin.toml is put into the component and so is part of its digest.

Examples:
  pangolin plugin build
  pangolin plugin build my-pattern --out dist/my-pattern.wasm --check-reproducible"
)]
pub(crate) struct PluginBuild {
    /// Directory with pangolin-plugin.toml
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Where the component goes [default: <dir>/<name>.wasm]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Language, when the files do not tell
    #[arg(long, value_enum)]
    pub(crate) lang: Option<PluginLanguage>,
    /// Build a copy in another directory too and compare the bytes; for rust and c
    #[arg(long)]
    pub(crate) check_reproducible: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Checks the compiled component, so it is the same for every language. Fixtures are recorded cases; without
--fixture every fixtures/*.json beside the component is used. docs/plugins/testing.md explains the checks.

Exit codes: 0 nothing failed, 1 a check failed or the component cannot be read, 2 usage, e.g. a fixture that cannot be used.

Examples:
  pangolin plugin test
  pangolin plugin test my-pattern --json
  pangolin plugin test my-pattern.wasm --fixture fixtures/red.json --update"
)]
pub(crate) struct PluginTest {
    /// Component, or directory of a plugin that was built
    #[arg(default_value = ".")]
    pub(crate) plugin: PathBuf,
    /// Fixture; several may be named [default: fixtures/*.json beside the component]
    #[arg(long, value_name = "FILE")]
    pub(crate) fixture: Vec<PathBuf>,
    /// Write what the plugin answers into the fixtures as what they expect
    #[arg(long)]
    pub(crate) update: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 as the fixture expects, 1 not so, 2 usage.

Example:
  pangolin plugin run my-pattern.wasm --fixture fixtures/follow-up.json --explain")]
pub(crate) struct PluginRun {
    /// Component, or directory of a plugin that was built
    pub(crate) plugin: PathBuf,
    /// Fixture
    #[arg(long, value_name = "FILE")]
    pub(crate) fixture: PathBuf,
    /// Also show fuel, memory, host calls and bytes against their limits
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pangolin plugin inspect my-pattern.wasm
  pangolin plugin inspect secret-scan
  pangolin plugin inspect acme/suite")]
pub(crate) struct PluginInspect {
    /// Component, directory of a plugin that was built, or the id of a built-in or installed plugin
    #[arg(default_value = ".")]
    pub(crate) plugin: PathBuf,
    /// It is an id, whatever lies here under that name
    #[arg(long)]
    pub(crate) id: bool,
}
