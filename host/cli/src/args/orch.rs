//! `pangolin orch …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pangolin_core::ids::RunId;

use super::{Actor, ItemTarget, Target, Wait};

#[derive(Debug, Subcommand)]
pub(crate) enum Orch {
    /// Run the daemon until Ctrl-C or SIGTERM
    #[command(after_help = "Workers that still run when the daemon ends are adopted by the next one.

Examples:
  pangolin orch serve &
  kill %1")]
    Serve,
    /// Check a plan against this deployment without submitting it
    #[command(after_help = "Examples:
  pangolin orch validate plan.json
  pangolin orch validate plan.json --json | jq '.findings[].pointer'

Exit codes: 0 valid, 1 invalid.")]
    Validate {
        /// Plan file, - for stdin
        plan: PathBuf,
        /// Queue instead of the plan's own
        #[arg(long)]
        queue: Option<String>,
    },
    /// Draw the graph of a plan, with what its pattern may add
    #[command(
        after_help = "Nothing is stored or submitted. Possible items are those that the queue's pattern may add while the run
goes on, for example fix rounds. Item outcomes decide which of them come.

Formats: text (default), svg, mermaid, dot; --json prints nodes and edges.

Examples:
  pangolin orch render plan.json
  pangolin orch render plan.json --format svg --out plan.svg
  pangolin orch render plan.json --queue ci --format mermaid"
    )]
    Render(Render),
    /// Submit a plan; prints the run id on stdout and the admission receipt on stderr
    #[command(
        after_help = "Does not wait for the run. The receipt proves that the run is in the deployment log; without a
daemon the plan is queued and admitted when one starts.

Exit codes: 0 admitted, or queued because no daemon serves or --wait is 0; 1 refused; 7 the daemon has
not answered in time: the id is printed, the run may still be refused.

Examples:
  pangolin orch submit plan.json
  run=$(pangolin orch submit plan.json --queue batch --actor app:nightly)
  generate-plan | pangolin orch submit - --json"
    )]
    Submit(Submit),
    /// List runs, newest first
    Runs {
        /// Only runs that have not ended
        #[arg(long)]
        active: bool,
    },
    /// Say where every item is and why
    #[command(after_help = "Examples:
  pangolin orch status              all active runs
  pangolin orch status fanout-1")]
    Status {
        /// The run [default: all active runs]
        run: Option<RunId>,
        /// ASCII instead of symbols
        #[arg(long)]
        ascii: bool,
    },
    /// Follow a run until it ends
    #[command(
        after_help = "On a terminal a live view. Piped or with --json one JSON object per line and change:
  {\"schemaVersion\":1,\"kind\":\"item\",\"run\":…,\"item\":{…}}  an item changed (all items first)
  {\"schemaVersion\":1,\"kind\":\"run\",\"run\":…,\"state\":…}   the run changed; the last line has \"terminal\":true

Exit codes: 0 when the run ended, however it ended; with --exit-code 1 when it is not done. 130 on Ctrl-C, which
stops watching and leaves the run alone.

Examples:
  pangolin orch watch fanout-1
  pangolin orch watch fanout-1 --exit-code && pangolin patch apply fanout-1
  pangolin orch watch fanout-1 | jq -r 'select(.kind==\"item\") | .item.id + \" \" + .item.status'"
    )]
    Watch(Watch),
    /// Cancel a run or one item; running workers are stopped
    #[command(after_help = "Examples:
  pangolin orch cancel fanout-1
  pangolin orch cancel fanout-1/edit-beta

Exit codes: 0 taken (or waiting for a daemon), 1 refused, 7 the daemon has not answered in time.")]
    Cancel {
        /// <run> or <run>/<item>
        target: Target,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        wait: Wait,
    },
    /// Add items to an open-ended run
    #[command(
        after_help = "The file holds a JSON array of items, each as in a plan. They may depend on each other and on items of
the run. Adding the same items again changes nothing.

Examples:
  pangolin orch extend feed-1 items.json
  next-batch | pangolin orch extend feed-1 - --actor app:feed

Exit codes: 0 added (or waiting for a daemon), 1 refused, 7 the daemon has not answered in time."
    )]
    Extend {
        /// The run
        run: RunId,
        /// File with the items, - for stdin
        items: PathBuf,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        wait: Wait,
    },
    /// Say that no more items come: an open-ended run then ends with its last item
    #[command(after_help = "Closing a closed run changes nothing. A pattern may still add items after this.

Examples:
  pangolin orch close feed-1

Exit codes: 0 closed (or waiting for a daemon), 1 refused, 7 the daemon has not answered in time.")]
    Close {
        /// The run
        run: RunId,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        wait: Wait,
    },
    /// Assemble and verify the audit bundle of a run
    #[command(
        after_help = "Without --out the bundle goes to stdout and the report to stderr; with --out the report goes to
stdout (as JSON with --json).

Exit codes: 0 intact, 1 not intact, 3 cannot be verified here, 4 the run has not ended or an object is missing.

Examples:
  pangolin orch audit fanout-1 --out bundle.json
  pangolin orch audit fanout-1 | pangolin verify -"
    )]
    Audit {
        /// The run
        run: RunId,
        /// File for the bundle
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print what the agent of an item wrote
    #[command(after_help = "Examples:
  pangolin orch logs fanout-1/edit-alpha
  pangolin orch logs fanout-1/edit-alpha --attempt 1 --stderr
  pangolin orch logs fanout-1/edit-alpha --events | jq .")]
    Logs(Logs),
}

#[derive(Debug, Args)]
pub(crate) struct Render {
    /// Plan file, - for stdin
    pub(crate) plan: PathBuf,
    /// Queue instead of the plan's own
    #[arg(long)]
    pub(crate) queue: Option<String>,
    /// How to draw
    #[arg(long, value_enum, default_value_t = RenderFormat::Text)]
    pub(crate) format: RenderFormat,
    /// File instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// ASCII instead of symbols
    #[arg(long)]
    pub(crate) ascii: bool,
}

/// How `orch render` draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RenderFormat {
    /// A table by level
    Text,
    /// A drawing
    Svg,
    /// Mermaid flowchart
    Mermaid,
    /// Graphviz
    Dot,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// Plan file, - for stdin
    pub(crate) plan: PathBuf,
    /// Queue instead of the plan's own
    #[arg(long)]
    pub(crate) queue: Option<String>,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The run
    pub(crate) run: RunId,
    /// Exit with 1 when the run ends failed or cancelled
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// ASCII instead of symbols
    #[arg(long)]
    pub(crate) ascii: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// <run>/<item>
    pub(crate) target: ItemTarget,
    /// Attempt [default: the last one that ended]
    #[arg(long)]
    pub(crate) attempt: Option<u32>,
    /// What the agent wrote to stderr
    #[arg(long, conflicts_with = "events")]
    pub(crate) stderr: bool,
    /// The worker's lifecycle events as JSON lines
    #[arg(long)]
    pub(crate) events: bool,
}
