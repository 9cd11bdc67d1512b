//! What a deployment costs: counts times prices. Both are data, each in one file: `cost/counts.json`, `cost/prices.json`.

mod page;

use std::{collections::BTreeMap, fmt};

use pangolin_ports::worker_backend::Limits;
use pangolin_worker_fargate::TaskSize;
use serde::{Deserialize, Serialize};

use crate::Architecture;

pub(crate) use page::page;

/// Ticks of an average month.
const MINUTES_PER_MONTH: f64 = 43_800.0;

/// How well a count is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Counted on an emulated run.
    Measured,
    /// Follows from the template, the code or what was asked for.
    Derived,
    /// Believed.
    Estimated,
}

impl Basis {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Derived => "derived",
            Self::Estimated => "estimated",
        }
    }
}

/// A price.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Price {
    /// For so many units.
    pub per: u64,
    /// Dollars.
    pub dollars: f64,
    /// What the units are.
    pub unit: String,
}

/// The table of prices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Prices {
    /// Region.
    pub region: String,
    /// Currency.
    pub currency: String,
    /// When they were written down.
    pub date: String,
    /// Where they are from.
    pub source: String,
    /// Name → price.
    pub prices: BTreeMap<String, Price>,
}

/// How many of something.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Count {
    /// Name of the price; `lambdaGbSecond` stands for that of the processor.
    pub price: String,
    /// How many.
    pub count: f64,
    /// How well it is known.
    pub basis: Basis,
    /// What it is made of.
    pub note: String,
}

/// The table of counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Counts {
    /// What the file is.
    pub about: String,
    /// For each item.
    pub per_item: Vec<Count>,
    /// For each run, whatever its items.
    pub per_run: Vec<Count>,
    /// For each tick of the schedule.
    pub per_tick: Vec<Count>,
    /// For each month, whatever happens.
    pub per_month: Vec<Count>,
}

/// What is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Load {
    /// Items in a month.
    pub items: u64,
    /// Runs that they are in.
    pub runs: u64,
    /// Minutes that the worker of one item runs, with fetching the image. Fargate bills at least one.
    pub minutes: f64,
    /// Processors of a worker. What is paid is the size that Fargate has for it and the memory.
    pub vcpu: f64,
    /// Memory of a worker, GB.
    pub memory_gb: f64,
    /// Processor of functions and workers.
    pub architecture: Architecture,
    /// Whether workers have public addresses, as in the stack's own VPC.
    pub public_address: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            items: 1_000,
            runs: 10,
            minutes: 5.0,
            vcpu: 1.0,
            memory_gb: 2.0,
            architecture: Architecture::Arm64,
            public_address: true,
        }
    }
}

/// One line of a bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Name of the price.
    pub price: String,
    /// How many.
    pub quantity: f64,
    /// Of what.
    pub unit: String,
    /// What they cost.
    pub dollars: f64,
    /// The weakest basis of the counts in it.
    pub basis: Basis,
}

/// Two bills: of the items, and of a month in which nothing runs. Models and traffic to the internet are not in them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// What was asked about, with the size that Fargate has for such workers.
    pub load: Load,
    /// For the items.
    pub work: Vec<Line>,
    /// For an idle month.
    pub idle: Vec<Line>,
}

/// Why there is no bill.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CostError {
    /// The load makes no sense; all findings.
    #[error("load: {}", .0.join("; "))]
    Load(Vec<String>),
    /// A table is damaged.
    #[error("{0}")]
    Table(String),
}

/// The prices that ship with this program.
///
/// # Errors
/// [`CostError::Table`].
pub fn prices() -> Result<Prices, CostError> {
    serde_json::from_str(include_str!("cost/prices.json"))
        .map_err(|error| CostError::Table(format!("prices.json: {error}")))
}

/// The counts that ship with this program.
///
/// # Errors
/// [`CostError::Table`].
pub fn counts() -> Result<Counts, CostError> {
    serde_json::from_str(include_str!("cost/counts.json"))
        .map_err(|error| CostError::Table(format!("counts.json: {error}")))
}

/// What a load costs with the prices and counts that ship with this program.
///
/// # Errors
/// [`CostError`].
pub fn cost(load: Load) -> Result<Cost, CostError> {
    cost_with(load, &counts()?, &prices()?)
}

/// As [`cost`], with other tables.
///
/// # Errors
/// [`CostError`], also for a count whose price is not in the table.
pub fn cost_with(load: Load, counts: &Counts, prices: &Prices) -> Result<Cost, CostError> {
    let mut findings = Vec::new();
    for (name, value, most) in [
        ("minutes", load.minutes, 14.0 * 1_440.0),
        ("vcpu", load.vcpu, 16.0),
        ("memoryGb", load.memory_gb, 120.0),
    ] {
        if !(value > 0.0 && value <= most) {
            findings.push(format!("{name} is {value}, it must be above 0 and at most {most}"));
        }
    }
    if (load.runs == 0) != (load.items == 0) || load.runs > load.items {
        findings.push(format!("{} items in {} runs: every run has at least one item", load.items, load.runs));
    }
    if !findings.is_empty() {
        return Err(CostError::Load(findings));
    }
    let load = paid(load)?;
    let items = load.items as f64;
    let mut work = Bill::new(load.architecture, prices);
    for count in &counts.per_item {
        work.add(&count.price, count.count * items, count.basis)?;
    }
    for count in &counts.per_run {
        work.add(&count.price, count.count * load.runs as f64, count.basis)?;
    }
    let hours = items * load.minutes.max(1.0) / 60.0;
    work.add("fargateVcpuHour", hours * load.vcpu, Basis::Derived)?;
    work.add("fargateGbHour", hours * load.memory_gb, Basis::Derived)?;
    if load.public_address {
        work.add("publicAddressHour", hours, Basis::Derived)?;
    }
    let mut idle = Bill::new(load.architecture, prices);
    for count in &counts.per_tick {
        idle.add(&count.price, count.count * MINUTES_PER_MONTH, count.basis)?;
    }
    for count in &counts.per_month {
        idle.add(&count.price, count.count, count.basis)?;
    }
    Ok(Cost { load, work: work.lines, idle: idle.lines })
}

/// The load with the size that the backend starts such workers with: that is what Fargate bills.
fn paid(load: Load) -> Result<Load, CostError> {
    let limits = Limits {
        cpu_milli: (load.vcpu * 1_000.0).ceil() as u32,
        memory_bytes: (load.memory_gb * f64::from(1 << 30)).ceil() as u64,
        ..Limits::default()
    };
    let size = TaskSize::of(&limits).map_err(|problem| CostError::Load(vec![problem]))?;
    let (vcpu, memory_gb) = (f64::from(size.cpu) / 1_024.0, f64::from(size.memory_mib) / 1_024.0);
    Ok(Load { vcpu, memory_gb, ..load })
}

impl Cost {
    /// Dollars of all items.
    #[must_use]
    pub fn work_dollars(&self) -> f64 {
        self.work.iter().map(|line| line.dollars).sum()
    }

    /// Dollars of an idle month.
    #[must_use]
    pub fn idle_dollars(&self) -> f64 {
        self.idle.iter().map(|line| line.dollars).sum()
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { items, runs, minutes, vcpu, memory_gb, architecture, .. } = self.load;
        writeln!(
            f,
            "{items} items in {runs} {}, {minutes} minutes each with {vcpu} vCPU and {memory_gb} GB ({}):",
            if runs == 1 { "run" } else { "runs" },
            architecture.as_str()
        )?;
        let lines = |f: &mut fmt::Formatter<'_>, lines: &[Line]| -> fmt::Result {
            for line in lines {
                // What is little would be shown as nothing otherwise.
                let digits = if line.quantity < 10.0 { 4 } else { 2 };
                writeln!(
                    f,
                    "  ${:>10.4}  {:>14.digits$} {} ({})",
                    line.dollars,
                    line.quantity,
                    line.unit,
                    line.basis.as_str()
                )?;
            }
            Ok(())
        };
        lines(f, &self.work)?;
        writeln!(
            f,
            "  ${:>10.4}  together, without models and traffic to the internet",
            self.work_dollars()
        )?;
        writeln!(f, "a month in which nothing runs:")?;
        lines(f, &self.idle)?;
        writeln!(f, "  ${:>10.4}  together", self.idle_dollars())
    }
}

struct Bill<'a> {
    architecture: Architecture,
    prices: &'a Prices,
    lines: Vec<Line>,
}

impl<'a> Bill<'a> {
    fn new(architecture: Architecture, prices: &'a Prices) -> Self {
        Self { architecture, prices, lines: Vec::new() }
    }

    fn add(&mut self, name: &str, quantity: f64, basis: Basis) -> Result<(), CostError> {
        let processor = match self.architecture {
            Architecture::Arm64 => "Arm64",
            Architecture::X86_64 => "X86",
        };
        let by_processor = format!("{name}{processor}");
        let found = self
            .prices
            .prices
            .get_key_value(name)
            .or_else(|| self.prices.prices.get_key_value(&by_processor));
        let (name, price) = found
            .ok_or_else(|| CostError::Table(format!("there is no price {name}; add it to prices.json")))?;
        let dollars = quantity * price.dollars / price.per as f64;
        match self.lines.iter_mut().find(|line| line.price == *name) {
            Some(line) => {
                line.quantity += quantity;
                line.dollars += dollars;
                line.basis = line.basis.max(basis);
            }
            None => self.lines.push(Line {
                price: name.clone(),
                quantity,
                unit: price.unit.clone(),
                dollars,
                basis,
            }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
    }

    #[test]
    fn quantities_are_counts_times_items_and_dollars_are_quantities_times_prices() {
        let load = Load { items: 120, runs: 1, minutes: 30.0, vcpu: 2.0, memory_gb: 4.0, ..Load::default() };
        let cost = cost(load).unwrap();
        let line = |name: &str| cost.work.iter().find(|line| line.price == name).unwrap().clone();
        close(line("fargateVcpuHourArm64").quantity, 120.0);
        close(line("fargateVcpuHourArm64").dollars, 120.0 * 0.03238);
        close(line("fargateGbHourArm64").quantity, 240.0);
        close(line("publicAddressHour").dollars, 60.0 * 0.005);
        let counts = counts().unwrap();
        let writes = |list: &[Count]| -> f64 {
            list.iter().filter(|count| count.price == "dynamodbWriteUnit").map(|count| count.count).sum()
        };
        let units = writes(&counts.per_item) * 120.0 + writes(&counts.per_run);
        close(line("dynamodbWriteUnit").dollars, units * 0.625 / 1e6);
        close(cost.work_dollars(), cost.work.iter().map(|line| line.dollars).sum());
    }

    #[test]
    fn idle_does_not_depend_on_items_and_work_does_linearly() {
        let small = cost(Load::default()).unwrap();
        let large = cost(Load { items: 10_000, runs: 100, ..Load::default() }).unwrap();
        close(small.idle_dollars(), large.idle_dollars());
        close(small.work_dollars() * 10.0, large.work_dollars());
        let x86 = cost(Load { architecture: Architecture::X86_64, ..Load::default() }).unwrap();
        assert!(x86.work_dollars() > small.work_dollars());
    }

    #[test]
    fn the_size_that_fargate_has_is_paid() {
        let size = |vcpu, memory_gb| {
            let load = cost(Load { vcpu, memory_gb, ..Load::default() }).unwrap().load;
            (load.vcpu, load.memory_gb)
        };
        assert_eq!(size(3.0, 5.0), (4.0, 8.0));
        assert_eq!(size(0.1, 0.1), (0.25, 0.5));
        assert_eq!(size(1.0, 2.5), (1.0, 3.0));
        assert_eq!(size(16.0, 120.0), (16.0, 120.0));
        let paid = |vcpu| cost(Load { vcpu, memory_gb: 8.0, ..Load::default() }).unwrap().work_dollars();
        close(paid(3.0), paid(4.0));
    }

    #[test]
    fn nonsense_is_refused_with_all_findings() {
        let load =
            Load { items: 1, runs: 2, minutes: f64::NAN, vcpu: 0.0, memory_gb: -1.0, ..Load::default() };
        let Err(CostError::Load(findings)) = cost(load) else { panic!("it makes no sense") };
        assert_eq!(findings.len(), 4, "{findings:?}");
    }
}
