//! `pangolin plugin add`.

use std::io::{self, BufRead as _, IsTerminal as _};

use pangolin_plugin_authority::LockedPlugin;
use pangolin_runtime::plugins::{AddRequest, Proposal, propose};
use serde_json::{Value, json};

use super::blocking;
use crate::{
    args::{Actor, plugin::PluginAdd},
    context::{Context, actor},
    error::{CliError, CliResult},
    exit::Exit,
    format,
    printer::{Role, one_line, paint},
};

pub(super) async fn run(context: &Context, args: PluginAdd) -> CliResult {
    let printer = &context.printer;
    let config = context.config()?;
    let request = AddRequest {
        source: args.source.clone(),
        base: std::env::current_dir()?,
        sha256: args.sha256,
        signature: args.signature,
        grant_asked: args.grant_asked,
    };
    let looked = {
        let config = config.clone();
        blocking(move || propose(&config, &request))
    };
    let proposal = printer.progress("fetching", looked).await?;
    if proposal.is_known() {
        if printer.is_json() {
            printer.json(&document(&proposal, "unchanged"))?;
        } else {
            let id = &proposal.manifest.id;
            printer.line(format_args!("{id} {} is approved already", proposal.manifest.version))?;
        }
        return Ok(Exit::Ok);
    }
    if !printer.is_json() {
        for line in describe(&proposal, printer.stderr_colour()) {
            printer.note(line);
        }
        // Refused for a project that has a grant for it already, so not offered there.
        let cut_by_project = proposal.effective.cuts.iter().any(|cut| cut.by.as_str() == "project");
        if cut_by_project && !config.plugins.contains_key(proposal.manifest.id.as_str()) {
            printer.hint("--grant-asked writes what it asks for into pangolin.toml");
        }
    }
    if !args.yes {
        let json = printer.is_json();
        if json {
            printer.json(&document(&proposal, "proposed"))?;
        }
        if json || !can_ask(context) {
            return Err(CliError::new(Exit::Usage, "nothing was approved and nothing was installed")
                .hint("--yes approves what is shown, without a question"));
        }
        printer.note("Approve? Type yes:");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "yes" | "y") {
            return Err(CliError::new(Exit::Failed, "not approved; nothing was installed"));
        }
    }
    let approver = actor(&Actor { actor: args.approver });
    let shown = document(&proposal, "approved");
    let locked = blocking(move || proposal.approve(&config, &approver, format::now_ms())).await?;
    if printer.is_json() {
        printer.json(&with_lock(shown, &locked))?;
    } else {
        printer.line(format_args!("added {} {}  {}", locked.id, locked.version, locked.sha256))?;
        printer.hint("commit pangolin.lock; it says what was approved");
    }
    Ok(Exit::Ok)
}

/// Somebody can be asked and sees what the question is about.
fn can_ask(context: &Context) -> bool {
    !context.printer.is_quiet() && io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn describe(proposal: &Proposal, colour: bool) -> Vec<String> {
    let manifest = &proposal.manifest;
    let found = &proposal.inspection;
    let mut lines = vec![
        format!(
            "{} {}  {}, contract {} {}",
            paint(Role::Bold, manifest.id.as_str(), colour),
            manifest.version,
            found.world.unwrap_or(manifest.kind.as_str()),
            manifest.kind.package(),
            manifest.contract
        ),
        format!("  from    {}", one_line(&proposal.source)),
        format!("  digest  {}, {}", found.digest, format::bytes(found.size as u64)),
        format!(
            "  signed  {}",
            proposal.signer.as_deref().unwrap_or("not checked: the policy wants no signature")
        ),
    ];
    lines.extend(found.abilities.iter().map(|words| format!("  it      {}", one_line(words))));
    for warning in &proposal.warnings {
        lines.push(format!("  {} {}", paint(Role::Warn, "warning:", colour), one_line(warning)));
    }
    lines.push("asks for".to_owned());
    let needs = manifest.needs.lines();
    if needs.is_empty() {
        lines.push("  nothing".to_owned());
    }
    for (capability, subject, why) in &needs {
        lines.push(format!("  {capability:<6}  {}", one_line(subject)));
        lines.push(format!("          {}", paint(Role::Dim, &format!("because: {}", one_line(why)), colour)));
    }
    lines.push("would get".to_owned());
    let granted = proposal.effective.grant.rules().lines();
    if granted.is_empty() {
        lines.push("  nothing".to_owned());
    }
    for (capability, subject) in &granted {
        lines.push(format!("  {capability:<6}  {}", one_line(subject)));
    }
    for (name, value) in proposal.effective.grant.limits().values() {
        lines.extend(value.map(|value| format!("  limit   {name} {}", format::grouped(value))));
    }
    if !proposal.effective.cuts.is_empty() {
        lines.push("does not get".to_owned());
    }
    for cut in &proposal.effective.cuts {
        let part = if cut.left.is_empty() { "" } else { " in full" };
        lines.push(format!("  {:<6}  {}{part}", cut.capability, one_line(&cut.subject)));
        lines.push(format!(
            "          cut by the {}: {} ({})",
            cut.by.as_str(),
            one_line(&cut.rule),
            one_line(&cut.file)
        ));
        lines.push(format!(
            "          {}",
            paint(Role::Hint, &format!("to grant: {}", one_line(&cut.line_to_add)), colour)
        ));
    }
    if let Some(locked) = &proposal.previous {
        let (version, digest) = (&locked.version, &locked.sha256);
        lines.push(format!("replaces {version}  {digest}, approved by {}", one_line(&locked.approver)));
        for (sign, role, rules) in
            [("+", Role::Warn, &proposal.difference.wider), ("-", Role::Dim, &proposal.difference.narrower)]
        {
            for (what, rule) in rules {
                lines
                    .push(format!("  {}", paint(role, &format!("{sign} {what} {}", one_line(rule)), colour)));
            }
        }
        if proposal.difference.wider.is_empty() {
            lines.push("  gets nothing that was not approved before".to_owned());
        }
    }
    if let Some(added) = &proposal.config_lines {
        lines.push("approving adds to pangolin.toml".to_owned());
        lines.extend(
            added.lines().filter(|line| !line.is_empty()).map(|line| format!("  {}", one_line(line))),
        );
    }
    lines
}

fn document(proposal: &Proposal, state: &str) -> Value {
    let manifest = &proposal.manifest;
    let needs: Vec<Value> = manifest
        .needs
        .lines()
        .into_iter()
        .map(|(capability, subject, why)| json!({ "capability": capability, "subject": subject, "why": why }))
        .collect();
    let rules = |rules: &[(String, String)]| -> Vec<Value> {
        rules.iter().map(|(what, rule)| json!({ "capability": what, "rule": rule })).collect()
    };
    json!({
        "state": state,
        "plugin": {
            "id": manifest.id, "kind": manifest.kind, "version": manifest.version,
            "contract": manifest.contract, "world": proposal.inspection.world,
        },
        "source": proposal.source,
        "sha256": proposal.inspection.digest,
        "bytes": proposal.inspection.size,
        "abilities": proposal.inspection.abilities,
        "warnings": proposal.warnings,
        "asks": needs,
        "grant": proposal.effective.grant,
        "fingerprint": proposal.fingerprint,
        "cuts": proposal.effective.cuts,
        "wider": rules(&proposal.difference.wider),
        "narrower": rules(&proposal.difference.narrower),
        "signer": proposal.signer,
    })
}

fn with_lock(mut document: Value, locked: &LockedPlugin) -> Value {
    document["locked"] = json!(locked);
    document
}
