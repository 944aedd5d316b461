//! Where the cluster listens.

/// Brokers of the native cluster; each is also a controller.
pub const BROKERS: u16 = 3;

/// The ports of one cluster, and the hosts that they are on: everything binds 127.0.0.1, or each component the host that
/// has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    base: Option<u16>,
    named_hosts: bool,
}

impl Ports {
    /// The well-known ports, or all of them in a row from `base` on.
    pub fn new(base: Option<u16>) -> Self {
        Self { base, named_hosts: false }
    }

    /// The well-known ports, each component on the host that has its name: as containers find each other.
    pub fn on_named_hosts() -> Self {
        Self { base: None, named_hosts: true }
    }

    /// The host that a component listens on.
    pub fn host(self, component: &str) -> &str {
        if self.named_hosts { component } else { "127.0.0.1" }
    }

    fn at(self, default: u16, offset: u16) -> u16 {
        self.base.map_or(default, |base| base.saturating_add(offset))
    }

    /// The gateway: REST, WebSocket and the page.
    pub fn gateway(self) -> u16 {
        self.at(8080, 0)
    }

    /// Broker `n`'s client listener; `n` counts from 1.
    pub fn broker(self, n: u16) -> u16 {
        self.at(9091 + n, n)
    }

    /// Broker `n`'s controller listener.
    pub fn controller(self, n: u16) -> u16 {
        self.at(9191 + n, BROKERS + n)
    }

    /// `host:port` of broker `n`'s client listener.
    pub fn broker_address(self, n: u16) -> String {
        format!("{}:{}", self.host(&format!("kafka-{n}")), self.broker(n))
    }

    /// `host:port` of broker `n`'s controller listener.
    pub fn controller_address(self, n: u16) -> String {
        format!("{}:{}", self.host(&format!("kafka-{n}")), self.controller(n))
    }

    /// Elasticsearch's HTTP interface.
    pub fn elasticsearch(self) -> u16 {
        self.at(9200, 7)
    }

    /// Elasticsearch's transport.
    pub fn elasticsearch_transport(self) -> u16 {
        self.at(9300, 8)
    }

    /// `/health` and `/metrics` of the indexer.
    pub fn indexer(self) -> u16 {
        self.at(9101, 9)
    }

    /// `/health` and `/metrics` of the generators.
    pub fn producers(self) -> u16 {
        self.at(9102, 10)
    }

    /// `/health` and `/metrics` of worker `n`; `n` counts from 1.
    pub fn processor(self, n: u16) -> u16 {
        self.at(9110, 10).saturating_add(n)
    }

    /// `host:port,..` of every broker.
    pub fn bootstrap(self) -> String {
        (1..=BROKERS).map(|n| self.broker_address(n)).collect::<Vec<_>>().join(",")
    }

    /// Where people open the page.
    pub fn url(self) -> String {
        format!("http://127.0.0.1:{}", self.gateway())
    }

    /// Where Elasticsearch answers.
    pub fn elasticsearch_url(self) -> String {
        format!("http://{}:{}", self.host("elasticsearch"), self.elasticsearch())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn all(ports: Ports) -> Vec<u16> {
        let mut all = vec![
            ports.gateway(),
            ports.elasticsearch(),
            ports.elasticsearch_transport(),
            ports.indexer(),
            ports.producers(),
        ];
        for n in 1..=3 {
            all.extend([ports.broker(n), ports.controller(n), ports.processor(n)]);
        }
        all
    }

    #[test]
    fn defaults_are_the_well_known_ports() {
        let ports = Ports::new(None);
        assert_eq!(ports.bootstrap(), "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094");
        assert_eq!((1..=3).map(|n| ports.controller(n)).collect::<Vec<_>>(), [9192, 9193, 9194]);
        assert_eq!(ports.url(), "http://127.0.0.1:8080");
        assert_eq!(ports.processor(1), 9111);
    }

    #[test]
    fn named_hosts_have_the_well_known_ports() {
        let ports = Ports::on_named_hosts();
        assert_eq!(ports.bootstrap(), "kafka-1:9092,kafka-2:9093,kafka-3:9094");
        assert_eq!(ports.elasticsearch_url(), "http://elasticsearch:9200");
    }

    #[test]
    fn a_base_moves_every_port_and_none_meet() {
        let ports = all(Ports::new(Some(20000)));
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        assert_eq!((ports.iter().min(), ports.iter().max()), (Some(&20000), Some(&20013)));
        let defaults = all(Ports::new(None));
        assert_eq!(defaults.iter().collect::<HashSet<_>>().len(), defaults.len());
    }
}
