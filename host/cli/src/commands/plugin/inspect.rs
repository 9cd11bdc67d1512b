//! `pangolin plugin inspect`.

use pangolin_plugin_authority::{Import, Inspection, Kind, Manifest, host_contract, reconcile};
use pangolin_plugin_conformance::limits_of;
use pangolin_plugin_host::Limits;
use serde_json::{Value, json};

use super::subject::{From, Subject};
use crate::{
    args::plugin::PluginInspect,
    context::Context,
    error::CliResult,
    exit::Exit,
    format,
    printer::{Role, one_line, paint},
};

pub(super) fn run(context: &Context, args: PluginInspect) -> CliResult {
    let printer = &context.printer;
    let subject = Subject::find(context, &args.plugin, args.id)?;
    let found = &subject.inspection;
    let problems: Vec<String> = match &found.manifest {
        Some(manifest) => match reconcile(manifest, found) {
            Ok(fits) => fits.warnings,
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        },
        None => {
            vec!["no manifest is embedded; `pangolin plugin build` does, `plugin add` wants one".to_owned()]
        }
    };
    if printer.is_json() {
        printer.json(&document(&subject, &problems))?;
        return Ok(Exit::Ok);
    }
    for line in text(&subject, printer.colour()) {
        printer.line(line)?;
    }
    for problem in &problems {
        printer.warn(one_line(problem));
    }
    Ok(Exit::Ok)
}

/// What becomes of an interface of the contract.
#[derive(Clone, Copy)]
enum Ability {
    Used,
    Ignored,
    Unavailable,
}

impl Ability {
    const fn word(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Ignored => "ignored",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Everything the contract of its kind offers, and what it wants beyond.
fn abilities(found: &Inspection) -> Vec<(String, &'static str, Ability)> {
    const PATTERN: [(&str, &str); 3] = [
        ("pangolin:base/log", "write log lines"),
        ("pangolin:pattern/graph", "see the items of a run, and add items to it"),
        ("pangolin:pattern/planner", "look at a plan when it is submitted, amend or reject it"),
    ];
    const ADAPTER: [(&str, &str); 2] = [
        ("pangolin:base/log", "write log lines"),
        ("pangolin:runtime-adapter/session", "see a task with its prompt, and say how an agent is started"),
    ];
    const BLOCK: [(&str, &str); 4] = [
        ("pangolin:base/log", "write log lines"),
        ("pangolin:block/stage", "read granted files, write granted artifacts, give a verdict"),
        ("pangolin:block/exec", "start granted programs in the workspace"),
        ("pangolin:block/fetch", "talk to granted hosts"),
    ];
    let offered: &[(&str, &'static str)] = match found.kind {
        Some(Kind::Pattern) => &PATTERN,
        Some(Kind::RuntimeAdapter) => &ADAPTER,
        Some(Kind::Block) => &BLOCK,
        None => &[],
    };
    let newest = found.kind.map(host_contract);
    let all = || found.imports.iter().chain(&found.exports);
    let mut rows: Vec<(String, &'static str, Ability)> = offered
        .iter()
        .map(|(interface, words)| {
            let ability = match all().find(|used| used.interface == *interface) {
                None => Ability::Ignored,
                Some(used) => {
                    let served = newest.as_ref().is_none_or(|contract| {
                        let of_contract = used.interface.strip_prefix(contract.package).is_some();
                        !of_contract
                            || used.version.as_ref().is_some_and(|version| *version <= contract.newest)
                    });
                    if served { Ability::Used } else { Ability::Unavailable }
                }
            };
            ((*interface).to_owned(), *words, ability)
        })
        .collect();
    for import in &found.foreign {
        rows.push((import.name(), "not part of any contract: it will be refused", Ability::Unavailable));
    }
    rows
}

/// Wished limits beside what the host gives: name, wish, what applies.
fn limits(manifest: &Manifest) -> Vec<(&'static str, u64, u64)> {
    let host = match manifest.kind {
        Kind::Pattern => Limits::pure(),
        Kind::RuntimeAdapter | Kind::Block => Limits::effect(),
    };
    let applies = limits_of(&manifest.limits, host);
    let wall = u64::try_from(applies.wall.as_millis()).unwrap_or(u64::MAX);
    let of = |name: &str, wish: u64| match name {
        "fuel base" => applies.fuel_base,
        "fuel per item" => applies.fuel_per_item,
        "memory bytes" => applies.memory_bytes as u64,
        "wall ms" => wall,
        _ => wish,
    };
    let wishes = manifest.limits.values().into_iter();
    wishes.filter_map(|(name, wish)| wish.map(|wish| (name, wish, of(name, wish)))).collect()
}

fn names(imports: &[Import]) -> Vec<String> {
    imports.iter().map(Import::name).collect()
}

fn document(subject: &Subject, problems: &[String]) -> Value {
    let found = &subject.inspection;
    let abilities: Vec<Value> = abilities(found)
        .into_iter()
        .map(|(interface, words, ability)| json!({ "interface": interface, "may": words, "is": ability.word() }))
        .collect();
    let manifest = found.manifest.as_ref().map(|manifest| {
        let needs = manifest.needs.lines().into_iter();
        let needs: Vec<Value> = needs
            .map(|(capability, subject, why)| json!({ "capability": capability, "subject": subject, "why": why }))
            .collect();
        let limits = limits(manifest).into_iter();
        let limits: Vec<Value> =
            limits.map(|(name, wish, applies)| json!({ "limit": name, "wish": wish, "applies": applies })).collect();
        json!({
            "id": manifest.id, "version": manifest.version, "kind": manifest.kind.as_str(),
            "contract": manifest.contract, "needs": needs, "limits": limits,
        })
    });
    let (from, source) = match &subject.from {
        From::File => ("file", None),
        From::BuiltIn => ("built-in", None),
        From::Lock(source) => ("lock", Some(source)),
    };
    json!({
        "path": Some(&subject.path).filter(|_| subject.from != From::BuiltIn),
        "from": from,
        "source": source,
        "kind": found.kind.map(Kind::as_str),
        "world": found.world,
        "sha256": found.digest,
        "bytes": found.size,
        "imports": names(&found.imports),
        "exports": names(&found.exports),
        "abilities": abilities,
        "manifest": manifest,
        "problems": problems,
    })
}

fn text(subject: &Subject, colour: bool) -> Vec<String> {
    let found = &subject.inspection;
    let row = |name: &str, text: String| format!("{name:<9} {text}");
    let heading = |text: &str| paint(Role::Bold, text, colour).into_owned();
    let mut lines = Vec::new();
    if let Some(manifest) = &found.manifest {
        lines.push(row("plugin", format!("{} {}", manifest.id, manifest.version)));
    }
    match &subject.from {
        From::File => {}
        From::BuiltIn => lines.push(row("from", "ships with Pangolin".to_owned())),
        From::Lock(source) => lines.push(row("from", format!("pangolin.lock, {}", one_line(source)))),
    }
    let kind = found.kind.map_or("unknown: its exports are not those of one kind", Kind::as_str);
    lines.push(row("kind", kind.to_owned()));
    if let (Some(kind), Some(world)) = (found.kind, found.world) {
        let range =
            found.manifest.as_ref().map_or_else(String::new, |manifest| format!(" {}", manifest.contract));
        lines.push(row("contract", format!("{}{range}, world {world}", kind.package())));
    }
    lines.push(row("size", format::bytes(found.size as u64)));
    lines.push(row("digest", found.digest.to_string()));
    lines.push(heading("abilities"));
    for (interface, words, ability) in abilities(found) {
        let role = match ability {
            Ability::Used => Role::Good,
            Ability::Ignored => Role::Dim,
            Ability::Unavailable => Role::Error,
        };
        let word = format!("{:<11}", ability.word());
        lines.push(format!("  {}  {:<34} {words}", paint(role, &word, colour), one_line(&interface)));
    }
    let inert = found.imports.iter().filter(|import| import.interface.starts_with("wasi:"));
    let inert = inert.count() - found.foreign.iter().filter(|it| it.interface.starts_with("wasi:")).count();
    if inert > 0 {
        lines.push(format!("  inert        {inert} WASI interfaces that do nothing here"));
    }
    let Some(manifest) = &found.manifest else { return lines };
    lines.push(heading("asks for"));
    let needs = manifest.needs.lines();
    if needs.is_empty() {
        lines.push("  nothing".to_owned());
    }
    for (capability, subject, why) in needs {
        lines.push(format!("  {capability:<6}  {}", one_line(&subject)));
        lines.push(format!("          {}", paint(Role::Dim, &format!("because: {}", one_line(why)), colour)));
    }
    let limits = limits(manifest);
    if !limits.is_empty() {
        lines.push(heading("limits"));
    }
    for (name, wish, applies) in limits {
        let cut = if applies < wish {
            format!(", the host gives {}", format::grouped(applies))
        } else {
            String::new()
        };
        lines.push(format!("  {name:<14} wishes {}{cut}", format::grouped(wish)));
    }
    lines
}
