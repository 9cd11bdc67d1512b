//! `pangolin deploy destroy`.

use pangolin_deploy::DestroyOptions;
use serde_json::json;

use super::{ask::ask, deployer, interruptible, news};
use crate::{
    args::deploy::Destroy,
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    printer::one_line,
};

pub(super) async fn run(context: &Context, args: &Destroy) -> CliResult {
    let printer = &context.printer;
    let (deployer, place) = deployer(context, &args.place).await?;
    let now = deployer.status().await?;
    let options = DestroyOptions { anchor: args.anchor };
    let watch = news(printer, &now.stack);
    if !options.anchor {
        printer.note(format_args!(
            "{place}: functions, schedule, queues, alarms, roles, cluster and network go; ledger, data, anchor and \
             signing key stay"
        ));
        agreed(context, args, &now.stack)?;
    }
    let destroyed = interruptible(&now.stack, deployer.destroy(options, &watch)).await.map_err(|error| {
        // A refusal is worth more when it says where what stays is.
        match now.outputs.get("AnchorBucket").filter(|_| options.anchor) {
            Some(bucket) => {
                error.hint(format!("it stays at s3://{bucket}; destroy without --anchor removes what runs"))
            }
            None => error,
        }
    })?;
    if printer.is_json() {
        printer.json(&json!({
            "stack": now.stack, "region": deployer.region(), "endpoint": deployer.endpoint(), "kept": destroyed.kept,
        }))?;
    } else {
        printer.line(format_args!("removed {place}; what stays:"))?;
        for line in &destroyed.kept {
            printer.line(format_args!("  {}", one_line(line)))?;
        }
    }
    Ok(Exit::Ok)
}

fn agreed(context: &Context, args: &Destroy, stack: &str) -> CliResult<()> {
    let named = match &args.yes_destroy {
        Some(name) => name.clone(),
        None => {
            let hint = format!("--yes-destroy {stack} destroys without a question");
            ask(&context.printer, "Type the name of the stack to destroy it:", &hint)?
        }
    };
    if named == stack {
        return Ok(());
    }
    let exit = if args.yes_destroy.is_some() { Exit::Usage } else { Exit::Failed };
    Err(CliError::new(
        exit,
        format!("nothing was destroyed: {named:?} is not the name of the stack ({stack})"),
    ))
}
