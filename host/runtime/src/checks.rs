//! What can be told about a definition before it is registered: the plugins it names are loaded and asked.
//!
//! A plugin that cannot be used here is a warning: it may be installed, approved or fetched until a run needs it, and a
//! definition may be for another machine. A submission refuses it. What a plugin says is wrong is an error: it will say so
//! again.

use pangolin_core::validate::{Finding, Severity};
use pangolin_envelope::pipeline::{Block, PipelineSpec};
use pangolin_orchestrator::causes::causes;

use crate::{
    config::Config,
    dispatch::{load_block, of_subagent},
    plugins::Plugins,
    registry::SubagentDoc,
};

fn finding(severity: Severity, code: &'static str, pointer: String, message: String) -> Finding {
    Finding { pointer, code, severity, message, hint: None }
}

fn unusable(pointer: &str, why: String) -> Finding {
    finding(Severity::Warning, "plugin", pointer.to_owned(), why)
}

/// Findings about a subagent; pointers are into its document.
pub async fn subagent(config: &Config, doc: &SubagentDoc) -> Vec<Finding> {
    let at = "/adapter/id";
    let adapter = async {
        let plugins = Plugins::open(config)?;
        let bytes = plugins.adapter_bytes(&doc.adapter.id)?;
        plugins.adapter(&doc.adapter.id, bytes).await
    };
    let adapter = match adapter.await {
        Ok(adapter) => adapter,
        Err(error) => return vec![unusable(at, causes(&error))],
    };
    let problems = of_subagent(doc, &adapter).await.into_iter();
    let named = |problem: String| format!("subagent {:?}, adapter {:?}: {problem}", doc.name, doc.adapter.id);
    problems
        .map(|problem| finding(Severity::Error, "params", problem.pointer, named(problem.problem)))
        .collect()
}

/// Findings about a pipeline; pointers are into its document.
pub async fn pipeline(config: &Config, spec: &PipelineSpec) -> Vec<Finding> {
    if spec.plugins().is_empty() {
        return Vec::new();
    }
    let plugins = match Plugins::open(config) {
        Ok(plugins) => plugins,
        Err(error) => return vec![unusable("/blocks", causes(&error))],
    };
    let mut found = Vec::new();
    for (index, block) in spec.blocks.iter().enumerate() {
        let Block::Plugin { plugin: id, params, .. } = block else { continue };
        match load_block(&plugins, id).await {
            Ok(component) => {
                for problem in component.check_params(params).await {
                    let pointer = format!("/blocks/{index}{}", problem.pointer);
                    let message = format!("block plugin {id:?}: {}", problem.problem);
                    found.push(finding(Severity::Error, "params", pointer, message));
                }
            }
            Err(why) => found.push(unusable(&format!("/blocks/{index}/plugin"), why)),
        }
    }
    found
}
