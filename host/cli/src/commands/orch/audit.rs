//! `pangolin orch audit`.

use std::path::Path;

use pangolin_audit::verify::{Trust, verify_bundle, verify_bundle_live};
use pangolin_core::ids::RunId;

use crate::{commands::verify, context::Context, error::CliResult, exit::Exit, files};

pub(super) async fn run(context: &Context, run: &RunId, out: Option<&Path>) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    let bundle = printer.progress("assembling the bundle", deployment.bundle(run)).await?;
    // The deployment's own key, not the one that the bundle brings along.
    let trust = Trust::parse(&deployment.vkey())?;
    // Where an anchor holds checkpoints, it is asked now: only that makes the claim tamper-evident.
    let report = match deployment.seen_outside(&bundle).await? {
        Some(seen) => verify_bundle_live(&bundle, &trust, &seen),
        None => verify_bundle(&bundle, &trust),
    };
    let exit = verify::exit(&report);
    match out {
        Some(path) => {
            files::write(path, &bundle)?;
            if printer.is_json() {
                printer.json(&report)?;
            } else {
                printer.line(verify::text(&report, printer.colour(), false))?;
            }
            printer.note(format_args!("bundle: {}", path.display()));
        }
        None => {
            printer.raw(&bundle)?;
            printer.note(verify::text(&report, printer.stderr_colour(), false));
        }
    }
    if exit == Exit::Incomplete {
        printer.hint(format_args!("pangolin orch status {run} says what is still open"));
    }
    Ok(exit)
}
