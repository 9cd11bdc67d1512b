//! Configuration and environment. The environment of a process cannot be changed safely, so these tests start themselves
//! again as a child with the variables set.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use aws_sdk_s3::Client;
use pangolin_aws::{Aws, AwsConfig, CallError, ConfigError, OpenError, Service};
use pangolin_s3_fake::S3Fake;

/// Names the part that a child plays.
const PART: &str = "PANGOLIN_AWS_TEST_PART";

/// Runs the test `child` in a process with exactly these variables, and gives what it printed.
fn in_child(part: &str, variables: &[(&str, &str)]) -> String {
    let empty = tempfile::tempdir().unwrap();
    let home = empty.path().to_str().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env_clear().env("HOME", home).env(PART, part);
    command.env("AWS_EC2_METADATA_DISABLED", "true").envs(variables.iter().copied());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(60) || child.kill().is_err(), "part {part} hangs");
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "part {part}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("said: ")).map(|(_, said)| said.to_owned());
    line.unwrap_or_else(|| panic!("part {part} said nothing: {text}"))
}

/// Plays a part when it was started for it, and nothing otherwise.
#[tokio::test]
async fn child() {
    let Ok(part) = std::env::var(PART) else { return };
    let said = match part.as_str() {
        "environment" => match Aws::open(AwsConfig::default()).await {
            Ok(aws) => format!(
                "{} {:?} {:?} {}",
                aws.region(),
                aws.endpoint(Service::S3),
                aws.endpoint(Service::DynamoDb),
                aws.path_style()
            ),
            Err(error) => error.to_string(),
        },
        "explicit" => {
            let config = AwsConfig {
                region: Some("eu-west-1".to_owned()),
                endpoint_url: Some("http://127.0.0.1:9".to_owned()),
                path_style: Some(false),
                ..AwsConfig::default()
            };
            let aws = Aws::open(config).await.unwrap();
            format!("{} {:?} {}", aws.region(), aws.endpoint(Service::S3), aws.path_style())
        }
        "request" => {
            let aws = Aws::open(AwsConfig::default()).await.unwrap();
            let config = aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3));
            let client = Client::from_conf(config.force_path_style(aws.path_style()).build());
            match client.head_bucket().bucket("b").send().await.map_err(CallError::new) {
                Ok(_) => "seen".to_owned(),
                Err(error) => error.to_string().replace('\n', " "),
            }
        }
        part => panic!("no part {part}"),
    };
    println!("said: {said}");
}

#[tokio::test]
async fn the_environment_fills_what_is_left_open() {
    assert_eq!(in_child("environment", &[("AWS_REGION", "eu-central-1")]), "eu-central-1 None None false");
    let all = [("AWS_REGION", "eu-central-1"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")];
    assert_eq!(
        in_child("environment", &all),
        "eu-central-1 Some(\"http://127.0.0.1:4566\") Some(\"http://127.0.0.1:4566\") true"
    );
    let one = [("AWS_REGION", "eu-central-1"), ("AWS_ENDPOINT_URL_S3", "https://minio.example")];
    assert_eq!(in_child("environment", &one), "eu-central-1 Some(\"https://minio.example\") None true");
    let said = in_child("environment", &[]);
    assert!(said.starts_with("no AWS region is known: set AWS_REGION"), "{said}");
}

#[tokio::test]
async fn what_is_given_wins() {
    let other = [("AWS_REGION", "us-west-2"), ("AWS_ENDPOINT_URL_S3", "https://minio.example")];
    assert_eq!(in_child("explicit", &other), "eu-west-1 Some(\"http://127.0.0.1:9\") false");
}

#[tokio::test]
async fn profiles_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let text = "[profile ops]\nregion = ap-south-1\nservices = here\n[services here]\ns3 =\n  endpoint_url = http://127.0.0.1:9000\n";
    std::fs::write(&file, text).unwrap();
    let variables = [("AWS_CONFIG_FILE", file.to_str().unwrap()), ("AWS_PROFILE", "ops")];
    assert_eq!(in_child("environment", &variables), "ap-south-1 Some(\"http://127.0.0.1:9000\") None true");
}

/// The file with the root certificates is a pipe that nobody writes to: whoever reads it hangs. A client is made, and a
/// request without TLS goes through.
#[tokio::test(flavor = "multi_thread")]
async fn roots_are_not_read_before_they_are_needed() {
    let server = S3Fake::start().await.unwrap();
    server.create_bucket("b");
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    assert!(make_pipe(&roots), "mkfifo failed");
    let said = tokio::task::spawn_blocking(move || {
        let variables = [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &*server.endpoint()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("SSL_CERT_FILE", roots.to_str().unwrap()),
        ];
        in_child("request", &variables)
    });
    assert_eq!(said.await.unwrap(), "seen");
}

/// A server with a certificate for 127.0.0.1 that answers every request with an empty 200; its URL and the certificate.
async fn tls_server() -> (String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust the certificate goes away here.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (url, made.cert.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_spoken_with_who_is_trusted_and_with_nobody_else() {
    let (url, certificate) = tls_server().await;
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    for (root, expected) in [(certificate, "seen"), (stranger, "certificate")] {
        std::fs::write(&roots, root).unwrap();
        let (url, roots) = (url.clone(), roots.clone());
        let said = tokio::task::spawn_blocking(move || {
            let variables = [
                ("AWS_REGION", "us-east-1"),
                ("AWS_ENDPOINT_URL", &*url),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("AWS_MAX_ATTEMPTS", "1"),
                ("SSL_CERT_FILE", roots.to_str().unwrap()),
            ];
            in_child("request", &variables)
        });
        let said = said.await.unwrap();
        assert!(said.contains(expected), "{said}");
    }
}

fn make_pipe(path: &Path) -> bool {
    Command::new("mkfifo").arg(path).status().is_ok_and(|status| status.success())
}

#[tokio::test]
async fn a_bad_configuration_is_refused_before_anything_is_read() {
    let config = AwsConfig {
        endpoint_url: Some("not a url".to_owned()),
        region: Some(" ".to_owned()),
        ..AwsConfig::default()
    };
    match Aws::open(config).await {
        Err(OpenError::Config(ConfigError(findings))) => assert_eq!(findings.len(), 2, "{findings:?}"),
        other => panic!("{other:?}"),
    }
}
