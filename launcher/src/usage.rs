//! CPU time and memory of process groups, from /proc.

use std::collections::HashMap;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// What one group takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Processor time, seconds, of everything in it that lives and of the children that were waited for.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
}

fn system(variable: SysconfVar, otherwise: u64) -> u64 {
    sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(otherwise)
}

/// Every process group of the machine.
pub fn groups() -> HashMap<u32, Usage> {
    let ticks = system(SysconfVar::CLK_TCK, 100) as f64;
    let page = system(SysconfVar::PAGE_SIZE, 4096);
    let mut groups: HashMap<u32, Usage> = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return groups };
    for process in processes.flatten() {
        if !process.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let Ok(stat) = fs::read_to_string(process.path().join("stat")) else { continue };
        if let Some((group, cpu_ticks, pages)) = parse(&stat) {
            let usage = groups.entry(group).or_default();
            usage.cpu_seconds += cpu_ticks as f64 / ticks;
            usage.resident_bytes += pages * page;
        }
    }
    groups
}

/// One process; without the children that it waited for.
pub fn process(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let number = |n: usize| rest.split_ascii_whitespace().nth(n - 3)?.parse::<u64>().ok();
    Some(Usage {
        cpu_seconds: (number(14)? + number(15)?) as f64 / system(SysconfVar::CLK_TCK, 100) as f64,
        resident_bytes: number(24)? * system(SysconfVar::PAGE_SIZE, 4096),
    })
}

/// The most memory that a process has had resident, bytes.
pub fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1_024)
}

/// (group, ticks of CPU, resident pages) of one line of proc(5)'s `stat`.
fn parse(stat: &str) -> Option<(u32, u64, u64)> {
    // The name in parentheses may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some((u32::try_from(number(5)?).ok()?, ticks, number(24)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_of_proc_5() {
        let stat = "42 (a (b) c) S 1 40 40 0 -1 0 0 0 0 0 7 5 2 1 20 0 9 0 100 1000 333 0";
        assert_eq!(parse(stat), Some((40, 15, 333)));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn sees_this_process() {
        let own = nix::unistd::getpgrp().as_raw().unsigned_abs();
        assert!(groups().get(&own).is_some_and(|usage| usage.resident_bytes > 0));
        assert!(peak(std::process::id()) >= process(std::process::id()).map(|usage| usage.resident_bytes));
    }
}
