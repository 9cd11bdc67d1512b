//! `pangolin doctor`: is everything here that a run needs, and what to do when not.

#[cfg(feature = "aws")]
mod outside;

use std::path::Path;

use pangolin_orchestrator::causes::causes;
use pangolin_plugin_host::Allocation;
use pangolin_ports::worker_backend::WorkerBackend;
use serde::Serialize;

use crate::{
    config::Config,
    deployment::Deployment,
    git::{Git, resolve_commit},
    plugins::{PluginState, PluginStatus, Plugins, list, memory},
};

/// Outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Fine.
    Ok,
    /// Works, but look at it.
    Warn,
    /// Runs will not work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Outcome.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

fn check(name: &str, status: CheckStatus, detail: impl Into<String>, hint: Option<&str>) -> Check {
    Check { name: name.to_owned(), status, detail: detail.into(), hint: hint.map(str::to_owned) }
}

fn outcome<E: std::error::Error>(name: &str, result: Result<String, E>, hint: &str) -> Check {
    match result {
        Ok(detail) => check(name, CheckStatus::Ok, detail, None),
        Err(error) => check(name, CheckStatus::Fail, causes(&error), Some(hint)),
    }
}

/// Runs every check that makes sense; without a configuration only those of the machine.
pub async fn run(config: Option<&Config>) -> Vec<Check> {
    let mut checks = vec![
        outcome(
            "git",
            Git::new(Path::new("/")).arg("--version").line(),
            "install git (Debian: apt-get install git)",
        ),
        outcome(
            "worker program",
            Deployment::worker_program().map(|path| path.display().to_string()),
            "build it with `cargo xtask build`, or point PANGOLIN_WORKER at it",
        ),
    ];
    let Some(config) = config else {
        checks.push(check(
            "configuration",
            CheckStatus::Fail,
            "no pangolin.toml found",
            Some("run `pangolin init`"),
        ));
        return checks;
    };
    checks.push(check("configuration", CheckStatus::Ok, config.file.display().to_string(), None));
    if let Some(repo) = &config.workspace.repo {
        let base = config.workspace.base.as_deref().unwrap_or("HEAD");
        let found = resolve_commit(repo, base).map(|commit| format!("{} {base} is {commit}", repo.display()));
        checks.push(outcome(
            "workspace repository",
            found,
            "check [workspace] repo and base; the repository needs a commit",
        ));
    }
    let deployment = match Deployment::open(config.clone()).await {
        Ok(deployment) => deployment,
        Err(error) => {
            let detail = causes(&error);
            checks.push(check("state", CheckStatus::Fail, detail, Some("run `pangolin init`")));
            return checks;
        }
    };
    checks.push(check("signing key", CheckStatus::Ok, deployment.vkey(), None));
    #[cfg(feature = "aws")]
    if config.s3.is_some() || config.anchor.is_some() {
        match Deployment::aws(config).await {
            Ok(aws) => checks.extend(outside::checks(&aws, config).await),
            Err(error) => {
                checks.push(check("s3", CheckStatus::Fail, causes(&error), Some("see the message")))
            }
        }
    }
    checks.push(match deployment.check_ledger().await {
        Ok(problems) if problems.is_empty() => check("ledger", CheckStatus::Ok, "intact", None),
        Ok(problems) => {
            check("ledger", CheckStatus::Fail, problems.join("; "), Some("restore it from a backup"))
        }
        Err(error) => {
            check("ledger", CheckStatus::Fail, causes(&error), Some("is another program using it?"))
        }
    });
    checks.push(match deployment.daemon() {
        Some(pid) => check("daemon", CheckStatus::Ok, format!("serving as process {pid}"), None),
        None => {
            check("daemon", CheckStatus::Warn, "none is serving", Some("start one: pangolin orch serve &"))
        }
    });
    checks.extend(patterns(config));
    checks.extend(installed(config));
    checks.push(plugin_memory(config));
    match deployment.backends().await {
        Ok(backends) => {
            for (name, backend) in &backends {
                checks.push(executor(config, name, &**backend).await);
            }
        }
        Err(error) => {
            let detail = causes(&error);
            checks.push(check("executors", CheckStatus::Fail, detail, Some("see the message")));
        }
    }
    checks
}

/// One line per installed plugin that would not run, whether something is bound to it or not: a pipeline or a subagent may
/// name it. Nothing when none is installed.
fn installed(config: &Config) -> Vec<Check> {
    let name = "plugins";
    let plugins = match list(config) {
        Ok(plugins) => plugins,
        Err(error) => return vec![check(name, CheckStatus::Fail, causes(&error), Some("see the message"))],
    };
    let installed = plugins.iter().filter(|plugin| plugin.locked.is_some()).count();
    let idle: Vec<Check> = plugins.into_iter().filter_map(idle).collect();
    if idle.is_empty() && installed > 0 {
        return vec![check(name, CheckStatus::Ok, format!("{installed} installed, all can run"), None)];
    }
    idle
}

fn idle(plugin: PluginStatus) -> Option<Check> {
    let PluginStatus { id, kind, .. } = &plugin;
    let (status, state, hint) = match plugin.state {
        PluginState::Ready => return None,
        PluginState::Inert => {
            (CheckStatus::Warn, "inert", format!("look at it and approve it: pangolin plugin add {id}"))
        }
        PluginState::Missing => {
            (CheckStatus::Warn, "not on this machine", format!("pangolin plugin rebuild {id}"))
        }
        PluginState::Refused => (CheckStatus::Fail, "refused", "see the message".to_owned()),
    };
    let problem = plugin.problem.as_deref().unwrap_or("no reason is known");
    Some(check("plugins", status, format!("{kind} {id} is {state}: {problem}"), Some(&hint)))
}

/// One line per pattern that queues are bound to.
fn patterns(config: &Config) -> Vec<Check> {
    let plugins = match Plugins::open(config) {
        Ok(plugins) => plugins,
        Err(error) => {
            return vec![check("plugins", CheckStatus::Fail, causes(&error), Some("see the message"))];
        }
    };
    let problems = crate::patterns::problems(config, &plugins);
    if problems.is_empty() {
        let bound: std::collections::BTreeSet<&str> =
            config.queues.values().map(|queue| queue.pattern.as_str()).collect();
        let names: Vec<&str> = bound.into_iter().collect();
        return vec![check("patterns", CheckStatus::Ok, names.join(", "), None)];
    }
    let hint = "`pangolin plugin list` shows what there is; `pangolin plugin add` adds one";
    problems.into_iter().map(|problem| check("patterns", CheckStatus::Fail, problem, Some(hint))).collect()
}

/// Whether a daemon's plugins have reserved memory.
fn plugin_memory(config: &Config) -> Check {
    let name = "plugin memory";
    if let Some(why) = memory::without_pool(config) {
        return check(name, CheckStatus::Warn, why, None);
    }
    let opened = Plugins::open_for_serving(config);
    match opened.as_ref().map(|plugins| plugins.host().allocation()) {
        Ok(Allocation::Pool { calls }) => {
            check(name, CheckStatus::Ok, format!("reserved for {calls} calls at once"), None)
        }
        Ok(Allocation::OnDemand) => check(
            name,
            CheckStatus::Warn,
            "the machine has no address space to reserve it: it is taken per call, which makes each call slower",
            Some("raise the limit of virtual memory (`ulimit -v`)"),
        ),
        Err(error) => check(name, CheckStatus::Fail, causes(error), Some("see the message")),
    }
}

async fn executor(config: &Config, name: &str, backend: &dyn WorkerBackend) -> Check {
    let label = format!("executor {name}");
    let Some(executor) = config.executors.get(name) else {
        return check(&label, CheckStatus::Fail, "not configured", None);
    };
    let probed = backend.probe(executor.isolation(), executor.network()).await;
    let found = probed.map(|used| {
        format!("{:?}, network {}: {}", used.level, used.network, used.mechanisms.join(" ")).to_lowercase()
    });
    outcome(&label, found, "see docs/security.md for what each level needs; nothing weaker is used instead")
}
