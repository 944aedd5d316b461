use millrace_wire::telemetry::ProcessUsage;

use crate::metrics::{Exposition, Kind};

/// Clock ticks per second in `/proc`: 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// What this process takes of the machine, from `/proc/self`; zeros where `/proc` is missing.
pub fn process_usage() -> ProcessUsage {
    let pid = std::process::id();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the command's closing bracket; utime and stime are numbers 14 and 15 of the line.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    ProcessUsage {
        pid,
        cpu_seconds: (number(11) + number(12)) as f64 / TICKS_PER_SECOND,
        resident_bytes: number(21) * PAGE_BYTES,
    }
}

/// Adds what this process takes, under the names that every Prometheus client has.
pub fn process_metrics(out: &mut Exposition) {
    let usage = process_usage();
    out.add("process_cpu_seconds_total", Kind::Counter, "CPU time used, s.", &[], usage.cpu_seconds);
    let bytes = usage.resident_bytes as f64;
    out.add("process_resident_memory_bytes", Kind::Gauge, "Resident memory, bytes.", &[], bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let usage = process_usage();
        assert_eq!(usage.pid, std::process::id());
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
    }
}
