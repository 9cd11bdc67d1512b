//! What a plan would look like once its pattern has seen it. Nothing is stored.

use pangolin_core::{
    ids::QueueName,
    pattern::{Decisions, Tracker, apply_plan_decisions},
    plan::Plan,
    validate::{Finding, PlanContext, Severity, parse_plan},
};
use pangolin_orchestrator::causes::causes;

use super::Deployment;
use crate::plugins::Plugins;

/// A plan with what the pattern of its queue says about it.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The plan, with the order and holds that the pattern adds.
    pub plan: Plan,
    /// Id of the pattern.
    pub pattern: String,
    /// What it decided, possible items included.
    pub decisions: Decisions,
}

impl Deployment {
    /// Asks the pattern of the plan's queue about the plan. What stands in the way is what a submission would be told.
    ///
    /// # Errors
    /// Every finding at once; a pattern that cannot be used or fails is a finding about the queue.
    pub async fn preview(&self, plan: &[u8], queue: Option<&str>) -> Result<Preview, Vec<Finding>> {
        let (parsed, _) = self.check(plan, queue)?;
        self.ask_planner(plan, parsed, queue).await
    }

    /// `plan` as parsed from `text`.
    pub(super) async fn ask_planner(
        &self,
        text: &[u8],
        mut plan: Plan,
        queue: Option<&str>,
    ) -> Result<Preview, Vec<Finding>> {
        let broken = |message| vec![finding("/queue", message, None)];
        if let Some(queue) = queue {
            plan.queue = QueueName::new(queue).map_err(|error| broken(error.to_string()))?;
        }
        let Some(binding) = self.config.queues.get(&plan.queue) else {
            return Err(broken(format!("queue {} is not configured", plan.queue)));
        };
        let pattern = binding.pattern.clone();
        let plugins = Plugins::open(&self.config).map_err(|error| broken(causes(&error)))?;
        let component = plugins.pattern(&pattern).await.map_err(|error| broken(causes(&error)))?;
        let params = serde_json::Value::Object(binding.params.clone());
        let params = pangolin_audit::canon::to_vec(&params).map_err(|error| broken(causes(&error)))?;
        let params = String::from_utf8_lossy(&params).into_owned();
        let seed = pangolin_audit::decision::seed(&self.config.namespace, &plan.id);
        let view = Tracker::planning(&plan, params, seed, self.now());
        let outcome = component.plan(&view).await.map_err(|error| {
            let hint = "bind another pattern to the queue, or look at the message".to_owned();
            vec![finding("/queue", format!("pattern {pattern:?} failed: {}", error.failure), Some(hint))]
        })?;
        let decisions = outcome.map(|outcome| outcome.decisions).unwrap_or_default();
        if !decisions.findings.is_empty() {
            let findings = decisions.findings.into_iter();
            return Err(findings.map(|found| finding(&found.pointer, found.message, found.hint)).collect());
        }
        let plan = self.amended(text, plan, &pattern, &decisions)?;
        Ok(Preview { plan, pattern, decisions })
    }

    /// The plan as the engine would store it after the pattern has amended it.
    fn amended(
        &self,
        text: &[u8],
        plan: Plan,
        pattern: &str,
        decisions: &Decisions,
    ) -> Result<Plan, Vec<Finding>> {
        let broken =
            |why: String| finding("/queue", format!("pattern {pattern:?} cannot be followed: {why}"), None);
        let submitted = serde_json::from_slice(text).map_err(|error| vec![broken(error.to_string())])?;
        let whole = apply_plan_decisions(submitted, decisions)
            .map_err(|errors| errors.iter().map(|error| broken(error.to_string())).collect::<Vec<_>>())?;
        if !decisions.amends_plan() {
            return Ok(plan);
        }
        let graph = pangolin_audit::canon::to_vec(&whole).map_err(|error| vec![broken(causes(&error))])?;
        let context = PlanContext { queues: None, ..self.context() };
        let parsed = parse_plan(&graph, &context).map_err(|mut findings| {
            for found in &mut findings {
                found.message = format!("{} (in the plan as pattern {pattern:?} amended it)", found.message);
            }
            findings
        })?;
        Ok(Plan { queue: plan.queue, ..parsed.plan })
    }
}

fn finding(pointer: &str, message: String, hint: Option<String>) -> Finding {
    Finding { pointer: pointer.to_owned(), code: "pattern", severity: Severity::Error, message, hint }
}
