//! EventBridge calls a function for events that match a rule.

use std::{io, net::SocketAddr};

use serde_json::Value;
use tokio::net::TcpListener;

use crate::{Background, LambdaFake, api};

/// Listens on loopback for events, one JSON document per POST, and hands those that match to a function. The first half of
/// the answer is the URL, as for `EcsFake::post_events_to`; it is served until the second half is dropped.
///
/// # Errors
/// When no port can be had.
pub async fn rule_target(
    service: &LambdaFake,
    function: &str,
    matches: fn(&Value) -> bool,
) -> io::Result<(String, Background)> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let (service, function) = (service.clone(), function.to_owned());
    let take = move |body: bytes::Bytes| {
        if serde_json::from_slice(&body).is_ok_and(|event| matches(&event)) {
            let (service, function) = (service.clone(), function.clone());
            // Failures are among the service's invocations and dead letters.
            tokio::spawn(async move { service.invoke_event(&function, body).await.ok() });
        }
    };
    Ok((url, Background::new(api::take_posts(listener, take))))
}

/// The rule of the stack: a task has stopped.
#[must_use]
pub fn is_stopped_task(event: &Value) -> bool {
    event["source"] == "aws.ecs"
        && event["detail-type"] == "ECS Task State Change"
        && event["detail"]["lastStatus"] == "STOPPED"
}
