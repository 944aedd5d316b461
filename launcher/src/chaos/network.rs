//! A network that does not deliver: packets to and from ports are dropped on the loopback interface, by nftables.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Of packets that get lost on a bad line, one in so many. TCP sends them again 0.2 s later, then 0.4 s, ..
const LOST: u32 = 4;

/// What becomes of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// None arrives.
    Cut,
    /// Some get lost, so that everything is late.
    Bad,
}

impl Line {
    fn set(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Bad => "bad",
        }
    }
}

/// Rules of the kernel, in a table of this process. They drop what belongs to a port that is in their set, from which the
/// kernel removes it by itself, also if this process is gone.
#[derive(Debug)]
pub struct Network {
    table: String,
}

impl Network {
    /// # Errors
    /// This takes root and `nft`.
    pub fn open() -> Result<Self> {
        let network = Self { table: format!("inet millrace_chaos_{}", std::process::id()) };
        nft(&network.rules()).context("network faults take root and nftables (`apt install nftables`)")?;
        Ok(network)
    }

    fn rules(&self) -> String {
        let mut rules = format!("table {} {{\n", self.table);
        for line in [Line::Cut, Line::Bad] {
            rules += &format!("set {} {{ type inet_service; flags timeout; }}\n", line.set());
        }
        rules += "chain input {\ntype filter hook input priority 0; policy accept;\n";
        for direction in ["dport", "sport"] {
            rules += &format!("iif lo tcp {direction} @{} drop\n", Line::Cut.set());
            rules +=
                &format!("iif lo tcp {direction} @{} numgen random mod {LOST} == 0 drop\n", Line::Bad.set());
        }
        rules + "}\n}\n"
    }

    /// Makes the line to these ports bad for a while.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn spoil(&self, ports: &[u16], line: Line, duration: Duration) -> Result<()> {
        nft(&self.element(ports, line, duration))
    }

    fn element(&self, ports: &[u16], line: Line, duration: Duration) -> String {
        let elements: Vec<_> =
            ports.iter().map(|port| format!("{port} timeout {}ms", duration.as_millis())).collect();
        format!("add element {} {} {{ {} }}\n", self.table, line.set(), elements.join(", "))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its sets are empty by now, or soon.
        let _ = nft(&format!("delete table {}\n", self.table));
    }
}

/// Gives commands to `nft`.
fn nft(commands: &str) -> Result<()> {
    let mut nft = Command::new("nft");
    let mut nft =
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(commands.as_bytes())?;
    }
    let output = nft.wait_with_output()?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("refused"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_spoilt_for_a_while_only() {
        let network = Network { table: "inet t".to_owned() };
        let elements = network.element(&[9092, 9192], Line::Cut, Duration::from_secs(8));
        assert_eq!(elements, "add element inet t cut { 9092 timeout 8000ms, 9192 timeout 8000ms }\n");
        std::mem::forget(network);
    }

    #[test]
    fn both_directions_of_a_connection_are_dropped() {
        let network = Network { table: "inet t".to_owned() };
        let rules = network.rules();
        for rule in
            ["tcp dport @cut drop", "tcp sport @cut drop", "tcp sport @bad numgen random mod 4 == 0 drop"]
        {
            assert!(rules.contains(&format!("iif lo {rule}\n")), "{rules}");
        }
        std::mem::forget(network);
    }
}
