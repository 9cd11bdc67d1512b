//! Keys of objects.

use pangolin_core::ids::Digest;

/// Below this are the checkpoints of a log.
pub(crate) fn of_log(prefix: &str, origin: &str) -> String {
    format!("{prefix}log/{}/checkpoint/", Digest::of(origin.as_bytes()).hex())
}

/// The key of a checkpoint. Twenty digits hold every size and sort as numbers do.
pub(crate) fn of_checkpoint(prefix: &str, origin: &str, size: u64) -> String {
    format!("{}{size:020}", of_log(prefix, origin))
}

/// The size in the last part of a key; `None` for what was not written by us.
pub(crate) fn size_in(name: &str) -> Option<u64> {
    (name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_documented_for_ever() {
        let key = of_checkpoint("p/", "pangolin.example/a", 1_234);
        assert_eq!(
            key,
            format!("p/log/{}/checkpoint/00000000000000001234", Digest::of(b"pangolin.example/a").hex())
        );
        assert_eq!(size_in("00000000000000001234"), Some(1_234));
        for name in ["1234", "0000000000000000123x", "+0000000000000001234", "99999999999999999999", ""] {
            assert_eq!(size_in(name), None, "{name}");
        }
    }
}
