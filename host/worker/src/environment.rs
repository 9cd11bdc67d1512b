//! Step 8: what a command inherits. Default deny; then the layers in order; then the launch plan.

use std::collections::BTreeMap;

use pangolin_core::entry::Isolation;
use pangolin_envelope::envelope::Envelope;

use crate::redact::Redactor;

/// Host variables that commands inherit.
const ALLOWED: [&str; 15] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "TMPDIR",
    "TMP",
    "TEMP",
    "NODE_ENV",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
];

/// Inherited only when nobody set anything better.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Secrets by name.
pub(crate) type Secrets = BTreeMap<String, String>;

/// Why the environment cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvironmentError {
    /// `fetch-failed`.
    #[error(
        "secret {secret:?} for variable {variable} of {layer} was not handed to this dispatch; check its name in the secret store"
    )]
    MissingSecret {
        /// Name of the secret.
        secret: String,
        /// Variable that wants it.
        variable: String,
        /// Where the variable is set.
        layer: String,
    },
    /// `integrity-failed`.
    #[error("variable {variable:?} of {layer} cannot be set: {problem}")]
    Malformed {
        /// The variable.
        variable: String,
        /// Where it is set.
        layer: String,
        /// Why not.
        problem: &'static str,
    },
}

fn inherited(name: &str, extra: &[String]) -> bool {
    let never = name.starts_with("PANGOLIN_")
        || name.starts_with("AWS_CONTAINER_")
        || matches!(
            name,
            "AWS_ACCESS_KEY_ID"
                | "AWS_SECRET_ACCESS_KEY"
                | "AWS_SESSION_TOKEN"
                | "AWS_SECURITY_TOKEN"
                | "AWS_PROFILE"
                | "AWS_SHARED_CREDENTIALS_FILE"
                | "AWS_CONFIG_FILE"
                | "AWS_WEB_IDENTITY_TOKEN_FILE"
                | "AWS_ROLE_ARN"
        );
    !never
        && (ALLOWED.contains(&name) || name.starts_with("LC_") || extra.iter().any(|allowed| allowed == name))
}

/// What to replace in everything that leaves the worker: every secret, and the plain values of the layers.
#[must_use]
pub(crate) fn redactors(envelope: &Envelope, secrets: &Secrets) -> (Redactor, Redactor) {
    let plain = envelope.env.iter().flat_map(|layer| layer.values.values()).map(String::as_str);
    let values = || secrets.values().map(String::as_str);
    // Transcripts are parsed by adapters; a plain value such as a model name must stay readable there.
    (Redactor::new(values(), plain), Redactor::new(values(), std::iter::empty()))
}

/// The variables of setup script and gate scripts. The agent gets those of the launch plan on top.
///
/// # Errors
/// A secret that is not there, or a name or value the kernel cannot pass.
pub(crate) fn merged(
    envelope: &Envelope,
    secrets: &Secrets,
    host: impl Iterator<Item = (String, String)>,
    home: &str,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut env: BTreeMap<String, String> =
        host.filter(|(name, _)| inherited(name, &envelope.env_allow)).collect();
    env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    env.insert("HOME".to_owned(), home.to_owned());
    if envelope.isolation == Isolation::Sandbox {
        // The host's places and names do not exist in there.
        for name in ["TMPDIR", "TMP", "TEMP", "SHELL"] {
            env.remove(name);
        }
        env.insert("USER".to_owned(), "agent".to_owned());
        env.insert("LOGNAME".to_owned(), "agent".to_owned());
    }
    for layer in &envelope.env {
        add(&mut env, &layer.source, &layer.values, &layer.secrets, secrets)?;
    }
    let identity = [
        ("PANGOLIN_INPUT_JSON", envelope.worker_input.to_string()),
        ("PANGOLIN_DISPATCH_ID", envelope.dispatch.to_string()),
        ("PANGOLIN_RUN_ID", envelope.run.to_string()),
        ("PANGOLIN_ITEM_ID", envelope.item.to_string()),
    ];
    env.extend(identity.map(|(name, value)| (name.to_owned(), value)));
    Ok(env)
}

/// Like [`merged`] but without any secret: for programs that a plugin block starts. It gets those it was granted on
/// top, by name.
///
/// # Errors
/// As [`merged`].
pub(crate) fn without_secrets(
    envelope: &Envelope,
    host: impl Iterator<Item = (String, String)>,
    home: &str,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut envelope = envelope.clone();
    for layer in &mut envelope.env {
        layer.secrets.clear();
    }
    merged(&envelope, &Secrets::new(), host, home)
}

/// The agent's variables.
///
/// # Errors
/// As [`merged`].
pub(crate) fn for_agent(
    base: &BTreeMap<String, String>,
    envelope: &Envelope,
    secrets: &Secrets,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut env = base.clone();
    if let Some(plan) = &envelope.agent {
        add(&mut env, "the launch plan", &plan.env, &plan.env_secrets, secrets)?;
    }
    Ok(env)
}

fn add(
    env: &mut BTreeMap<String, String>,
    layer: &str,
    values: &BTreeMap<String, String>,
    names: &BTreeMap<String, String>,
    secrets: &Secrets,
) -> Result<(), EnvironmentError> {
    let mut set = |variable: &String, value: &String| {
        let problem = if variable.is_empty() || variable.contains(['=', '\0']) {
            "its name is empty or contains '=' or NUL"
        } else if value.contains('\0') {
            "its value contains NUL"
        } else {
            env.insert(variable.clone(), value.clone());
            return Ok(());
        };
        Err(EnvironmentError::Malformed { variable: variable.clone(), layer: layer.to_owned(), problem })
    };
    for (variable, value) in values {
        set(variable, value)?;
    }
    for (variable, secret) in names {
        let value = secrets.get(secret).ok_or_else(|| EnvironmentError::MissingSecret {
            secret: secret.clone(),
            variable: variable.clone(),
            layer: layer.to_owned(),
        })?;
        set(variable, value)?;
    }
    Ok(())
}
