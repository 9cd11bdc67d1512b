//! Whether a stack does its work: when it last looked, what waits, which alarms are on.

use std::fmt::Display;

use aws_sdk_cloudwatch::types::MetricAlarm;
use aws_sdk_sqs::types::QueueAttributeName;
use pangolin_aws::{CallError, Service};
use pangolin_orchestrator::lease::{LastLook, last_look};
use pangolin_store_dynamodb::{DynamoRunStore, Retry};
use serde::Serialize;

use crate::{DeployError, Deployer, stack::Described};

/// A queue. SQS counts roughly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueDepth {
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that somebody works on.
    pub in_work: u64,
    /// Messages that come later.
    pub delayed: u64,
}

/// An alarm of the stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// Its name in CloudWatch.
    pub name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    /// Since when, RFC 3339.
    pub since: Option<String>,
    /// What it means, from the template.
    pub about: Option<String>,
}

/// What [`Deployer::pulse`] found. What could not be read is `None`, and `unreadable` says why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pulse {
    /// The last look of the tick; none before the first one.
    pub last_look: Option<LastLook>,
    /// Doorbells.
    pub doorbells: Option<QueueDepth>,
    /// What could not be handled.
    pub dead_letters: Option<QueueDepth>,
    /// All alarms.
    pub alarms: Option<Vec<Alarm>>,
    /// `what: why`.
    pub unreadable: Vec<String>,
}

impl Deployer {
    /// Looks at ledger, queues and alarms. Needs the rights to read them.
    ///
    /// # Errors
    /// [`DeployError::NoStack`], or [`DeployError::Call`] when the stack itself cannot be described.
    pub async fn pulse(&self) -> Result<Pulse, DeployError> {
        let now = self.stack.expect().await?;
        let mut pulse = Pulse::default();
        match self.last_look(&now).await {
            Ok(look) => pulse.last_look = look,
            Err(error) => pulse.unreadable.push(format!("last look: {error}")),
        }
        for (output, what) in [("DoorbellUrl", "doorbells"), ("DeadLettersUrl", "dead letters")] {
            let depth = match self.depth(&now, output).await {
                Ok(depth) => Some(depth),
                Err(error) => {
                    pulse.unreadable.push(format!("{what}: {error}"));
                    None
                }
            };
            if output == "DoorbellUrl" {
                pulse.doorbells = depth;
            } else {
                pulse.dead_letters = depth;
            }
        }
        match self.alarms(&now).await {
            Ok(alarms) => pulse.alarms = Some(alarms),
            Err(error) => pulse.unreadable.push(format!("alarms: {error}")),
        }
        Ok(pulse)
    }

    async fn last_look(&self, now: &Described) -> Result<Option<LastLook>, DeployError> {
        let table = now.output("TableName")?;
        let failed = |error: &dyn Display| DeployError::Unexpected(format!("table {table}: {error}"));
        let client = aws_sdk_dynamodb::Client::new(&self.aws.sdk(Service::DynamoDb));
        let store = DynamoRunStore::open(&client, table.to_owned(), Retry::default()).await;
        let store = store.map_err(|error| failed(&error))?;
        last_look(&store).await.map_err(|error| failed(&error))
    }

    async fn depth(&self, now: &Described, output: &str) -> Result<QueueDepth, DeployError> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Waiting, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InWork,
        };
        let url = now.output(output)?;
        let client = aws_sdk_sqs::Client::new(&self.aws.sdk(Service::Sqs));
        let request = client.get_queue_attributes().queue_url(url);
        let request = request.set_attribute_names(Some(vec![Waiting, InWork, Delayed]));
        let answer = request.send().await.map_err(CallError::new);
        let answer = answer.map_err(DeployError::call(format!("counting messages in {url}")))?;
        let count = |name| {
            let found = answer.attributes().and_then(|all| all.get(&name)).and_then(|text| text.parse().ok());
            found.ok_or_else(|| DeployError::Unexpected(format!("{url} does not tell {}", name.as_str())))
        };
        Ok(QueueDepth { waiting: count(Waiting)?, in_work: count(InWork)?, delayed: count(Delayed)? })
    }

    async fn alarms(&self, now: &Described) -> Result<Vec<Alarm>, DeployError> {
        let suffix = now.parameters.get("Suffix").map_or("", String::as_str);
        let prefix = format!("{}-{suffix}-", self.stack.name);
        let client = aws_sdk_cloudwatch::Client::new(&self.aws.sdk(Service::CloudWatch));
        // A page has a hundred; the template makes a few.
        let answer = client.describe_alarms().alarm_name_prefix(&prefix).send().await;
        let answer =
            answer.map_err(CallError::new).map_err(DeployError::call(format!("reading alarms {prefix}…")))?;
        let mut alarms: Vec<_> = answer.metric_alarms().iter().map(alarm).collect();
        alarms.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(alarms)
    }
}

fn alarm(found: &MetricAlarm) -> Alarm {
    Alarm {
        name: found.alarm_name().unwrap_or_default().to_owned(),
        state: found.state_value().map_or_else(|| "unknown".to_owned(), |state| state.as_str().to_owned()),
        since: found
            .state_transitioned_timestamp()
            .or(found.state_updated_timestamp())
            .map(ToString::to_string),
        about: found.alarm_description().map(str::to_owned),
    }
}
