//! `pangolin deploy cost`.

use pangolin_deploy::cost::{Load, cost, prices};

use crate::{args::deploy::Cost, context::Context, error::CliResult, exit::Exit};

pub(super) fn run(context: &Context, args: &Cost) -> CliResult {
    let printer = &context.printer;
    let load = Load {
        items: args.items,
        runs: args.runs.unwrap_or_else(|| args.items.div_ceil(100)),
        minutes: args.minutes,
        vcpu: args.vcpu,
        memory_gb: args.memory_gb,
        architecture: args.arch.into(),
        public_address: !args.private,
    };
    let bill = cost(load)?;
    let prices = prices()?;
    let (vcpu, memory_gb) = (bill.load.vcpu, bill.load.memory_gb);
    if (vcpu, memory_gb) != (args.vcpu, args.memory_gb) {
        printer.note(format_args!(
            "Fargate has no size of {} vCPU and {} GB; such workers get, and this is the price of, {vcpu} vCPU and \
             {memory_gb} GB",
            args.vcpu, args.memory_gb
        ));
    }
    if printer.is_json() {
        let mut shown = serde_json::to_value(&bill)?;
        shown["workDollars"] = bill.work_dollars().into();
        shown["idleDollars"] = bill.idle_dollars().into();
        shown["prices"] = serde_json::json!({
            "region": prices.region, "currency": prices.currency, "date": prices.date, "source": prices.source,
        });
        printer.json(&shown)?;
    } else {
        printer.raw(bill.to_string().as_bytes())?;
        printer.line(format_args!("prices of {}, {}: {}", prices.region, prices.date, prices.source))?;
    }
    Ok(Exit::Ok)
}
