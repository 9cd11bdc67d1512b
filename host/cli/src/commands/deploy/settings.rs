//! What the stack is to be: section `[deploy]` of `pangolin.toml`, and flags that win over it.

use pangolin_deploy::{Architecture, DeployError, Settings};
use pangolin_runtime::config::Config;
use toml::{Table, Value};

use crate::{
    args::deploy::{Arch, Place, Wanted},
    error::CliResult,
};

impl From<Arch> for Architecture {
    fn from(arch: Arch) -> Self {
        match arch {
            Arch::Arm64 => Self::Arm64,
            Arch::X86_64 => Self::X86_64,
        }
    }
}

/// The processor of this machine, as Lambda calls it; none when Lambda does not have it.
pub(super) fn here() -> Option<Architecture> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Architecture::X86_64),
        "aarch64" => Some(Architecture::Arm64),
        _ => None,
    }
}

/// The name of the stack.
pub(super) fn stack(place: &Place, project: Option<&Config>) -> Result<String, DeployError> {
    if let Some(name) = &place.stack {
        return Ok(name.clone());
    }
    match project.and_then(|config| config.deploy.get("stack")) {
        None => Ok(Settings::default().stack),
        Some(Value::String(name)) => Ok(name.clone()),
        Some(other) => Err(DeployError::Settings(vec![format!("stack is {other}, expected a string")])),
    }
}

/// Everything that is decided about the stack, checked.
pub(super) fn settings(wanted: &Wanted, project: Option<&Config>) -> CliResult<Settings> {
    let mut table = project.map(|config| config.deploy.clone()).unwrap_or_default();
    let mut findings = Vec::new();
    for set in &wanted.sets {
        match parse(set) {
            Some(change) => merge(&mut table, change),
            None => findings.push(format!("--set {set:?} is not KEY=VALUE")),
        }
    }
    if let Some(name) = &wanted.place.stack {
        table.insert("stack".to_owned(), Value::String(name.clone()));
    }
    let arch = wanted.arch.map(Architecture::from);
    // What was built here without another word is for this machine's processor.
    if let Some(arch) = arch.or_else(|| here().filter(|_| !table.contains_key("architecture"))) {
        table.insert("architecture".to_owned(), Value::String(arch.as_str().to_owned()));
    }
    match table.try_into::<Settings>() {
        Ok(settings) => match settings.check() {
            Ok(()) if findings.is_empty() => return Ok(settings),
            Ok(()) => {}
            Err(DeployError::Settings(found)) => findings.extend(found),
            Err(other) => return Err(other.into()),
        },
        Err(error) => findings.push(error.to_string().trim().replace('\n', " ")),
    }
    Err(DeployError::Settings(findings).into())
}

/// `key.key=value` as TOML; a value that is none is taken as a string, so that nobody has to quote twice in a shell.
fn parse(text: &str) -> Option<Table> {
    let (key, value) = text.split_once('=')?;
    let fits = |table: &Table| table.len() == 1;
    toml::from_str(text).ok().filter(fits).or_else(|| {
        let quoted = Value::String(value.trim().to_owned());
        toml::from_str(&format!("{key} = {quoted}")).ok().filter(fits)
    })
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(sets: &[&str]) -> Wanted {
        Wanted {
            place: Place { stack: None, region: None, profile: None, endpoint_url: None },
            arch: None,
            sets: sets.iter().map(|&set| set.to_owned()).collect(),
            packages: None,
        }
    }

    #[test]
    fn a_set_is_toml_or_a_plain_string_and_wins() {
        let sets = [
            "tick_concurrency=0",
            "tags.team=platform",
            "kms_key_arn=arn:aws:kms:x:1:key/2",
            "stack = \"a\"",
        ];
        let settings = settings(&wanted(&sets), None).expect("good settings");
        assert_eq!(settings.tick_concurrency, 0);
        assert_eq!(settings.tags["team"], "platform");
        assert_eq!(settings.kms_key_arn.as_deref(), Some("arn:aws:kms:x:1:key/2"));
        assert_eq!(settings.stack, "a");
        assert_eq!(Some(settings.architecture), here());
    }

    #[test]
    fn what_is_wrong_is_said_at_once() {
        let error = settings(&wanted(&["nonsense", "log_retention_days=2", "tick_concurrency=1"]), None)
            .expect_err("three findings");
        let text = error.error.to_string();
        for part in ["--set \"nonsense\"", "log_retention_days is 2", "tick_concurrency is 1"] {
            assert!(text.contains(part), "{text}");
        }
        let error = settings(&wanted(&["sack=x"]), None).expect_err("an unknown key");
        assert!(error.error.to_string().contains("sack"), "{}", error.error);
        // One line of input cannot bring a second key along.
        assert!(parse("a=1\nb=2").is_none_or(|table| table.len() == 1));
    }
}
