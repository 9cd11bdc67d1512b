//! Where a daemon's plugins get their memory from.

use pangolin_plugin_host::Allocation;

use crate::config::Config;

/// Calls at the same time that a daemon reserves memory for, at least.
pub(crate) const POOL_CALLS_MIN: u32 = 64;

/// Beyond this the address space for a pool grows out of hand.
const POOL_CALLS_MAX: u32 = 512;

/// Calls that room is made for with each item: its adapter's, and one to spare for adapters of items that end and for patterns.
const CALLS_PER_ITEM: u32 = 2;

/// Items that all queues together run at a time.
fn items_at_once(config: &Config) -> u32 {
    config.queues.values().map(|queue| queue.concurrency).fold(0, u32::saturating_add)
}

/// A pool that has room for every item, or none: a pool that is full would fail calls.
pub(crate) fn of_daemon(config: &Config) -> Allocation {
    match items_at_once(config).saturating_mul(CALLS_PER_ITEM) {
        calls if calls > POOL_CALLS_MAX => Allocation::OnDemand,
        calls => Allocation::Pool { calls: calls.max(POOL_CALLS_MIN) },
    }
}

/// Why a daemon with this configuration takes memory per call, with the figures and what to do; `None`: it has a pool, if
/// the machine has the address space.
pub(crate) fn without_pool(config: &Config) -> Option<String> {
    let items = items_at_once(config);
    (of_daemon(config) == Allocation::OnDemand).then(|| {
        format!(
            "the queues run {items} items at once and plugin memory is reserved for at most {}: it is taken per call instead, \
             which makes each call slower; lower the concurrency of [queues.*] to {} in all to have a pool",
            POOL_CALLS_MAX / CALLS_PER_ITEM,
            POOL_CALLS_MAX / CALLS_PER_ITEM
        )
    })
}
