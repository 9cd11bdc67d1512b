//! Plan, apply, verify, status and destroy against ministack.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_cloudwatch::types::StateValue;
use pangolin_aws::{Aws, Service};
use pangolin_deploy::{
    Action, DeployError, Deployer, DestroyOptions, Package, Packages, Progress, Project, QueueDepth,
    Settings, names,
};
use pangolin_orchestrator::lease::{StoreLease, Tried};
use pangolin_ports::{clock::Clock as _, memory::SystemClock};
use pangolin_s3_fake::Ministack;
use pangolin_store_dynamodb::{DynamoRunStore, Retry};

/// A zip with one stored file, `bootstrap`.
fn archive(script: &str) -> Package {
    let (name, data) = (b"bootstrap", script.as_bytes());
    let crc = crc32fast::hash(data);
    let common = |out: &mut Vec<u8>| {
        // Version 2.0, no flags, stored, no time.
        out.extend([20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0]);
        out.extend(crc.to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend([0, 0]);
    };
    let mut zip = b"PK\x03\x04".to_vec();
    common(&mut zip);
    zip.extend(name);
    zip.extend(data);
    let directory = zip.len() as u32;
    // Made on Unix, so that the mode counts.
    zip.extend(b"PK\x01\x02\x14\x03");
    common(&mut zip);
    zip.extend([0; 6]);
    zip.extend((0o100_755_u32 << 16).to_le_bytes());
    zip.extend(0_u32.to_le_bytes());
    zip.extend(name);
    let size = zip.len() as u32 - directory;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend(size.to_le_bytes());
    zip.extend(directory.to_le_bytes());
    zip.extend([0, 0]);
    Package::new(zip)
}

fn packages(version: &str) -> Packages {
    let code = |name: &str| archive(&format!("#!/bin/sh\n# {name} {version}\nexit 1\n"));
    Packages { inbox: code("inbox"), tick: code("tick"), task_events: code("task-events") }
}

fn project(text: &str) -> Project {
    Project::new(text.as_bytes().to_vec())
}

fn settings() -> Settings {
    Settings {
        stack: "demo".to_owned(),
        architecture: pangolin_deploy::Architecture::X86_64,
        tags: [("team".to_owned(), "platform".to_owned())].into(),
        ..Settings::default()
    }
}

fn deployer(aws: &Aws) -> Deployer {
    Deployer::with_pause(aws, "demo", Duration::from_millis(50)).expect("the name is fine")
}

fn quiet(_: Progress) {}

/// What people see of a stack that works: a look that goes on and one that ended, a dead letter, an alarm that is on.
async fn the_pulse_shows_what_goes_on(aws: &Aws, deployer: &Deployer, table: &str) {
    let before = deployer.pulse().await.expect("a pulse");
    assert_eq!(before.unreadable, Vec::<String>::new(), "an old ministack lacks cbor2: pip install cbor2");
    assert_eq!((before.last_look, before.dead_letters), (None, Some(QueueDepth::default())));
    let alarms = before.alarms.expect("they can be read");
    assert!(alarms.len() == 6 && alarms.iter().all(|alarm| alarm.state != "ALARM"), "{alarms:#?}");

    let dynamo = aws_sdk_dynamodb::Client::new(&aws.sdk(Service::DynamoDb));
    let store = DynamoRunStore::open(&dynamo, table.to_owned(), Retry::default()).await.expect("a store");
    let life = Duration::from_secs(40);
    let lease = StoreLease::new(Arc::new(store), Arc::new(SystemClock), "a look".to_owned(), life);
    let Tried::Held(held) = lease.try_acquire().await.expect("the store works") else {
        panic!("nobody else looks")
    };
    let begun = SystemClock.now_ms();
    let look = deployer.pulse().await.expect("a pulse").last_look.expect("somebody looks");
    assert!(look.held_until.is_some_and(|until| until > begun) && look.at <= begun, "{look:?}");
    held.release().await.expect("given back");
    let sqs = aws_sdk_sqs::Client::new(&aws.sdk(Service::Sqs));
    let queue = deployer.status().await.expect("a status").outputs["DeadLettersUrl"].clone();
    sqs.send_message().queue_url(queue).message_body("{}").send().await.expect("sent");
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&aws.sdk(Service::CloudWatch));
    let name = &alarms[0].name;
    let on = cloudwatch.set_alarm_state().alarm_name(name).state_value(StateValue::Alarm);
    on.state_reason("a test").send().await.expect("set");

    let after = deployer.pulse().await.expect("a pulse");
    assert!(after.last_look.is_some_and(|look| look.held_until.is_none() && look.at >= begun), "{after:?}");
    assert_eq!(after.dead_letters.map(|queue| queue.waiting), Some(1));
    let on: Vec<_> = after.alarms.iter().flatten().filter(|alarm| alarm.state == "ALARM").collect();
    assert!(on.len() == 1 && on[0].name == *name && on[0].about.is_some(), "{on:#?}");
}

#[tokio::test]
async fn a_stack_from_plan_to_destroy() {
    let Some(server) = Ministack::start("deploy").await else { return };
    let aws = Aws::for_tests(&server.endpoint(), 3, Aws::http()).expect("the endpoint is a URL");
    let deployer = deployer(&aws);
    let settings = settings();
    let first = packages("1");
    let mine = project("the first");

    // Nothing there yet.
    assert!(matches!(deployer.status().await, Err(DeployError::NoStack(_))));
    let plan = deployer.plan(&settings, &first, Some(&mine)).await.expect("a plan");
    assert!(plan.creates && plan.change_set.is_none());
    assert!(plan.changes.iter().all(|change| change.action == Action::Add), "{plan}");
    for id in ["Ledger", "Data", "Anchor", "Tick", "EveryMinute", "TaskRole", "DoorbellToTick"] {
        assert!(plan.changes.iter().any(|change| change.id == id), "{id} is not in\n{plan}");
    }
    assert!(matches!(deployer.status().await, Err(DeployError::NoStack(_))), "a plan makes nothing");

    // Applied: the document names what is there, the key is made once.
    let news = Mutex::new(Vec::new());
    let watch = |progress: Progress| news.lock().expect("no panic before").push(progress.to_string());
    let applied = deployer
        .apply(&plan, &settings, &first, &mine, &watch)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", news.lock().expect("no panic before").join("\n")));
    assert!(applied.made_key && applied.uploaded == 3, "{applied:?}");
    let news = news.into_inner().expect("no panic before");
    assert!(news.iter().any(|line| line.contains("Ledger: CREATE_COMPLETE")), "{news:#?}");
    assert!(news.iter().any(|line| line.starts_with("  Tick: ") && line.ends_with("_COMPLETE")), "{news:#?}");
    let document = deployer.deployment().await.expect("the document");
    assert_eq!(document, applied.deployment);
    assert_eq!(document.anchor.retention_days, settings.anchor_retention_days);
    assert_eq!(document.workers.subnets.len(), 2, "the stack's own VPC");
    assert!(document.verifier_key.starts_with("pangolin.demo/"), "{}", document.verifier_key);
    let s3 = aws_sdk_s3::Client::from_conf(
        aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3)).force_path_style(true).build(),
    );
    let archive = async |project: &Project| {
        let found = s3.get_object().bucket(&document.data_bucket).key(project.key()).send().await.ok()?;
        Some(found.body.collect().await.expect("its bytes").to_vec())
    };
    assert_eq!(archive(&mine).await.as_deref(), Some(&b"the first"[..]));
    let lambda = aws_sdk_lambda::Client::new(&aws.sdk(Service::Lambda));
    let pinned = async || {
        let name = deployer.status().await.expect("a status").outputs["TickFunction"].clone();
        let tick = lambda.get_function_configuration().function_name(name).send().await.expect("a function");
        let variables = tick.environment().and_then(|it| it.variables()).expect("variables").clone();
        variables[names::ENV_PROJECT].clone()
    };
    assert_eq!(pinned().await, mine.digest().to_string());
    assert_eq!(document.project, mine.digest().to_string());

    the_pulse_shows_what_goes_on(&aws, &deployer, &document.table).await;

    // Nothing to do; then other code is a modification, is uploaded once, and the key stays.
    for same in [Some(&mine), None] {
        let again = deployer.plan(&settings, &first, same).await.expect("a plan");
        assert!(again.changes.is_empty() && again.project == mine.digest().to_string(), "{again}");
    }
    let second = packages("2");
    let plan = deployer.plan(&settings, &second, Some(&mine)).await.expect("a plan");
    assert!(!plan.creates);
    assert!(
        plan.changes.iter().any(|change| change.id == "Tick" && change.action == Action::Modify),
        "{plan}"
    );
    assert!(plan.endangered().is_empty());
    let applied = deployer.apply(&plan, &settings, &second, &mine, &quiet).await.expect("applied");
    assert!(!applied.made_key);
    assert_eq!(applied.uploaded, 3);
    assert_eq!(applied.deployment.verifier_key, document.verifier_key);
    let status = deployer.status().await.expect("a status");
    assert!(status.has_code && status.template_is_current, "{status:?}");

    // Another project is a change of the stack. The one that functions had stays, so that they can go on with it until they are
    // switched and after a rollback; the one before that goes. Nothing but what was planned is applied.
    let (other, third) = (project("the second"), project("the third"));
    let plan = deployer.plan(&settings, &second, Some(&other)).await.expect("a plan");
    assert!(plan.changes.iter().any(|it| it.id == "Tick" && it.action == Action::Modify), "{plan}");
    let refused = deployer.apply(&plan, &settings, &second, &mine, &quiet).await;
    assert!(matches!(refused, Err(DeployError::Refused(_))), "{refused:?}");
    let applied = deployer.apply(&plan, &settings, &second, &other, &quiet).await.expect("applied");
    assert_eq!((pinned().await, applied.removed), (other.digest().to_string(), Vec::<String>::new()));
    assert_eq!(applied.deployment.project, other.digest().to_string());
    assert!(archive(&mine).await.is_some() && archive(&other).await.is_some());
    let plan = deployer.plan(&settings, &second, Some(&third)).await.expect("a plan");
    let applied = deployer.apply(&plan, &settings, &second, &third, &quiet).await.expect("applied");
    assert_eq!(applied.removed, Vec::<String>::new(), "it is younger than a day");
    let impatient = deployer.clone().keeping_projects(Duration::ZERO);
    let plan = impatient.plan(&settings, &second, Some(&other)).await.expect("a plan");
    let applied = impatient.apply(&plan, &settings, &second, &other, &quiet).await.expect("applied");
    assert_eq!(applied.removed, [mine.key()]);
    assert!(archive(&mine).await.is_none() && archive(&third).await.is_some());

    // Verify finds exactly what this emulator's CloudFormation drops, above all the lock of the anchor.
    let verified = deployer.verify(Some(&second), &quiet).await.expect("verified");
    let anchor = &document.anchor.bucket;
    let found: Vec<_> = verified
        .findings()
        .map(|it| (it.resource.split(' ').next().unwrap_or_default(), it.what.as_str()))
        .collect();
    let dropped = [
        ("table", "recovery to a point in time"),
        ("data", "expiry of objects"),
        ("anchor", "object lock"),
        ("function", "loops through the queue"),
        ("function", "reserved concurrency"),
        ("anchor", "attack"),
    ];
    assert_eq!(found, dropped, "{:#?}", verified.findings().collect::<Vec<_>>());
    assert!(!verified.holds());
    let lock = verified.checks.iter().find(|it| it.what == "object lock").expect("it was looked at");
    assert!(lock.found.contains("do not use this anchor"), "{lock:?}");

    // An archive that somebody changed is found; the tick would not take it.
    let put = s3.put_object().bucket(&document.data_bucket).key(other.key()).body(b"evil".to_vec().into());
    put.send().await.expect("nobody checks rights here");
    let verified = deployer.verify(Some(&second), &quiet).await.expect("verified");
    let found = verified.findings().find(|it| it.what == "archive").expect("it is found");
    assert!(found.resource.contains(&other.digest().to_string()), "{found:?}");

    // Code of another release is found.
    let verified = deployer.verify(Some(&first), &quiet).await.expect("verified");
    let code = verified.findings().filter(|it| it.what == "code").count();
    assert_eq!(code, 3);

    // Somebody opens the data bucket and switches the table's protection off.
    s3.delete_bucket_policy().bucket(&document.data_bucket).send().await.expect("deleted");
    let tables = aws_sdk_dynamodb::Client::new(&aws.sdk(Service::DynamoDb));
    let update = tables.update_table().table_name(&document.table).deletion_protection_enabled(false);
    update.send().await.expect("updated");
    let verified = deployer.verify(None, &quiet).await.expect("verified");
    let found = |resource: &str, what: &str| {
        verified.findings().any(|it| it.resource.contains(resource) && it.what == what)
    };
    assert!(found(&document.data_bucket, "policy"));
    assert!(found(&document.table, "protection against deletion"));

    // Destroy: never the anchor; the rest goes and data stays.
    let refused = deployer.destroy(DestroyOptions { anchor: true }, &quiet).await;
    assert!(matches!(refused, Err(DeployError::Refused(_))), "{refused:?}");
    let destroyed = deployer.destroy(DestroyOptions::default(), &quiet).await.expect("destroyed");
    assert_eq!(destroyed.kept.len(), 4, "{:#?}", destroyed.kept);
    assert!(matches!(deployer.status().await, Err(DeployError::NoStack(_))));
    tables.describe_table().table_name(&document.table).send().await.expect("the table stays");
    for bucket in [&document.data_bucket, anchor] {
        s3.head_bucket().bucket(bucket).send().await.expect("the bucket stays");
    }
    let document_stays =
        s3.head_object().bucket(&document.data_bucket).key(names::DEPLOYMENT_KEY).send().await;
    document_stays.expect("what is in it stays");

    // A new stack of the same name does not meet what the old one left.
    let plan = deployer.plan(&settings, &second, Some(&mine)).await.expect("a plan");
    assert!(plan.creates && !document.table.ends_with(&plan.suffix), "{}", plan.suffix);
}

#[tokio::test]
async fn bad_input_is_refused_before_any_call() {
    // Nobody listens there.
    let aws = Aws::for_tests("http://127.0.0.1:9", 1, Aws::http()).expect("the endpoint is a URL");
    assert!(matches!(Deployer::new(&aws, "Demo_1"), Err(DeployError::Settings(_))));
    let deployer = deployer(&aws);
    let wrong = Settings { stack: "other".to_owned(), log_retention_days: 2, ..Settings::default() };
    let broken = Packages { inbox: Package::new(b"ELF".to_vec()), ..packages("1") };
    let Err(DeployError::Settings(findings)) = deployer.plan(&wrong, &broken, None).await else {
        panic!("it must be refused")
    };
    assert_eq!(findings.len(), 3, "{findings:#?}");
    let error = deployer.plan(&settings(), &packages("1"), None).await.expect_err("nobody answers");
    assert!(error.to_string().contains("stack demo"), "{error}");
}
