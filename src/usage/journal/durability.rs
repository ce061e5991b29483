//! Whether a directory outlives the machine's memory.

use std::fmt;
use std::fs;
use std::path::Path;

/// Whether what is written to a directory is there after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Durable,
    /// Not when the instance goes, for the reason given.
    Ephemeral(&'static str),
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Durable => f.write_str("durable"),
            Self::Ephemeral(why) => write!(f, "ephemeral ({why})"),
        }
    }
}

/// From statfs(2) and linux/magic.h.
const EPHEMERAL: [(u64, &str); 3] = [
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlayfs"),
];

impl Durability {
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let kind = rustix::fs::statfs(path)?.f_type;
        Ok(Self::of_kind(u64::try_from(kind).unwrap_or(0)))
    }

    fn of_kind(kind: u64) -> Self {
        let found = EPHEMERAL.iter().find(|(magic, _)| *magic == kind);
        found.map_or(Self::Durable, |(_, name)| Self::Ephemeral(name))
    }
}

/// Bytes that this process may use: the cgroup's limit or the machine's memory.
pub(super) fn memory_limit() -> Option<u64> {
    let cgroup = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .or_else(|_| fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| parse_meminfo(&text));
    cgroup.into_iter().chain(machine).min()
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_disk() {
        const EXT4: u64 = 0xef53;
        assert_eq!(Durability::of_kind(EXT4), Durability::Durable);
        let tmpfs = Durability::of_kind(0x0102_1994);
        assert_eq!(tmpfs, Durability::Ephemeral("tmpfs"));
    }

    #[test]
    fn the_memory_of_a_machine_is_read() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\n";
        assert_eq!(parse_meminfo(text), Some(16384 * 1024));
        assert_eq!(parse_meminfo("MemTotal: many"), None);
        assert!(memory_limit().is_some());
    }
}
