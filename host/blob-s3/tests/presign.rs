//! Pre-signed URLs, used with nothing but a socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::time::Duration;

use pangolin_aws::Aws;
use pangolin_blob_s3::{PresignError, Presigner, S3BlobStore, SignedUrl};
use pangolin_core::ids::Digest;
use pangolin_ports::blob_store::BlobStore;
use pangolin_s3_fake::{Ministack, S3Fake};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Sends a request and gives status and body.
async fn send(method: &str, signed: &SignedUrl, headers: bool, body: &[u8]) -> (u16, Vec<u8>) {
    let rest = signed.url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in signed.headers.iter().filter(|_| headers) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

const LIFE: Duration = Duration::from_secs(900);

async fn reads_and_creates(aws: &Aws) {
    let store = S3BlobStore::new(aws, "blobs", "team/");
    let digest = store.put(b"content").await.unwrap();
    let url = store.presign_get(&digest, LIFE).await.unwrap();
    assert_eq!(send("GET", &url, true, b"").await, (200, b"content".to_vec()));
    assert_eq!(
        send("GET", &store.presign_get(&Digest::of(b"absent"), LIFE).await.unwrap(), true, b"").await.0,
        404
    );

    let url = store.presigner().put_new("runs/r/result", LIFE).await.unwrap();
    assert!(url.headers.iter().any(|(name, value)| name == "if-none-match" && value == "*"), "{url:?}");
    assert_eq!(send("PUT", &url, true, b"first").await.0, 200);
    assert_eq!(send("PUT", &url, true, b"second").await.0, 412, "the second writer wins");
    let url = store.presigner().get("runs/r/result", LIFE).await.unwrap();
    assert_eq!(send("GET", &url, true, b"").await, (200, b"first".to_vec()));
}

#[tokio::test]
async fn on_ministack() {
    let Some(server) = Ministack::start("pre-signed URLs").await else { return };
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).unwrap();
    let config =
        aws_sdk_s3::config::Builder::from(&aws.sdk(pangolin_aws::Service::S3)).force_path_style(true).build();
    aws_sdk_s3::Client::from_conf(config).create_bucket().bucket("blobs").send().await.unwrap();
    reads_and_creates(&aws).await;
}

#[tokio::test]
async fn on_the_strict_fake() {
    let server = S3Fake::start().await.unwrap();
    server.create_bucket("blobs");
    let aws = Aws::for_tests(&server.endpoint(), 1, Aws::http()).unwrap();
    reads_and_creates(&aws).await;
    let presigner = Presigner::new(&aws, "blobs");
    let url = presigner.put_new("k", LIFE).await.unwrap();
    let (status, body) = send("PUT", &url, false, b"x").await;
    assert_eq!(status, 403, "a PUT without its condition: {}", String::from_utf8_lossy(&body));
    server.advance_ms(901_000);
    assert_eq!(send("PUT", &url, true, b"x").await.0, 403, "an expired URL");
    assert!(!server.keys("blobs").contains(&"k".to_owned()));
}

#[tokio::test]
async fn lives_are_bounded_and_urls_are_not_shown() {
    let aws = Aws::for_tests("http://127.0.0.1:1", 1, Aws::http()).unwrap();
    let presigner = Presigner::new(&aws, "blobs");
    for life in [Duration::ZERO, Duration::from_millis(10), Duration::from_secs(604_801)] {
        let answer = presigner.get("k", life).await;
        assert!(matches!(answer, Err(PresignError::Life(_))), "{answer:?}");
    }
    let shown = format!("{:?}", presigner.get("k", LIFE).await.unwrap());
    assert!(shown.contains("/blobs/k?…") && !shown.contains("Signature"), "{shown}");
}
