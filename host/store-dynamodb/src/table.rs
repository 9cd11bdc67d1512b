//! The table itself.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ReturnConsumedCapacity,
        ScalarAttributeType, TableStatus,
    },
};
use pangolin_ports::run_store::RunStoreError;

use crate::{
    DynamoRunStore,
    layout::{Key, LAYOUT, PARTITION_KEY, SORT_KEY, layout_of, number},
    meter::{Operation, Units},
    retry::{Failure, sort},
};

/// How long a new table may take to become active.
const CREATION: Duration = Duration::from_secs(60);

/// Creates a table that a store can be opened on, paid by request, and waits until it is active. For tests and
/// emulators; in an account the stack creates it, with protection against deletion and with backups.
///
/// # Errors
/// [`RunStoreError::Other`], also when there is a table of this name.
pub async fn create_table(client: &Client, table: &str) -> Result<(), RunStoreError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| RunStoreError::Other {
        context: format!("creating table {table}"),
        source,
    };
    let attribute = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
    };
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let request = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute(PARTITION_KEY).map_err(|error| failed(error.into()))?)
        .attribute_definitions(attribute(SORT_KEY).map_err(|error| failed(error.into()))?)
        .key_schema(key(PARTITION_KEY, KeyType::Hash).map_err(|error| failed(error.into()))?)
        .key_schema(key(SORT_KEY, KeyType::Range).map_err(|error| failed(error.into()))?);
    request.send().await.map_err(|error| failed(error.into()))?;
    let deadline = Instant::now() + CREATION;
    loop {
        let described = client.describe_table().table_name(table).send().await;
        let described = described.map_err(|error| failed(error.into()))?;
        let status = described.table().and_then(|table| table.table_status());
        if status == Some(&TableStatus::Active) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(failed(format!("it is {status:?} after {} s", CREATION.as_secs()).into()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl DynamoRunStore {
    /// Finds out which layout the table has; gives a new table ours.
    pub(crate) async fn check_layout(&self) -> Result<(), RunStoreError> {
        // A second look after somebody else was faster.
        for _ in 0..2 {
            if let Some(item) = self.item(Operation::Open, &Key::layout()).await? {
                let found = layout_of(&item).map_err(|problem| {
                    RunStoreError::Damaged(format!("table {}: the layout: {problem}", self.table))
                })?;
                if found != LAYOUT {
                    return Err(RunStoreError::Schema { found, supported: LAYOUT });
                }
                return Ok(());
            }
            if self.set_layout().await? {
                return Ok(());
            }
        }
        Err(RunStoreError::Damaged(format!("table {}: its layout comes and goes", self.table)))
    }

    /// False when there is one already.
    async fn set_layout(&self) -> Result<bool, RunStoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.meter.request(Operation::Open);
            let request = self
                .client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(Key::layout().item()))
                .item("v", number(LAYOUT))
                .condition_expression("attribute_not_exists(pk)")
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let error = match request.send().await {
                Ok(output) => {
                    self.meter.answer(Operation::Open, Units::Write, output.consumed_capacity());
                    return Ok(true);
                }
                Err(error) => error,
            };
            if matches!(error.as_service_error(), Some(PutItemError::ConditionalCheckFailedException(_))) {
                return Ok(false);
            }
            let why = match sort(&self.table, "writing the layout of", error) {
                Failure::Final(error) => return Err(error),
                Failure::Refused(why) | Failure::Unclear(why) => why,
                Failure::OtherContent => "unexpected answer".to_owned(),
            };
            if !self.retry.pause(tries).await {
                return Err(RunStoreError::Busy(why));
            }
        }
    }
}
