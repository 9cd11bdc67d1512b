//! Block pipelines: the payload of a worker.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A declared or default pipeline. `seal` is structural: the worker always ends with it, it is never authored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineSpec {
    /// 1.
    pub schema_version: u32,
    /// `pack.name`.
    pub id: String,
    /// Blocks in order, at least one.
    pub blocks: Vec<Block>,
    /// Type tag of the product, recorded only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_edge_type: Option<String>,
    /// Type tags of the inputs, recorded only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_edge_types: Option<std::collections::BTreeMap<String, String>>,
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Block {
    /// The subagent's runtime adapter. Non-zero exit aborts the pipeline (`provider-failed`).
    Agent {},
    /// A shell command in the workspace.
    Script {
        /// The command.
        command: String,
        /// Seconds.
        #[serde(rename = "timeoutSeconds", default = "script_timeout")]
        timeout_seconds: u32,
        /// Whether a failure aborts or is only reported.
        #[serde(default)]
        lens: Lens,
    },
    /// Evidence collection; never aborts, but what could not be captured is reported.
    Capture {
        /// What to capture.
        what: CaptureWhat,
    },
    /// A block that somebody wrote as a component, run in the worker with what it was granted.
    Plugin {
        /// Id: of one that ships (`secret-scan`) or of an approved one (`acme/licences`).
        plugin: String,
        /// Its parameters, a JSON object.
        #[serde(default = "no_params")]
        params: Value,
        /// Seconds, together with everything it starts.
        #[serde(rename = "timeoutSeconds", default = "script_timeout")]
        timeout_seconds: u32,
        /// Whether a red verdict aborts or is only reported.
        #[serde(default)]
        lens: Lens,
        /// What a failure of the plugin itself means.
        #[serde(rename = "onFailure", default)]
        on_failure: OnFailure,
    },
}

fn no_params() -> Value {
    Value::Object(serde_json::Map::new())
}

fn script_timeout() -> u32 {
    600
}

/// What a script's failure means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lens {
    /// Failure aborts the pipeline.
    #[default]
    Gate,
    /// Report only.
    Verify,
}

/// What it means when a plugin has no answer: it trapped, ran into a limit or gave up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The pipeline aborts.
    #[default]
    Closed,
    /// It is reported and the pipeline goes on. Of a `verify` block the verification has not passed.
    Open,
}

impl Lens {
    /// The word of the pipeline.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Verify => "verify",
        }
    }
}

/// Longest plugin id in bytes.
const PLUGIN_ID_BYTES_MAX: usize = 128;

/// Largest parameters of one block as JSON text in bytes.
const PARAMS_BYTES_MAX: usize = 1 << 20;

/// `name`, or `namespace/name`, in a-z 0-9 -.
fn is_plugin_id(id: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    id.len() <= PLUGIN_ID_BYTES_MAX && id.split('/').count() <= 2 && id.split('/').all(part)
}

/// What a capture block collects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureWhat {
    /// The workspace diff against the state after setup.
    Patch,
    /// Files below `outputs/`.
    Outputs,
}

impl PipelineSpec {
    /// The brief's default: agent, capture patch, verify lens if the subagent has a verify command, capture outputs.
    #[must_use]
    pub fn default_for(verify: Option<&crate::envelope::VerifySpec>) -> Self {
        let mut blocks = vec![Block::Agent {}, Block::Capture { what: CaptureWhat::Patch }];
        if let Some(verify) = verify {
            blocks.push(Block::Script {
                command: verify.command.clone(),
                timeout_seconds: verify.timeout,
                lens: Lens::Verify,
            });
        }
        blocks.push(Block::Capture { what: CaptureWhat::Outputs });
        Self {
            schema_version: 1,
            id: "pangolin.default".to_owned(),
            blocks,
            output_edge_type: None,
            input_edge_types: None,
        }
    }

    /// Every rule that is broken, as `(JSON pointer, message)`; empty when the pipeline can run.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.schema_version != 1 {
            found.push(("/schemaVersion".to_owned(), format!("is {}, supported is 1", self.schema_version)));
        }
        let well_formed = self.id.split_once('.').is_some_and(|(pack, name)| {
            let ok = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            };
            ok(pack) && ok(name)
        });
        if !well_formed {
            found.push(("/id".to_owned(), format!("{:?} is not pack.name in a-z 0-9 -", self.id)));
        }
        if self.blocks.is_empty() {
            found.push(("/blocks".to_owned(), "has no block".to_owned()));
        }
        if self.blocks.len() > 64 {
            found.push(("/blocks".to_owned(), format!("has {} blocks, the limit is 64", self.blocks.len())));
        }
        for (index, block) in self.blocks.iter().enumerate() {
            if let Block::Script { command, timeout_seconds, .. } = block {
                if command.trim().is_empty() {
                    found.push((format!("/blocks/{index}/command"), "is empty".to_owned()));
                }
                if *timeout_seconds == 0 {
                    found.push((format!("/blocks/{index}/timeoutSeconds"), "must be at least 1".to_owned()));
                }
            }
            if let Block::Plugin { plugin, params, timeout_seconds, .. } = block {
                if !is_plugin_id(plugin) {
                    let problem =
                        format!("{plugin:?} is no plugin id; expected name or namespace/name in a-z 0-9 -");
                    found.push((format!("/blocks/{index}/plugin"), problem));
                }
                if !params.is_object() {
                    found.push((format!("/blocks/{index}/params"), "must be a JSON object".to_owned()));
                }
                let size = params.to_string().len();
                if size > PARAMS_BYTES_MAX {
                    let problem = format!("has {size} bytes, the limit is {PARAMS_BYTES_MAX}");
                    found.push((format!("/blocks/{index}/params"), problem));
                }
                if *timeout_seconds == 0 {
                    found.push((format!("/blocks/{index}/timeoutSeconds"), "must be at least 1".to_owned()));
                }
            }
        }
        found
    }

    /// Ids of the plugins it uses, each once, in order of their first use.
    #[must_use]
    pub fn plugins(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = Vec::new();
        for block in &self.blocks {
            if let Block::Plugin { plugin, .. } = block
                && !ids.contains(&plugin.as_str())
            {
                ids.push(plugin);
            }
        }
        ids
    }
}
