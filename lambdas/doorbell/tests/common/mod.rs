//! A function of the stack with a queue of an emulator behind it. For the tests of the two functions.

use std::{collections::BTreeMap, fs, time::Duration};

use pangolin_aws::{Aws, Service};
use pangolin_lambda_fake::{Function, LambdaFake, Outcome, Queue};
use pangolin_s3_fake::Ministack;
use serde_json::{Value, json};

/// A deployed function, the doorbell that it rings, and where its dead letters go.
pub(crate) struct Stack {
    pub(crate) service: LambdaFake,
    pub(crate) name: &'static str,
    pub(crate) doorbell: Queue,
    pub(crate) dead: Queue,
    program: &'static str,
    resource: Value,
    endpoint: String,
    _server: Ministack,
}

impl Stack {
    /// The function with this logical id in `infra/template.json`, with its memory, time limit and variables. `None` when
    /// the emulator is not installed.
    pub(crate) async fn start(id: &str, name: &'static str, program: &'static str) -> Option<Self> {
        let server = Ministack::start(&format!("the function {name}")).await?;
        let endpoint = server.endpoint();
        let aws = Aws::for_tests(&endpoint, 3, Aws::http()).expect("clients");
        let client = aws_sdk_sqs::Client::new(&aws.sdk(Service::Sqs));
        let mut queues = Vec::new();
        for queue in ["doorbell", "dead"] {
            let made = client.create_queue().queue_name(queue).send().await.expect("a queue");
            queues.push(Queue::new(&aws, made.queue_url().expect("its URL")));
        }
        let [doorbell, dead] = <[Queue; 2]>::try_from(queues).expect("two");
        let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/template.json");
        let text = fs::read_to_string(template).expect("the template");
        let template: Value = serde_json::from_str(&text).expect("JSON");
        let resource = template["Resources"][id]["Properties"].clone();
        let service = LambdaFake::start().expect("a service");
        let stack = Self { service, name, doorbell, dead, program, resource, endpoint, _server: server };
        stack.deploy(|_| {});
        Some(stack)
    }

    /// Deploys it as the template has it, but for `change`.
    pub(crate) fn deploy(&self, change: impl FnOnce(&mut Function)) {
        let number = |name: &str| self.resource[name].as_u64().expect("a number");
        let mut function = Function::new(self.name, self.program);
        function.timeout = Duration::from_secs(number("Timeout"));
        function.memory_mb = u32::try_from(number("MemorySize")).expect("a number");
        let variables = self.resource["Environment"]["Variables"].as_object().expect("variables");
        let url = self.doorbell.url().to_owned();
        function.env = variables
            .iter()
            .map(|(name, value)| match value["Ref"].as_str() {
                Some("Doorbell") => (name.clone(), url.clone()),
                _ => (name.clone(), "not-used".to_owned()),
            })
            .collect::<BTreeMap<_, _>>();
        function = function.env("AWS_ENDPOINT_URL", &self.endpoint);
        function.on_failure = Some(self.dead.clone());
        change(&mut function);
        self.service.function(function).expect("a good function");
    }

    /// Everything that rang since the last call.
    pub(crate) async fn rings(&self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let some = self.doorbell.take(0).await.expect("taken");
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    /// Hands over an event that must ring once.
    pub(crate) async fn must_ring(&self, event: String, body: &str) {
        let begin: String = event.chars().take(100).collect();
        let delivery = self.service.invoke_event(self.name, event).await.expect("handed over");
        assert!(delivery.is_success() && delivery.attempts.len() == 1, "{begin}: {delivery:?}");
        assert_eq!(self.rings().await, [body], "{begin}");
    }

    /// The lines of its log, each of which must be a JSON object.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = self.service.logs(self.name);
        let line = |line: &str| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
        };
        text.lines().map(line).inspect(|value| assert!(value.is_object(), "{value}")).collect()
    }

    /// Events that nobody expects; all of them must ring, and none may be seen in the log.
    pub(crate) async fn odd_events_ring(&self, body: &str) {
        let secret = "s3cr3t-of-the-event";
        let deep = "[".repeat(50_000) + &"]".repeat(50_000);
        let events = [
            "null".to_owned(),
            "{}".to_owned(),
            deep,
            json!([secret]).to_string(),
            json!({ "Records": [] }).to_string(),
            json!({ "Records": secret }).to_string(),
            json!({ "Records": [null, { "s3": secret }, { "s3": { "object": { "key": secret } } }] })
                .to_string(),
            json!({ "source": "aws.ecs", "detail": secret }).to_string(),
            json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": secret }).to_string(),
        ];
        let count = events.len();
        for event in events {
            self.must_ring(event, body).await;
        }
        let log = self.log();
        assert_eq!(log.iter().filter(|line| line["level"] == "WARN").count(), count, "{log:#?}");
        assert_eq!(log.iter().filter(|line| line["message"] == "rang").count(), count, "{log:#?}");
        assert!(!self.service.logs(self.name).contains(secret), "{log:#?}");
        let invocations = self.service.invocations(self.name).expect("known");
        assert!(invocations.iter().skip(1).all(|one| one.init.is_none()), "one environment: {invocations:?}");
        let limit = self.resource["MemorySize"].as_u64().expect("a number") * 1_024 * 1_024;
        assert!(invocations.iter().all(|one| one.peak_rss < limit), "{invocations:?}");
        assert_eq!(self.service.violations(), Vec::<String>::new());
    }

    /// A doorbell that cannot be reached, or does not answer, fails the invocation; it is repeated, and kept in the end.
    pub(crate) async fn silence_is_a_failure(&self, event: &str) {
        // Nobody listens there: the port was free a moment ago.
        let free =
            std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("its address");
        self.deploy(|function| {
            function.env.insert("AWS_ENDPOINT_URL".to_owned(), format!("http://{free}"));
        });
        let delivery = self.service.invoke_event(self.name, event.to_owned()).await.expect("handed over");
        assert_eq!(delivery.attempts.len(), 3, "{delivery:?}");
        for attempt in &delivery.attempts {
            let Outcome::Failed { error_type, message } = &attempt.outcome else { panic!("{attempt:?}") };
            assert_eq!(error_type, "Doorbell.Call");
            assert!(message.contains(self.doorbell.url()) && message.contains("onnect"), "{message}");
        }
        let letters = self.dead.take(1).await.expect("taken");
        assert_eq!(letters.len(), 1);
        let letter: Value = serde_json::from_str(&letters[0]).expect("JSON");
        assert_eq!(letter["requestPayload"].to_string(), event);
        assert!(self.log().iter().any(|line| line["message"] == "did not ring" && line["level"] == "ERROR"));

        // Somebody who takes connections and never says a word: known before the time limit.
        let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = mute.local_addr().expect("its address");
        self.deploy(|function| {
            function.env.insert("AWS_ENDPOINT_URL".to_owned(), format!("http://{address}"));
            function.timeout = Duration::from_secs(3);
        });
        let late = self.service.invoke(self.name, event.to_owned()).await.expect("invoked");
        assert!(
            matches!(&late.outcome, Outcome::Failed { error_type, .. } if error_type == "Doorbell.TooLate"),
            "{late:?}"
        );
        self.deploy(|_| {});
        assert!(self.rings().await.is_empty());
    }
}
