//! Reading. Every read is strongly consistent and goes to the table itself; there is no index.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    operation::query::builders::QueryFluentBuilder,
    types::{AttributeValue, ReturnConsumedCapacity},
};
use pangolin_ports::{
    batch_rules::KEY_BYTES_MAX,
    run_store::{Cell, CellKey, Head, Record, RunStoreError, StreamName},
};

use crate::{
    DynamoRunStore,
    layout::{CELLS, Item, Key, STREAMS, cell_of, head_of, segment_sort, segments_of, sort_of, text, unpack},
    meter::{Operation, Units},
    retry::{Failure, sort},
};

/// Most items that a query is asked to look at when the caller wants few. A page ends after 1 MB anyway.
const PAGE_ITEMS: usize = 1_000;

/// Least items that a scan looks at: some may be traces of deleted cells.
const SCAN_ITEMS: usize = 16;

impl DynamoRunStore {
    /// One item, repeated while DynamoDB is busy.
    pub(crate) async fn item(&self, operation: Operation, key: &Key) -> Result<Option<Item>, RunStoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.meter.request(operation);
            let request = self.client.get_item().table_name(&self.table).set_key(Some(key.item()));
            let request =
                request.consistent_read(true).return_consumed_capacity(ReturnConsumedCapacity::Total);
            match request.send().await {
                Ok(output) => {
                    self.meter.answer(operation, Units::Read, output.consumed_capacity());
                    return Ok(output.item);
                }
                Err(error) => self.wait(tries, sort(&self.table, "reading", error)).await?,
            }
        }
    }

    /// One page of a query.
    async fn page(
        &self,
        operation: Operation,
        query: &QueryFluentBuilder,
        start: Option<HashMap<String, AttributeValue>>,
    ) -> Result<(Vec<Item>, Option<Item>), RunStoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.meter.request(operation);
            let query = query.clone().set_exclusive_start_key(start.clone());
            match query.send().await {
                Ok(output) => {
                    self.meter.answer(operation, Units::Read, output.consumed_capacity());
                    let next = output.last_evaluated_key.filter(|key| !key.is_empty());
                    return Ok((output.items.unwrap_or_default(), next));
                }
                Err(error) => self.wait(tries, sort(&self.table, "reading", error)).await?,
            }
        }
    }

    /// Reads may always be repeated. `Err` when that is no use.
    async fn wait(&self, tries: u32, failure: Failure) -> Result<(), RunStoreError> {
        let why = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Refused(why) | Failure::Unclear(why) => why,
            Failure::OtherContent => "a read was answered like a write".to_owned(),
        };
        if self.retry.pause(tries).await { Ok(()) } else { Err(RunStoreError::Busy(why)) }
    }

    fn query(&self, partition: &str, limit: usize) -> QueryFluentBuilder {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .expression_attribute_values(":partition", text(partition));
        let few = i32::try_from(limit).ok().filter(|_| limit <= PAGE_ITEMS);
        query.set_limit(few)
    }

    fn damaged(&self, what: String) -> RunStoreError {
        RunStoreError::Damaged(format!("table {}: {what}", self.table))
    }

    pub(crate) async fn was_committed_now(&self, batch_id: &str) -> Result<bool, RunStoreError> {
        if !possible(batch_id) {
            return Ok(false);
        }
        Ok(self.item(Operation::WasCommitted, &Key::batch(batch_id)).await?.is_some())
    }

    pub(crate) async fn head_now(&self, stream: &str) -> Result<Head, RunStoreError> {
        if !possible(stream) {
            return Ok(Head::default());
        }
        let item = self.item(Operation::Head, &Key::head(stream)).await?;
        let head = item.as_ref().map(head_of).transpose();
        let head =
            head.map_err(|problem| self.damaged(format!("the end of stream {stream:?}: {problem}")))?;
        Ok(head.unwrap_or_default())
    }

    pub(crate) async fn get_now(&self, key: &str) -> Result<Option<Cell>, RunStoreError> {
        if !possible(key) {
            return Ok(None);
        }
        let item = self.item(Operation::Get, &Key::cell(key)).await?;
        let cell = item.as_ref().map(cell_of).transpose();
        Ok(cell.map_err(|problem| self.damaged(format!("cell {key:?}: {problem}")))?.flatten())
    }

    pub(crate) async fn read_now(
        &self,
        stream: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Record>, RunStoreError> {
        if !possible(stream) || limit == 0 {
            return Ok(Vec::new());
        }
        let mut records: Vec<Record> = Vec::new();
        let mut holes = 0;
        'query: loop {
            let next = from.saturating_add(records.len() as u64);
            // Every segment has a record, so this is never too few.
            let query = self
                .query(&segments_of(stream), limit - records.len())
                .key_condition_expression("pk = :partition AND sk >= :from")
                .expression_attribute_values(":from", text(segment_sort(next)));
            let mut start = None;
            loop {
                let (items, more) = self.page(Operation::Read, &query, start).await?;
                for item in items {
                    let segment = unpack(&item).map_err(|problem| {
                        self.damaged(format!("a segment of stream {stream:?}: {problem}"))
                    })?;
                    let next = from.saturating_add(records.len() as u64);
                    let first = segment.first().map_or(next, |first| first.seq);
                    if first > next {
                        // A query looks at one item after the other. A commit of several segments in between makes
                        // the later ones visible and not the earlier ones. Then they are there on the next look.
                        holes += 1;
                        if self.retry.pause(holes).await {
                            continue 'query;
                        }
                        return Err(self.damaged(format!("record {next} of stream {stream:?} is missing")));
                    }
                    if first < next && !records.is_empty() {
                        return Err(
                            self.damaged(format!("record {first} of stream {stream:?} is there twice"))
                        );
                    }
                    let wanted = segment.into_iter().filter(|record| record.seq >= next);
                    records.extend(wanted.take(limit - records.len()));
                    if records.len() == limit {
                        return Ok(records);
                    }
                }
                match more {
                    Some(key) => start = Some(key),
                    None => return Ok(records),
                }
            }
        }
    }

    pub(crate) async fn streams_now(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StreamName>, RunStoreError> {
        let query = self.query(STREAMS, limit).projection_expression("sk");
        let range = Range { partition: STREAMS, prefix, after, limit };
        let name = |item: &Item| sort_of(item).map(|name| Some(name.to_owned()));
        self.range(Operation::Streams, query, range, name, String::as_str).await
    }

    pub(crate) async fn scan_now(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(CellKey, Cell)>, RunStoreError> {
        let query = self.query(CELLS, limit.max(SCAN_ITEMS)).filter_expression("attribute_exists(b)");
        let range = Range { partition: CELLS, prefix, after, limit };
        let cell = |item: &Item| {
            let key = sort_of(item)?.to_owned();
            cell_of(item)
                .map(|cell| cell.map(|cell| (key.clone(), cell)))
                .map_err(|problem| format!("{key:?}: {problem}"))
        };
        self.range(Operation::Scan, query, range, cell, |(key, _)| key.as_str()).await
    }

    /// Items of one partition by prefix, in the order of their sort keys, which is the byte order of the texts.
    async fn range<T>(
        &self,
        operation: Operation,
        query: QueryFluentBuilder,
        range: Range<'_>,
        parse: impl Fn(&Item) -> Result<Option<T>, String>,
        name: impl Fn(&T) -> &str,
    ) -> Result<Vec<T>, RunStoreError> {
        let mut found = Vec::new();
        let Some(mut start) = range.start() else { return Ok(found) };
        let query = if range.prefix.is_empty() {
            query.key_condition_expression("pk = :partition")
        } else {
            query
                .key_condition_expression("pk = :partition AND begins_with(sk, :prefix)")
                .expression_attribute_values(":prefix", text(range.prefix))
        };
        loop {
            let (items, more) = self.page(operation, &query, start).await?;
            for item in items {
                let entry = parse(&item).map_err(|problem| {
                    self.damaged(format!("in partition {}: {problem}", range.partition))
                })?;
                let Some(entry) = entry.filter(|entry| range.after.is_none_or(|after| name(entry) > after))
                else {
                    continue;
                };
                found.push(entry);
                if found.len() == range.limit {
                    return Ok(found);
                }
            }
            match more {
                Some(key) => start = Some(key),
                None => return Ok(found),
            }
        }
    }
}

/// Names of at most [`KEY_BYTES_MAX`] exist, and DynamoDB answers an error for others.
fn possible(name: &str) -> bool {
    !name.is_empty() && name.len() <= KEY_BYTES_MAX
}

/// Which items of a partition are wanted.
struct Range<'a> {
    partition: &'a str,
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
}

impl Range<'_> {
    /// Key to start behind; `None` when there cannot be anything.
    fn start(&self) -> Option<Option<Item>> {
        if self.limit == 0 || self.prefix.len() > KEY_BYTES_MAX {
            return None;
        }
        let Some(after) = self.after.filter(|after| *after >= self.prefix) else { return Some(None) };
        // Everything with the prefix sorts before a text that is behind the prefix and does not have it.
        if !after.starts_with(self.prefix) {
            return None;
        }
        // A key cannot be longer; what the cut lets in is taken out of the result.
        let cut = after.floor_char_boundary(KEY_BYTES_MAX);
        let key = Key { partition: self.partition.to_owned(), sort: after[..cut].to_owned() };
        Some((cut > 0).then(|| key.item()))
    }
}
