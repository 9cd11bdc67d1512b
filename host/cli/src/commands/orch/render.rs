//! `pangolin orch render`.

use serde_json::json;

use crate::{
    args::orch::{Render, RenderFormat},
    commands::orch::plan::invalid,
    context::Context,
    error::{CliError, CliResult, print_findings},
    exit::Exit,
    files,
    render::{self, Graph, NODES_MAX},
};

pub(super) async fn run(context: &Context, args: Render) -> CliResult {
    let printer = &context.printer;
    let bytes = files::read(&args.plan)?;
    let deployment = context.deployment().await?;
    let preview = printer.progress("asking the pattern", deployment.preview(&bytes, args.queue.as_deref()));
    let preview = match preview.await {
        Ok(preview) => preview,
        Err(findings) => {
            print_findings(printer, &findings);
            return Err(invalid(&args.plan, &findings));
        }
    };
    let graph = Graph::new(&preview.plan, &preview.pattern, &preview.decisions);
    if printer.is_json() {
        printer.json(&json!({ "graph": graph }))?;
        return Ok(Exit::Ok);
    }
    let text = match args.format {
        RenderFormat::Text => render::text(&graph, args.ascii),
        RenderFormat::Mermaid => render::mermaid(&graph),
        RenderFormat::Dot => render::dot(&graph),
        RenderFormat::Svg if graph.nodes.len() > NODES_MAX => {
            let message =
                format!("{} items are too many for a drawing, at most {NODES_MAX}", graph.nodes.len());
            return Err(CliError::new(Exit::Usage, message).hint("use --format dot and a Graphviz viewer"));
        }
        RenderFormat::Svg => render::svg(&graph),
    };
    match &args.out {
        Some(path) => {
            files::write(path, text.as_bytes())?;
            printer.note(format_args!("wrote {}", path.display()));
        }
        None => printer.raw(text.as_bytes())?,
    }
    Ok(Exit::Ok)
}
