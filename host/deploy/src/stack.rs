//! Calls to CloudFormation.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_cloudformation::{
    Client,
    types::{Capability, ChangeSetStatus, ChangeSetType, Parameter, Stack, StackStatus, Tag},
};
use pangolin_aws::CallError;
use serde_json::Value;
use tokio::time::Instant;

use crate::{DeployError, Progress, plan::Change, progress::Watch};

/// How long a change may take. Roles, table and functions need a few minutes.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// One stack, by name.
#[derive(Debug, Clone)]
pub(crate) struct StackApi {
    client: Client,
    pub(crate) name: String,
    pause: Duration,
}

/// What a stack says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) changed: Option<String>,
}

impl Described {
    /// # Errors
    /// [`DeployError::Unexpected`] when the stack has no such output.
    pub(crate) fn output(&self, name: &str) -> Result<&str, DeployError> {
        self.outputs.get(name).map(String::as_str).ok_or_else(|| {
            DeployError::Unexpected(format!(
                "the stack has no output {name}: it was not made by this program, or not to the end; apply again"
            ))
        })
    }
}

/// A finished or failed change set.
pub(crate) struct ChangeSet {
    pub(crate) id: String,
    pub(crate) changes: Vec<Change>,
}

impl StackApi {
    pub(crate) fn new(client: Client, name: &str, pause: Duration) -> Self {
        Self { client, name: name.to_owned(), pause }
    }

    fn failed(&self, doing: &str) -> impl FnOnce(CallError) -> DeployError {
        DeployError::call(format!("{doing} stack {}", self.name))
    }

    /// `None` when there is no such stack, or only the trace of a plan.
    pub(crate) async fn describe(&self) -> Result<Option<Described>, DeployError> {
        let answer =
            self.client.describe_stacks().stack_name(&self.name).send().await.map_err(CallError::new);
        let answer = match answer {
            // CloudFormation has no code of its own for it.
            Err(error)
                if error.code() == Some("ValidationError")
                    && error.to_string().contains("does not exist") =>
            {
                return Ok(None);
            }
            other => other.map_err(self.failed("describing"))?,
        };
        Ok(answer
            .stacks()
            .first()
            .map(described)
            .filter(|it| it.status != "REVIEW_IN_PROGRESS" && it.status != "DELETE_COMPLETE"))
    }

    pub(crate) async fn expect(&self) -> Result<Described, DeployError> {
        self.describe().await?.ok_or_else(|| DeployError::NoStack(self.name.clone()))
    }

    /// Makes a change set and waits until it is computed. `None`: there is nothing to change.
    pub(crate) async fn propose(
        &self,
        kind: ChangeSetType,
        template: &str,
        parameters: &[(&str, String)],
        tags: &BTreeMap<String, String>,
    ) -> Result<Option<ChangeSet>, DeployError> {
        let random = getrandom::u64().map_err(|error| {
            DeployError::Unexpected(format!("the system gives no random number: {error}"))
        })?;
        let parameters = parameters
            .iter()
            .map(|(key, value)| Parameter::builder().parameter_key(*key).parameter_value(value).build());
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let answer = self
            .client
            .create_change_set()
            .stack_name(&self.name)
            .change_set_name(format!("pangolin-{random:016x}"))
            .change_set_type(kind)
            .template_body(template)
            .set_parameters(Some(parameters.collect()))
            .set_tags(Some(tags.collect()))
            .capabilities(Capability::CapabilityIam)
            .send()
            .await
            .map_err(CallError::new)
            .map_err(self.failed("making a change set for"))?;
        let id = answer
            .id()
            .ok_or_else(|| DeployError::Unexpected(format!("the change set for {} has no id", self.name)))?
            .to_owned();
        self.computed(id).await
    }

    async fn computed(&self, id: String) -> Result<Option<ChangeSet>, DeployError> {
        let begin = Instant::now();
        let mut changes = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let answer = self
                .client
                .describe_change_set()
                .change_set_name(&id)
                .stack_name(&self.name)
                .set_next_token(token.take())
                .send()
                .await
                .map_err(CallError::new)
                .map_err(self.failed("reading the change set of"))?;
            match answer.status() {
                Some(ChangeSetStatus::CreateComplete) => {
                    let found = answer.changes().iter().filter_map(|change| change.resource_change());
                    changes.extend(found.map(Change::read));
                    match answer.next_token() {
                        Some(next) => token = Some(next.to_owned()),
                        None => return Ok(Some(ChangeSet { id, changes })),
                    }
                    continue;
                }
                Some(ChangeSetStatus::Failed) => {
                    let reason = answer.status_reason().unwrap_or("no reason given").to_owned();
                    self.drop_change_set(&id).await?;
                    // The two wordings that CloudFormation has for it.
                    if reason.contains("didn't contain changes")
                        || reason.contains("No updates are to be performed")
                    {
                        return Ok(None);
                    }
                    return Err(DeployError::Failed {
                        stack: self.name.clone(),
                        status: "change set FAILED".to_owned(),
                        failed: vec![reason],
                    });
                }
                _ => {}
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.slow("computing changes"));
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    pub(crate) async fn drop_change_set(&self, id: &str) -> Result<(), DeployError> {
        let request = self.client.delete_change_set().change_set_name(id).stack_name(&self.name).send().await;
        request.map(drop).map_err(CallError::new).map_err(self.failed("removing a change set of"))
    }

    pub(crate) async fn execute(&self, change_set: &str, watch: Watch<'_>) -> Result<Described, DeployError> {
        let seen = self.newest_event().await?;
        self.client
            .execute_change_set()
            .change_set_name(change_set)
            .stack_name(&self.name)
            // What a failed first creation made is empty: it does not stay, although it would otherwise.
            .retain_except_on_create(true)
            .send()
            .await
            .map_err(CallError::new)
            .map_err(self.failed("executing the change set of"))?;
        let end = self.settled(&self.name, seen, watch).await?;
        end.ok_or_else(|| DeployError::NoStack(self.name.clone()))
    }

    /// Deletes the stack and waits.
    pub(crate) async fn delete(&self, watch: Watch<'_>) -> Result<(), DeployError> {
        let seen = self.newest_event().await?;
        let id = self.stack_id().await?;
        let request = self.client.delete_stack().stack_name(&id).send().await;
        request.map(drop).map_err(CallError::new).map_err(self.failed("deleting"))?;
        self.settled(&id, seen, watch).await.map(drop)
    }

    /// Removes the empty stack that a plan for a new one leaves. One that somebody else has begun to make meanwhile stays.
    pub(crate) async fn forget_review(&self) -> Result<(), DeployError> {
        let answer = self.client.describe_stacks().stack_name(&self.name).send().await;
        let answer = match answer.map_err(CallError::new) {
            Err(error) if error.to_string().contains("does not exist") => return Ok(()),
            other => other.map_err(self.failed("describing"))?,
        };
        let Some(stack) = answer.stacks().first() else { return Ok(()) };
        if stack.stack_status() != Some(&StackStatus::ReviewInProgress) {
            return Ok(());
        }
        let id = stack.stack_id().unwrap_or(&self.name);
        let request = self.client.delete_stack().stack_name(id).send().await;
        request.map(drop).map_err(CallError::new).map_err(self.failed("removing the trace of a plan of"))
    }

    async fn stack_id(&self) -> Result<String, DeployError> {
        let answer = self.client.describe_stacks().stack_name(&self.name).send().await;
        let answer = answer.map_err(CallError::new).map_err(self.failed("describing"))?;
        // A deleted stack is found by its id only.
        let id = answer.stacks().first().and_then(Stack::stack_id).map(str::to_owned);
        Ok(id.unwrap_or_else(|| self.name.clone()))
    }

    /// Waits until nothing changes any more and tells what happens meanwhile. `None`: the stack is gone.
    async fn settled(
        &self,
        stack: &str,
        mut seen: Option<String>,
        watch: Watch<'_>,
    ) -> Result<Option<Described>, DeployError> {
        let begin = Instant::now();
        let mut failures = Vec::new();
        loop {
            let answer = self.client.describe_stacks().stack_name(stack).send().await.map_err(CallError::new);
            let now = match answer {
                Err(error) if error.to_string().contains("does not exist") => return Ok(None),
                other => other.map_err(self.failed("describing"))?.stacks().first().map(described),
            };
            for event in self.events_since(stack, seen.as_deref()).await?.into_iter().rev() {
                seen = Some(event.key);
                if event.status.ends_with("_FAILED") {
                    let reason = event.reason.clone().unwrap_or_else(|| "no reason given".to_owned());
                    failures.push(format!("{}: {reason}", event.id));
                }
                watch(Progress::Resource { id: event.id, status: event.status, reason: event.reason });
            }
            let Some(now) = now else { return Ok(None) };
            match now.status.as_str() {
                "DELETE_COMPLETE" => return Ok(None),
                "CREATE_COMPLETE" | "UPDATE_COMPLETE" => return Ok(Some(now)),
                status if !status.ends_with("_IN_PROGRESS") => {
                    failures.extend(now.reason);
                    return Err(DeployError::Failed {
                        stack: self.name.clone(),
                        status: status.to_owned(),
                        failed: failures,
                    });
                }
                _ => {}
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.slow(&now.status));
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    fn slow(&self, status: &str) -> DeployError {
        DeployError::Slow { stack: self.name.clone(), status: status.to_owned(), seconds: PATIENCE.as_secs() }
    }

    async fn newest_event(&self) -> Result<Option<String>, DeployError> {
        Ok(self.events_since(&self.name, None).await?.into_iter().next().map(|event| event.key))
    }

    /// Newest first, up to the event `seen`; one page, because between two looks little happens.
    async fn events_since(&self, stack: &str, seen: Option<&str>) -> Result<Vec<Event>, DeployError> {
        let answer = self.client.describe_stack_events().stack_name(stack).send().await;
        let answer = match answer.map_err(CallError::new) {
            Err(error) if error.to_string().contains("does not exist") => return Ok(Vec::new()),
            other => other.map_err(self.failed("reading events of"))?,
        };
        let events = answer.stack_events().iter().map(|event| Event {
            key: event.event_id().unwrap_or_default().to_owned(),
            id: event.logical_resource_id().unwrap_or_default().to_owned(),
            status: event.resource_status().map_or_else(String::new, |status| status.as_str().to_owned()),
            reason: event.resource_status_reason().filter(|reason| !reason.is_empty()).map(str::to_owned),
        });
        Ok(events.take_while(|event| Some(event.key.as_str()) != seen).collect())
    }

    /// The template in force.
    pub(crate) async fn template(&self) -> Result<Value, DeployError> {
        let answer = self.client.get_template().stack_name(&self.name).send().await;
        let answer = answer.map_err(CallError::new).map_err(self.failed("reading the template of"))?;
        serde_json::from_str(answer.template_body().unwrap_or_default()).map_err(|error| {
            DeployError::Unexpected(format!("the template of {} is no JSON: {error}", self.name))
        })
    }
}

struct Event {
    key: String,
    id: String,
    status: String,
    reason: Option<String>,
}

fn described(stack: &Stack) -> Described {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    Described {
        status: stack.stack_status().map_or_else(String::new, |status| status.as_str().to_owned()),
        reason: stack.stack_status_reason().filter(|reason| !reason.is_empty()).map(str::to_owned),
        parameters: stack
            .parameters()
            .iter()
            .map(|it| (text(it.parameter_key()), text(it.parameter_value())))
            .collect(),
        outputs: stack.outputs().iter().map(|it| (text(it.output_key()), text(it.output_value()))).collect(),
        changed: stack.last_updated_time().or(stack.creation_time()).map(ToString::to_string),
    }
}
