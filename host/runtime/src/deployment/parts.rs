//! Driving a deployment: what the engine is put together from.

use std::sync::Arc;

use pangolin_orchestrator::{admission::Admission, driver::Parts, senders::Senders};

use super::{Deployment, RuntimeError, place::EngineParts};
use crate::{
    dispatch::{DispatchExecutor, DispatchParts, Patience, RuntimeAdmission},
    patterns::ComponentPatterns,
};

/// How often one look tries a commit that is not answered. The store repeats by itself for seconds, and the next look begins with
/// what is there: waiting on is time that is paid for.
const COMMIT_TRIES: u32 = 2;

impl Deployment {
    /// What the driver works with.
    ///
    /// # Errors
    /// [`RuntimeError::Patterns`].
    pub(crate) fn parts(&self, engine: EngineParts) -> Result<(Parts, DispatchExecutor), RuntimeError> {
        let EngineParts {
            key,
            plugins,
            backends,
            secrets,
            workspaces,
            patience,
            leadership,
            holder,
            on_lead,
        } = engine;
        let problems = crate::patterns::problems(&self.config, &plugins);
        if !problems.is_empty() {
            return Err(RuntimeError::Patterns(problems));
        }
        let patterns = ComponentPatterns::new(self.config.clone(), plugins.clone(), self.blobs.clone());
        let admission: Arc<dyn Admission> = Arc::new(RuntimeAdmission {
            config: self.config.clone(),
            registry: self.registry.clone(),
            blobs: self.blobs.clone(),
            plugins: plugins.clone(),
            backends: backends.clone(),
            context: Arc::new(self.context()),
            workspaces: workspaces.clone(),
        });
        let commit_tries = match patience {
            Patience::UntilTheEnd => None,
            Patience::OneLook => Some(COMMIT_TRIES),
        };
        let executor = DispatchExecutor::new(DispatchParts {
            config: self.config.clone(),
            registry: self.registry.clone(),
            blobs: self.blobs.clone(),
            plugins,
            clock: self.clock.clone(),
            backends,
            secrets,
            workspaces,
            result_keys: key.results.clone(),
            patience,
        });
        let parts = Parts {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            inbox: self.inbox.clone(),
            clock: self.clock.clone(),
            key: key.signing,
            leadership,
            executor: Arc::new(executor.clone()),
            admission,
            patterns: Arc::new(patterns),
            senders: Senders::new(self.config.senders.clone()),
            queues: self.queue_policies(),
            holder,
            commit_tries,
            on_lead,
        };
        Ok((parts, executor))
    }
}
