//! What this host offers to plugins and since when, for messages about a plugin that wants something else.
//!
//! The engine decides whether a component links. This says why not, in the words of the contracts. The table is made
//! from `wit/` when the crate is built.

use wasmtime::{
    Engine,
    component::{Component, types::ComponentItem},
};

use crate::failure::{GUEST_TEXT_BYTES, clip};

/// A package: the newest version of one of its major versions.
struct Package {
    /// E.g. `pangolin:pattern`.
    name: &'static str,
    newest: &'static str,
    interfaces: &'static [Interface],
}

struct Interface {
    /// E.g. `pangolin:pattern/graph`.
    name: &'static str,
    since: &'static str,
    /// Every plugin of the package exports it.
    is_required: bool,
    /// Functions and resources by their name in a component, and since when they are there.
    items: &'static [(&'static str, &'static str)],
}

include!(concat!(env!("OUT_DIR"), "/offered.rs"));

/// Most findings in one message.
const FINDINGS_MAX: usize = 16;

/// Why a component does not fit: what it imports or lacks with the versions, all of it; else what the engine said.
/// `contract` are the interfaces of its world, without version.
pub(crate) fn why_not(
    engine: &Engine,
    component: &Component,
    contract: &[&str],
    said: &wasmtime::Error,
) -> String {
    let said = format!("{said:#}");
    let mut findings = Vec::new();
    let types = component.component_type();
    for (import, item) in types.imports(engine) {
        let (interface, version) = import.split_once('@').unwrap_or((import, ""));
        if !contract.contains(&interface) {
            continue;
        }
        let Some(package) = package_of(interface, version) else {
            findings.push(format!("imports {import}, and no {interface} of that major version is there"));
            continue;
        };
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let items = package
            .interfaces
            .iter()
            .find(|known| known.name == interface)
            .map_or(&[][..], |known| known.items);
        for (name, item) in instance.exports(engine) {
            if !matches!(item.ty, ComponentItem::ComponentFunc(_) | ComponentItem::Resource(_)) {
                continue;
            }
            let plain = plain(name);
            match items.iter().find(|known| known.0 == name) {
                None if is_later(version, package.newest) => findings.push(format!(
                    "imports {plain} of {import}, which is later than what this host has; a later Pangolin may have it"
                )),
                None => findings.push(format!("imports {plain} of {import}, which no version up to {} has", package.newest)),
                // The engine names what it stumbled over.
                Some((_, since)) if said.contains(&format!("`{name}`")) => findings.push(format!(
                    "imports {plain} of {interface}, which exists since {}@{since}, with another type than it has",
                    package.name
                )),
                Some(_) => {}
            }
        }
    }
    let exported: Vec<&str> = types.exports(engine).map(|(name, _)| name).collect();
    for package in packages(contract) {
        for required in package.interfaces.iter().filter(|interface| interface.is_required) {
            let fits = |name: &&str| {
                let (interface, version) = name.split_once('@').unwrap_or((name, ""));
                interface == required.name && major(version) == major(package.newest)
            };
            if !exported.iter().any(fits) {
                findings.push(format!(
                    "does not export {} of {}@{}, which every plugin of this kind has to",
                    required.name, package.name, required.since
                ));
            }
        }
    }
    let offers: Vec<String> =
        packages(contract).map(|package| format!("{} up to {}", package.name, package.newest)).collect();
    let left_out = findings.len().saturating_sub(FINDINGS_MAX);
    findings.truncate(FINDINGS_MAX);
    if left_out > 0 {
        findings.push(format!("{left_out} more"));
    }
    let problem = if findings.is_empty() { said } else { findings.join("; ") };
    format!("{}; this host offers {}", clip(problem, GUEST_TEXT_BYTES), offers.join(" and "))
}

/// The packages of these interfaces.
fn packages<'c>(contract: &'c [&str]) -> impl Iterator<Item = &'static Package> + use<'c> {
    OFFERED.iter().filter(move |package| {
        contract
            .iter()
            .any(|interface| interface.split_once('/').is_some_and(|(name, _)| name == package.name))
    })
}

fn package_of(interface: &str, version: &str) -> Option<&'static Package> {
    let (name, _) = interface.split_once('/')?;
    OFFERED.iter().find(|package| package.name == name && major(package.newest) == major(version))
}

/// `[method]run-view.count` as its readers know it.
fn plain(name: &str) -> String {
    match name.strip_prefix('[').and_then(|name| name.split_once(']')) {
        Some(("constructor", resource)) => format!("the constructor of {resource}"),
        Some((_, function)) => function.to_owned(),
        None => name.to_owned(),
    }
}

fn major(version: &str) -> Option<u64> {
    numbers(version).map(|numbers| numbers[0])
}

fn is_later(version: &str, than: &str) -> bool {
    numbers(version).zip(numbers(than)).is_some_and(|(version, than)| version > than)
}

/// Contracts have no pre-releases: anything but three numbers is none of their versions.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let parts: Vec<u64> = version.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}
