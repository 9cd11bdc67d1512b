//! What a manifest says against what the binary imports.

use thiserror::Error;

use crate::{
    component::{Import, Inspection},
    contract::{host_contract, is_served},
    id::Kind,
    manifest::{Manifest, Needs},
};

/// Manifest and binary do not fit: the plugin is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// The exports say another kind.
    #[error("the manifest says kind {said}, but the component {found}")]
    Kind {
        /// Of the manifest.
        said: Kind,
        /// Of the binary, in words.
        found: String,
    },
    /// The binary can do what the manifest is silent about.
    #[error(
        "the component imports {interface}, but its manifest asks for no {capability}; the author must add it to [needs] with a reason"
    )]
    Silent {
        /// Interface.
        interface: String,
        /// `exec` or `net`.
        capability: &'static str,
    },
    /// Imports that no plugin of this kind gets.
    #[error("the component imports {}, which a {kind} does not get", names.join(", "))]
    Foreign {
        /// Kind.
        kind: Kind,
        /// Interfaces.
        names: Vec<String>,
    },
    /// Built against a version outside its own range.
    #[error("the component was built against {built}, which its manifest's contract {range:?} excludes")]
    BuiltAgainst {
        /// Interface with version.
        built: String,
        /// The range.
        range: String,
    },
    /// Nothing in the range is served here.
    #[error("the plugin needs {package} {range}, this pangolin serves {package} up to {newest}")]
    Contract {
        /// Package.
        package: &'static str,
        /// The range.
        range: String,
        /// Newest version here.
        newest: String,
    },
}

/// A manifest without the needs that its binary cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// What counts from here on.
    pub manifest: Manifest,
    /// What was dropped, in words.
    pub warnings: Vec<String>,
}

/// Holds a manifest against its binary.
///
/// # Errors
/// Every [`Mismatch`]; a wrong kind alone, because the rest would only follow from it.
pub fn reconcile(manifest: &Manifest, binary: &Inspection) -> Result<Reconciled, Vec<Mismatch>> {
    let kind = manifest.kind;
    let mut problems = Vec::new();
    if binary.kind != Some(kind) {
        let found = match binary.kind {
            Some(other) => format!("exports what a {other} exports"),
            None => "exports the entry point of no kind of plugin, or of several".to_owned(),
        };
        // Everything else is about a contract that is the wrong one then.
        return Err(vec![Mismatch::Kind { said: kind, found }]);
    }
    if !binary.foreign.is_empty() {
        problems.push(Mismatch::Foreign { kind, names: binary.foreign.iter().map(Import::name).collect() });
    }
    let contract = host_contract(kind);
    for used in binary.imports.iter().chain(&binary.exports).filter(|used| used.is_of(contract.package)) {
        if used.version.as_ref().is_none_or(|version| !manifest.contract.matches(version)) {
            problems
                .push(Mismatch::BuiltAgainst { built: used.name(), range: manifest.contract.to_string() });
        }
    }
    if !is_served(kind, &manifest.contract) {
        problems.push(Mismatch::Contract {
            package: contract.package,
            range: manifest.contract.to_string(),
            newest: contract.newest.to_string(),
        });
    }
    let (exec, fetch) = ("pangolin:block/exec", "pangolin:block/fetch");
    let (execs, fetches) = (binary.imports_interface(exec), binary.imports_interface(fetch));
    let needs = &manifest.needs;
    for (imported, interface, asked, capability) in
        [(execs, exec, !needs.exec.is_empty(), "exec"), (fetches, fetch, !needs.net.is_empty(), "net")]
    {
        if imported && !asked {
            problems.push(Mismatch::Silent { interface: interface.to_owned(), capability });
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut reconciled = Reconciled { manifest: manifest.clone(), warnings: Vec::new() };
    let Needs { exec: e, net, secret, read, write } = &mut reconciled.manifest.needs;
    let warnings = &mut reconciled.warnings;
    let mut drop_unused = |keep: bool, count: usize, what: &str, interface: &str| {
        if !keep && count > 0 {
            warnings
                .push(format!("it asks for {what} but does not import {interface}; the request is dropped"));
        }
        !keep
    };
    if drop_unused(execs, e.len(), "exec", exec) {
        e.clear();
    }
    if drop_unused(fetches, net.len(), "net", fetch) {
        net.clear();
    }
    if drop_unused(execs || fetches, secret.len(), "secret", "exec or fetch") {
        secret.clear();
    }
    let stage = binary.imports_interface("pangolin:block/stage");
    if drop_unused(stage, read.len(), "read", "pangolin:block/stage") {
        read.clear();
    }
    if drop_unused(stage, write.len(), "write", "pangolin:block/stage") {
        write.clear();
    }
    Ok(reconciled)
}
