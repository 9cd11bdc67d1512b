//! One component, all checks of its kind.

use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{ComponentError, Inspection, Kind, LimitSet, inspect};
use pangolin_plugin_host::{Failure, Limits, PluginError, PluginHost};
use thiserror::Error;

use crate::{
    adapter, block, contract,
    fixture::FixtureFile,
    pattern,
    report::{Found, Report},
};

/// How thorough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Items of the large run, and files of the large workspace.
    pub large_items: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { large_items: 10_000 }
    }
}

/// Why nothing was checked.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The bytes are no component.
    #[error(transparent)]
    Component(#[from] ComponentError),
}

/// Checks a component with these recorded cases. What is wrong with the plugin is in the report.
///
/// # Errors
/// [`CheckError`] when the bytes are no component at all.
pub async fn check(
    host: &PluginHost,
    component: &[u8],
    fixtures: &[FixtureFile],
    options: &Options,
) -> Result<Report, CheckError> {
    let inspection = inspect(component)?;
    let mut report = Report::new(Digest::of(component), inspection.kind);
    let fits = contract::check(&inspection);
    let goes_on = fits.is_ok();
    report.add("contract", fits, None);
    if !goes_on {
        return Ok(report);
    }
    if let Err(error) = run(host, component, &inspection, fixtures, options, &mut report).await {
        // It cannot be linked: that is what the check is about.
        report.checks.clear();
        report.add("contract", Err(error.failure.to_string()), None);
    }
    Ok(report)
}

async fn run(
    host: &PluginHost,
    component: &[u8],
    inspection: &Inspection,
    fixtures: &[FixtureFile],
    options: &Options,
    report: &mut Report,
) -> Result<(), PluginError> {
    let wishes = inspection.manifest.as_ref().map_or_else(LimitSet::default, |manifest| manifest.limits);
    match inspection.kind {
        Some(Kind::Pattern) => {
            let limits = limits_of(&wishes, Limits::pure());
            let loaded = host.load_pattern_with(component, limits.clone())?;
            let checks =
                pattern::check_pattern(&pattern::Loaded::new(loaded, limits), fixtures, options).await;
            report.checks.extend(checks);
        }
        Some(Kind::RuntimeAdapter) => {
            let limits = limits_of(&wishes, Limits::effect());
            let loaded = host.load_adapter_with(component, limits.clone())?;
            adapter::check(&loaded, &limits, fixtures, report).await;
        }
        Some(Kind::Block) => {
            let loaded = host.load_block(component)?;
            let granted = block::asked(inspection.manifest.as_ref());
            block::check(&loaded, &granted, fixtures, options, report).await;
        }
        None => {}
    }
    Ok(())
}

/// The smaller of the manifest's wishes and what the host gives.
#[must_use]
pub fn limits_of(wishes: &LimitSet, host: Limits) -> Limits {
    let smaller = |wish: Option<u64>, given: u64| wish.map_or(given, |wish| wish.min(given));
    let memory = smaller(wishes.memory_bytes, host.memory_bytes as u64);
    let wall = wishes.wall_ms.map(std::time::Duration::from_millis);
    Limits {
        fuel_base: smaller(wishes.fuel_base, host.fuel_base),
        fuel_per_item: smaller(wishes.fuel_per_item, host.fuel_per_item),
        memory_bytes: usize::try_from(memory).unwrap_or(host.memory_bytes),
        wall: wall.map_or(host.wall, |wish| wish.min(host.wall)),
        ..host
    }
}

/// Why a call counts against the plugin whatever it was asked: `None` for an answer and for a fault, which is one.
pub(crate) fn trap(error: &PluginError) -> Option<String> {
    trap_of(&error.failure)
}

pub(crate) fn trap_of(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Fault { .. } => None,
        other => Some(other.to_string()),
    }
}

/// The failure is about how much a call may use.
pub(crate) fn is_limit(code: &str) -> bool {
    matches!(code, "cpu-budget" | "deadline" | "memory-limit" | "output-limit" | "stack")
}

/// The first problem, else what was seen.
pub(crate) fn first(problems: &[String], seen: impl FnOnce() -> String) -> Found {
    match problems {
        [] => Ok(seen()),
        [one] => Err(one.clone()),
        [one, rest @ ..] => Err(format!("{one} (and {} more)", rest.len())),
    }
}
