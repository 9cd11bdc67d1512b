//! Code generated from `wit/`.

pub(crate) mod adapter {
    wasmtime::component::bindgen!({
        path: ["../../wit/pangolin-base@1.0.0", "../../wit/pangolin-runtime-adapter@1.0.0"],
        world: "pangolin:runtime-adapter/runtime-adapter",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "pangolin:runtime-adapter/session.task-view": crate::session::TaskView,
            "pangolin:runtime-adapter/session.launch-plan": crate::session::PlanDraft,
            "pangolin:runtime-adapter/session.report": crate::report::ReportDraft,
        },
    });
}

pub(crate) mod pattern {
    wasmtime::component::bindgen!({
        path: ["../../wit/pangolin-base@1.0.0", "../../wit/pangolin-pattern@1.1.0"],
        world: "pangolin:pattern/pattern",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "pangolin:base/types": crate::bindings::adapter::pangolin::base::types,
            "pangolin:base/log": crate::bindings::adapter::pangolin::base::log,
            "pangolin:pattern/graph.run-view": crate::graph::ViewHandle,
            "pangolin:pattern/graph.item-view": crate::graph::ItemHandle,
            "pangolin:pattern/graph.item-spec": crate::graph::SpecDraft,
            "pangolin:pattern/graph.decisions": crate::graph::DecisionsDraft,
        },
    });
}

pub(crate) mod planner {
    wasmtime::component::bindgen!({
        path: ["../../wit/pangolin-base@1.0.0", "../../wit/pangolin-pattern@1.1.0"],
        world: "pangolin:pattern/pattern-planner",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "pangolin:base/types": crate::bindings::adapter::pangolin::base::types,
            "pangolin:base/log": crate::bindings::adapter::pangolin::base::log,
            "pangolin:pattern/graph": crate::bindings::pattern::pangolin::pattern::graph,
        },
    });
}

pub(crate) mod block {
    wasmtime::component::bindgen!({
        path: ["../../wit/pangolin-base@1.0.0", "../../wit/pangolin-block@1.0.0"],
        world: "pangolin:block/block-full",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "pangolin:base/types": crate::bindings::adapter::pangolin::base::types,
            "pangolin:base/log": crate::bindings::adapter::pangolin::base::log,
            "pangolin:block/stage.input": crate::block::BlockInput,
            "pangolin:block/stage.output": crate::block::BlockOutput,
            "pangolin:block/stage.artifact-writer": crate::block_stage::ArtifactWriter,
            "pangolin:block/exec.command": crate::block_exec::CommandDraft,
            "pangolin:block/fetch.request": crate::block_fetch::RequestDraft,
            "pangolin:block/fetch.response": crate::block_fetch::ResponseView,
        },
    });
}
