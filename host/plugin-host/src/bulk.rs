//! Functions of `pangolin:pattern/graph` that move texts by the thousand. The generated code makes a text of its own of
//! each of them, which takes most of the time of such a step; these read the guest's memory in place.

use std::sync::Arc;

use pangolin_core::pattern::SpawnNeeds;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, WasmList, WasmStr},
};

use crate::{
    graph::{ItemHandle, SpecDraft, ViewHandle},
    state::CallState,
};

/// The newest version of the interface; older ones of its major find the same functions.
const GRAPH: &str = "pangolin:pattern/graph@1.1.0";

type Store<'a> = StoreContextMut<'a, CallState>;

/// Puts them in the place of the generated ones.
pub(crate) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut graph = linker.instance(GRAPH)?;
    graph.func_wrap("[method]item-view.output-keys", output_keys)?;
    graph.func_wrap("[method]run-view.find-all", find_all)?;
    graph.func_wrap("[method]item-spec.need-outputs", need_outputs)?;
    linker.allow_shadowing(false);
    Ok(())
}

type OutputKeys = (Arc<Vec<String>>,);

fn output_keys(mut store: Store<'_>, (this,): (Resource<ItemHandle>,)) -> wasmtime::Result<OutputKeys> {
    let state = store.data_mut();
    let keys = Arc::clone(&state.table.get(&this)?.item().output_keys);
    Ok((state.answer(0, keys)?,))
}

fn find_all(
    mut store: Store<'_>,
    (this, ids): (Resource<ViewHandle>, WasmList<WasmStr>),
) -> wasmtime::Result<(Vec<Option<u32>>,)> {
    let view = Arc::clone(store.data().table.get(&this)?.view());
    let ids: Vec<WasmStr> = ids.iter(&mut store)?.collect::<wasmtime::Result<_>>()?;
    let mut weight = 0;
    let mut found = Vec::with_capacity(ids.len());
    for id in &ids {
        let id = id.to_str(&store)?;
        weight += id.len();
        found.push(view.find(&id));
    }
    Ok((store.data_mut().answer(weight, found)?,))
}

type NeedOutputs = (Resource<SpecDraft>, String, WasmList<(WasmStr, WasmStr)>);

fn need_outputs(mut store: Store<'_>, (this, path, needs): NeedOutputs) -> wasmtime::Result<()> {
    // Before anything is made of them.
    store.data_mut().crossed.pieces(needs.len())?;
    let needs: Vec<(WasmStr, WasmStr)> = needs.iter(&mut store)?.collect::<wasmtime::Result<_>>()?;
    let mut bytes = 0;
    let mut problem = None;
    // Taken out, so that the guest's memory and the state of the call can be looked at together.
    let mut all = std::mem::take(&mut store.data_mut().table.get_mut(&this)?.needs);
    add(&mut all, &path, &needs, &store, &mut bytes, &mut problem);
    let state = store.data_mut();
    state.spec(&this, bytes)?.needs = all;
    problem.map_or(Ok(()), Err)
}

/// Adds them as far as they are text, and counts bytes: the path counts for every need, as it would one by one.
fn add(
    all: &mut SpawnNeeds,
    path: &str,
    needs: &[(WasmStr, WasmStr)],
    store: &Store<'_>,
    bytes: &mut usize,
    problem: &mut Option<wasmtime::Error>,
) {
    let texts = needs.iter().map_while(|(key, from)| match (key.to_str(store), from.to_str(store)) {
        (Ok(key), Ok(from)) => {
            *bytes += key.len() + from.len() + path.len();
            Some((key, from))
        }
        (Err(error), _) | (_, Err(error)) => {
            *problem = Some(error);
            None
        }
    });
    all.push_outputs(path, texts);
}
