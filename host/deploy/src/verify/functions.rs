//! Functions, what calls them, and the schedule.

use aws_sdk_lambda::{
    Client,
    types::{Architecture as Processor, RecursiveLoop, Runtime},
};
use pangolin_aws::{CallError, Service};

use super::{APPLY, Check, Checks};
use crate::{
    Deployer, Packages,
    deployer::project_of,
    names,
    stack::Described,
    template::{FUNCTIONS, Function, SCHEDULE},
};

impl Deployer {
    pub(super) async fn look_at_functions(
        &self,
        all: &mut Vec<Check>,
        now: &Described,
        packages: Option<&Packages>,
    ) {
        let client = Client::new(&self.aws.sdk(Service::Lambda));
        let mut tick_arn = None;
        for (index, function) in FUNCTIONS.iter().enumerate() {
            let name = match now.output(&format!("{}Function", function.id)) {
                Ok(name) => name.to_owned(),
                Err(error) => {
                    Checks::about(all, format!("function {}", function.name)).unreadable("settings", &error);
                    continue;
                }
            };
            let mut checks = Checks::about(all, format!("function {name}"));
            let code = packages.map(|packages| packages.all()[index].sha256_base64());
            let arn = look_at(&client, &mut checks, now, function, &name, code).await;
            if function.name == "tick" {
                tick_arn = arn;
                concurrency(&client, &mut checks, now, &name).await;
            }
        }
        doorbell(&client, all, now, tick_arn.as_deref()).await;
        self.look_at_schedule(all, now, tick_arn.as_deref()).await;
    }

    async fn look_at_schedule(&self, all: &mut Vec<Check>, now: &Described, tick: Option<&str>) {
        let name = match now.output("ScheduleName") {
            Ok(name) => name.to_owned(),
            Err(error) => return Checks::about(all, "schedule").unreadable("settings", &error),
        };
        let mut checks = Checks::about(all, format!("schedule {name}"));
        let client = aws_sdk_scheduler::Client::new(&self.aws.sdk(Service::Scheduler));
        match client.get_schedule().name(&name).send().await {
            Ok(answer) => {
                checks.equal("rate", answer.schedule_expression().unwrap_or("none"), SCHEDULE, APPLY);
                let state = answer.state().map_or("unknown", |state| state.as_str());
                checks.equal(
                    "state",
                    state,
                    "ENABLED",
                    "without it only doorbells wake the tick: apply again",
                );
                let target = answer.target().map_or("none", |target| target.arn());
                checks.equal("target", target, tick.unwrap_or("the tick"), APPLY);
            }
            Err(error) => checks.unreadable("settings", &CallError::new(error)),
        }
    }
}

/// Returns the ARN of the function.
async fn look_at(
    client: &Client,
    checks: &mut Checks<'_>,
    now: &Described,
    function: &Function,
    name: &str,
    code: Option<String>,
) -> Option<String> {
    let answer = match client.get_function_configuration().function_name(name).send().await {
        Ok(answer) => answer,
        Err(error) => {
            checks.unreadable("settings", &CallError::new(error));
            return None;
        }
    };
    let runtime = answer.runtime().map_or("none", Runtime::as_str);
    checks.equal("runtime", runtime, "provided.al2023", APPLY);
    let processors: Vec<_> = answer.architectures().iter().map(Processor::as_str).collect();
    let expected = now.parameters.get("Architecture").cloned().unwrap_or_default();
    checks.equal("processor", processors.join(", "), expected, APPLY);
    let memory = answer.memory_size().unwrap_or_default();
    checks.equal("memory", format!("{memory} MB"), format!("{} MB", function.memory_mb), APPLY);
    let limit = answer.timeout().unwrap_or_default();
    checks.equal("time limit", format!("{limit} s"), format!("{} s", function.timeout_seconds), APPLY);
    let bucket = now.output("DataBucket").unwrap_or_default();
    let document = format!("s3://{bucket}/{}", names::DEPLOYMENT_KEY);
    let variables = answer.environment().and_then(|it| it.variables());
    let variable =
        |key: &str| variables.and_then(|all| all.get(key)).cloned().unwrap_or_else(|| "none".to_owned());
    checks.equal(names::ENV_DEPLOYMENT, variable(names::ENV_DEPLOYMENT), document, APPLY);
    let doorbell = now.output("DoorbellUrl").unwrap_or_default();
    checks.equal(names::ENV_DOORBELL, variable(names::ENV_DOORBELL), doorbell, APPLY);
    if function.name == "tick" {
        checks.equal(names::ENV_PROJECT, variable(names::ENV_PROJECT), project_of(now), APPLY);
        let role = now.output("TickRoleArn").unwrap_or_default();
        checks.equal("role", answer.role().unwrap_or("none"), role, APPLY);
    }
    if let Some(code) = code {
        let found = answer.code_sha256().unwrap_or("unknown");
        checks.equal("code", found, code, "other code is in force than in this release: apply again");
    }
    let arn = answer.function_arn().map(str::to_owned);
    match client.get_function_recursion_config().function_name(name).send().await {
        Ok(answer) => {
            let found = answer.recursive_loop().map_or("unknown", RecursiveLoop::as_str);
            let expected = if function.may_loop { RecursiveLoop::Allow } else { RecursiveLoop::Terminate };
            checks.equal("loops through the queue", found, expected.as_str(), APPLY);
        }
        Err(error) => checks.unreadable("loops through the queue", &CallError::new(error)),
    }
    arn
}

async fn concurrency(client: &Client, checks: &mut Checks<'_>, now: &Described, name: &str) {
    let what = "reserved concurrency";
    let expected = match now.parameters.get("TickConcurrency").map(String::as_str) {
        None | Some("0") => "none".to_owned(),
        Some(count) => count.to_owned(),
    };
    match client.get_function_concurrency().function_name(name).send().await {
        Ok(answer) => {
            let found = answer.reserved_concurrent_executions().map(|count| count.to_string());
            checks.equal(what, found.unwrap_or_else(|| "none".to_owned()), expected, APPLY);
        }
        Err(error) => checks.unreadable(what, &CallError::new(error)),
    }
}

async fn doorbell(client: &Client, all: &mut Vec<Check>, now: &Described, tick: Option<&str>) {
    let mut checks = Checks::about(all, "doorbell");
    let id = match now.output("DoorbellMapping") {
        Ok(id) => id,
        Err(error) => return checks.unreadable("settings", &error),
    };
    match client.get_event_source_mapping().uuid(id).send().await {
        Ok(answer) => {
            let state = answer.state().unwrap_or("unknown");
            checks.equal("state", state, "Enabled", "doorbells are not heard: apply again");
            checks.equal(
                "function",
                answer.function_arn().unwrap_or("none"),
                tick.unwrap_or("the tick"),
                APPLY,
            );
            let partial =
                answer.function_response_types().iter().any(|it| it.as_str() == "ReportBatchItemFailures");
            let found = if partial { "yes" } else { "no" };
            checks.equal("single failures of a batch", found, "yes", APPLY);
        }
        Err(error) => checks.unreadable("settings", &CallError::new(error)),
    }
}
