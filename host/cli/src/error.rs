//! One place that decides what an error looks like: message, chain, hints, exit code.

use std::{error::Error as StdError, io};

use pangolin_core::validate::{Finding, Severity};
use pangolin_plugin_source::SourceError;
use pangolin_runtime::{
    config::ConfigError,
    deployment::{ExportError, RuntimeError},
    patches::PatchesError,
    plugins::PluginsError,
    registry::RegistryError,
};

use crate::{
    exit::Exit,
    printer::{Printer, Role, one_line, plain},
};

/// The end of a verb that did not work.
#[derive(Debug)]
pub(crate) struct CliError {
    /// Exit code.
    pub(crate) exit: Exit,
    /// What happened; its sources are the chain.
    pub(crate) error: anyhow::Error,
    /// What to do, one sentence each.
    pub(crate) hints: Vec<String>,
}

/// Result of a verb.
pub(crate) type CliResult<T = Exit> = Result<T, CliError>;

impl CliError {
    /// A message with an exit code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, error: anyhow::Error::msg(message.into()), hints: Vec::new() }
    }

    /// Adds a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Prints `error:`, the chain and the hints to stderr.
    pub(crate) fn print(&self, printer: &Printer) {
        if self.is_broken_pipe() {
            return;
        }
        if let Some((heading, problems)) = self.problems() {
            printer.labelled(Role::Error, "error", &plain(&heading));
            for problem in problems {
                printer.labelled(Role::Dim, "  -", &plain(problem));
            }
        } else {
            printer.labelled(Role::Error, "error", &plain(&self.error.to_string()));
        }
        let mut before = self.error.to_string();
        for cause in self.error.chain().skip(1) {
            let text = cause.to_string();
            // Transparent errors repeat their source.
            if !before.contains(&text) {
                printer.labelled(Role::Dim, "  caused by", &plain(&text));
            }
            before = text;
        }
        if let Some(RuntimeError::Rejected { findings, .. }) = self.error.downcast_ref() {
            print_findings(printer, findings);
        }
        for hint in &self.hints {
            printer.labelled(Role::Hint, "hint", &plain(hint));
        }
    }

    /// Errors of AWS that report everything at once.
    #[cfg(feature = "aws")]
    fn aws_problems(&self) -> Option<(String, &[String])> {
        use pangolin_deploy::{DeployError, cost::CostError};
        match (self.error.downcast_ref(), self.error.downcast_ref()) {
            (Some(DeployError::Settings(problems)), _) => {
                Some(("the settings of the stack cannot be used".to_owned(), problems))
            }
            (Some(DeployError::Packages { architecture, problems }), _) => {
                Some((format!("the code of the functions for {architecture} is not complete"), problems))
            }
            (Some(DeployError::DataAtRisk(problems)), _) => {
                let what = "refused, because data would be left behind; deploy under another stack name, or take the change back";
                Some((what.to_owned(), problems))
            }
            (_, Some(CostError::Load(problems))) => Some(("that cannot be computed".to_owned(), problems)),
            _ => None,
        }
    }

    #[cfg(not(feature = "aws"))]
    const fn aws_problems(&self) -> Option<(String, &[String])> {
        None
    }

    /// Errors that report everything at once are shown as a list.
    fn problems(&self) -> Option<(String, &[String])> {
        let heading = |what: String, problems: &[String]| {
            format!("{what} has {}", crate::format::count(problems.len() as u64, "problem"))
        };
        if let Some(ConfigError::Problems { path, problems }) = self.error.downcast_ref() {
            return Some((heading(path.display().to_string(), problems), problems));
        }
        if let Some(RegistryError::Invalid { kind, name, problems }) = self.error.downcast_ref() {
            return Some((heading(format!("{kind} {name:?}"), problems), problems));
        }
        self.aws_problems()
    }

    /// Whether the reader of stdout went away. That is not an error: it has seen enough.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl<E> From<E> for CliError
where
    E: Into<anyhow::Error>,
{
    fn from(error: E) -> Self {
        let error = error.into();
        let mut exit = Exit::Failed;
        let mut hints = Vec::new();
        for cause in error.chain() {
            classify(cause, &mut exit, &mut hints);
        }
        Self { exit, error, hints }
    }
}

/// What a program that was built without AWS says about it.
#[cfg(not(feature = "aws"))]
pub(crate) fn without_aws(what: &str) -> CliError {
    CliError::new(Exit::Usage, format!("{what}: built without AWS"))
        .hint("use a release archive, or build with --features aws")
}

/// Each finding about a plan with its JSON pointer and hint.
pub(crate) fn print_findings(printer: &Printer, findings: &[Finding]) {
    for finding in findings {
        let (role, label) = match finding.severity {
            Severity::Error => (Role::Error, "error"),
            Severity::Warning => (Role::Warn, "warning"),
        };
        let pointer = if finding.pointer.is_empty() { "(whole plan)" } else { finding.pointer.as_str() };
        let text = format!("{}: {} [{}]", one_line(pointer), one_line(&finding.message), finding.code);
        printer.labelled(role, label, &text);
        if let Some(hint) = &finding.hint {
            printer.labelled(Role::Hint, "  hint", &one_line(hint));
        }
    }
}

/// The mapping from library errors to exit codes and hints. Transparent errors are not part of the chain, so their
/// content is looked at from here.
fn classify(cause: &(dyn StdError + 'static), exit: &mut Exit, hints: &mut Vec<String>) {
    if let Some(PatchesError::Runtime(inner)) = cause.downcast_ref() {
        return classify(inner.as_ref(), exit, hints);
    }
    if let Some(PatchesError::NoPatch { .. }) = cause.downcast_ref() {
        *exit = Exit::NotFound;
    }
    match cause.downcast_ref() {
        Some(RuntimeError::NotFound { .. }) => *exit = Exit::NotFound,
        Some(RuntimeError::Config(inner)) => return classify(inner, exit, hints),
        Some(RuntimeError::Registry(inner)) => return classify(inner, exit, hints),
        Some(RuntimeError::Plugins(inner)) => return classify(inner, exit, hints),
        Some(RuntimeError::Export(inner)) => return classify(inner, exit, hints),
        Some(RuntimeError::Key(_) | RuntimeError::NoWorker(_)) => *exit = Exit::Usage,
        Some(RuntimeError::Backend { .. }) => {
            *exit = Exit::Usage;
            hints.push("pangolin doctor checks every executor".to_owned());
        }
        _ => {}
    }
    if let Some(ExportError::Open { .. }) = cause.downcast_ref() {
        *exit = Exit::Incomplete;
    }
    match cause.downcast_ref() {
        Some(PluginsError::Unknown { .. } | PluginsError::NotLocked { .. }) => *exit = Exit::NotFound,
        Some(
            PluginsError::Lock(_)
            | PluginsError::Policy(_)
            | PluginsError::ReservedId { .. }
            | PluginsError::GrantExists { .. }
            | PluginsError::Source(SourceError::Invalid { .. } | SourceError::NeedsDigest { .. }),
        ) => *exit = Exit::Usage,
        Some(PluginsError::Source(SourceError::File { .. })) => hints.push(
            "a source is the .wasm file, https://… or oci://…; an id is one that `pangolin plugin list` shows"
                .to_owned(),
        ),
        Some(PluginsError::Config(inner)) => return classify(inner, exit, hints),
        _ => {}
    }
    if let Some(error) = cause.downcast_ref::<ConfigError>() {
        *exit = Exit::Usage;
        if let ConfigError::Read { .. } = error {
            hints.push("`pangolin init` writes a configuration; --config names another file".to_owned());
        }
    }
    #[cfg(feature = "aws")]
    classify_aws(cause, exit);
    match cause.downcast_ref() {
        Some(RegistryError::NotFound { .. }) => *exit = Exit::NotFound,
        Some(
            RegistryError::BadName { .. }
            | RegistryError::BadReference { .. }
            | RegistryError::Invalid { .. },
        ) => *exit = Exit::Usage,
        _ => {}
    }
}

/// The same for what comes from AWS.
#[cfg(feature = "aws")]
fn classify_aws(cause: &(dyn StdError + 'static), exit: &mut Exit) {
    use pangolin_deploy::{DeployError, cost::CostError};
    use pangolin_runtime::aws::PackError;
    match cause.downcast_ref() {
        Some(DeployError::Settings(_) | DeployError::Packages { .. }) => *exit = Exit::Usage,
        Some(DeployError::NoStack(_)) => *exit = Exit::NotFound,
        // It goes on without this program.
        Some(DeployError::Slow { .. }) => *exit = Exit::Unanswered,
        _ => {}
    }
    if let Some(CostError::Load(_)) = cause.downcast_ref() {
        *exit = Exit::Usage;
    }
    if let Some(PackError::Executors(_)) = cause.downcast_ref() {
        *exit = Exit::Usage;
    }
    if cause.is::<pangolin_aws::OpenError>() {
        *exit = Exit::Usage;
    }
}
