//! `pangolin deploy plan` and `apply`.

use pangolin_deploy::{DeployError, Deployer, Packages, Plan as Changes, Project, Settings};
use pangolin_runtime::{
    aws::{Compiler, pack, processor, release},
    config::Config,
};
use serde_json::{Value, json};

use super::{ask::ask, interruptible, news, open, packages, project, settings, whereabouts};
use crate::{
    args::deploy::{Apply, Plan, Wanted},
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    format,
    printer::{Role, one_line, paint},
};

/// What both verbs need.
struct Prepared {
    deployer: Deployer,
    settings: Settings,
    packages: Packages,
    place: String,
}

pub(super) async fn plan(context: &Context, args: &Plan) -> CliResult {
    let printer = &context.printer;
    let config = project(context)?;
    let prepared = prepare(&args.wanted, config.as_ref()).await?;
    let project = match &config {
        Some(config) => Some(packed(context, config, &prepared.settings).await?),
        None => None,
    };
    let changes = propose(context, &prepared, project.as_ref()).await?;
    // It was made to be read; one that is never executed would stay.
    prepared.deployer.drop_plan(&changes).await?;
    if printer.is_json() {
        printer.json(&document(&prepared, &changes))?;
    } else {
        if project.is_none() {
            printer.note("no pangolin.toml here: the project in force stays, in this plan");
        }
        for line in lines(&prepared, &changes, printer.colour()) {
            printer.line(line)?;
        }
    }
    let at_risk = changes.endangered();
    if at_risk.is_empty() { Ok(Exit::Ok) } else { Err(DeployError::DataAtRisk(at_risk).into()) }
}

pub(super) async fn apply(context: &Context, args: &Apply) -> CliResult {
    let printer = &context.printer;
    let config = match project(context)? {
        Some(config) => config,
        // The error that says where it was looked for.
        None => context.config()?,
    };
    let prepared = prepare(&args.wanted, Some(&config)).await?;
    let project = packed(context, &config, &prepared.settings).await?;
    let changes = propose(context, &prepared, Some(&project)).await?;
    for line in lines(&prepared, &changes, printer.stderr_colour()) {
        printer.note(line);
    }
    printer.note(format_args!(
        "{} ({}) and code are uploaded when they are not there yet",
        project.key(),
        format::bytes(project.size())
    ));
    if let Err(refusal) = agreed(context, args, &prepared, &changes) {
        prepared.deployer.drop_plan(&changes).await?;
        return Err(refusal);
    }
    let Prepared { deployer, settings, packages, .. } = &prepared;
    let watch = news(printer, &settings.stack);
    let work = deployer.apply(&changes, settings, packages, &project, &watch);
    let applied = interruptible(&settings.stack, work).await?;
    if printer.is_json() {
        let mut shown = document(&prepared, &changes);
        shown["applied"] = serde_json::to_value(&applied)?;
        printer.json(&shown)?;
    } else {
        let deployment = &applied.deployment;
        printer.line(format_args!("applied {}", prepared.place))?;
        printer.line(format_args!("  verifier key   {}", deployment.verifier_key))?;
        printer.line(format_args!("  data           s3://{}", deployment.data_bucket))?;
        printer.line(format_args!("  project        {}", deployment.project))?;
        printer.line(format_args!(
            "  anchor         s3://{}, locked for {} days",
            deployment.anchor.bucket, deployment.anchor.retention_days
        ))?;
        let compared = args
            .wanted
            .packages
            .as_ref()
            .map_or_else(String::new, |dir| format!(" --packages {}", dir.display()));
        printer.hint(format_args!(
            "`pangolin deploy verify --stack {0}{compared}`, then `pangolin orch submit plan.json --remote {0}`",
            settings.stack
        ));
    }
    Ok(Exit::Ok)
}

/// Everything that needs no AWS is checked first, and all of it is told.
async fn prepare(wanted: &Wanted, project: Option<&Config>) -> CliResult<Prepared> {
    let settings = settings::settings(wanted, project)?;
    let packages = packages(wanted.packages.as_deref(), settings.architecture)?;
    let aws = open(&wanted.place).await?;
    let deployer = Deployer::new(&aws, &settings.stack)?;
    let place = whereabouts(&deployer);
    Ok(Prepared { deployer, settings, packages, place })
}

/// The project with everything compiled for the functions, which have no compiler.
async fn packed(context: &Context, config: &Config, settings: &Settings) -> CliResult<Project> {
    let (config, processor) = (config.clone(), processor(settings.architecture));
    let packing = tokio::task::spawn_blocking(move || pack(&config, Compiler::default(), processor));
    Ok(Project::new(context.printer.progress("packing the project", packing).await??))
}

async fn propose(context: &Context, prepared: &Prepared, project: Option<&Project>) -> CliResult<Changes> {
    let work = prepared.deployer.plan(&prepared.settings, &prepared.packages, project);
    Ok(context.printer.progress("computing changes", work).await?)
}

fn agreed(context: &Context, args: &Apply, prepared: &Prepared, changes: &Changes) -> CliResult<()> {
    let at_risk = changes.endangered();
    if !at_risk.is_empty() {
        return Err(DeployError::DataAtRisk(at_risk).into());
    }
    if args.yes {
        return Ok(());
    }
    let question = format!("Apply this to {}? Type yes:", prepared.place);
    let answer = ask(&context.printer, &question, "--yes applies what is shown, without a question")?;
    if matches!(answer.as_str(), "yes" | "y") {
        return Ok(());
    }
    Err(CliError::new(Exit::Failed, "not wanted; nothing was changed"))
}

fn document(prepared: &Prepared, changes: &Changes) -> Value {
    json!({
        "stack": prepared.settings.stack,
        "region": prepared.deployer.region(),
        "endpoint": prepared.deployer.endpoint(),
        "release": release(processor(prepared.settings.architecture)),
        "project": changes.project,
        "creates": changes.creates,
        "changes": changes.changes,
        "dataAtRisk": changes.endangered(),
    })
}

/// The changes as a diff, with where first.
fn lines(prepared: &Prepared, changes: &Changes, colour: bool) -> Vec<String> {
    let mut lines = vec![paint(Role::Bold, &prepared.place, colour).into_owned()];
    // The packages were compared with it before.
    let release = release(processor(prepared.settings.architecture));
    lines.push(format!("release {release}"));
    lines.push(format!("project {}", changes.project));
    lines.extend(changes.to_string().lines().map(|line| {
        let role = match line.trim_start().chars().next() {
            Some('+') => Role::Good,
            Some('~') => Role::Warn,
            Some('-' | '!') => Role::Error,
            _ => Role::Plain,
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        format!("{indent}{}", paint(role, &one_line(line), colour))
    }));
    lines
}
