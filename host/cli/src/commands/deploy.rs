//! `pangolin deploy …`: a stack in AWS, from nothing to nothing.

mod ask;
mod change;
mod cost;
mod destroy;
mod look;
mod settings;

use std::path::{Path, PathBuf};

use pangolin_aws::{Aws, AwsConfig};
use pangolin_deploy::{Architecture, DeployError, Deployer, Packages, Progress, template};
use pangolin_runtime::{
    aws::{processor, release},
    config::Config,
};

use crate::{
    args::deploy::{Deploy, Place},
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    printer::{Printer, one_line},
};

pub(super) async fn run(context: &Context, verb: Deploy) -> CliResult {
    match verb {
        Deploy::Plan(args) => change::plan(context, &args).await,
        Deploy::Apply(args) => change::apply(context, &args).await,
        Deploy::Verify(args) => look::verify(context, &args).await,
        Deploy::Status(place) => look::status(context, &place).await,
        Deploy::Destroy(args) => destroy::run(context, &args).await,
        Deploy::Export => {
            context.printer.raw(template::export().as_bytes())?;
            Ok(Exit::Ok)
        }
        Deploy::Cost(args) => cost::run(context, &args),
    }
}

/// Clients for the account and region that are meant.
async fn open(place: &Place) -> CliResult<Aws> {
    let config = AwsConfig {
        region: place.region.clone(),
        profile: place.profile.clone(),
        endpoint_url: place.endpoint_url.clone(),
        ..AwsConfig::default()
    };
    Ok(Aws::open(config).await?)
}

/// The configuration of this project; none is fine for looking at a stack.
fn project(context: &Context) -> CliResult<Option<Config>> {
    if context.is_remote() {
        let error = CliError::new(Exit::Usage, "deploy works on the stack that --stack names");
        return Err(error.hint("leave --remote (PANGOLIN_REMOTE) away"));
    }
    context.config_if_any()
}

/// What works on the stack that is named: by the flag, by the project, or by default.
async fn deployer(context: &Context, place: &Place) -> CliResult<(Deployer, String)> {
    let stack = settings::stack(place, project(context)?.as_ref())?;
    let aws = open(place).await?;
    let deployer = Deployer::new(&aws, &stack)?;
    let place = whereabouts(&deployer);
    Ok((deployer, place))
}

/// The stack and where it is. An emulator is never to be taken for AWS, nor the other way round.
fn whereabouts(deployer: &Deployer) -> String {
    let (stack, region) = (deployer.stack(), deployer.region());
    match deployer.endpoint() {
        Some(url) => format!("stack {stack} in {region} at {}", one_line(&url)),
        None => format!("stack {stack} in {region}"),
    }
}

/// Where the code of the functions is: what was named, else beside this program.
fn packages_dir(named: Option<&Path>) -> CliResult<PathBuf> {
    if let Some(dir) = named {
        return Ok(dir.to_owned());
    }
    let program = std::env::current_exe()?;
    Ok(program.parent().unwrap_or(Path::new("/")).join("packages"))
}

/// The code of the functions, complete and of the release of this program.
fn packages(named: Option<&Path>, architecture: Architecture) -> Result<Packages, CliError> {
    let dir = packages_dir(named)?;
    Packages::read(&dir, architecture, &release(processor(architecture))).map_err(|error| {
        let missing = matches!(error, DeployError::Packages { .. });
        let error = CliError::from(error);
        if !missing {
            return error;
        }
        let arch = architecture.as_str();
        error.hint(format!(
            "`cargo xtask package --arch {arch}` of the same checkout makes them in target/packages, release archives \
             have them beside the program; --packages names the directory"
        ))
    })
}

/// News of what is done, on stderr. A resource is news when it is done or has failed: there are fifty of them.
fn news(printer: &Printer, stack: &str) -> impl Fn(Progress) + Send + Sync + use<> {
    let (printer, stack) = (printer.clone(), stack.to_owned());
    move |progress: Progress| {
        if let Progress::Resource { id, status, .. } = &progress
            && *id != stack
            && status.ends_with("_IN_PROGRESS")
        {
            return;
        }
        let text = progress.to_string();
        let indent = if text.starts_with(' ') { "  " } else { "" };
        printer.note(format_args!("{indent}{}", one_line(&text)));
    }
}

/// Work that goes on in AWS when somebody presses Ctrl-C here.
async fn interruptible<T>(stack: &str, work: impl Future<Output = Result<T, DeployError>>) -> CliResult<T> {
    tokio::select! {
        done = work => Ok(done?),
        signal = tokio::signal::ctrl_c() => {
            signal?;
            let error = CliError::new(Exit::Interrupted, format!("interrupted; what AWS was told to do with stack {stack} goes on"));
            Err(error.hint("`pangolin deploy status` shows it; the same verb again goes on where it is"))
        }
    }
}
