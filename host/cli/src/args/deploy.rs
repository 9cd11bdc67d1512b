//! `pangolin deploy …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
#[command(
    after_help = "What the stack is like is section [deploy] of pangolin.toml, or --set. Region and credentials come from the
flags or from the usual places of AWS (AWS_REGION, AWS_PROFILE, ~/.aws); AWS_ENDPOINT_URL or --endpoint-url
leads to an emulator.

Examples:
  pangolin deploy plan                   show what would change; changes nothing
  pangolin deploy apply                  show it, ask, do it
  pangolin deploy verify                 read everything back, attack a locked object
  pangolin orch submit plan.json --remote pangolin"
)]
pub(crate) enum Deploy {
    /// Show what apply would add, change, replace and remove; changes nothing
    #[command(
        after_help = "Exit codes: 0 shown, 1 it would leave data behind and would be refused, 2 settings or packages."
    )]
    Plan(Plan),
    /// Make or change the stack, upload the code of the functions and the project
    #[command(
        after_help = "Shows the plan first and asks; --yes is for scripts. The project (pangolin.toml, pangolin.lock, plugins and
their native code) is packed and put below config/ of the data bucket, also when the stack itself does not
change. It may be repeated after a failure.

Examples:
  cargo xtask package && pangolin deploy apply --packages target/packages
  pangolin deploy apply --yes --set tick_concurrency=0

Exit codes: 0 done, 1 failed or not wanted, 2 settings, packages or nobody to ask, 7 still changing."
    )]
    Apply(Apply),
    /// Read everything back, compare it with what it must be, and attack a locked object
    #[command(
        after_help = "Writes one object with a lock of one day below canary/ in the anchor bucket and tries to overwrite, delete,
unlock and downgrade it. Every attempt must be refused. What cannot be read counts as not fine.

Exit codes: 0 every check holds, 1 one does not, 5 no such stack."
    )]
    Verify(Verify),
    /// Show the stack, when it was last looked at, what waits and which alarms are on
    #[command(after_help = "Exit codes: 0 shown, whatever it shows, 5 no such stack.")]
    Status(Place),
    /// Remove what runs; ledger, data, anchor and signing key stay
    #[command(after_help = "Examples:
  pangolin deploy destroy                          asks for the name of the stack
  pangolin deploy destroy --yes-destroy pangolin

Exit codes: 0 removed, 1 failed, refused or not wanted, 2 nobody to ask or another name, 5 no such stack.")]
    Destroy(Destroy),
    /// Print the CloudFormation template, the same with and without --json
    Export,
    /// Say what items cost, and a month in which nothing runs
    #[command(
        after_help = "Counts are from runs against emulators, prices from one table with its date: docs/aws-cost.md. Models and
traffic to the internet are not in it.

Examples:
  pangolin deploy cost --items 5000 --minutes 12 --vcpu 2 --memory-gb 4"
    )]
    Cost(Cost),
}

/// Which stack, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Name of the stack [default: stack in section [deploy], else pangolin]
    #[arg(long, value_name = "NAME")]
    pub(crate) stack: Option<String>,
    /// Region [default: AWS_REGION or that of the profile]
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// Profile of the AWS configuration files [default: AWS_PROFILE]
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// Where every service is, for emulators [default: AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
}

/// Processor of the functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "arm64")]
    Arm64,
    #[value(name = "x86_64")]
    X86_64,
}

/// What the stack is to be.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Processor of the functions [default: architecture in section [deploy], else that of this machine]
    #[arg(long)]
    pub(crate) arch: Option<Arch>,
    /// One key of section [deploy], as in TOML; wins over the file; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Directory with <function>-<arch>.zip, as cargo xtask package makes them [default: packages beside this program]
    #[arg(long, value_name = "DIR")]
    pub(crate) packages: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Directory with the archives that the functions must have [default: packages beside this program, if there]
    #[arg(long, value_name = "DIR")]
    pub(crate) packages: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Destroy {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Do not ask; the name of the stack, once more
    #[arg(long, value_name = "STACK")]
    pub(crate) yes_destroy: Option<String>,
    /// Also the anchor bucket: always refused, with the reason
    #[arg(long)]
    pub(crate) anchor: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cost {
    /// Items in a month
    #[arg(long, default_value_t = 1_000)]
    pub(crate) items: u64,
    /// Minutes that the worker of one item runs, with fetching the image
    #[arg(long, default_value_t = 5.0)]
    pub(crate) minutes: f64,
    /// Runs that the items are in [default: one for every hundred items]
    #[arg(long)]
    pub(crate) runs: Option<u64>,
    /// Processors of a worker
    #[arg(long, default_value_t = 1.0)]
    pub(crate) vcpu: f64,
    /// Memory of a worker, GB
    #[arg(long, default_value_t = 2.0)]
    pub(crate) memory_gb: f64,
    /// Processor of functions and workers
    #[arg(long, value_enum, default_value = "arm64")]
    pub(crate) arch: Arch,
    /// Workers have no public address
    #[arg(long)]
    pub(crate) private: bool,
}
