//! How many threads are worth having.

use std::collections::BTreeSet;

use super::System;

/// The folder with one folder for each processor.
const PROCESSORS: &str = "sys/devices/system/cpu";

/// Cores of less than this much of the fastest core's measure slow the others down, which wait for
/// them after every operation: the capacity that ARM's systems state, or the highest clock
/// frequency.
const MEASURES: [(&str, f64); 2] = [("cpu_capacity", 0.75), ("cpufreq/cpuinfo_max_freq", 0.8)];

/// Threads to use when nobody says: one for each physical core of the fast kind that this process
/// may run on, and no more than its share of processor time (the cgroup's quota) is worth.
pub fn default_threads() -> usize {
    // Knows the affinity mask and the quotas of both versions of cgroups.
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    fast_cores(&System::real())
        .map_or(allowed, |cores| cores.min(allowed))
        .max(1)
}

/// A logical processor.
struct Processor {
    /// The numbers of the processors that share its core, which say which core that is.
    core: String,
    /// One for each of [`MEASURES`].
    speeds: [Option<u64>; 2],
}

/// Cores of the fast kind that this process may run on; `None` when the system does not say.
fn fast_cores(system: &System) -> Option<usize> {
    let allowed = system.field("proc/self/status", "Cpus_allowed_list");
    let allowed = match allowed {
        Some(list) => Some(numbers(&list)?),
        None => None,
    };
    // Where performance and efficiency cores are told apart, the latter are left out.
    let performance = system.read("sys/devices/cpu_core/cpus");
    let performance = performance.as_deref().and_then(numbers);
    let is_allowed = |number: &usize| {
        let among = |set: &Option<BTreeSet<usize>>| set.as_ref().is_none_or(|s| s.contains(number));
        among(&allowed) && among(&performance)
    };
    let online = numbers(&system.read(format!("{PROCESSORS}/online"))?)?;
    let mut usable: BTreeSet<usize> = online.iter().copied().filter(is_allowed).collect();
    if usable.is_empty() {
        // Held to the efficiency cores alone.
        let allowed = |number: &usize| allowed.as_ref().is_none_or(|set| set.contains(number));
        usable = online.into_iter().filter(allowed).collect();
    }
    let processors: Vec<Processor> = usable
        .into_iter()
        .map(|number| {
            let folder = format!("{PROCESSORS}/cpu{number}");
            let siblings = system.read(format!("{folder}/topology/thread_siblings_list"));
            Processor {
                core: siblings.unwrap_or_else(|| number.to_string()),
                speeds: MEASURES.map(|(file, _)| system.number(format!("{folder}/{file}"))),
            }
        })
        .collect();
    let fast = |processor: &&Processor| {
        MEASURES.iter().enumerate().all(|(measure, (_, least))| {
            let speeds = processors.iter().filter_map(|other| other.speeds[measure]);
            match (processor.speeds[measure], speeds.max()) {
                (Some(speed), Some(fastest)) => speed as f64 >= least * fastest as f64,
                _ => true,
            }
        })
    };
    let cores: BTreeSet<&str> = processors
        .iter()
        .filter(fast)
        .map(|processor| processor.core.as_str())
        .collect();
    (!cores.is_empty()).then_some(cores.len())
}

/// More processors than any system has: a list that names more is broken.
const MOST_PROCESSORS: usize = 1 << 16;

/// The numbers of a list such as `0-3,8`.
fn numbers(list: &str) -> Option<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= MOST_PROCESSORS {
            return None;
        }
        found.extend(first..=last);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::system;
    use super::*;

    /// `proc/self/status`, and a line for each processor: siblings, capacity, highest frequency.
    fn cores(
        allowed: &str,
        processors: &[(&str, &str, &str)],
        more: &[(&str, &str)],
    ) -> Option<usize> {
        let mut files = vec![
            (
                "proc/self/status".to_owned(),
                format!("Name:\tx\nCpus_allowed_list:\t{allowed}\n"),
            ),
            (
                format!("{PROCESSORS}/online"),
                format!("0-{}\n", processors.len() - 1),
            ),
        ];
        for (number, (siblings, capacity, frequency)) in processors.iter().enumerate() {
            let folder = format!("{PROCESSORS}/cpu{number}");
            for (name, text) in [
                ("topology/thread_siblings_list", siblings),
                ("cpu_capacity", capacity),
                ("cpufreq/cpuinfo_max_freq", frequency),
            ] {
                if !text.is_empty() {
                    files.push((format!("{folder}/{name}"), format!("{text}\n")));
                }
            }
        }
        let mut borrowed: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        borrowed.extend(more);
        let (_folder, system) = system(&borrowed);
        fast_cores(&system)
    }

    #[test]
    fn second_threads_of_a_core_do_not_count() {
        let smt = [
            ("0,2", "", ""),
            ("1,3", "", ""),
            ("0,2", "", ""),
            ("1,3", "", ""),
        ];
        assert_eq!(cores("0-3", &smt, &[]), Some(2));
        assert_eq!(cores("0,2", &smt, &[]), Some(1));
        assert_eq!(cores("3", &smt, &[]), Some(1));
    }

    #[test]
    fn small_cores_do_not_count_beside_big_ones() {
        // An RK3588: four A55, four A76.
        let little = ("", "414", "1800000");
        let big = ("", "1024", "2400000");
        let board = [little, little, little, little, big, big, big, big];
        assert_eq!(cores("0-7", &board, &[]), Some(4));
        assert_eq!(cores("2-4", &board, &[]), Some(1));
        // Held to the small ones, they are all there is.
        assert_eq!(cores("0-3", &board, &[]), Some(4));
        // A Raspberry Pi: all alike.
        assert_eq!(
            cores("0-3", &[("0", "1024", "2400000"); 1].repeat(4), &[]),
            Some(1)
        );
        let pi: Vec<_> = ["0", "1", "2", "3"]
            .map(|core| (core, "", "1500000"))
            .to_vec();
        assert_eq!(cores("0-3", &pi, &[]), Some(4));
    }

    #[test]
    fn cores_that_boost_a_little_higher_are_no_kind_of_their_own() {
        let desktop = [("0", "", "5700000"), ("1", "", "5400000")];
        assert_eq!(cores("0-1", &desktop, &[]), Some(2));
    }

    #[test]
    fn efficiency_cores_are_left_out_unless_they_are_all() {
        let hybrid = [
            ("0-1", "", ""),
            ("0-1", "", ""),
            ("2", "", ""),
            ("3", "", ""),
        ];
        let kinds = [
            ("sys/devices/cpu_core/cpus", "0-1\n"),
            ("sys/devices/cpu_atom/cpus", "2-3\n"),
        ];
        assert_eq!(cores("0-3", &hybrid, &kinds), Some(1));
        assert_eq!(cores("2-3", &hybrid, &kinds), Some(2));
    }

    #[test]
    fn a_system_that_says_nothing_or_nonsense_is_not_believed() {
        let (_folder, nothing) = system(&[]);
        assert_eq!(fast_cores(&nothing), None);
        let (_folder, nonsense) = system(&[("sys/devices/system/cpu/online", "0-99999999999")]);
        assert_eq!(fast_cores(&nonsense), None);
        assert_eq!(numbers("0-2, 5"), Some(BTreeSet::from([0, 1, 2, 5])));
        assert!(default_threads() >= 1);
    }
}
