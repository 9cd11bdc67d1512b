//! What ECS is asked.

use std::collections::HashMap;

use aws_sdk_ecs::{
    Client,
    operation::run_task::RunTaskError,
    types::{
        AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, ContainerOverride, DesiredStatus,
        KeyValuePair, LaunchType, NetworkConfiguration, Task, TaskOverride,
    },
};
use pangolin_aws::CallError;
use pangolin_core::ids::DispatchId;
use pangolin_envelope::start::START_URL;
use pangolin_ports::worker_backend::BackendError;

use crate::{
    config::{FargateConfig, Launch},
    error::failed,
};

/// Characters of JSON that the overrides of RunTask may have.
pub(crate) const OVERRIDES_MAX: usize = 8_192;

/// Answer of RunTask.
#[derive(Debug)]
pub(crate) enum Ran {
    /// This request started it, or one before with the same parameters.
    Task(String),
    /// Another request for the same dispatch was first.
    Conflict(Vec<String>),
}

#[derive(Debug)]
pub(crate) struct Tasks {
    client: Client,
    config: FargateConfig,
}

/// Who asks for what.
pub(crate) struct Order<'a> {
    pub(crate) definition: &'a str,
    pub(crate) token: &'a str,
    pub(crate) started_by: &'a str,
    pub(crate) url: &'a str,
}

/// Length of the overrides as they are sent.
pub(crate) fn overrides_length(container: &str, url: &str) -> usize {
    let json = serde_json::json!({
        "containerOverrides": [{"name": container, "environment": [{"name": START_URL, "value": url}]}]
    });
    json.to_string().chars().count()
}

impl Tasks {
    pub(crate) fn new(client: Client, config: &FargateConfig) -> Self {
        Self { client, config: config.clone() }
    }

    /// ARNs of all tasks of a dispatch that ECS shows.
    pub(crate) async fn list(&self, started_by: &str) -> Result<Vec<String>, BackendError> {
        let mut arns = self.listed(started_by, DesiredStatus::Running).await?;
        arns.extend(self.listed(started_by, DesiredStatus::Stopped).await?);
        arns.sort();
        arns.dedup();
        Ok(arns)
    }

    /// ARNs of the tasks of a dispatch that nobody has stopped and that have not ended.
    pub(crate) async fn alive(&self, started_by: &str) -> Result<Vec<String>, BackendError> {
        self.listed(started_by, DesiredStatus::Running).await
    }

    async fn listed(&self, started_by: &str, desired: DesiredStatus) -> Result<Vec<String>, BackendError> {
        let request = self.client.list_tasks().cluster(&self.config.cluster).started_by(started_by);
        let sent = request.desired_status(desired).send().await;
        let page =
            sent.map_err(|error| failed("looking for tasks of the dispatch", CallError::new(error)))?;
        // More than one page of tasks of one dispatch cannot be; the first decides anyway.
        Ok(page.task_arns.unwrap_or_default())
    }

    pub(crate) async fn run(&self, dispatch: &DispatchId, order: Order<'_>) -> Result<Ran, BackendError> {
        let config = &self.config;
        let unusable = |source| BackendError::Other {
            context: "describe the network of a task".to_owned(),
            source: Box::new(source),
        };
        let public = if config.assign_public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
        let network = AwsVpcConfiguration::builder()
            .set_subnets(Some(config.subnets.clone()))
            .set_security_groups(Some(config.security_groups.clone()))
            .assign_public_ip(public)
            .build()
            .map_err(unusable)?;
        let environment = KeyValuePair::builder().name(START_URL).value(order.url).build();
        let container = ContainerOverride::builder().name(&config.container).environment(environment).build();
        let request = self
            .client
            .run_task()
            .cluster(&config.cluster)
            .task_definition(order.definition)
            .count(1)
            .client_token(order.token)
            .started_by(order.started_by)
            .network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build())
            .overrides(TaskOverride::builder().container_overrides(container).build());
        let request = match config.launch {
            Launch::Fargate => request.launch_type(LaunchType::Fargate),
            Launch::FargateSpot => {
                let spot = CapacityProviderStrategyItem::builder()
                    .capacity_provider("FARGATE_SPOT")
                    .weight(1)
                    .build();
                request.capacity_provider_strategy(spot.map_err(unusable)?)
            }
        };
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(RunTaskError::ConflictException(conflict)) = error.as_service_error() {
                    return Ok(Ran::Conflict(conflict.resource_ids().to_vec()));
                }
                return Err(failed(format!("starting a task for {dispatch}"), CallError::new(error)));
            }
        };
        if let Some(arn) = answer.tasks().iter().find_map(|task| task.task_arn()) {
            return Ok(Ran::Task(arn.to_owned()));
        }
        let reasons: Vec<String> = answer
            .failures()
            .iter()
            .map(|failure| {
                [failure.reason(), failure.detail()].into_iter().flatten().collect::<Vec<_>>().join(": ")
            })
            .collect();
        // No capacity, most of the time.
        Err(BackendError::Unavailable(format!("ECS started no task for {dispatch}: {}", reasons.join("; "))))
    }

    /// `None` when ECS does not show it (yet, or any more).
    pub(crate) async fn describe(&self, arn: &str) -> Result<Option<Task>, BackendError> {
        let sent = self.client.describe_tasks().cluster(&self.config.cluster).tasks(arn).send().await;
        let answer = sent.map_err(|error| failed(format!("looking at task {arn}"), CallError::new(error)))?;
        Ok(answer.tasks.unwrap_or_default().into_iter().next())
    }

    /// When each task that is to run was made (milliseconds since the epoch), by its `startedBy`. Of the whole cluster, a hundred
    /// per request.
    pub(crate) async fn running(&self) -> Result<HashMap<String, i64>, BackendError> {
        let mut found = HashMap::new();
        let mut token = None;
        loop {
            let request = self.client.list_tasks().cluster(&self.config.cluster);
            let request = request.desired_status(DesiredStatus::Running).set_next_token(token);
            let page = request
                .send()
                .await
                .map_err(|error| failed("listing running tasks", CallError::new(error)))?;
            if !page.task_arns().is_empty() {
                let request = self.client.describe_tasks().cluster(&self.config.cluster);
                let sent = request.set_tasks(page.task_arns.clone()).send().await;
                let answer =
                    sent.map_err(|error| failed("looking at running tasks", CallError::new(error)))?;
                found.extend(answer.tasks().iter().filter_map(|task| {
                    let made = task.created_at()?.to_millis().ok()?;
                    (task.last_status() != Some("STOPPED"))
                        .then(|| Some((task.started_by()?.to_owned(), made)))?
                }));
            }
            token = page.next_token().map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// Asks for the end of a task. One that is gone is fine.
    pub(crate) async fn stop(&self, arn: &str, reason: &str) -> Result<(), BackendError> {
        let sent =
            self.client.stop_task().cluster(&self.config.cluster).task(arn).reason(reason).send().await;
        match sent.map_err(CallError::new) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), Some("InvalidParameterException" | "ClientException")) => {
                Ok(())
            }
            Err(error) => Err(failed(format!("stopping task {arn}"), error)),
        }
    }
}
