//! `pangolin-worker probe`: a dry run of the isolation, for the backend to ask before it promises anything.

use std::{path::Path, process};

use pangolin_core::entry::Isolation;
use pangolin_envelope::envelope::CommandLimits;
use serde_json::json;

use crate::{
    command::{Confinement, Runner},
    events::line,
    signals::Signals,
};

/// Runs the probe and answers the exit code: 0 available, 1 not, 2 wrong use.
pub(crate) fn run(args: &[String]) -> i32 {
    let (mut isolation, mut network) = ("sandbox", "none");
    let mut rest = args.iter().map(String::as_str);
    while let Some(name) = rest.next() {
        match (name, rest.next()) {
            ("--isolation", Some(value @ ("none" | "sandbox" | "container"))) => isolation = value,
            ("--network", Some(value @ ("none" | "host"))) => network = value,
            _ => {
                line(
                    &json!({"error": "usage: pangolin-worker probe [--isolation none|sandbox|container] [--network none|host]"}),
                );
                return 2;
            }
        }
    }
    let answer = match (isolation, network) {
        ("sandbox", _) => sandbox(network == "none"),
        // Whoever starts the worker in a container has cut its network; the worker adds what needs no namespaces.
        ("container", _) | (_, "host") => Ok(vec!["no-new-privs".to_owned(), "process-session".to_owned()]),
        _ => Err("isolation \"none\" cannot take the network away; ask for network \"host\" or isolation \"sandbox\"".to_owned()),
    };
    match answer {
        Ok(mechanisms) => line(&json!({"available": true, "mechanisms": mechanisms, "missing": null})),
        Err(missing) => {
            line(&json!({"available": false, "mechanisms": [], "missing": missing}));
            return 1;
        }
    }
    0
}

fn sandbox(no_network: bool) -> Result<Vec<String>, String> {
    let base =
        std::env::temp_dir().canonicalize().map_err(|error| format!("temporary directory: {error}"))?;
    let base = base.join(format!("pangolin-probe-{}", process::id()));
    let result = attempt(&base, no_network);
    std::fs::remove_dir_all(&base).ok();
    result
}

fn attempt(base: &Path, no_network: bool) -> Result<Vec<String>, String> {
    use std::os::unix::fs::DirBuilderExt;
    for path in [base.to_owned(), base.join("home"), base.join("root"), base.join("workspace")] {
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    }
    let signals = Signals::install().map_err(|error| format!("cannot receive signals: {error}"))?;
    let confinement = Confinement {
        isolation: Isolation::Sandbox,
        no_network,
        limits: CommandLimits::default(),
        workspace: base.join("workspace"),
        private: base.to_owned(),
        read_only: Vec::new(),
        hidden: Vec::new(),
        has_inputs: false,
    };
    Runner::new(confinement, signals).probe()
}
