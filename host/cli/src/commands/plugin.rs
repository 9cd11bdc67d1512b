//! `pangolin plugin …`.

mod add;
mod build;
mod inspect;
mod list;
mod new;
mod outdated;
mod rebuild;
mod remove;
mod run;
mod subject;
mod test;
mod why_denied;

use pangolin_runtime::plugins::PluginsError;

use crate::{args::plugin::Plugin, context::Context, error::CliResult};

pub(super) async fn run(context: &Context, verb: Plugin) -> CliResult {
    match verb {
        Plugin::New(args) => new::run(context, args),
        Plugin::Build(args) => build::run(context, args).await,
        Plugin::Test(args) => test::run(context, args).await,
        Plugin::Run(args) => run::run(context, args).await,
        Plugin::Inspect(args) => inspect::run(context, args),
        Plugin::Add(args) => add::run(context, args).await,
        Plugin::List => list::run(context).await,
        Plugin::Outdated => outdated::run(context).await,
        Plugin::WhyDenied { target } => why_denied::run(context, target).await,
        Plugin::Rebuild { ids } => rebuild::run(context, ids).await,
        Plugin::Remove { id } => remove::run(context, &id),
    }
}

/// Fetching, reading and compiling block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PluginsError> + Send + 'static,
) -> CliResult<T> {
    Ok(tokio::task::spawn_blocking(work).await??)
}
