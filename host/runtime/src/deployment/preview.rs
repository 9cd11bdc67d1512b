//! What a plan would look like once its pattern has seen it. Nothing is stored.

use pangolin_core::{
    pattern::{Decisions, Tracker},
    plan::Plan,
    validate::{Finding, Severity},
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
    /// Asks the pattern of the plan's queue about the plan.
    ///
    /// # Errors
    /// Every finding at once; a pattern that fails is a finding about the queue.
    pub async fn preview(&self, plan: &[u8], queue: Option<&str>) -> Result<Preview, Vec<Finding>> {
        let (mut plan, _) = self.check(plan, queue)?;
        let error = |pointer: &str, code, message, hint| Finding {
            pointer: pointer.to_owned(),
            code,
            severity: Severity::Error,
            message,
            hint,
        };
        let broken = |message| vec![error("/queue", "pattern", message, None)];
        let queue = match queue {
            Some(queue) => pangolin_core::ids::QueueName::new(queue).map_err(|e| broken(e.to_string()))?,
            None => plan.queue.clone(),
        };
        let Some(binding) = self.config.queues.get(&queue) else {
            return Err(broken(format!("queue {queue} is not configured")));
        };
        let pattern = binding.pattern.clone();
        let plugins = Plugins::open(&self.config).map_err(|error| broken(causes(&error)))?;
        let component = plugins.pattern(&pattern).await.map_err(|error| broken(causes(&error)))?;
        let params = serde_json::Value::Object(binding.params.clone());
        let params = pangolin_audit::canon::to_vec(&params).map_err(|error| broken(causes(&error)))?;
        let params = String::from_utf8_lossy(&params).into_owned();
        plan.queue = queue;
        let seed = pangolin_audit::decision::seed(&self.config.namespace, &plan.id);
        let view = Tracker::planning(&plan, params, seed, self.now());
        let outcome = component.plan(&view).await.map_err(|error| broken(causes(&error)))?;
        let decisions = outcome.map(|outcome| outcome.decisions).unwrap_or_default();
        if !decisions.findings.is_empty() {
            let findings = decisions.findings.into_iter();
            return Err(findings.map(|f| error(&f.pointer, "pattern", f.message, f.hint)).collect());
        }
        for order in &decisions.ordered {
            let waits = plan.items.iter_mut().find(|item| item.id == order.item);
            if let Some(item) = waits.filter(|item| !item.depends_on.contains(&order.after)) {
                item.depends_on.push(order.after.clone());
            }
        }
        for item in plan.items.iter_mut().filter(|item| decisions.held.contains(&item.id)) {
            item.hold_on_red = true;
        }
        Ok(Preview { plan, pattern, decisions })
    }
}
