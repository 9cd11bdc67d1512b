//! The HTTP client around another one, and how it knows what is called.

use std::io;

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
    },
};
use aws_smithy_types::config_bag::ConfigBag;

use super::{Answer, Call, Fault, FaultScript};

pub(super) fn client(script: FaultScript, inner: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(FaultyClient { script, inner })
}

#[derive(Debug)]
struct FaultyClient {
    script: FaultScript,
    inner: SharedHttpClient,
}

impl HttpClient for FaultyClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(FaultyConnector {
            script: self.script.clone(),
            inner: self.inner.http_connector(settings, components),
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.inner.validate_base_client_config(components, config)
    }
}

#[derive(Debug)]
struct FaultyConnector {
    script: FaultScript,
    inner: SharedHttpConnector,
}

impl HttpConnector for FaultyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Some(fault) = self.script.next(describe(&request)) else {
            return self.inner.call(request);
        };
        let inner = self.inner.clone();
        HttpConnectorFuture::new(async move { perform(fault, &inner, request).await })
    }
}

async fn perform(
    fault: Fault,
    inner: &SharedHttpConnector,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let is_head = request.method() == "HEAD";
    match fault {
        Fault::RefuseSend => Err(broken("the connection was refused")),
        Fault::LoseAnswer => {
            inner.call(request).await?;
            Err(broken("the connection was reset before the answer"))
        }
        Fault::Answer(answer) => made(&answer, is_head),
        Fault::AnswerAfterEffect(answer) => {
            inner.call(request).await?;
            made(&answer, is_head)
        }
        Fault::SendTwice => {
            let Some(again) = request.try_clone() else {
                return Err(ConnectorError::user(
                    "the fault script cannot repeat this request's body".into(),
                ));
            };
            inner.call(request).await?;
            inner.call(again).await
        }
        Fault::HoldBefore(gate) => {
            gate.pass().await;
            inner.call(request).await
        }
        Fault::HoldAfter(gate) => {
            let answer = inner.call(request).await;
            gate.pass().await;
            answer
        }
    }
}

fn broken(what: &'static str) -> ConnectorError {
    let error = io::Error::new(io::ErrorKind::ConnectionReset, format!("{what} (by the fault script)"));
    ConnectorError::io(error.into())
}

fn made(answer: &Answer, is_head: bool) -> Result<HttpResponse, ConnectorError> {
    answer
        .response(is_head)
        .ok_or_else(|| ConnectorError::user("the answer in the fault script is no HTTP answer".into()))
}

fn describe(request: &HttpRequest) -> Call {
    let headers = request.headers();
    let uri = request.uri();
    let target =
        uri.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let target = format!("/{target}");
    // Credential=<key>/<date>/<region>/<service>/aws4_request
    let service = headers
        .get("authorization")
        .and_then(|text| text.split_once("Credential="))
        .and_then(|(_, scope)| scope.split('/').nth(3))
        .unwrap_or_default()
        .to_owned();
    let operation = if let Some(target) = headers.get("x-amz-target") {
        target.rsplit('.').next().unwrap_or_default().to_owned()
    } else if service == "s3" {
        s3_operation(request.method(), &target, headers.get("x-amz-copy-source").is_some()).to_owned()
    } else {
        let form =
            request.body().bytes().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        let action = form.split('&').find_map(|pair| pair.strip_prefix("Action="));
        action.map_or_else(|| format!("{} {target}", request.method()), str::to_owned)
    };
    Call { service, operation, target }
}

/// The operation behind a path-style request.
fn s3_operation(method: &str, target: &str, is_copy: bool) -> &'static str {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let on_object = path.trim_start_matches('/').split_once('/').is_some_and(|(_, key)| !key.is_empty());
    match (method, on_object) {
        ("GET", true) if has("retention") => "GetObjectRetention",
        ("GET", true) => "GetObject",
        ("PUT", true) if has("retention") => "PutObjectRetention",
        ("PUT", true) if has("partNumber") => "UploadPart",
        ("PUT", true) if is_copy => "CopyObject",
        ("PUT", true) => "PutObject",
        ("HEAD", true) => "HeadObject",
        ("DELETE", true) => "DeleteObject",
        ("POST", true) if has("uploads") => "CreateMultipartUpload",
        ("POST", true) if has("uploadId") => "CompleteMultipartUpload",
        ("GET", false) if has("versions") => "ListObjectVersions",
        ("GET", false) if has("versioning") => "GetBucketVersioning",
        ("GET", false) if has("object-lock") => "GetObjectLockConfiguration",
        ("GET", false) if has("policy") => "GetBucketPolicy",
        ("GET", false) if has("list-type") => "ListObjectsV2",
        ("PUT", false) if has("policy") => "PutBucketPolicy",
        ("PUT", false) if has("versioning") => "PutBucketVersioning",
        ("PUT", false) if has("object-lock") => "PutObjectLockConfiguration",
        ("PUT", false) if query.is_empty() => "CreateBucket",
        ("POST", false) if has("delete") => "DeleteObjects",
        ("HEAD", false) => "HeadBucket",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn request(
        method: &str,
        uri: &str,
        headers: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> HttpRequest {
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method(method).expect("a method");
        request.set_uri(uri).expect("a URI");
        for (name, value) in headers {
            request.headers_mut().insert(*name, *value);
        }
        request
    }

    #[test]
    fn calls_of_every_protocol_have_their_names() {
        let scope = |service| match service {
            "dynamodb" => {
                "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0"
            }
            "sts" => {
                "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0"
            }
            _ => {
                "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
            }
        };
        for (request, service, operation) in [
            (
                request(
                    "POST",
                    "http://127.0.0.1:1/",
                    &[
                        ("authorization", scope("dynamodb")),
                        ("x-amz-target", "DynamoDB_20120810.TransactWriteItems"),
                    ],
                    "{}",
                ),
                "dynamodb",
                "TransactWriteItems",
            ),
            (
                request(
                    "POST",
                    "http://127.0.0.1:1/",
                    &[("authorization", scope("sts"))],
                    "Action=GetCallerIdentity&Version=2011-06-15",
                ),
                "sts",
                "GetCallerIdentity",
            ),
            (
                request(
                    "GET",
                    "http://127.0.0.1:1/2015-03-31/functions",
                    &[("authorization", scope("lambda"))],
                    "",
                ),
                "lambda",
                "GET /2015-03-31/functions",
            ),
        ] {
            let call = describe(&request);
            assert_eq!((&*call.service, &*call.operation), (service, operation), "{call:?}");
        }
    }
}
