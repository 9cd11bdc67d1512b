//! `pangolin orch watch`: one loop, two ways to show what it sees.

pub(crate) mod frame;
mod lines;
mod live;
pub(crate) mod style;
pub(crate) mod terminal;

use std::time::{Duration, Instant};

use pangolin_core::ids::RunId;
use pangolin_runtime::{
    deployment::{Deployment, RuntimeError},
    views::RunView,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{args::orch::Watch, context::Context, error::CliResult, exit::Exit, format, printer::Printer};

/// Shortest time between two looks at the ledger. Changes in between are seen together.
const REST: Duration = Duration::from_millis(40);

/// A run is read in full; when that takes long (100,000 items), this many times as long is left to everybody else.
const REST_FACTOR: u32 = 4;

/// How often the clock on the screen moves when nothing else does.
const TICK: Duration = Duration::from_secs(1);

/// Lines that follow the final state: outcome, hints and the prompt.
const FOOTER_LINES: usize = 6;

/// What the loop shows its news to.
enum Show<'a> {
    Lines(lines::Lines<'a>),
    Live(live::Live),
}

/// How the loop ended.
enum End {
    Terminal(Box<RunView>),
    Stopped(Box<RunView>, Exit),
}

pub(crate) async fn run(context: &Context, args: Watch) -> CliResult {
    let printer = &context.printer;
    let deployment = context.deployment().await?;
    let style = style::Style::detect(printer, args.ascii);
    let first = first_view(context, &deployment, &args.run).await?;
    let show = if printer.is_terminal() && !printer.is_json() {
        Show::Live(live::Live::start(style)?)
    } else {
        Show::Lines(lines::Lines::new(printer))
    };
    let is_live = matches!(show, Show::Live(_));
    let end = follow(&deployment, &args.run, first, show).await?;
    let (view, exit) = match &end {
        End::Terminal(view) => {
            (view, if args.exit_code && view.summary.state != "done" { Exit::Failed } else { Exit::Ok })
        }
        End::Stopped(view, exit) => (view, *exit),
    };
    if is_live {
        let width = style::terminal_width();
        let height = style::terminal_height().saturating_sub(FOOTER_LINES);
        printer.raw(
            frame::text(&frame::summary(view, format::now_ms(), width, height, style), width, style)
                .as_bytes(),
        )?;
    }
    match &end {
        End::Terminal(_) => outcome(printer, view),
        End::Stopped(..) => printer.note("stopped watching; the run goes on"),
    }
    Ok(exit)
}

/// The first look. A run that waits in the inbox is waited for.
async fn first_view(context: &Context, deployment: &Deployment, run: &RunId) -> CliResult<RunView> {
    let mut told = false;
    loop {
        match deployment.run_view(run).await {
            Ok(view) => return Ok(view),
            Err(error @ RuntimeError::NotFound { .. }) => {
                if !deployment.is_queued(run).await? {
                    // Admitted between the two looks?
                    return match deployment.run_view(run).await {
                        Ok(view) => Ok(view),
                        Err(_) => Err(error.into()),
                    };
                }
                if !told {
                    told = true;
                    let without = if !deployment.is_served() {
                        " (no daemon is serving: pangolin orch serve)"
                    } else {
                        ""
                    };
                    context.printer.note(format_args!("{run} is queued{without}"));
                }
                let _ = tokio::time::timeout(TICK, deployment.changed()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn follow(deployment: &Deployment, run: &RunId, first: RunView, mut show: Show<'_>) -> CliResult<End> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut view = Box::new(first);
    let mut looked = Instant::now();
    // Kept while the clock on the screen moves: where changes cannot be seen, waiting for one is a pause to be waited out.
    let mut change = Box::pin(rested_change(deployment, looked + REST));
    loop {
        show.update(&view)?;
        if view.summary.finished_at.is_some() {
            return Ok(End::Terminal(view));
        }
        let look = tokio::select! {
            changed = &mut change => changed.map(|()| true)?,
            () = tokio::time::sleep(TICK) => false,
            _ = resized.recv() => false,
            _ = interrupt.recv() => return Ok(End::Stopped(view, Exit::Interrupted)),
            _ = terminate.recv() => return Ok(End::Stopped(view, Exit::Terminated)),
        };
        if look {
            looked = Instant::now();
            view = Box::new(deployment.run_view(run).await?);
            let cost = looked.elapsed();
            change = Box::pin(rested_change(deployment, looked + REST.max(cost * REST_FACTOR)));
        }
    }
}

async fn rested_change(deployment: &Deployment, not_before: Instant) -> Result<(), RuntimeError> {
    tokio::time::sleep_until(not_before.into()).await;
    deployment.changed().await
}

impl Show<'_> {
    fn update(&mut self, view: &RunView) -> CliResult<()> {
        match self {
            Self::Lines(lines) => lines.update(view),
            Self::Live(live) => live.draw(view),
        }
    }
}

/// One line about the end, and what to do next.
fn outcome(printer: &Printer, view: &RunView) {
    let run = &view.summary.run;
    let took = view.summary.finished_at.unwrap_or(view.summary.submitted_at) - view.summary.submitted_at;
    printer.note(format_args!(
        "{run} {} after {}: {}{}",
        view.summary.state,
        format::duration(took),
        frame::counts_text(view),
        if view.cost_microusd > 0 { format!(", {}", frame::cost_text(view)) } else { String::new() },
    ));
    if view.items.iter().any(|item| item.result_ref.is_some()) {
        printer.hint(format_args!("pangolin patch list {run}"));
    }
    if let Some(item) = view.items.iter().find(|item| item.status == "failed") {
        printer.hint(format_args!("pangolin orch logs {run}/{}", item.id));
    }
    printer.hint(format_args!("pangolin orch audit {run} --out bundle.json"));
}
