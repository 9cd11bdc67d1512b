//! Every verb, flag and help text. Types only: what they do is in `commands`.

#[cfg(feature = "aws")]
pub(crate) mod deploy;
pub(crate) mod dispatch;
pub(crate) mod orch;
pub(crate) mod patch;
pub(crate) mod plugin;
pub(crate) mod registry;

use std::{ffi::OsStr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Arg, Args, Command, Parser, Subcommand, builder::TypedValueParser, error::ErrorKind};
use pangolin_core::ids::{IdError, ItemId, RunId};

/// Runs AI coding agents and other commands in isolated workers: one reviewable patch per task and a sealed record
/// that anyone can verify offline.
#[derive(Debug, Parser)]
#[command(name = "pangolin", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  pangolin init                          write pangolin.toml and create the state directory
  pangolin orch serve &                  start the daemon
  pangolin orch submit plan.json         submit a run, prints its id
  pangolin orch watch <run>              follow it
  pangolin patch show <run>/<item>       look at what one item changed
  pangolin verify bundle.json            verify a record without config, store or network

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 cannot be verified here, 4 incomplete, 5 not found,
6 replay differs, 7 the daemon has not answered in time, 130 interrupted. stdout carries data only; everything else goes to stderr.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Configuration file [default: pangolin.toml here or in a parent directory]
    #[arg(long, global = true, value_name = "FILE", env = "PANGOLIN_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Work on the deployment in this stack in AWS: its name, or s3://<bucket>/config/deployment.json
    #[arg(long, global = true, value_name = "STACK", env = "PANGOLIN_REMOTE", hide_env_values = true)]
    pub(crate) remote: Option<String>,
    /// Sign submissions and requests with this key [pangolin sender new]
    #[arg(long, global = true, value_name = "FILE", env = "PANGOLIN_SENDER_KEY", hide_env_values = true)]
    pub(crate) sender_key: Option<PathBuf>,
    /// Print JSON with a schemaVersion instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No colour (also off without a terminal or with NO_COLOR)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Only data and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Log what happens inside to stderr; twice for more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write pangolin.toml and create the state directory with its signing key
    Init(Init),
    /// Check configuration, state, isolation and tools, and say what to do about each problem
    Doctor,
    /// Submit, follow and audit runs
    #[command(subcommand, visible_alias = "orchestrator")]
    Orch(orch::Orch),
    /// Verify a bundle offline: needs no configuration or store, and no network but for --live
    Verify(Verify),
    /// List, show and apply the patches of a run
    #[command(subcommand)]
    Patch(patch::Patch),
    /// Files that are overlaid onto a worker's workspace
    #[command(subcommand)]
    Capabilities(registry::Capabilities),
    /// Agents: adapter, prompt, capabilities, self-verify
    #[command(subcommand)]
    Subagent(registry::Subagent),
    /// Environment bundles: plain values and secret references
    #[command(subcommand)]
    Env(registry::Env),
    /// Block pipelines that a worker executes
    #[command(subcommand)]
    Pipeline(registry::Pipeline),
    /// Write, add and look at plugins: patterns, adapters and blocks
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// One worker without a plan
    #[command(subcommand)]
    Dispatch(dispatch::Dispatch),
    /// Make, change, verify and remove a stack in AWS
    #[cfg(feature = "aws")]
    #[command(subcommand)]
    Deploy(deploy::Deploy),
    /// Not in this build: it says how to get it
    #[cfg(not(feature = "aws"))]
    #[command(hide = true, disable_help_flag = true)]
    Deploy {
        /// Whatever it would have taken
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        rest: Vec<std::ffi::OsString>,
    },
    /// Keys of people and programs whose messages a deployment takes
    #[command(subcommand)]
    Sender(Sender),
    /// Print shell completions
    #[command(after_help = "Examples:
  pangolin completions bash > ~/.local/share/bash-completion/completions/pangolin")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pangolin init
  pangolin init deploy --namespace team-a")]
pub(crate) struct Init {
    /// Directory
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Namespace of the deployment, part of every dispatch id [default: name of the directory]
    #[arg(long)]
    pub(crate) namespace: Option<String>,
    /// Replace an existing pangolin.toml, which is kept otherwise; keys and ledger are always kept
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sender {
    /// Make a key, and print what the deployment's pangolin.toml needs to take its messages
    New(NewSender),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pangolin sender new alice --out ~/.pangolin-alice.key")]
pub(crate) struct NewSender {
    /// Name: the ledger then says key:<name>
    pub(crate) name: String,
    /// File of the private key, which must not exist [default: <name>.key]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pangolin verify bundle.json
  pangolin verify bundle.json --key deployment.vkey --full
  pangolin orch audit fanout-1 | pangolin verify -
  pangolin verify --replay bundle.json
  pangolin verify --live bundle.json --key deployment.vkey --anchor s3://demo-anchor

Exit codes: 0 intact, 1 not intact, 3 cannot be verified here, 4 incomplete, 6 intact but a pattern decides otherwise.")]
pub(crate) struct Verify {
    /// Bundle file, - for stdin
    pub(crate) bundle: PathBuf,
    /// Print every ledger entry
    #[arg(long)]
    pub(crate) full: bool,
    /// Trusted key: a vkey (name+hash+key) or a file with one per line; repeatable
    #[arg(long = "key", value_name = "VKEY|FILE")]
    pub(crate) keys: Vec<String>,
    /// Also look now at the anchor that the bundle names, with your own AWS credentials: only that makes a record tamper-evident
    #[arg(long)]
    pub(crate) live: bool,
    /// Where the anchor must be, known from elsewhere: s3://<bucket>[/<prefix>]; a bundle that is anchored anywhere else fails
    #[arg(long, value_name = "PLACE")]
    pub(crate) anchor: Option<String>,
    /// Also execute every recorded decision of a pattern again, with the component from the bundle
    #[arg(long)]
    pub(crate) replay: bool,
    /// A component that the bundle names but does not include; taken by its digest; repeatable
    #[arg(long = "component", value_name = "FILE", requires = "replay")]
    pub(crate) components: Vec<PathBuf>,
}

/// Who acts: `--actor`, else `PANGOLIN_ACTOR`, else `human:<os user>`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Actor {
    /// Who acts, recorded in the ledger [default: human:<os user>]
    #[arg(long, env = "PANGOLIN_ACTOR", hide_env_values = true)]
    pub(crate) actor: Option<String>,
}

/// How long a verb waits for the answer of a daemon that serves.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Wait {
    /// Seconds to wait for the answer when a daemon is serving; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 10, env = "PANGOLIN_WAIT", hide_env_values = true)]
    pub(crate) wait: u64,
}

impl Wait {
    pub(crate) const fn duration(self) -> Duration {
        Duration::from_secs(self.wait)
    }
}

/// `<run>` or `<run>/<item>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) run: RunId,
    pub(crate) item: Option<ItemId>,
}

impl FromStr for Target {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Ok(match text.split_once('/') {
            Some((run, item)) => Self { run: RunId::new(run)?, item: Some(ItemId::new(item)?) },
            None => Self { run: RunId::new(text)?, item: None },
        })
    }
}

/// `<run>/<item>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ItemTarget {
    pub(crate) run: RunId,
    pub(crate) item: ItemId,
}

impl FromStr for ItemTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let target: Target = text.parse().map_err(|error: IdError| error.to_string())?;
        let item = target.item.ok_or_else(|| format!("an item is missing, expected {text}/<item>"))?;
        Ok(Self { run: target.run, item })
    }
}

/// `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Reads a [`Pair`]. Not a `FromStr`: clap repeats the text that one of those refuses, and it may be a secret.
#[derive(Debug, Clone)]
pub(crate) struct PairParser;

impl TypedValueParser for PairParser {
    type Value = Pair;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Pair, clap::Error> {
        match value.to_str().and_then(|text| text.split_once('=')) {
            Some((name, value)) if !name.is_empty() => {
                Ok(Pair { name: name.to_owned(), value: value.to_owned() })
            }
            _ => {
                let arg = arg.map_or_else(|| "a value".to_owned(), ToString::to_string);
                let message = format!("{arg} is not of that form (the value is not shown)\n");
                Err(clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command))
            }
        }
    }
}

#[cfg(test)]
mod tests;
