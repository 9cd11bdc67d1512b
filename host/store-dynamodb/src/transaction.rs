//! A batch as the actions of one transaction, and the reasons of a cancelled one as the answer to the batch.

use std::{collections::HashMap, fmt};

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{
        AttributeValue, CancellationReason, ConditionCheck, Put, ReturnValuesOnConditionCheckFailure,
        TransactWriteItem, Update,
    },
};
use pangolin_ports::run_store::{Append, Batch, Guard, Head, Write};

use crate::layout::{Item, Key, bytes, head_of, number, pack, version_of};

/// What an action is about.
#[derive(Clone, Copy)]
enum About<'a> {
    Batch,
    Cell(&'a str),
    Head(&'a str),
    Segment(&'a str),
}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => f.write_str("the batch id"),
            Self::Cell(key) => write!(f, "cell {key:?}"),
            Self::Head(stream) => write!(f, "the end of stream {stream:?}"),
            Self::Segment(stream) => write!(f, "a segment of stream {stream:?}"),
        }
    }
}

/// One action with the guards that it carries: DynamoDB takes no two actions on one item.
struct Action<'a> {
    about: About<'a>,
    /// Indexes into [`Batch::guards`], ascending.
    guards: Vec<usize>,
}

/// A batch, ready to be sent.
pub(crate) struct Transaction<'a> {
    batch: &'a Batch,
    actions: Vec<Action<'a>>,
    pub(crate) items: Vec<TransactWriteItem>,
}

/// Why a transaction was cancelled.
#[derive(Debug)]
pub(crate) enum Cancelled {
    /// The batch id was there: it had been committed before.
    Known,
    /// A guard does not hold.
    Guard { guard: usize, found: String },
    /// Others were at the same items or the table is throttled; try again.
    Passing(String),
    /// A segment is there although the stream ends before it, or an item makes no sense.
    Damaged(String),
    /// DynamoDB refuses the content.
    Refused(String),
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(table: &str, batch: &'a Batch) -> Result<Self, BuildError> {
        let mut guards = Guards::of(batch);
        let mut transaction = Self { batch, actions: Vec::new(), items: Vec::new() };
        let id = put(table, Key::batch(&batch.id).item()).condition_expression("attribute_not_exists(pk)");
        transaction.push(About::Batch, Vec::new(), TransactWriteItem::builder().put(id.build()?).build());
        for append in batch.appends.iter().filter(|append| !append.records.is_empty()) {
            transaction.append(
                table,
                append,
                guards.heads.remove(append.stream.as_str()).unwrap_or_default(),
            )?;
        }
        for write in &batch.writes {
            let (Write::Put { key, .. } | Write::Delete(key)) = write;
            transaction.write(table, key, write, guards.cells.remove(key.as_str()).unwrap_or_default())?;
        }
        // In the order of the batch, so that the same batch is always the same transaction.
        for guard in &batch.guards {
            let (about, key, indexes) = match guard {
                Guard::HeadIs { stream, .. } => {
                    (About::Head(stream), Key::head(stream), guards.heads.remove(stream.as_str()))
                }
                Guard::Absent(cell) | Guard::VersionIs { key: cell, .. } => {
                    (About::Cell(cell), Key::cell(cell), guards.cells.remove(cell.as_str()))
                }
            };
            if let Some(indexes) = indexes {
                transaction.check(table, about, &key, indexes)?;
            }
        }
        Ok(transaction)
    }

    pub(crate) fn batch_id(&self) -> &str {
        &self.batch.id
    }

    fn push(&mut self, about: About<'a>, guards: Vec<usize>, item: TransactWriteItem) {
        self.actions.push(Action { about, guards });
        self.items.push(item);
    }

    fn append(&mut self, table: &str, append: &'a Append, guards: Vec<usize>) -> Result<(), BuildError> {
        let stream = append.stream.as_str();
        // `check_batch` saw that there is one; if there are several that differ, the condition cannot hold anyway.
        let old = guards.iter().find_map(|index| match &self.batch.guards[*index] {
            Guard::HeadIs { head, .. } => Some(head.len),
            _ => None,
        });
        let mut next = old.unwrap_or_default();
        let mut segments = Vec::new();
        for segment in pack(&append.records) {
            next = next.saturating_add(segment.count);
            let mut item = Key::segment(stream, next.saturating_sub(1)).item();
            item.insert("n".to_owned(), number(segment.count));
            item.insert("r".to_owned(), bytes(segment.packed));
            segments.push(put(table, item).condition_expression("attribute_not_exists(pk)").build()?);
        }
        let mut item = Key::head(stream).item();
        item.insert("n".to_owned(), number(next));
        if let Some((hash, _)) = append.records.last() {
            item.insert("h".to_owned(), bytes(hash.as_bytes().to_vec()));
        }
        let condition = self.condition(&guards);
        let end = put(table, item)
            .set_condition_expression(condition.expression)
            .set_expression_attribute_values(condition.values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        self.push(About::Head(stream), guards, TransactWriteItem::builder().put(end.build()?).build());
        for segment in segments {
            let segment = TransactWriteItem::builder().put(segment).build();
            self.push(About::Segment(stream), Vec::new(), segment);
        }
        Ok(())
    }

    fn write(
        &mut self,
        table: &str,
        key: &'a str,
        write: &Write,
        guards: Vec<usize>,
    ) -> Result<(), BuildError> {
        let absent = |index: &usize| matches!(self.batch.guards[*index], Guard::Absent(_));
        let condition = self.condition(&guards);
        let mut values = condition.values.unwrap_or_default();
        let change = match write {
            // The value goes, the version stays.
            Write::Delete(_) if guards.iter().any(absent) => {
                return self.check(table, About::Cell(key), &Key::cell(key), guards);
            }
            Write::Delete(_) => "REMOVE b",
            Write::Put { value, .. } => {
                values.insert(":value".to_owned(), bytes(value.clone()));
                values.insert(":one".to_owned(), number(1));
                "SET b = :value ADD v :one"
            }
        };
        let update = Update::builder()
            .table_name(table)
            .set_key(Some(Key::cell(key).item()))
            .update_expression(change)
            .set_condition_expression(condition.expression)
            .set_expression_attribute_values((!values.is_empty()).then_some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        self.push(About::Cell(key), guards, TransactWriteItem::builder().update(update.build()?).build());
        Ok(())
    }

    fn check(
        &mut self,
        table: &str,
        about: About<'a>,
        key: &Key,
        guards: Vec<usize>,
    ) -> Result<(), BuildError> {
        let condition = self.condition(&guards);
        let check = ConditionCheck::builder()
            .table_name(table)
            .set_key(Some(key.item()))
            .set_condition_expression(condition.expression)
            .set_expression_attribute_values(condition.values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        self.push(about, guards, TransactWriteItem::builder().condition_check(check.build()?).build());
        Ok(())
    }

    /// All guards of one item as one condition.
    fn condition(&self, guards: &[usize]) -> Condition {
        let mut different: Vec<&Guard> = Vec::new();
        for guard in guards.iter().map(|index| &self.batch.guards[*index]) {
            // Two different guards on one item exclude each other, so a third says no more, and expressions are limited.
            if different.len() < 2 && !different.contains(&guard) {
                different.push(guard);
            }
        }
        let mut terms = Vec::new();
        let mut values = HashMap::new();
        for (index, guard) in different.into_iter().enumerate() {
            let mut value = |name: &str, value: AttributeValue| {
                let name = format!(":{name}{index}");
                values.insert(name.clone(), value);
                name
            };
            terms.push(match guard {
                Guard::Absent(_) => "attribute_not_exists(b)".to_owned(),
                Guard::VersionIs { version, .. } => {
                    format!("attribute_exists(b) AND v = {}", value("version", number(version)))
                }
                Guard::HeadIs { head: Head { len: 0, hash: None }, .. } => {
                    "attribute_not_exists(pk)".to_owned()
                }
                Guard::HeadIs { head: Head { len, hash }, .. } => {
                    let len = value("len", number(len));
                    let hash = hash.map(|hash| value("hash", bytes(hash.as_bytes().to_vec())));
                    let hash = hash
                        .map_or_else(|| "attribute_not_exists(h)".to_owned(), |hash| format!("h = {hash}"));
                    format!("n = {len} AND {hash}")
                }
            });
        }
        Condition {
            expression: (!terms.is_empty()).then(|| terms.join(" AND ")),
            values: (!values.is_empty()).then_some(values),
        }
    }

    /// What the reasons of a cancelled transaction mean. They come one for each action, in order.
    pub(crate) fn explain(&self, reasons: &[CancellationReason]) -> Cancelled {
        let mut refused: Option<(usize, String)> = None;
        let (mut damaged, mut invalid, mut passing) = (None, None, None);
        for (action, reason) in self.actions.iter().zip(reasons) {
            let code = reason.code().unwrap_or("None");
            let text = || format!("{}: {code} {}", action.about, reason.message().unwrap_or_default());
            match (code, action.about) {
                ("None", _) => {}
                ("ConditionalCheckFailed", About::Batch) => return Cancelled::Known,
                ("ConditionalCheckFailed", About::Segment(stream)) => {
                    damaged = Some(format!("stream {stream:?} has records behind its end"));
                }
                ("ConditionalCheckFailed", _) => match self.contradicted(action, reason.item()) {
                    Ok(Some(found)) if refused.as_ref().is_none_or(|(first, _)| found.0 < *first) => {
                        refused = Some(found);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => passing = Some(text()),
                    Err(problem) => damaged = Some(format!("{}: {problem}", action.about)),
                },
                ("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded", _) => {
                    passing = Some(text());
                }
                _ => invalid = Some(text()),
            }
        }
        if let Some((guard, found)) = refused {
            return Cancelled::Guard { guard, found };
        }
        let none = || Cancelled::Refused("DynamoDB gave no reason".to_owned());
        damaged
            .map(Cancelled::Damaged)
            .or_else(|| invalid.map(Cancelled::Refused))
            .or_else(|| passing.map(Cancelled::Passing))
            .unwrap_or_else(none)
    }

    /// The first of the action's guards that does not hold for the item, with what is there.
    fn contradicted(
        &self,
        action: &Action<'_>,
        item: Option<&Item>,
    ) -> Result<Option<(usize, String)>, String> {
        for index in &action.guards {
            let guard = &self.batch.guards[*index];
            let found = match guard {
                Guard::HeadIs { stream, head } => {
                    let found = item.map(head_of).transpose()?.unwrap_or_default();
                    (found != *head).then(|| match found.hash {
                        Some(hash) => {
                            format!("stream {stream:?} has {} records and ends with {hash}", found.len)
                        }
                        None => format!("stream {stream:?} is empty"),
                    })
                }
                Guard::Absent(key) => item
                    .map(version_of)
                    .transpose()?
                    .flatten()
                    .map(|version| format!("cell {key:?} exists at version {version}")),
                Guard::VersionIs { key, version } => match item.map(version_of).transpose()?.flatten() {
                    Some(found) if found == *version => None,
                    Some(found) => Some(format!("cell {key:?} is at version {found}")),
                    None => Some(format!("cell {key:?} does not exist")),
                },
            };
            if let Some(found) = found {
                return Ok(Some((*index, found)));
            }
        }
        Ok(None)
    }
}

struct Condition {
    expression: Option<String>,
    values: Option<HashMap<String, AttributeValue>>,
}

/// Guards by what they are about.
struct Guards<'a> {
    cells: HashMap<&'a str, Vec<usize>>,
    heads: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Guards<'a> {
    fn of(batch: &'a Batch) -> Self {
        let mut guards = Self { cells: HashMap::new(), heads: HashMap::new() };
        for (index, guard) in batch.guards.iter().enumerate() {
            let indexes = match guard {
                Guard::HeadIs { stream, .. } => guards.heads.entry(stream.as_str()),
                Guard::Absent(key) | Guard::VersionIs { key, .. } => guards.cells.entry(key.as_str()),
            };
            indexes.or_default().push(index);
        }
        guards
    }
}

fn put(table: &str, item: Item) -> aws_sdk_dynamodb::types::builders::PutBuilder {
    Put::builder().table_name(table).set_item(Some(item))
}

#[cfg(test)]
mod tests {
    use pangolin_core::ids::Digest;
    use pangolin_ports::commit_limits::CommitCost;
    use proptest::prelude::*;

    use super::*;

    /// Size of an item as the developer guide counts it: names and values, numbers with up to 21 bytes.
    fn size(item: &Item) -> usize {
        let value = |value: &AttributeValue| match value {
            AttributeValue::S(text) => text.len(),
            AttributeValue::B(bytes) => bytes.as_ref().len(),
            AttributeValue::N(_) => 21,
            other => panic!("{other:?} is not in our layout"),
        };
        item.iter().map(|(name, content)| name.len() + value(content)).sum()
    }

    /// What an action writes, or for an update its key and values.
    fn item_of(action: &TransactWriteItem) -> Item {
        let (put, update, check) = (action.put(), action.update(), action.condition_check());
        let values = update.and_then(|update| update.expression_attribute_values().cloned());
        let key = update.map(|update| update.key()).or(check.map(|check| check.key()));
        let mut item = put.map(|put| put.item()).or(key).unwrap().clone();
        item.extend(values.unwrap_or_default());
        item
    }

    fn key(action: &TransactWriteItem) -> (String, String) {
        let item = item_of(action);
        (item["pk"].as_s().unwrap().clone(), item["sk"].as_s().unwrap().clone())
    }

    prop_compose! {
        fn batches()(
            id in "\\PC{1,40}",
            guards in proptest::collection::vec(("[a-d]{1,3}", 0..3_u64), 0..8),
            writes in proptest::collection::btree_map("[a-d]{1,3}", prop::option::of(0..65_536_usize), 0..8),
            appends in proptest::collection::btree_map("[a-c]{1,2}", proptest::collection::vec(0..60_001_usize, 0..30), 0..4),
        ) -> Batch {
            let mut batch = Batch { id, ..Batch::default() };
            batch.guards.extend(guards.into_iter().map(|(key, version)| match version {
                0 => Guard::Absent(key),
                version => Guard::VersionIs { key, version },
            }));
            batch.writes.extend(writes.into_iter().map(|(key, size)| match size {
                Some(size) => Write::Put { key, value: vec![0; size] },
                None => Write::Delete(key),
            }));
            for (stream, sizes) in appends {
                let head = Head { len: sizes.len() as u64, hash: Some(Digest::of(b"")) };
                batch.guards.push(Guard::HeadIs { stream: stream.clone(), head });
                let records = sizes.into_iter().map(|size| (Digest::of(b""), vec![0; size])).collect();
                batch.appends.push(Append { stream, records });
            }
            batch
        }
    }

    proptest! {
        #[test]
        fn a_transaction_is_never_larger_than_the_cost_of_its_batch(batch in batches()) {
            let transaction = Transaction::new("table", &batch).unwrap();
            let cost = CommitCost::of(&batch);
            let sizes: Vec<usize> = transaction.items.iter().map(|action| size(&item_of(action))).collect();
            prop_assert!(sizes.len() <= cost.actions, "{} actions, {cost:?}", sizes.len());
            prop_assert!(sizes.iter().sum::<usize>() <= cost.bytes, "{sizes:?}, {cost:?}");
            prop_assert!(sizes.iter().all(|size| *size < 400 << 10), "{sizes:?}");
            let mut keys: Vec<_> = transaction.items.iter().map(key).collect();
            keys.sort_unstable();
            keys.dedup();
            prop_assert_eq!(keys.len(), sizes.len(), "two actions are on one item");
            let mut checks = transaction.items.iter().filter_map(TransactWriteItem::condition_check);
            let without = checks.any(|check| check.condition_expression().is_empty());
            prop_assert!(!without, "a check without a condition");
        }
    }
}
