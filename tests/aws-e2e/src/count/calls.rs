//! Counting in the HTTP layer of the SDK.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use serde_json::Value;

use super::{ecs::InstantEcs, report::Used};

/// Sums by kind: service, operation and what it is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(Arc<Mutex<BTreeMap<String, Used>>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Used>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was called since the last time.
    pub(super) fn take(&self) -> BTreeMap<String, Used> {
        std::mem::take(&mut *self.lock())
    }

    /// A client that counts, asks `ecs` about ECS and sends everything else with `inner`.
    pub(super) fn around(&self, inner: SharedHttpClient, ecs: InstantEcs) -> SharedHttpClient {
        SharedHttpClient::new(Layer { calls: self.clone(), ecs, inner })
    }
}

#[derive(Debug)]
struct Layer {
    calls: Calls,
    ecs: InstantEcs,
    inner: SharedHttpClient,
}

impl HttpClient for Layer {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            calls: self.calls.clone(),
            ecs: self.ecs.clone(),
            inner: self.inner.http_connector(settings, components),
        })
    }
}

#[derive(Debug)]
struct Connector {
    calls: Calls,
    ecs: InstantEcs,
    inner: SharedHttpConnector,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").map(str::to_owned);
        let body = || -> Value {
            request.body().bytes().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
        };
        let Some((service, operation)) = target.as_deref().and_then(|target| target.split_once('.')) else {
            self.note(s3_kind(request.method(), request.uri()), Used::call());
            return self.inner.call(request);
        };
        if service.starts_with("AmazonEC2ContainerService") {
            self.note(format!("ecs {operation}"), Used::call());
            return HttpConnectorFuture::ready(answer(&self.ecs.handle(operation, &body())));
        }
        if !service.starts_with("DynamoDB") {
            self.note(format!("{} {operation}", service.to_lowercase()), Used::call());
            return self.inner.call(request);
        }
        let is_write = operation == "TransactWriteItems" || operation == "PutItem";
        let kind = format!("dynamodb {operation} {}", table_place(&body()));
        let (calls, inner) = (self.calls.clone(), self.inner.clone());
        HttpConnectorFuture::new(async move {
            let mut response = inner.call(request).await?;
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            let bytes = ByteStream::new(body)
                .collect()
                .await
                .map_err(|error| ConnectorError::other(error.into(), None))?;
            let bytes = bytes.into_bytes();
            let units = units(&serde_json::from_slice(&bytes).unwrap_or_default());
            let used = if is_write {
                Used { write_units: units, ..Used::call() }
            } else {
                Used { read_units: units, ..Used::call() }
            };
            calls.lock().entry(kind).or_default().add(used);
            *response.body_mut() = SdkBody::from(bytes);
            Ok(response)
        })
    }
}

impl Connector {
    fn note(&self, kind: String, used: Used) {
        self.calls.lock().entry(kind).or_default().add(used);
    }
}

/// `CapacityUnits` of an answer, summed over tables.
fn units(answer: &Value) -> f64 {
    let one = |capacity: &Value| capacity["CapacityUnits"].as_f64().unwrap_or_default();
    match &answer["ConsumedCapacity"] {
        Value::Array(tables) => tables.iter().map(one).sum(),
        capacity => one(capacity),
    }
}

fn answer(answer: &Result<Value, (&'static str, String)>) -> Result<HttpResponse, ConnectorError> {
    let (status, body) = match answer {
        Ok(body) => (200, body.to_string()),
        Err((code, message)) => (400, serde_json::json!({ "__type": code, "message": message }).to_string()),
    };
    let status = aws_smithy_runtime_api::http::StatusCode::try_from(status)
        .map_err(|error| ConnectorError::other(error.into(), None))?;
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.1");
    Ok(response)
}

/// Where in the table: for a transaction what it commits.
fn table_place(body: &Value) -> String {
    let place = |key: &Value| {
        let text = |name: &str| key[name]["S"].as_str().unwrap_or_default().to_owned();
        let (partition, sort) = (text("pk"), text("sk"));
        match partition.as_str() {
            "cell" | "stream" => format!("{partition} {}", first(&sort)),
            _ => first(&partition).to_owned(),
        }
    };
    if let Some(actions) = body["TransactItems"].as_array() {
        let batch = actions
            .iter()
            .find_map(|action| action["Put"]["Item"]["pk"]["S"].as_str()?.strip_prefix("batch/"));
        return match first(batch.unwrap_or_default()) {
            "d" => "driver".to_owned(),
            other => other.to_owned(),
        };
    }
    if body["KeyConditionExpression"].is_string() {
        let values = &body["ExpressionAttributeValues"];
        let partition = values[":partition"]["S"].as_str().unwrap_or_default();
        return match partition {
            "cell" => format!("cell {}", first(values[":prefix"]["S"].as_str().unwrap_or_default())),
            "seg/log" => partition.to_owned(),
            other => first(other).to_owned(),
        };
    }
    place(if body["Item"].is_object() { &body["Item"] } else { &body["Key"] })
}

fn first(text: &str) -> &str {
    text.split('/').next().unwrap_or_default()
}

/// Operation and place of a request of S3 with the bucket in its path.
fn s3_kind(method: &str, uri: &str) -> String {
    let path = uri.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let param = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(found, _)| *found == name))
            .map(|(_, value)| value)
    };
    let operation = match (method, key.is_empty()) {
        ("GET", true) => "LIST",
        (method, _) => method,
    };
    let prefix = param("prefix").unwrap_or_default().replace("%2F", "/");
    let key = if key.is_empty() { prefix.as_str() } else { key };
    let parts: Vec<&str> = key.split('/').collect();
    let class = match parts.as_slice() {
        ["dispatches", _, record @ ..] => format!("dispatches/{}", record.join("/")),
        ["inbox", place, ..] => format!("inbox/{place}"),
        [one, ..] => (*one).to_owned(),
        [] => String::new(),
    };
    format!("s3 {operation} {bucket}:{class}")
}
