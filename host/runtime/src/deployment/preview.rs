//! What a plan would look like once its pattern has seen it. Nothing is stored.

use std::{collections::HashMap, sync::Arc};

use pangolin_core::{
    ids::ItemId,
    pattern::{Decisions, RunItem, RunView},
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
        let mut view =
            RunView { run_id: plan.id.to_string(), params_json: "{}".to_owned(), ..RunView::default() };
        let index: HashMap<&ItemId, u32> =
            (0_u32..).zip(&plan.items).map(|(index, item)| (&item.id, index)).collect();
        for item in &plan.items {
            let depends_on = item.depends_on.iter().filter_map(|id| index.get(id).copied()).collect();
            view.push(RunItem::waiting(Arc::new(item.clone()), depends_on));
        }
        let outcome = component.plan(&Arc::new(view)).await.map_err(|error| broken(causes(&error)))?;
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
        plan.queue = queue;
        Ok(Preview { plan, pattern, decisions })
    }
}
