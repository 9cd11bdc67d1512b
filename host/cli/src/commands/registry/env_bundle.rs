//! Env bundles: values and secret references.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, IsTerminal as _},
    path::Path,
};

use pangolin_runtime::{
    registry::EnvDoc,
    secrets::{self, SecretRef},
};

use crate::{
    args::Pair,
    context::Context,
    error::{CliError, CliResult},
    exit::Exit,
    printer::Printer,
};

const INLINE: &str = "inline:";

pub(super) async fn register(
    context: &Context,
    name: &str,
    values: Vec<Pair>,
    secrets: Vec<Pair>,
) -> CliResult {
    if values.is_empty() && secrets.is_empty() {
        return Err(CliError::new(Exit::Usage, "an env bundle needs at least one --value or --secret"));
    }
    let deployment = context.deployment().await?;
    let (values, secrets) = (collect(values, "--value")?, collect(secrets, "--secret")?);
    // Before anything is stored.
    for (variable, reference) in &secrets {
        check(variable, reference)?;
    }
    let mut doc = EnvDoc { name: name.to_owned(), values, secrets: BTreeMap::new() };
    for (variable, reference) in secrets {
        let reference = match reference.strip_prefix(INLINE) {
            Some(value) => store(&context.printer, &deployment.secret_dir(), name, &variable, value)?,
            None => reference,
        };
        doc.secrets.insert(variable, reference);
    }
    let registration = deployment.registry().register_env(&doc, deployment.now()).await?;
    super::registered(context, &registration, &[])
}

/// The registry checks again; its message repeats the text, which here may be the secret itself.
fn check(variable: &str, reference: &str) -> CliResult<()> {
    // A bare value in base64 ends with "=", and then it is the part that looks like a name.
    if !secrets::is_variable_name(variable) || reference.chars().all(|c| c == '=') {
        return Err(CliError::new(
            Exit::Usage,
            "--secret: expected NAME=REFERENCE with a variable name and a reference (what was given is not shown)",
        )
        .hint("to store a value as a local secret: --secret NAME=inline:- asks for it"));
    }
    if reference.starts_with(INLINE) || SecretRef::parse(reference).is_ok() {
        return Ok(());
    }
    Err(CliError::new(
        Exit::Usage,
        format!(
            "--secret {variable}: the value (not shown) is not a secret reference; expected env://NAME, \
             file:///absolute/path or local-secret://name"
        ),
    )
    .hint(format!("to store a value as a local secret: --secret {variable}=inline:- asks for it")))
}

fn collect(pairs: Vec<Pair>, flag: &str) -> CliResult<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for Pair { name, value } in pairs {
        if found.insert(name.clone(), value).is_some() {
            return Err(CliError::new(Exit::Usage, format!("{flag} {name} is given twice")));
        }
    }
    Ok(found)
}

/// Puts an inline value into the local secret store and answers its reference.
fn store(printer: &Printer, dir: &Path, bundle: &str, variable: &str, value: &str) -> CliResult<String> {
    if !secrets::is_variable_name(variable) {
        return Err(CliError::new(Exit::Usage, format!("{variable:?} is not a variable name")));
    }
    let value = if value == "-" {
        ask(printer, variable)?
    } else {
        printer.warn("a secret on the command line can be seen by other processes and in the shell's history; use inline:-");
        value.to_owned()
    };
    if value.is_empty() {
        return Err(CliError::new(Exit::Usage, format!("the value of {variable} is empty")));
    }
    Ok(secrets::store_local(dir, &format!("{bundle}.{variable}"), &value)?)
}

/// One line from stdin, not shown while it is typed.
fn ask(printer: &Printer, variable: &str) -> CliResult<String> {
    let stdin = io::stdin();
    let _hidden = stdin.is_terminal().then(|| {
        printer.labelled(crate::printer::Role::Bold, variable, "");
        crate::watch::terminal::Quiet::start(false)
    });
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
