//! `pangolin init`.

use pangolin_runtime::deployment::{self, InitOptions};
use serde_json::json;

use crate::{args::Init, context::Context, error::CliResult, exit::Exit};

pub(super) async fn run(context: &Context, args: Init) -> CliResult {
    let printer = &context.printer;
    let options = InitOptions { namespace: args.namespace, force: args.force };
    let report = deployment::init(&args.dir, options).await?;
    if printer.is_json() {
        printer.json(&json!({ "files": report.files, "vkey": report.vkey }))?;
        return Ok(Exit::Ok);
    }
    for file in &report.files {
        printer.line(file.display())?;
    }
    printer.note(format_args!("public key: {}", report.vkey));
    printer.note(
        "give it to whoever verifies bundles of this deployment: pangolin verify bundle.json --key <key>",
    );
    printer.hint("pangolin doctor checks this machine, pangolin orch serve starts the daemon");
    Ok(Exit::Ok)
}
