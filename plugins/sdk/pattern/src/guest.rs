//! The component's side: the contract's imports as the traits of [`crate::host`].

use crate::{
    Decisions, Fault, IndexLists, ItemSpec, Pattern, Run, TextLists, Texts,
    host::{ItemAccess, ItemBrief, Phase, Refusal, Sink, View},
    spec::Need,
};

/// Generated from `wit/`.
#[allow(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/pangolin-base@1.0.0", "../../../wit/pangolin-pattern@1.1.0"],
        world: "pangolin:pattern/pattern-planner",
        // Lists of text are passed without a copy.
        ownership: Borrowing { duplicate_if_necessary: true },
        pub_export_macro: true,
        default_bindings_module: "pangolin_pattern_sdk::bindings",
        generate_all,
    });
}

use bindings::pangolin::{
    base::{log, types},
    pattern::graph,
};
pub use bindings::{
    exports::pangolin::pattern::{decide::Guest as GuestDecide, planner::Guest as GuestPlanner},
    pangolin::{
        base::types::Fault as WitFault,
        pattern::graph::{Decisions as WitDecisions, RunView as WitRunView},
    },
};

/// The host of a component.
#[doc(hidden)]
pub struct Imports<'a> {
    view: &'a graph::RunView,
    out: &'a graph::Decisions,
}

fn refusal(from: types::Refusal) -> Refusal {
    Refusal { capability: from.capability, subject: from.subject, reason: from.reason }
}

fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

const fn phase(from: graph::Phase) -> Phase {
    match from {
        graph::Phase::Waiting => Phase::Waiting,
        graph::Phase::Active => Phase::Active,
        graph::Phase::Succeeded => Phase::Succeeded,
        graph::Phase::Unsuccessful => Phase::Unsuccessful,
    }
}

fn brief(it: graph::ItemBrief) -> ItemBrief {
    ItemBrief { index: it.index, id: it.id, phase: phase(it.phase), attempts: it.attempts }
}

fn packed(it: graph::TextsResult) -> Texts {
    Texts::from_parts(it.bytes, it.ends)
}

fn lists(it: graph::TextLists) -> TextLists {
    TextLists::from_parts(packed(it.texts), it.ends)
}

fn parts(texts: &Texts) -> graph::TextsParam<'_> {
    let (bytes, ends) = texts.as_parts();
    graph::TextsParam { bytes, ends }
}

impl View for Imports<'_> {
    fn run_id(&self) -> String {
        self.view.run_id()
    }

    fn tick(&self) -> u64 {
        self.view.tick()
    }

    fn now_ms(&self) -> u64 {
        self.view.now_ms()
    }

    fn seed(&self) -> u64 {
        self.view.seed()
    }

    fn params_json(&self) -> String {
        self.view.params_json()
    }

    fn item_count(&self) -> u32 {
        self.view.item_count()
    }

    fn items(&self, offset: u32, limit: u32) -> Vec<ItemBrief> {
        self.view.items(offset, limit).into_iter().map(brief).collect()
    }

    fn changed(&self, offset: u32, limit: u32) -> Vec<ItemBrief> {
        self.view.changed(offset, limit).into_iter().map(brief).collect()
    }

    fn count(&self, phase: Phase) -> u32 {
        self.view.count(match phase {
            Phase::Waiting => graph::Phase::Waiting,
            Phase::Active => graph::Phase::Active,
            Phase::Succeeded => graph::Phase::Succeeded,
            Phase::Unsuccessful => graph::Phase::Unsuccessful,
        })
    }

    fn phases(&self, offset: u32, limit: u32) -> Vec<Phase> {
        self.view.phases(offset, limit).into_iter().map(phase).collect()
    }

    fn ids(&self, offset: u32, limit: u32) -> Texts {
        packed(self.view.ids(offset, limit))
    }

    fn attempts(&self, offset: u32, limit: u32) -> Vec<u32> {
        self.view.attempts(offset, limit)
    }

    fn states(&self, offset: u32, limit: u32) -> Texts {
        packed(self.view.states(offset, limit))
    }

    fn executors(&self, offset: u32, limit: u32) -> Texts {
        packed(self.view.executors(offset, limit))
    }

    fn depends_on(&self, offset: u32, limit: u32) -> IndexLists {
        let graph::IndexLists { indexes, ends } = self.view.depends_on(offset, limit);
        IndexLists::from_parts(indexes, ends)
    }

    fn verify_passed(&self, offset: u32, limit: u32) -> Vec<Option<bool>> {
        self.view.verify_passed(offset, limit)
    }

    fn output_keys(&self, offset: u32, limit: u32) -> TextLists {
        lists(self.view.output_keys(offset, limit))
    }

    fn inputs_json(&self, key: &str, offset: u32, limit: u32) -> TextLists {
        lists(self.view.inputs_json(key, offset, limit))
    }

    fn item_attrs(&self, key: &str, offset: u32, limit: u32) -> TextLists {
        lists(self.view.item_attrs(key, offset, limit))
    }

    fn find(&self, id: &str) -> Option<u32> {
        self.view.find(id)
    }

    fn find_all(&self, ids: &Texts) -> Vec<Option<u32>> {
        self.view.find_all(parts(ids))
    }

    fn item(&self, index: u32) -> Option<Box<dyn ItemAccess + '_>> {
        Some(Box::new(Handle(self.view.item(index)?)))
    }

    fn attr(&self, key: &str) -> Option<String> {
        self.view.attr(key)
    }
}

struct Handle(graph::ItemView);

impl ItemAccess for Handle {
    fn id(&self) -> String {
        self.0.id()
    }

    fn state(&self) -> String {
        self.0.state()
    }

    fn executor(&self) -> String {
        self.0.executor()
    }

    fn depends_on(&self) -> Vec<u32> {
        self.0.depends_on()
    }

    fn verify_passed(&self) -> Option<bool> {
        self.0.verify_passed()
    }

    fn output_keys(&self) -> Vec<String> {
        self.0.output_keys()
    }

    fn input_json(&self, key: &str) -> Option<String> {
        self.0.input_json(key)
    }

    fn spec_json(&self) -> String {
        self.0.spec_json()
    }

    fn attr(&self, key: &str) -> Option<String> {
        self.0.attr(key)
    }
}

impl Sink for Imports<'_> {
    fn spawn(&self, spec: &ItemSpec) -> Result<(), Refusal> {
        let handle = graph::ItemSpec::new(&spec.id, &spec.executor);
        for (key, json) in &spec.inputs {
            handle.set_input_json(key, json);
        }
        for id in &spec.depends_on {
            handle.depend_on(id);
        }
        for need in &spec.needs {
            match need {
                Need::Patch { key, source } => handle.need_patch(key, source),
                Need::Output { key, source, path } => handle.need_output(key, source, path),
                Need::Outputs { keys, sources, path } => {
                    handle.need_outputs(path, parts(keys), parts(sources));
                }
            }
        }
        for key in &spec.locks {
            handle.lock(key);
        }
        for (key, json) in &spec.attrs {
            handle.set_attr(key, json);
        }
        if let Some(old) = &spec.supersedes {
            handle.supersede(old);
        }
        // Takes the handle, so that few are alive however many items are added.
        self.out.spawn(handle).map_err(refusal)
    }

    fn close(&self) {
        self.out.close();
    }

    fn explain(&self, item: &str, why: &str) {
        self.out.explain(item, why);
    }

    fn tolerate(&self, items: &[String], why: &str) -> Result<(), Refusal> {
        self.out.tolerate(&texts(items), why).map_err(refusal)
    }

    fn order_after(&self, item: &str, after: &str) -> Result<(), Refusal> {
        self.out.order_after(item, after).map_err(refusal)
    }

    fn hold_on_red(&self, item: &str) -> Result<(), Refusal> {
        self.out.hold_on_red(item).map_err(refusal)
    }

    fn finding(&self, pointer: &str, message: &str, hint: Option<&str>) {
        self.out.finding(pointer, message, hint);
    }

    fn possible(&self, id: &str, after: &[String], why: &str) {
        self.out.possible(id, &texts(after), why);
    }
}

type Entry = fn(&Run<'_>, &Decisions<'_>) -> Result<(), Fault>;

fn run(entry: Entry, view: &WitRunView, out: &WitDecisions) -> Result<(), WitFault> {
    // Tells the host why the guest is about to trap.
    std::panic::set_hook(Box::new(|info| log::panicked(&info.to_string())));
    let imports = Imports { view, out };
    entry(&Run::new(&imports), &Decisions::new(&imports)).map_err(|fault| {
        let Fault { code, message, retryable, detail } = fault;
        WitFault { code, message, retryable, detail }
    })
}

/// Runs a step on the component's imports. Called by [`crate::export_pattern!`].
///
/// # Errors
/// The pattern's fault.
pub fn run_step<P: Pattern>(view: &WitRunView, out: &WitDecisions) -> Result<(), WitFault> {
    run(P::step, view, out)
}

/// Runs the planner on the component's imports. Called by [`crate::export_pattern!`].
///
/// # Errors
/// The pattern's fault.
pub fn run_plan<P: Pattern>(view: &WitRunView, out: &WitDecisions) -> Result<(), WitFault> {
    run(P::plan, view, out)
}

/// The first version of the contract without the typed layer and without a planner, for guests that test the host.
/// Patterns have no need of it. Not the newest version, because one crate cannot hold the bindings of one interface
/// twice.
pub mod raw {
    /// Generated from `wit/`.
    #[allow(missing_docs, reason = "generated")]
    #[doc(hidden)]
    pub mod bindings {
        wit_bindgen::generate!({
            path: ["../../../wit/pangolin-base@1.0.0", "../../../wit/pangolin-pattern@1.0.0"],
            world: "pangolin:pattern/pattern",
            pub_export_macro: true,
            default_bindings_module: "pangolin_pattern_sdk::raw::bindings",
            generate_all,
        });
    }

    pub use crate::export_raw_pattern;
    pub use bindings::{
        exports::pangolin::pattern::decide::Guest,
        pangolin::{
            base::{
                log,
                types::{Fault, Refusal},
            },
            pattern::graph::{Decisions, ItemBrief, ItemSpec, ItemView, Phase, RunView},
        },
    };

    /// A pattern on the bare contract.
    pub trait Pattern {
        /// Decides.
        ///
        /// # Errors
        /// A fault ends the step without decisions.
        fn step(view: &RunView, out: &Decisions) -> Result<(), Fault>;
    }

    /// A fault with a code and a sentence; not retryable.
    #[must_use]
    pub fn fault(code: &str, message: impl Into<String>) -> Fault {
        Fault { code: code.to_owned(), message: message.into(), retryable: false, detail: None }
    }

    /// Tells the host why the guest is about to trap.
    #[doc(hidden)]
    pub fn install_panic_hook() {
        std::panic::set_hook(Box::new(|info| log::panicked(&info.to_string())));
    }

    /// All items in pages of `size`, in index order.
    pub fn all_items(view: &RunView, size: u32) -> impl Iterator<Item = ItemBrief> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let page = view.items(offset, size.max(1));
            offset += u32::try_from(page.len()).unwrap_or(u32::MAX);
            (!page.is_empty()).then_some(page)
        })
        .flatten()
    }
}

/// Makes a type that implements [`raw::Pattern`] the component's export.
#[macro_export]
macro_rules! export_raw_pattern {
    ($pattern:ty) => {
        struct Exported;
        impl $crate::raw::Guest for Exported {
            fn step(view: &$crate::raw::RunView, out: &$crate::raw::Decisions) -> Result<(), $crate::raw::Fault> {
                $crate::raw::install_panic_hook();
                <$pattern as $crate::raw::Pattern>::step(view, out)
            }
        }
        $crate::raw::bindings::export!(Exported with_types_in $crate::raw::bindings);
    };
}
