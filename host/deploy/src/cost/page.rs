//! The page about costs.

use std::fmt::Write as _;

use super::{Cost, CostError, Count, Line, Load, cost, counts, prices};

/// `docs/aws-cost.md`.
pub(crate) fn page() -> Result<String, CostError> {
    let (counts, prices) = (counts()?, prices()?);
    let mut text = String::from(
        "# What it costs on AWS\n\nCounts times prices, computed by `pangolin_deploy::cost`. Made by `cargo run -p pangolin-deploy --example export`; a test\n\
         compares this page with the code. Models and traffic to the internet are not in it.\n\n",
    );
    let loads = [
        Load { minutes: 1.0, vcpu: 0.25, memory_gb: 0.5, ..Load::default() },
        Load::default(),
        Load { minutes: 30.0, vcpu: 2.0, memory_gb: 8.0, ..Load::default() },
    ];
    text.push_str("## 1,000 items in 10 runs\n\n| Worker | Fargate and addresses | Everything else | Together |\n| --- | --- | --- | --- |\n");
    for load in loads {
        let cost = cost(load)?;
        let all = cost.work_dollars();
        let of_worker = |line: &&Line| line.price.starts_with("fargate") || line.price.starts_with("public");
        let worker: f64 = cost.work.iter().filter(of_worker).map(|line| line.dollars).sum();
        let Load { minutes, vcpu, memory_gb, .. } = load;
        let _ = writeln!(
            text,
            "| {minutes} min, {vcpu} vCPU, {memory_gb} GB | ${worker:.2} | ${:.2} | ${all:.2} |",
            all - worker
        );
    }
    let default = cost(Load::default())?;
    text.push_str("\nThe middle row in detail (arm64, public addresses):\n\n");
    lines(&mut text, &default.work);
    text.push_str("\n## A month in which nothing runs\n\n");
    lines(&mut text, &default.idle);
    total(&mut text, &default);
    text.push_str("\n## Counts\n\nFrom `host/deploy/src/cost/counts.json`. *measured*: counted on an emulated run; *derived*: follows from template and code;\n*estimated*: to be replaced by a count.\n\n");
    for (title, list) in [
        ("For each item", &counts.per_item),
        ("For each run", &counts.per_run),
        ("For each tick", &counts.per_tick),
        ("For each month", &counts.per_month),
    ] {
        table(&mut text, title, list);
    }
    let _ = write!(
        text,
        "\n## Prices\n\n{} {}, {}. {}\n\n| Price | Dollars | For |\n| --- | --- | --- |\n",
        prices.currency, prices.region, prices.date, prices.source
    );
    for price in prices.prices.values() {
        let _ = writeln!(text, "| {} | {} | {} |", price.unit, price.dollars, price.per);
    }
    Ok(text)
}

fn lines(text: &mut String, lines: &[Line]) {
    text.push_str("| What | How many | Dollars | Basis |\n| --- | --- | --- | --- |\n");
    for line in lines {
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.4} | {} |",
            line.unit,
            line.quantity,
            line.dollars,
            line.basis.as_str()
        );
    }
}

fn total(text: &mut String, cost: &Cost) {
    let _ = writeln!(text, "| **together** | | **{:.2}** | |", cost.idle_dollars());
}

fn table(text: &mut String, title: &str, counts: &[Count]) {
    let _ = writeln!(text, "| {title} | How many | Basis | Made of |\n| --- | --- | --- | --- |");
    for count in counts {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            count.price,
            count.count,
            count.basis.as_str(),
            count.note
        );
    }
    text.push('\n');
}
