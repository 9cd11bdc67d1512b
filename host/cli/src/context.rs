//! What every verb needs: the printer, and the deployment when it asks for it.

use std::env;

use pangolin_runtime::{
    config::Config,
    deployment::{Deployment, RuntimeError},
    keys::load_sender,
};

use crate::{
    args::{Actor, Global},
    error::{CliError, CliResult},
    exit::Exit,
    files,
    printer::Printer,
};

/// Global flags, resolved.
pub(crate) struct Context {
    /// Output.
    pub(crate) printer: Printer,
    global: Global,
    /// Files of a stack's project, for as long as the verb runs.
    #[cfg(feature = "aws")]
    scratch: std::sync::OnceLock<tempfile::TempDir>,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        Self {
            printer: Printer::new(&global),
            global,
            #[cfg(feature = "aws")]
            scratch: std::sync::OnceLock::new(),
        }
    }

    /// Whether the verb is to work on a stack in AWS.
    pub(crate) const fn is_remote(&self) -> bool {
        self.global.remote.is_some()
    }

    /// `--config`, or `pangolin.toml` here or in a parent directory.
    pub(crate) fn config(&self) -> CliResult<Config> {
        if self.is_remote() {
            let error =
                CliError::new(Exit::Usage, "this verb works on a project of this machine, not on a stack");
            return Err(error.hint("leave --remote (PANGOLIN_REMOTE) away"));
        }
        self.local_config()
    }

    fn local_config(&self) -> CliResult<Config> {
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

    /// The configuration of this machine's project, whatever `--remote` says. A broken one is an error, none is not.
    #[cfg(feature = "aws")]
    pub(crate) fn config_if_any(&self) -> CliResult<Option<Config>> {
        use pangolin_runtime::config::ConfigError;
        match self.local_config() {
            Ok(config) => Ok(Some(config)),
            Err(error) if matches!(error.error.downcast_ref(), Some(ConfigError::NotFound(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The deployment of [`Context::config`], or the one in the stack.
    pub(crate) async fn deployment(&self) -> CliResult<Deployment> {
        let deployment = match &self.global.remote {
            None => Deployment::open(self.config()?).await?,
            Some(stack) => self.remote(stack).await?,
        };
        Ok(match &self.global.sender_key {
            Some(file) => deployment.with_sender(load_sender(file).map_err(RuntimeError::from)?),
            None => deployment,
        })
    }

    #[cfg(not(feature = "aws"))]
    async fn remote(&self, stack: &str) -> CliResult<Deployment> {
        Err(crate::error::without_aws(&format!("cannot look at stack {stack:?}")))
    }

    #[cfg(feature = "aws")]
    async fn remote(&self, stack: &str) -> CliResult<Deployment> {
        use pangolin_runtime::aws::Stack;
        // Only where base commits are comes from here.
        let workspace = self.config_if_any()?.map(|config| config.workspace);
        let aws = pangolin_aws::Aws::open(pangolin_aws::AwsConfig::default()).await?;
        let open = async {
            let location = if stack.starts_with("s3://") {
                stack.to_owned()
            } else {
                let document = pangolin_deploy::Deployer::new(&aws, stack)?.deployment().await?;
                format!("s3://{}/{}", document.data_bucket, pangolin_deploy::names::DEPLOYMENT_KEY)
            };
            let scratch = tempfile::tempdir()?;
            let opened = Stack::open(aws.clone(), &location, None, scratch.path()).await?;
            let _ = self.scratch.set(scratch);
            Ok::<_, CliError>(opened.deployment(workspace).await?)
        };
        self.printer.progress("looking at the stack", open).await
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
