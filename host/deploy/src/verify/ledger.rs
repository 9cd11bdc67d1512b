//! The table.

use aws_sdk_dynamodb::{
    Client,
    types::{BillingMode, KeyType, PointInTimeRecoveryStatus, TimeToLiveStatus},
};
use pangolin_aws::{CallError, Service};
use pangolin_store_dynamodb::{PARTITION_KEY, SORT_KEY};

use super::{APPLY, Check, Checks};
use crate::{Deployer, stack::Described};

impl Deployer {
    pub(super) async fn look_at_ledger(&self, all: &mut Vec<Check>, now: &Described) {
        let table = match now.output("TableName") {
            Ok(table) => table.to_owned(),
            Err(error) => return Checks::about(all, "table").unreadable("settings", &error),
        };
        let mut checks = Checks::about(all, format!("table {table}"));
        let client = Client::new(&self.aws.sdk(Service::DynamoDb));
        match client.describe_table().table_name(&table).send().await {
            Ok(answer) => {
                let found = answer.table();
                let keys: Vec<_> = found
                    .map(|it| it.key_schema())
                    .unwrap_or_default()
                    .iter()
                    .map(|key| format!("{} {}", key.attribute_name(), key.key_type().as_str()))
                    .collect();
                let expected = format!(
                    "{PARTITION_KEY} {}, {SORT_KEY} {}",
                    KeyType::Hash.as_str(),
                    KeyType::Range.as_str()
                );
                checks.equal("keys", keys.join(", "), expected, "this is not the table of a ledger");
                let billing = found.and_then(|it| it.billing_mode_summary()).and_then(|it| it.billing_mode());
                let billing = billing.map_or("unknown", BillingMode::as_str);
                checks.equal("billing", billing, BillingMode::PayPerRequest.as_str(), APPLY);
                let protection = found.and_then(|it| it.deletion_protection_enabled()).unwrap_or(false);
                checks.equal("protection against deletion", on(protection), on(true), APPLY);
            }
            Err(error) => checks.unreadable("settings", &CallError::new(error)),
        }
        match client.describe_continuous_backups().table_name(&table).send().await {
            Ok(answer) => {
                let status = answer
                    .continuous_backups_description()
                    .and_then(|it| it.point_in_time_recovery_description())
                    .and_then(|it| it.point_in_time_recovery_status());
                let enabled = status == Some(&PointInTimeRecoveryStatus::Enabled);
                checks.equal("recovery to a point in time", on(enabled), on(true), APPLY);
            }
            Err(error) => checks.unreadable("recovery to a point in time", &CallError::new(error)),
        }
        match client.describe_time_to_live().table_name(&table).send().await {
            Ok(answer) => {
                let status = answer.time_to_live_description().and_then(|it| it.time_to_live_status());
                let lives = matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
                checks.equal("expiry of items", on(lives), on(false), "switch it off: it deletes the ledger");
            }
            Err(error) => checks.unreadable("expiry of items", &CallError::new(error)),
        }
    }
}

fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}
