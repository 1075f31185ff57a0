//! What bounds this process's memory, and how much it may still take.

use std::path::Path;

use super::System;
use crate::error::MemoryLimit;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Pages that are in memory: free memory, cgroups.
    Resident,
    /// Addresses, whether or not there is memory behind them; mapped files count (`ulimit -v`).
    AddressSpace,
    /// Addresses of memory that is written to; mapped files do not count (`ulimit -d`).
    Data,
}

/// A bound on the memory of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    /// What it counts.
    pub counts: Counts,
    /// Whose it is.
    pub source: MemoryLimit,
    /// The bound itself, in bytes.
    pub total: u64,
    /// How much of it is left now, in bytes.
    pub available: u64,
    /// Whether it is only what happens to be free, so that a user may know better.
    pub soft: bool,
}

/// Every limit that this process has, now. Empty where the system does not say.
pub(crate) fn limits() -> Vec<Limit> {
    limits_of(&System::real())
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amount {
    /// In all.
    pub total: u64,
    /// What this process may still have.
    pub free: u64,
}

/// The memory of this machine, as far as it is this process's; `None` where the system does not
/// say.
pub(crate) fn memory() -> Option<Amount> {
    memory_of(&limits())
}

fn memory_of(limits: &[Limit]) -> Option<Amount> {
    let resident = || {
        let all = limits.iter();
        all.filter(|limit| limit.counts == Counts::Resident)
    };
    Some(Amount {
        total: resident().map(|limit| limit.total).min()?,
        free: resident().map(|limit| limit.available).min()?,
    })
}

/// What of this process is in memory now, in bytes; `None` where the system does not say.
pub(crate) fn resident() -> Option<u64> {
    System::real().kibibytes("proc/self/status", "VmRSS")
}

fn limits_of(system: &System) -> Vec<Limit> {
    let mut limits: Vec<Limit> = RESOURCES
        .iter()
        .filter_map(|resource| resource_limit(system, resource))
        .collect();
    limits.extend(cgroup_limits(system));
    limits.extend(free_memory(system));
    limits
}

/// A resource limit of the process: its line in `/proc/self/limits`, what is used of it in
/// `/proc/self/status`.
struct Resource {
    line: &'static str,
    used: &'static str,
    name: &'static str,
    counts: Counts,
}

const RESOURCES: [Resource; 2] = [
    Resource {
        line: "Max address space",
        used: "VmSize",
        name: "ulimit -v",
        counts: Counts::AddressSpace,
    },
    Resource {
        line: "Max data size",
        used: "VmData",
        name: "ulimit -d",
        counts: Counts::Data,
    },
];

fn resource_limit(system: &System, resource: &Resource) -> Option<Limit> {
    let line = system.field("proc/self/limits", resource.line)?;
    let total: u64 = line.split_whitespace().next()?.parse().ok()?; // not "unlimited"
    let used = system.kibibytes("proc/self/status", resource.used)?;
    Some(Limit {
        counts: resource.counts,
        source: MemoryLimit::System(resource.name),
        total,
        available: total.saturating_sub(used),
        soft: false,
    })
}

/// Memory that can be had without swapping.
fn free_memory(system: &System) -> Option<Limit> {
    Some(Limit {
        counts: Counts::Resident,
        source: MemoryLimit::System("free memory"),
        total: system.kibibytes("proc/meminfo", "MemTotal")?,
        available: system.kibibytes("proc/meminfo", "MemAvailable")?,
        soft: true,
    })
}

/// How a version of cgroups names its files.
struct CgroupVersion {
    /// Where it is mounted.
    mounts: &'static [&'static str],
    /// Files with a bound.
    bounds: &'static [&'static str],
    used: &'static str,
    /// Fields of `memory.stat` with what is given back when memory is wanted: files' pages.
    reclaimable: [&'static str; 2],
}

const VERSION_1: CgroupVersion = CgroupVersion {
    mounts: &["sys/fs/cgroup/memory"],
    bounds: &["memory.limit_in_bytes"],
    used: "memory.usage_in_bytes",
    reclaimable: ["total_inactive_file ", "total_active_file "],
};

const VERSION_2: CgroupVersion = CgroupVersion {
    mounts: &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
    bounds: &["memory.max", "memory.high"],
    used: "memory.current",
    reclaimable: ["inactive_file ", "active_file "],
};

/// Bounds from here on mean none.
const UNLIMITED: u64 = 1 << 60;

/// The limits of the process's groups and of the groups these are in.
fn cgroup_limits(system: &System) -> Vec<Limit> {
    let groups = system.read("proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let version = if controllers.split(',').any(|name| name == "memory") {
            &VERSION_1
        } else if hierarchy == "0" && controllers.is_empty() {
            &VERSION_2
        } else {
            continue;
        };
        for mount in version.mounts {
            // A container may see its own group as the root, whatever the path says.
            let path = Path::new(path.trim_start_matches('/'));
            limits.extend(
                path.ancestors().filter_map(|group| {
                    group_limit(system, version, &Path::new(mount).join(group))
                }),
            );
        }
    }
    limits
}

fn group_limit(system: &System, version: &CgroupVersion, group: &Path) -> Option<Limit> {
    let bounds = version.bounds.iter();
    let total = bounds
        .filter_map(|file| system.number(group.join(file)))
        .min()
        .filter(|&bytes| bytes < UNLIMITED)?;
    let used = system.number(group.join(version.used)).unwrap_or(0);
    let reclaimable = version.reclaimable.iter().filter_map(|field| {
        let value = system.field(group.join("memory.stat"), field)?;
        value.parse::<u64>().ok()
    });
    let used = used.saturating_sub(reclaimable.sum());
    Some(Limit {
        counts: Counts::Resident,
        source: MemoryLimit::System("the memory cgroup"),
        total,
        available: total.saturating_sub(used),
        soft: false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::system;
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<(&'static str, u64, u64)> {
        let (_folder, system) = system(files);
        let limits = limits_of(&system).into_iter();
        limits
            .map(|limit| (limit.source.name(), limit.total, limit.available))
            .collect()
    }

    #[test]
    fn a_group_bounds_the_memory_of_the_machine() {
        let machine = ("proc/meminfo", "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n");
        let group = [
            ("proc/self/cgroup", "0::/one\n"),
            ("sys/fs/cgroup/one/memory.max", "2048000\n"),
            ("sys/fs/cgroup/one/memory.current", "1024000\n"),
        ];
        let amount = |files: &[(&str, &str)]| {
            let (_folder, system) = system(files);
            memory_of(&limits_of(&system)).map(|memory| (memory.total, memory.free))
        };
        assert_eq!(amount(&[machine]), Some((4_096_000, 3_072_000)));
        let [a, b, c] = group;
        assert_eq!(amount(&[machine, a, b, c]), Some((2_048_000, 1_024_000)));
        // More than there is, is what there is.
        let wide = ("sys/fs/cgroup/one/memory.max", "90000000\n");
        assert_eq!(amount(&[machine, a, wide, c]), Some((4_096_000, 3_072_000)));
        assert_eq!(amount(&[]), None);
    }

    #[test]
    fn resource_limits_less_what_is_used() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max data size             unlimited            unlimited            bytes\n\
                      Max address space         150000000            unlimited            bytes\n";
        let status = "Name:\tgpt2\nVmSize:\t   10000 kB\nVmData:\t 500 kB\n";
        assert_eq!(
            found(&[("proc/self/limits", limits), ("proc/self/status", status)]),
            [("ulimit -v", 150_000_000, 150_000_000 - 10_240_000)]
        );
    }

    #[test]
    fn a_group_is_bound_by_the_groups_it_is_in() {
        let files = [
            ("proc/self/cgroup", "0::/system.slice/gpt2.service\n"),
            (
                "sys/fs/cgroup/system.slice/gpt2.service/memory.max",
                "max\n",
            ),
            (
                "sys/fs/cgroup/system.slice/gpt2.service/memory.high",
                "90000000\n",
            ),
            (
                "sys/fs/cgroup/system.slice/gpt2.service/memory.current",
                "30000000\n",
            ),
            (
                "sys/fs/cgroup/system.slice/gpt2.service/memory.stat",
                "anon 5000000\ninactive_file 20000000\nactive_file 4000000\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "150000000\n"),
        ];
        assert_eq!(
            found(&files),
            [
                ("the memory cgroup", 90_000_000, 84_000_000),
                ("the memory cgroup", 150_000_000, 150_000_000)
            ]
        );
    }

    #[test]
    fn the_first_version_of_cgroups_and_a_container_that_sees_itself_as_the_root() {
        let files = [
            (
                "proc/self/cgroup",
                "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "157286400"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "7286400"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "total_inactive_file 286400\n",
            ),
        ];
        assert_eq!(
            found(&files),
            [("the memory cgroup", 157_286_400, 150_286_400)]
        );
        let unlimited = [
            ("proc/self/cgroup", "4:memory:/\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712",
            ),
        ];
        assert_eq!(found(&unlimited), []);
    }

    #[test]
    fn free_memory_is_what_the_system_calls_available() {
        let meminfo = "MemTotal:         945364 kB\nMemFree:  1 kB\nMemAvailable:     700000 kB\n";
        assert_eq!(
            found(&[("proc/meminfo", meminfo)]),
            [("free memory", 968_052_736, 716_800_000)]
        );
    }

    #[test]
    fn nonsense_is_no_limit() {
        let files = [
            ("proc/self/cgroup", "0\n::\n0::/../../../../x\n"),
            ("proc/self/limits", "Max address space\n"),
            ("proc/meminfo", "MemTotal: 99999999999999999999 kB\n"),
        ];
        assert_eq!(found(&files), []);
    }
}
