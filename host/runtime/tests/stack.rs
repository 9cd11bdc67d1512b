//! The project of a stack, from packing at home to reading it in a function.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{fs, io::Read as _, path::Path, time::Duration};

use pangolin_aws::{Aws, Service};
use pangolin_core::ids::Digest;
use pangolin_plugin_host::Processor;
use pangolin_runtime::{
    aws::{Compiler, PackError, Stack, StackError, StackSecrets, pack, release},
    config::{Config, PolicyPlace},
    plugins::Plugins,
    secrets::{SecretError, SecretRef, Secrets as _},
};
use pangolin_s3_fake::S3Fake;
use pangolin_stack::{AnchorPlace, Architecture, DeploymentDocument, SCHEMA_VERSION, Workers, names};
use tempfile::TempDir;

const BUCKET: &str = "data";

fn project(namespace: &str) -> (TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "namespace = \"{namespace}\"\nstate = \"elsewhere\"\n[queues.default]\nconcurrency = 1\n[executors.dispatch]\n\
         backend = \"fargate\"\nnetwork = \"host\"\nimage = \"registry.example/worker@sha256:{}\"\n",
        "0".repeat(64)
    );
    fs::write(dir.path().join("pangolin.toml"), text).unwrap();
    let config = Config::find(dir.path()).unwrap();
    (dir, config)
}

fn packed(namespace: &str) -> Vec<u8> {
    let (_dir, config) = project(namespace);
    pack(&config, Compiler::InProcess, Processor::HERE).unwrap()
}

fn document(project: &str) -> DeploymentDocument {
    DeploymentDocument {
        schema_version: SCHEMA_VERSION,
        stack: "demo".to_owned(),
        region: "us-east-1".to_owned(),
        table: "ledger".to_owned(),
        data_bucket: BUCKET.to_owned(),
        project: project.to_owned(),
        anchor: AnchorPlace { bucket: "anchor".to_owned(), retention_days: 2 },
        doorbell_url: "http://queue.invalid".to_owned(),
        workers: Workers {
            cluster: "demo".to_owned(),
            architecture: Architecture::X86_64,
            subnets: vec!["subnet-1".to_owned()],
            security_groups: Vec::new(),
            assign_public_ip: false,
            family_prefix: names::task_family_prefix("demo"),
            task_role_arn: String::new(),
            execution_role_arn: String::new(),
            log_group: String::new(),
        },
        secrets_prefix: "pangolin/demo/".to_owned(),
        signing_key: format!("pangolin/demo/{}", names::SIGNING_KEY),
        verifier_key: "none".to_owned(),
    }
}

/// A bucket with these archives and a document that names the first.
async fn bucket(archives: &[&[u8]]) -> (S3Fake, Aws) {
    let s3 = S3Fake::start().await.unwrap();
    s3.create_bucket(BUCKET);
    for archive in archives {
        s3.plant(BUCKET, &names::project_key(&Digest::of(archive).hex()), archive);
    }
    let named = Digest::of(archives[0]).to_string();
    s3.plant(BUCKET, names::DEPLOYMENT_KEY, &document(&named).to_bytes());
    // Nobody listens there but S3.
    let aws = Aws::for_tests("http://127.0.0.1:9", 1, Aws::http()).unwrap();
    let aws = aws.with_endpoint(Service::S3, &s3.endpoint());
    (s3, aws)
}

async fn open(aws: &Aws, pinned: Option<Digest>, dir: &Path) -> Result<Stack, StackError> {
    let location = format!("s3://{BUCKET}/{}", names::DEPLOYMENT_KEY);
    Stack::open(aws.clone(), &location, pinned, dir).await
}

/// The same files, with other words in one of them.
fn altered(archive: &[u8], name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if path == Path::new(name) {
            content = bytes.to_vec();
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        out.append_data(&mut header, path, &*content).unwrap();
    }
    out.into_inner().unwrap()
}

#[test]
fn executors_that_start_nothing_on_fargate_are_all_named() {
    let (dir, _) = project("one");
    let write = |executors: &str| {
        let text = format!("namespace = \"one\"\n[queues.default]\nconcurrency = 1\n{executors}");
        fs::write(dir.path().join("pangolin.toml"), text).unwrap();
        match pack(&Config::find(dir.path()).unwrap(), Compiler::InProcess, Processor::HERE) {
            Err(PackError::Executors(problems)) => problems.join("\n"),
            other => panic!("{:?}", other.map(|bytes| bytes.len())),
        }
    };
    let none = write("[executors.local]\nbackend = \"process\"\n");
    assert_eq!(none, "no executor has backend = \"fargate\"");
    let many = write(
        "[executors.local]\nbackend = \"process\"\n[executors.far]\nbackend = \"fargate\"\nnetwork = \"host\"\nimage = \"worker:latest\"\ncpus = 17\n",
    );
    for words in ["executors.far: image must be named by digest", "17000"] {
        assert!(many.contains(words), "{words} is not in {many}");
    }
    assert!(!many.contains("executors.local"), "{many}");
}

#[test]
fn equal_projects_make_equal_archives() {
    assert!(packed("one") == packed("one"), "the digest would change with every plan");
    assert!(packed("one") != packed("two"));
}

#[tokio::test]
async fn a_function_reads_the_project_that_is_pinned_while_another_one_is_in_force() {
    let (old, new) = (packed("old"), packed("new"));
    // The document already names the new one.
    let (s3, aws) = bucket(&[&new, &old]).await;
    let dir = tempfile::tempdir().unwrap();
    let namespace = async |pinned: Option<Digest>| {
        let place = dir.path().join(pinned.map_or_else(|| "none".to_owned(), |it| it.hex()));
        let stack = open(&aws, pinned, &place).await.unwrap();
        assert_eq!(stack.document().stack, "demo");
        fs::read_to_string(place.join("pangolin.toml")).unwrap().lines().next().unwrap().to_owned()
    };
    assert_eq!(namespace(Some(Digest::of(&old))).await, "namespace = \"old\"");
    assert_eq!(namespace(Some(Digest::of(&new))).await, "namespace = \"new\"");
    assert_eq!(namespace(None).await, "namespace = \"new\"", "people see what is in force");

    // Other bytes under the key of a project are not taken, whoever put them there.
    s3.plant(BUCKET, &names::project_key(&Digest::of(&old).hex()), &new);
    let error = open(&aws, Some(Digest::of(&old)), dir.path()).await.err().unwrap();
    assert!(matches!(error, StackError::OtherProject { .. }), "{error}");
    for digest in [Digest::of(&old), Digest::of(&new)] {
        assert!(error.to_string().contains(&digest.to_string()), "{error}");
    }
}

#[tokio::test]
async fn an_engine_refuses_what_another_release_packed_and_names_both() {
    let mut other = release(Processor::HERE);
    other.native_code = "wasmtime 1.2.3".to_owned();
    let words = serde_json::to_vec(&other).unwrap();
    let archive = altered(&packed("one"), ".pangolin/release.json", &words);
    let (_s3, aws) = bucket(&[&archive]).await;
    let dir = tempfile::tempdir().unwrap();
    // People only read: the configuration of a stack of another release is as good.
    let stack = open(&aws, None, dir.path()).await.unwrap();
    let error = stack.engine(Duration::from_secs(40)).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, StackError::OtherRelease { .. }), "{text}");
    for part in ["wasmtime 1.2.3", &release(Processor::HERE).to_string(), "pangolin deploy apply"] {
        assert!(text.contains(part), "{text}");
    }
}

/// What a function may use of a project.
async fn in_a_function(archive: &[u8], dir: &Path) -> std::sync::Arc<Plugins> {
    let (_s3, aws) = bucket(&[archive]).await;
    let stack = open(&aws, Some(Digest::of(archive)), dir).await.unwrap();
    Plugins::open_compiled(stack.config()).unwrap()
}

#[tokio::test]
async fn code_of_blocks_for_workers_comes_out_of_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = in_a_function(&packed("one"), dir.path()).await;
    let block = plugins.block("secret-scan").unwrap();
    let code = plugins.host().block_code(&block.bytes).unwrap();
    assert!(code.contract.starts_with("pangolin:block@1."), "{}", code.contract);
    // As a worker loads it.
    let worker = pangolin_plugin_host::PluginHost::without_compiler().unwrap();
    let loaded = worker.load_block_code(block.digest, Digest::of(&code.code), &code.code).unwrap();
    assert_eq!(loaded.digest(), block.digest);
    // What is not in the archive is not compiled there.
    let error = plugins.host().block_code(b"\0asm").err().unwrap();
    assert_eq!(error.failure.code(), "not-compiled", "{error}");
}

#[tokio::test]
async fn the_operators_policy_travels_with_the_project() {
    let (dir, config) = project("one");
    let file = dir.path().join("operator.toml");
    fs::write(&file, "[allow]\n[limits]\nmemory = \"16MiB\"\n").unwrap();
    let config = Config { policy: PolicyPlace::File(file.clone()), ..config };
    let cut = pack(&config, Compiler::InProcess, Processor::HERE).unwrap();
    let places = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let granted = in_a_function(&packed("one"), places[0].path()).await.block("secret-scan").unwrap();
    assert!(!granted.block_grant().read.is_empty(), "without a policy it may read");
    let block = in_a_function(&cut, places[1].path()).await.block("secret-scan").unwrap();
    assert_eq!(block.block_grant().read, Vec::<String>::new());
    assert_eq!(block.block_grant().limits.memory_bytes, 16 << 20);
    assert_ne!(block.fingerprint, granted.fingerprint);
    // A policy that cannot be read is not taken for none.
    fs::write(&file, "nonsense").unwrap();
    let error = pack(&config, Compiler::InProcess, Processor::HERE).unwrap_err();
    assert!(error.to_string().contains("operator.toml"), "{error}");
}

/// The tick reads the signing key, so that nothing else may ask it to: neither under the name that `deploy` gives it nor under
/// another. Refused without a request: nobody listens.
#[tokio::test]
async fn no_item_gets_the_signing_key() {
    let reserved = format!("aws-secret://{}", names::SIGNING_KEY);
    assert!(matches!(SecretRef::parse(&reserved), Err(SecretError::Reserved(_))));
    let aws = Aws::for_tests("http://127.0.0.1:9", 1, Aws::http()).unwrap();
    let client = aws_sdk_secretsmanager::Client::new(&aws.sdk(Service::SecretsManager));
    let document = DeploymentDocument {
        signing_key: "pangolin/demo/other".to_owned(),
        ..document("config/project.tar")
    };
    let secrets = StackSecrets::new(client, &document);
    let asked = secrets.value(&SecretRef::Aws("other".to_owned())).await;
    assert!(matches!(asked, Err(SecretError::Reserved(_))), "{asked:?}");
    let asked = secrets.value(&SecretRef::Aws("token".to_owned())).await;
    assert!(matches!(asked, Err(SecretError::Store { .. })), "{asked:?}");
}
