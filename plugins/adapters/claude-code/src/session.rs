//! What a stream of events amounts to.

use pangolin_adapter_sdk::{ExitInfo, Report, describe_exit, was_killed};
use serde_json::{Value, json};

use crate::event::{Event, Message, Raw, amount, count, flag, text, tree, whole};

/// Messages whose usage is kept apart. Events of one message repeat its usage, and messages of subagents interleave;
/// older ones can no longer be repeated.
const RECENT_MESSAGES: usize = 64;

/// How much of the closing text goes into a message.
const CLAIM_CHARS: usize = 300;

/// The model name of messages that Claude Code makes up itself.
const SYNTHETIC: &str = "<synthetic>";

/// Token counts.
#[derive(Debug, Clone, Copy, Default)]
struct Tokens {
    input: u64,
    cached_read: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
}

impl Tokens {
    fn of(usage: &Value, names: [&str; 5]) -> Self {
        let get = |name: &str| usage.get(name).and_then(whole).unwrap_or(0);
        let [input, cached_read, cache_write, output, reasoning] = names.map(get);
        Self { input, cached_read, cache_write, output, reasoning }
    }

    fn add(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cached_read = self.cached_read.saturating_add(other.cached_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }

    fn most(&mut self, other: Self) {
        self.input = self.input.max(other.input);
        self.cached_read = self.cached_read.max(other.cached_read);
        self.cache_write = self.cache_write.max(other.cache_write);
        self.output = self.output.max(other.output);
        self.reasoning = self.reasoning.max(other.reasoning);
    }

    fn report(&self, report: &Report) {
        let named = [
            ("input", self.input),
            ("cached_read", self.cached_read),
            ("cache_write", self.cache_write),
            ("output", self.output),
        ];
        for (name, tokens) in named {
            report.usage(name, float(tokens));
        }
        if self.reasoning > 0 {
            report.usage("reasoning", float(self.reasoning));
        }
    }
}

/// Counts are below 2^53 one by one; a sum that is not is cut there.
#[expect(clippy::cast_precision_loss, reason = "cut to what a float holds exactly")]
fn float(count: u64) -> f64 {
    count.min((1 << 53) - 1) as f64
}

/// The last `result` event.
#[derive(Debug, Default)]
struct Ending {
    is_error: bool,
    subtype: String,
    terminal_reason: String,
    stop_reason: String,
    status: Option<u64>,
    error: Option<String>,
    claim: String,
    errors: Vec<String>,
    denials: Vec<(String, Value)>,
}

/// State of the parser.
#[derive(Debug, Default)]
pub(crate) struct Session {
    id: Option<String>,
    recent: Vec<(String, Tokens)>,
    settled: Tokens,
    messages: u64,
    retries: u64,
    last_status: Option<u64>,
    /// Kind of the last error that Claude Code reported in a message of its own.
    last_error: Option<String>,
    denied: Vec<(String, Value)>,
    ending: Option<Ending>,
    not_understood: u64,
}

impl Session {
    /// A line that was too long.
    pub(crate) fn not_understood(&mut self) {
        self.not_understood += 1;
    }

    /// One line.
    pub(crate) fn line(&mut self, line: &str, report: &Report) {
        let Ok(event) = serde_json::from_str::<Event<'_>>(line) else {
            self.not_understood += 1;
            return;
        };
        if self.id.is_none()
            && let Some(id) = text(event.session_id)
        {
            report.session_id(&id);
            self.id = Some(id);
        }
        let subtype = text(event.subtype).unwrap_or_default();
        match (text(event.kind).as_deref(), subtype.as_str()) {
            (Some("system"), "init") => init(&event, report),
            (Some("system"), "api_retry") => self.retry(&event, report),
            (Some("system"), "permission_denied") => self.denial(&event),
            (Some("assistant"), _) => {
                self.last_error = text(event.error).or(self.last_error.take());
                self.assistant(event.message, report);
            }
            (Some("result"), _) => self.result(&event, subtype, report),
            // Tool results, notices, and what later versions add.
            _ => {}
        }
    }

    fn retry(&mut self, event: &Event<'_>, report: &Report) {
        self.retries += 1;
        self.last_status = count(event.error_status).or(self.last_status);
        let data = json!({
            "attempt": count(event.attempt), "status": count(event.error_status), "error": text(event.error),
        });
        report.event("provider-retry", &data.to_string());
        report.usage("provider_retries", float(self.retries));
    }

    fn denial(&mut self, event: &Event<'_>) {
        let tool = text(event.tool_name).unwrap_or_else(|| "unknown".into());
        self.denied.push((tool, json!({"tool_use_id": text(event.tool_use_id)})));
    }

    fn assistant(&mut self, message: Raw<'_>, report: &Report) {
        let Some(message) = message.and_then(|raw| serde_json::from_str::<Message<'_>>(raw.get()).ok())
        else {
            return;
        };
        let model = text(message.model).unwrap_or_default();
        if model == SYNTHETIC {
            return;
        }
        if !model.is_empty() {
            report.model_used(&model);
        }
        let usage = tree(message.usage).unwrap_or_default();
        let tokens = Tokens::of(
            &usage,
            ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens", ""],
        );
        let id = text(message.id).unwrap_or_default();
        if let Some(known) = self.recent.iter_mut().rev().find(|known| known.0 == id) {
            known.1.most(tokens);
            return;
        }
        self.messages += 1;
        if self.recent.len() == RECENT_MESSAGES {
            let (_, oldest) = self.recent.remove(0);
            self.settled.add(oldest);
        }
        self.recent.push((id, tokens));
    }

    fn result(&mut self, event: &Event<'_>, subtype: String, report: &Report) {
        // By model first: it covers side calls that the plain sum leaves out.
        let by_model = tree(event.model_usage);
        let by_model = by_model.as_ref().and_then(Value::as_object).filter(|models| !models.is_empty());
        let mut tokens = Tokens::default();
        match by_model {
            Some(models) => {
                for (model, usage) in models {
                    report.model_used(model);
                    tokens.add(Tokens::of(
                        usage,
                        [
                            "inputTokens",
                            "cacheReadInputTokens",
                            "cacheCreationInputTokens",
                            "outputTokens",
                            "thinkingTokens",
                        ],
                    ));
                }
            }
            None => {
                let usage = tree(event.usage).unwrap_or_default();
                tokens.add(Tokens::of(
                    &usage,
                    [
                        "input_tokens",
                        "cache_read_input_tokens",
                        "cache_creation_input_tokens",
                        "output_tokens",
                        "",
                    ],
                ));
            }
        }
        if by_model.is_some() || event.usage.is_some() {
            tokens.report(report);
            report.usage_quality("exact");
        }
        if let Some(turns) = count(event.num_turns) {
            report.usage("turns", float(turns));
        }
        if let Some(cost) = amount(event.total_cost_usd) {
            report.usage("cost_usd", cost.min(1e9));
        }
        let claim = text(event.result);
        if let Some(claim) = &claim {
            report.text(claim);
        }
        let denials = tree(event.permission_denials).unwrap_or_default();
        let denials = denials.as_array().map(Vec::as_slice).unwrap_or_default();
        let errors = tree(event.errors).unwrap_or_default();
        let errors = errors.as_array().map(Vec::as_slice).unwrap_or_default();
        self.ending = Some(Ending {
            is_error: flag(event.is_error).unwrap_or(false),
            subtype,
            terminal_reason: text(event.terminal_reason).unwrap_or_default(),
            stop_reason: text(event.stop_reason).unwrap_or_default(),
            status: count(event.api_error_status),
            error: self.last_error.clone(),
            claim: claim.unwrap_or_default().chars().take(CLAIM_CHARS).collect(),
            errors: errors.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            denials: denials
                .iter()
                .map(|denial| {
                    let tool = denial["tool_name"].as_str().unwrap_or("unknown").to_owned();
                    (tool, json!({"tool_use_id": denial["tool_use_id"], "input": denial["tool_input"]}))
                })
                .collect(),
        });
    }

    /// The process ended.
    pub(crate) fn finish(&mut self, exit: &ExitInfo, errors: &str, report: &Report) {
        if self.not_understood > 0 {
            report.event("not-understood", &json!({"lines": self.not_understood}).to_string());
        }
        if self.ending.is_none() {
            self.partial_usage(report);
        }
        let denials = match &self.ending {
            Some(ending) if !ending.denials.is_empty() => &ending.denials,
            _ => &self.denied,
        };
        for (tool, detail) in denials {
            report.denial(tool, &detail.to_string());
        }
        let (code, message) = match &self.ending {
            Some(ending) => ended(ending, denials, exit),
            None => self.cut_off(exit, errors),
        };
        report.outcome(code, &message);
    }

    fn partial_usage(&self, report: &Report) {
        let mut sum = self.settled;
        for (_, tokens) in &self.recent {
            sum.add(*tokens);
        }
        if self.messages > 0 {
            sum.report(report);
            report.usage("turns", float(self.messages));
            report.usage_quality("partial");
        }
    }

    /// No `result` event.
    fn cut_off(&self, exit: &ExitInfo, errors: &str) -> (&'static str, String) {
        let mut message = format!("no result event; {}", describe_exit(exit));
        if let Some(status) = self.last_status {
            message.push_str(&format!("; the provider had answered with HTTP {status}"));
        }
        if exit.truncated {
            message.push_str("; the output was cut at its limit");
        }
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(errors);
        }
        if was_killed(exit) {
            return ("killed", message);
        }
        match self.last_status {
            Some(status) if exit.code != Some(0) => (provider_code(status), message),
            _ => ("unknown", message),
        }
    }
}

fn init(event: &Event<'_>, report: &Report) {
    let data = json!({
        "version": text(event.claude_code_version), "model": text(event.model),
        "permission_mode": text(event.permission_mode), "api_key_source": text(event.api_key_source),
    });
    report.event("init", &data.to_string());
}

fn provider_code(status: u64) -> &'static str {
    if matches!(status, 401 | 403) { "auth-error" } else { "provider-error" }
}

fn ended(ending: &Ending, denials: &[(String, Value)], exit: &ExitInfo) -> (&'static str, String) {
    let said = ending.errors.join("; ");
    let with = |text: String| if said.is_empty() { text } else { format!("{text}: {said}") };
    match (ending.terminal_reason.as_str(), ending.subtype.as_str()) {
        ("max_turns", _) | (_, "error_max_turns") => return ("turn-cap", with("turn limit reached".into())),
        ("budget_exhausted", _) | (_, "error_max_budget_usd") => {
            return ("money-cap", with("money limit reached; the last call may overshoot it".into()));
        }
        (reason, _) if reason.starts_with("aborted") => {
            return ("killed", with(format!("ended as {reason}")));
        }
        _ => {}
    }
    if ending.is_error {
        if ending.stop_reason == "refusal" {
            return ("denied", with("the model declined the task".into()));
        }
        return match ending.status {
            Some(status) => {
                let what = if matches!(status, 401 | 403) {
                    "the provider rejected the key"
                } else {
                    "provider error"
                };
                (provider_code(status), with(format!("{what}: HTTP {status}")))
            }
            // There is no key at all, so nobody was asked.
            None if ending.error.as_deref() == Some("authentication_failed") => {
                ("auth-error", with(format!("no usable key: {}", ending.claim)))
            }
            None if ending.terminal_reason == "api_error" => {
                ("provider-error", with(format!("provider error without HTTP status: {}", ending.claim)))
            }
            None => {
                let (reason, subtype) = (&ending.terminal_reason, &ending.subtype);
                ("unknown", with(format!("ended with an error ({subtype}, {reason})")))
            }
        };
    }
    if was_killed(exit) {
        return ("killed", with(format!("after its result: {}", describe_exit(exit))));
    }
    if !denials.is_empty() {
        let mut tools: Vec<&str> = denials.iter().map(|denial| denial.0.as_str()).collect();
        tools.dedup();
        let count = denials.len();
        return ("denied", format!("{count} refused tool call(s): {}", tools.join(", ")));
    }
    if exit.code.is_some_and(|code| code != 0) {
        return ("unknown", with(format!("it reported success, but: {}", describe_exit(exit))));
    }
    ("completed", String::new())
}
