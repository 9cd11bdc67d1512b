//! The function of `pangolin:pattern/graph` whose answer is as long as the work of an item and is not packed: it is lowered
//! from where it is, without a copy.

use std::sync::Arc;

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};

use crate::{graph::ItemHandle, state::CallState};

/// The newest version of the interface; older ones of its major find the same functions.
const GRAPH: &str = "pangolin:pattern/graph@1.1.0";

/// Puts it in the place of the generated one.
pub(crate) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(GRAPH)?.func_wrap("[method]item-view.output-keys", output_keys)?;
    linker.allow_shadowing(false);
    Ok(())
}

type OutputKeys = (Arc<Vec<String>>,);

fn output_keys(
    mut store: StoreContextMut<'_, CallState>,
    (this,): (Resource<ItemHandle>,),
) -> wasmtime::Result<OutputKeys> {
    let state = store.data_mut();
    let keys = Arc::clone(&state.table.get(&this)?.item().output_keys);
    Ok((state.answer(0, keys)?,))
}
