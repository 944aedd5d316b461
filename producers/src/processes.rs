//! The processes of the platform, from `/proc`: those that have the same parent as this one, the supervisor, and say in
//! their environment (`MILLRACE_COMPONENT`) which component they are. What a component has started itself is of its process
//! group and counts for it.
//!
//! A component whose environment may not be read (another user's, without the right to) is left out.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::time::{Duration, Instant};

/// How often it is looked which processes there are: one look reads a line of every process of the machine.
const LOOK: Duration = Duration::from_secs(5);

/// What a component has used, and uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time, ticks: of what lives, and of children that have ended.
    pub ticks: f64,
    /// Resident memory, kB.
    pub resident_kb: f64,
    /// Read from and written to disks, bytes; `None` if the system does not count that, or may not tell.
    pub disk_bytes: Option<f64>,
}

/// Components and their processes.
#[derive(Debug)]
pub struct Processes {
    parent: u32,
    looked: Instant,
    components: BTreeMap<String, Vec<u32>>,
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    parent: u32,
    group: u32,
    ticks: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name, in brackets, may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let columns: Vec<&str> = rest.split_ascii_whitespace().collect();
        if columns.first() == Some(&"Z") {
            // It has ended, and its parent does not know yet.
            return None;
        }
        // The first one here is column 3 of proc(5).
        let number = |column: usize| columns.get(column - 3)?.parse::<f64>().ok();
        let pid = |column: usize| columns.get(column - 3)?.parse::<u32>().ok();
        let ticks = [14, 15, 16, 17].into_iter().map(number).sum::<Option<f64>>()?;
        Some(Self { parent: pid(4)?, group: pid(5)?, ticks })
    }

    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

impl Processes {
    /// Children of this process.
    pub fn of(parent: u32) -> Self {
        Self { parent, looked: Instant::now(), components: found(parent) }
    }

    /// The component that follows this one by name, the first one without; `None` behind the last.
    pub fn after(&mut self, last: Option<&str>) -> Option<&str> {
        if self.looked.elapsed() >= LOOK {
            self.components = found(self.parent);
            self.looked = Instant::now();
        }
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.components.range::<str, _>((from, Bound::Unbounded)).next().map(|(name, _)| name.as_str())
    }

    /// What a component uses; `None` if it has ended.
    pub fn usage(&self, component: &str) -> Option<Usage> {
        let mut sum: Option<Usage> = None;
        for pid in self.components.get(component)? {
            let (Some(stat), Some(resident_kb)) = (Stat::of(*pid), resident_kb(*pid)) else { continue };
            let usage = sum.get_or_insert_default();
            usage.ticks += stat.ticks;
            usage.resident_kb += resident_kb;
            let disk_bytes = disk_bytes(*pid);
            usage.disk_bytes = usage.disk_bytes.map(|sum| sum + disk_bytes.unwrap_or(0.0)).or(disk_bytes);
        }
        sum
    }
}

/// Processes by component.
fn found(parent: u32) -> BTreeMap<String, Vec<u32>> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: Vec<(u32, Stat)> = pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect();
    let named = all.iter().filter(|(_, stat)| stat.parent == parent).filter_map(|(pid, stat)| {
        let members =
            all.iter().filter(|(one, other)| one == pid || (other.group == stat.group && stat.group == *pid));
        Some((
            component(&fs::read(format!("/proc/{pid}/environ")).ok()?)?,
            members.map(|(pid, _)| *pid).collect(),
        ))
    });
    named.collect()
}

/// Which component an environment says that it is of.
fn component(environment: &[u8]) -> Option<String> {
    let value =
        environment.split(|byte| *byte == 0).find_map(|one| one.strip_prefix(b"MILLRACE_COMPONENT="))?;
    String::from_utf8(value.to_vec()).ok().filter(|name| !name.is_empty())
}

fn resident_kb(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // One that is ending has none.
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(Some(0.0), |line| line.split_ascii_whitespace().next()?.parse().ok())
}

fn disk_bytes(pid: u32) -> Option<f64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let of = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    Some(of("read_bytes:")? + of("write_bytes:")?)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;

    /// A parent with children, and what ends them. Tests run side by side: each has a parent of its own.
    pub(crate) struct Family(Child);

    impl Family {
        /// What a shell starts.
        pub(crate) fn of(script: &str) -> Self {
            Self(Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap())
        }

        pub(crate) fn parent(&self) -> u32 {
            self.0.id()
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_line_of_proc_is_read_whatever_the_name() {
        let line =
            "7 (a) b) S 3 7 7 0 -1 4194560 105 0 0 0 11 22 5 1 20 0 1 0 99 1000 7 18446744073709551615";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 3, group: 7, ticks: 39.0 }));
        assert_eq!(Stat::parse(&line.replace(" S ", " Z ")), None);
        assert_eq!(Stat::parse("7 (a) S 3"), None);
        assert_eq!(component(b"A=1\0MILLRACE_COMPONENT=kafka-1\0B=2\0"), Some("kafka-1".to_owned()));
        assert_eq!(component(b"A=1\0"), None);
    }

    #[test]
    fn children_that_say_what_they_are_are_found_with_what_they_started() {
        let family =
            Family::of("MILLRACE_COMPONENT=one setsid sh -c 'sleep 30 & sleep 30 & wait' & sleep 30 & wait");
        let from = Instant::now();
        let mut processes = Processes::of(family.parent());
        while processes.components.get("one").is_none_or(|pids| pids.len() < 3) {
            assert!(from.elapsed().as_secs() < 20, "{processes:?}");
            processes = Processes::of(family.parent());
        }
        assert_eq!(processes.after(None), Some("one"));
        assert_eq!(processes.after(Some("one")), None);
        let usage = processes.usage("one").unwrap();
        assert!(usage.resident_kb > 100.0 && usage.ticks >= 0.0, "{usage:?}");
        assert_eq!(processes.usage("two"), None);
    }
}
