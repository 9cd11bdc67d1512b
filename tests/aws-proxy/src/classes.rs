//! From a request to its kind.

use std::collections::BTreeSet;

use hyper::{Method, http::request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::call::Kind;

/// Who calls with pre-signed URLs.
const WORKER: &str = "worker";

/// Service and operation of a JSON protocol, from its target header; `None` for S3.
pub(crate) fn target(parts: &Parts) -> Option<(String, String)> {
    let target = parts.headers.get("x-amz-target")?.to_str().ok()?;
    let (service, operation) = target.split_once('.')?;
    let service = match service {
        "AmazonEC2ContainerServiceV20141113" => "ecs",
        "AmazonSQS" => "sqs",
        name if name.starts_with("DynamoDB_") => "dynamodb",
        name => name,
    };
    Some((service.to_owned(), operation.to_owned()))
}

/// Kind of a call of a JSON protocol, with the number of its actions.
pub(crate) fn json(caller: &str, (service, operation): (String, String), body: &[u8]) -> (Kind, usize) {
    let (mut class, mut actions) = (String::new(), 0);
    if service == "dynamodb" {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        actions = body["TransactItems"].as_array().map_or(0, Vec::len);
        class = dynamodb(&body);
    }
    (Kind { caller: caller.to_owned(), service, operation, class }, actions)
}

/// What an item, a query or a transaction is about.
fn dynamodb(body: &Value) -> String {
    if let Some(actions) = body["TransactItems"].as_array() {
        let items = actions.iter().filter_map(|action| {
            let (_, action) = action.as_object()?.iter().next()?;
            Some(item(if action["Item"].is_object() { &action["Item"] } else { &action["Key"] }))
        });
        return transaction(items.collect());
    }
    if body["KeyConditionExpression"].is_string() {
        let values = &body["ExpressionAttributeValues"];
        let partition = values[":partition"]["S"].as_str().unwrap_or_default();
        return place(partition, values[":prefix"]["S"].as_str().unwrap_or_default());
    }
    item(if body["Item"].is_object() { &body["Item"] } else { &body["Key"] })
}

/// The streams that it appends to; the cells when there are none. What else goes along differs from commit to commit.
fn transaction(items: BTreeSet<String>) -> String {
    let of = |partition: &str| {
        let found = items.iter().filter(|item| item.starts_with(partition)).cloned();
        found.collect::<Vec<_>>().join("+")
    };
    let (streams, cells) = (of("stream:"), of("cell:"));
    match (streams.is_empty(), cells.is_empty()) {
        (false, _) => streams,
        (true, false) => cells,
        (true, true) => items.into_iter().collect::<Vec<_>>().join("+"),
    }
}

fn item(key: &Value) -> String {
    let text = |name: &str| key[name]["S"].as_str().unwrap_or_default();
    place(text("pk"), text("sk"))
}

fn place(partition: &str, sort: &str) -> String {
    let first = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
    match partition {
        // The lease of who looks, and the fence of who leads: different things under one roof.
        "cell" if sort.starts_with("lease/") => format!("cell:{sort}"),
        "cell" | "stream" => format!("{partition}:{}", first(sort)),
        _ => first(partition),
    }
}

/// Kind of a call of S3.
pub(crate) fn s3(caller: &str, parts: &Parts) -> Kind {
    let query = Query::of(parts);
    let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy();
    let path = path.strip_prefix('/').unwrap_or_default();
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let operation = operation(&parts.method, key, &query, parts.headers.contains_key("x-amz-copy-source"));
    let key = if key.is_empty() { query.get("prefix").unwrap_or_default() } else { key.to_owned() };
    let caller = if query.get("X-Amz-Signature").is_some() { WORKER } else { caller };
    Kind {
        caller: caller.to_owned(),
        service: "s3".to_owned(),
        operation,
        class: format!("{bucket}:{}", key_class(&key)),
    }
}

fn operation(method: &Method, key: &str, query: &Query, copies: bool) -> String {
    // What the SDK says wins: `x-id` is the operation's name.
    if let Some(id) = query.get("x-id") {
        return id;
    }
    let has = |name: &str| query.get(name).is_some();
    let name = match (method.as_str(), key.is_empty()) {
        ("GET", _) if has("versions") => "ListObjectVersions",
        ("GET", _) if has("retention") => "GetObjectRetention",
        ("GET", true) if has("list-type") => "ListObjectsV2",
        ("GET", false) => "GetObject",
        ("HEAD", true) => "HeadBucket",
        ("HEAD", false) => "HeadObject",
        ("PUT", false) if has("retention") => "PutObjectRetention",
        ("PUT", false) if has("partNumber") => "UploadPart",
        ("PUT", false) if copies => "CopyObject",
        ("PUT", false) => "PutObject",
        ("DELETE", false) => "DeleteObject",
        ("POST", true) if has("delete") => "DeleteObjects",
        (method, _) => return method.to_owned(),
    };
    name.to_owned()
}

/// Where a key lies, without names: of `dispatches/<id>/task.json` the place and the record, of everything else the place.
fn key_class(key: &str) -> String {
    let parts: Vec<&str> = key.split('/').collect();
    match parts.as_slice() {
        ["dispatches", _, record @ ..] if !record.is_empty() => format!("dispatches/{}", record.join("/")),
        ["inbox", place, ..] => format!("inbox/{place}"),
        // The archive of the project is named by its digest.
        ["config", file] => {
            let name = file.split(['-', '.']).next().unwrap_or_default();
            format!("config/{name}")
        }
        [first, ..] => (*first).to_owned(),
        [] => String::new(),
    }
}

struct Query(Vec<(String, String)>);

impl Query {
    fn of(parts: &Parts) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        Self(pairs.map(pair).collect())
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }
}

/// Id and number of the try, as the SDK says them: `attempt=2; max=5`.
pub(crate) fn attempt(parts: &Parts) -> Option<(String, u32)> {
    let text = |name: &str| parts.headers.get(name)?.to_str().ok();
    let id = text("amz-sdk-invocation-id")?.to_owned();
    let number = text("amz-sdk-request")?.split(';').find_map(|part| part.trim().strip_prefix("attempt="));
    Some((id, number?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_s3(method: &str, target: &str, expected: &str) {
        let (parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
        assert_eq!(s3("tick", &parts).to_string(), expected, "{method} {target}");
    }

    #[test]
    fn requests_of_s3_have_kinds_without_names() {
        check_s3("GET", "/data/inbox/new/a%2Fb?x-id=GetObject", "tick s3 GetObject data:inbox/new");
        check_s3("GET", "/data?list-type=2&prefix=inbox%2Fnew%2F", "tick s3 ListObjectsV2 data:inbox/new");
        check_s3("GET", "/data/?list-type=2&prefix=dispatches%2F", "tick s3 ListObjectsV2 data:dispatches");
        check_s3("HEAD", "/data/inbox/done/m", "tick s3 HeadObject data:inbox/done");
        check_s3("PUT", "/data/dispatches/d1/task.json", "tick s3 PutObject data:dispatches/task.json");
        check_s3("PUT", "/anchor/log/x?X-Amz-Signature=1", "worker s3 PutObject anchor:log");
        check_s3("GET", "/anchor?versions&prefix=log/", "tick s3 ListObjectVersions anchor:log");
        check_s3("DELETE", "/data/starts/d1.json?x-id=DeleteObject", "tick s3 DeleteObject data:starts");
        check_s3("GET", "/data/config/project-0a1b.tar", "tick s3 GetObject data:config/project");
        check_s3("GET", "/data/config/deployment.json", "tick s3 GetObject data:config/deployment");
        check_s3("PATCH", "/data/x", "tick s3 PATCH data:x");
    }

    #[track_caller]
    fn check_json(target: &str, body: &Value, expected: (&str, usize)) {
        let request = Request::builder().header("x-amz-target", target).body(()).unwrap();
        let (kind, actions) =
            json("tick", super::target(&request.into_parts().0).unwrap(), body.to_string().as_bytes());
        assert_eq!((kind.to_string().as_str(), actions), expected);
    }

    #[test]
    fn requests_of_json_protocols_have_kinds_without_names() {
        let key = |pk: &str, sk: &str| json!({ "pk": { "S": pk }, "sk": { "S": sk } });
        check_json(
            "DynamoDB_20120810.GetItem",
            &json!({ "Key": key("cell", "lease/x") }),
            ("tick dynamodb GetItem cell:lease/x", 0),
        );
        let query = json!({
            "KeyConditionExpression": "pk = :partition",
            "ExpressionAttributeValues": { ":partition": { "S": "seg/run/7" } },
        });
        check_json("DynamoDB_20120810.Query", &query, ("tick dynamodb Query seg", 0));
        let transaction = json!({ "TransactItems": [
            { "Put": { "Item": key("batch/1", "-") } },
            { "Update": { "Key": key("cell", "run/1") } },
            { "ConditionCheck": { "Key": key("cell", "run/2") } },
        ] });
        check_json(
            "DynamoDB_20120810.TransactWriteItems",
            &transaction,
            ("tick dynamodb TransactWriteItems cell:run", 3),
        );
        let append = json!({ "TransactItems": [
            { "Put": { "Item": key("stream", "run/1") } }, { "Put": { "Item": key("seg/run/1", "7") } },
            { "Update": { "Key": key("cell", "run/1") } },
        ] });
        check_json(
            "DynamoDB_20120810.TransactWriteItems",
            &append,
            ("tick dynamodb TransactWriteItems stream:run", 3),
        );
        check_json("AmazonSQS.SendMessage", &json!({}), ("tick sqs SendMessage", 0));
        check_json("AmazonEC2ContainerServiceV20141113.RunTask", &json!({}), ("tick ecs RunTask", 0));
        check_json("secretsmanager.GetSecretValue", &json!({}), ("tick secretsmanager GetSecretValue", 0));
    }
}
