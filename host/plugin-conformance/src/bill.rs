//! What a call cost, beside what it may cost, for people and as JSON.

use pangolin_envelope::plugin::BlockBill;
use pangolin_plugin_host::Bill;
use serde::Serialize;

/// Used and allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Used.
    pub used: u64,
    /// Allowed; absent: not bounded by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What one call cost. What a profile does not measure is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Units of fuel; patterns only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<Used>,
    /// Largest linear memory.
    pub peak_memory_bytes: Used,
    /// Wall time.
    pub wall_us: Used,
    /// Calls of host functions.
    pub host_calls: Used,
    /// Bytes that the plugin handed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_guest_bytes: Option<Used>,
    /// Bytes that the host answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_guest_bytes: Option<Used>,
    /// Bytes of files read; blocks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<Used>,
    /// Log that was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<Used>,
}

const fn of(used: u64, limit: u64) -> Used {
    Used { used, limit: Some(limit) }
}

const fn free(used: u64) -> Used {
    Used { used, limit: None }
}

impl From<&Bill> for Cost {
    fn from(bill: &Bill) -> Self {
        Self {
            fuel: (bill.fuel_limit > 0).then(|| of(bill.fuel, bill.fuel_limit)),
            peak_memory_bytes: of(bill.peak_memory_bytes, bill.memory_limit_bytes),
            wall_us: of(bill.wall_us, bill.wall_limit_us),
            host_calls: free(bill.host_calls),
            from_guest_bytes: Some(of(bill.from_guest_bytes, bill.from_guest_limit_bytes)),
            to_guest_bytes: Some(free(bill.to_guest_bytes)),
            read_bytes: None,
            log_bytes: Some(of(bill.log_bytes, bill.log_limit_bytes)),
        }
    }
}

impl Cost {
    /// Of a block, under the limits of its grant.
    pub(crate) fn of_block(bill: &BlockBill, limits: &pangolin_envelope::plugin::BlockLimits) -> Self {
        Self {
            peak_memory_bytes: of(bill.peak_memory_bytes, limits.memory_bytes),
            wall_us: of(bill.wall_us, limits.wall_ms.saturating_mul(1_000)),
            host_calls: free(bill.host_calls),
            read_bytes: Some(of(bill.read_bytes, limits.read_bytes)),
            ..Self::default()
        }
    }

    /// The more expensive of two: by fuel where it is counted, else by calls of the host.
    pub(crate) fn max(self, other: Self) -> Self {
        let key =
            |cost: &Self| (cost.fuel.map_or(0, |fuel| fuel.used), cost.host_calls.used, cost.wall_us.used);
        if key(&other) > key(&self) { other } else { self }
    }
}

/// Keeps the most expensive call.
pub(crate) fn keep(most: &mut Option<Cost>, cost: Cost) {
    *most = Some(most.map_or(cost, |known| known.max(cost)));
}
