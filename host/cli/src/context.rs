//! What every verb needs: the printer, and the deployment when it asks for it.

use std::env;

use pangolin_runtime::{config::Config, deployment::Deployment};

use crate::{
    args::{Actor, Global},
    error::CliResult,
    files,
    printer::Printer,
};

/// Global flags, resolved.
pub(crate) struct Context {
    /// Output.
    pub(crate) printer: Printer,
    global: Global,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        Self { printer: Printer::new(&global), global }
    }

    /// `--config`, or `pangolin.toml` here or in a parent directory.
    pub(crate) fn config(&self) -> CliResult<Config> {
        Ok(match &self.global.config {
            Some(file) => {
                // The parser's message quotes the line that it does not understand.
                if let Ok(bytes) = std::fs::read(file) {
                    files::refuse_signing_key(file, &bytes)?;
                }
                Config::load(file)?
            }
            None => Config::find(&env::current_dir()?)?,
        })
    }

    /// The deployment of [`Context::config`].
    pub(crate) fn deployment(&self) -> CliResult<Deployment> {
        Ok(Deployment::open(self.config()?)?)
    }
}

/// `--actor` or `PANGOLIN_ACTOR` (clap reads both), else `human:<os user>`.
pub(crate) fn actor(flag: &Actor) -> String {
    flag.actor.clone().filter(|actor| !actor.is_empty()).unwrap_or_else(|| {
        let uid = nix::unistd::getuid();
        let user =
            nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        format!("human:{user}")
    })
}
