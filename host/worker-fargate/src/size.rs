//! Sizes that Fargate has.

use pangolin_ports::worker_backend::Limits;

/// CPU units with the memory that goes with them: least, most and step in MiB. From the ECS developer guide (Linux).
const SIZES: [(u32, u32, u32, u32); 7] = [
    (256, 512, 2_048, 512),
    (512, 1_024, 4_096, 1_024),
    (1_024, 2_048, 8_192, 1_024),
    (2_048, 4_096, 16_384, 1_024),
    (4_096, 8_192, 30_720, 1_024),
    (8_192, 16_384, 61_440, 4_096),
    (16_384, 32_768, 122_880, 8_192),
];

/// The only hole in the table above.
const NOT_A_SIZE: (u32, u32) = (256, 1_536);

/// Size of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskSize {
    /// CPU units; 1,024 are one processor.
    pub cpu: u32,
    /// Memory of the task in MiB.
    pub memory_mib: u32,
    /// Memory of the container in MiB: what was asked for.
    pub container_mib: u32,
}

impl TaskSize {
    /// The smallest size that has at least what the limits say. The container gets no more memory than they say.
    ///
    /// # Errors
    /// When there is none: a text that says what was asked for and what there is.
    pub fn of(limits: &Limits) -> Result<Self, String> {
        let cpu = u64::from(limits.cpu_milli) * 1_024 / 1_000;
        let mib = limits.memory_bytes / (1 << 20);
        for (units, least, most, step) in SIZES {
            if u64::from(units) < cpu || u64::from(most) < mib {
                continue;
            }
            let fits = (least..=most)
                .step_by(step as usize)
                .find(|size| u64::from(*size) >= mib && (units, *size) != NOT_A_SIZE);
            if let (Some(memory_mib), Ok(container_mib)) = (fits, u32::try_from(mib.max(6))) {
                return Ok(Self { cpu: units, memory_mib, container_mib });
            }
        }
        Err(format!(
            "Fargate has no task with {} thousandths of a processor and {mib} MiB; the largest has 16000 and 122880 MiB, \
             so lower the executor's limits",
            limits.cpu_milli
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(cpu_milli: u32, mib: u64) -> Result<(u32, u32, u32), String> {
        let limits = Limits { cpu_milli, memory_bytes: mib << 20, ..Limits::default() };
        TaskSize::of(&limits).map(|size| (size.cpu, size.memory_mib, size.container_mib))
    }

    #[test]
    fn the_smallest_that_fits_is_taken() {
        assert_eq!(size(2_000, 4_096), Ok((2_048, 4_096, 4_096)));
        assert_eq!(size(1, 1), Ok((256, 512, 6)));
        assert_eq!(size(250, 1_100), Ok((256, 2_048, 1_100)));
        assert_eq!(size(250, 1_025), Ok((256, 2_048, 1_025)), "there is no 256 with 1536");
        assert_eq!(size(250, 2_049), Ok((512, 3_072, 2_049)));
        assert_eq!(size(251, 512), Ok((512, 1_024, 512)));
        assert_eq!(size(1_000, 30_000), Ok((4_096, 30_720, 30_000)));
        assert_eq!(size(16_000, 122_880), Ok((16_384, 122_880, 122_880)));
        assert_eq!(size(9_000, 32_769), Ok((16_384, 40_960, 32_769)));
    }

    #[test]
    fn what_there_is_not_is_an_error() {
        for (cpu, mib) in [(16_001, 1), (1, 122_881), (u32::MAX, u64::from(u32::MAX))] {
            let problem = size(cpu, mib).expect_err("too large");
            assert!(problem.contains("122880 MiB"), "{problem}");
        }
    }
}
