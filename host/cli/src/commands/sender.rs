//! `pangolin sender new`: a key that signs messages.

use pangolin_core::ids::RunId;
use pangolin_runtime::{deployment::RuntimeError, keys::create_sender};
use serde_json::json;

use crate::{
    args::{NewSender, Sender},
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
};

pub(super) fn run(context: &Context, verb: Sender) -> CliResult {
    let Sender::New(NewSender { name, out }) = verb;
    let printer = &context.printer;
    if let Err(error) = RunId::new(name.as_str()) {
        return Err(CliError::new(Exit::Usage, format!("the name of a sender: {error}")));
    }
    let out = out.unwrap_or_else(|| format!("{name}.key").into());
    let key = create_sender(&out, &name).map_err(RuntimeError::from)?.verifier_key().to_string();
    if printer.is_json() {
        printer.json(&json!({ "file": out, "name": name, "vkey": key }))?;
        return Ok(Exit::Ok);
    }
    printer.line(format_args!("[senders]\n{name} = \"{key}\""))?;
    printer.note(format_args!("the lines above belong into the pangolin.toml of the deployment"));
    printer.note(format_args!("{} is private: whoever has it is {name}", out.display()));
    printer.hint(format_args!("export PANGOLIN_SENDER_KEY={}", out.display()));
    Ok(Exit::Ok)
}
