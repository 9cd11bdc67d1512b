//! Why a plugin was denied something in a run: from the sealed result record to the line that would grant it.

use pangolin_core::ids::{Digest, ItemId, RunId};
use pangolin_plugin_authority::{Diagnosis, Manifest, ProjectGrant, Request, diagnose, extract};
use serde::Serialize;
use serde_json::Value;

use super::{PluginsError, store::Store};
use crate::deployment::{Deployment, RuntimeError};

/// One denial of one attempt.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DenialReport {
    /// Attempt, from 1.
    pub attempt: u32,
    /// Plugin.
    pub plugin: String,
    /// Its component in that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Capability.
    pub capability: String,
    /// What it wanted.
    pub subject: String,
    /// The rule that said no then, as recorded.
    pub rule: String,
    /// How often.
    pub count: u64,
    /// Which layer says no now, and the line that would change it; absent when the component is not here any more
    /// or the subject is of a kind that no grant is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Diagnosis>,
}

/// Every recorded denial of an item, in order of attempts.
///
/// # Errors
/// [`RuntimeError::NotFound`] when run or item do not exist.
pub async fn why_denied(
    deployment: &Deployment,
    run: &RunId,
    item: &ItemId,
) -> Result<Vec<DenialReport>, RuntimeError> {
    let view = deployment.run_view(run).await?;
    let item = view.items.iter().find(|found| found.id == *item).ok_or_else(|| RuntimeError::NotFound {
        what: format!("item {item:?} of run {run:?}", item = item.as_str(), run = run.as_str()),
        hint: format!("`pangolin orch status {run}` lists its items"),
    })?;
    let config = deployment.config();
    let operator = config.operator_policy().map_err(PluginsError::from)?;
    let config_now = config.reread_plugins()?;
    let mut found = Vec::new();
    for attempt in &item.attempts {
        let Some(digest) = attempt.result else { continue };
        let record: Value = serde_json::from_slice(&deployment.blob(&digest).await?).unwrap_or_default();
        for block in record["worker"]["blocks"].as_array().into_iter().flatten() {
            let evidence = &block["plugin"];
            let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
            let plugin = text(evidence, "id");
            let sha256 = evidence["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
            let manifest = sha256.and_then(|digest| manifest_of(config, &plugin, &digest));
            for denial in evidence["denials"].as_array().into_iter().flatten() {
                let (capability, subject) = (text(denial, "capability"), text(denial, "subject"));
                let now = manifest.as_ref().zip(Request::parse(&capability, &subject)).map(
                    |(manifest, request)| {
                        let project = match config_now.plugins.get(&plugin) {
                            None if manifest.id.is_builtin() => {
                                ProjectGrant::as_asked(manifest, config.file.display().to_string())
                            }
                            _ => config_now.plugin_grant(&plugin),
                        };
                        diagnose(manifest, &project, &operator, &request)
                    },
                );
                found.push(DenialReport {
                    attempt: attempt.attempt,
                    plugin: plugin.clone(),
                    sha256,
                    capability,
                    subject,
                    rule: text(denial, "rule"),
                    count: denial["count"].as_u64().unwrap_or(1),
                    now,
                });
            }
        }
    }
    Ok(found)
}

/// The manifest of the component that ran, when its bytes are still here.
fn manifest_of(config: &crate::config::Config, id: &str, digest: &Digest) -> Option<Manifest> {
    if let Some(bytes) = pangolin_builtin_plugins::block(id).filter(|bytes| Digest::of(bytes) == *digest) {
        return extract(bytes).ok();
    }
    extract(&Store::new(&config.state).get(id, digest).ok()??).ok()
}
