use millrace_tests::Outgoing;
use millrace_wire::topic;

use crate::house::House;

/// Records that are in `iot-sensors`.
#[derive(Default)]
pub struct Records {
    written: Vec<String>,
}

impl Records {
    /// Everything that was ever written is there, once; then writes more.
    #[track_caller]
    pub fn survived_and_grow(&mut self, house: &House) {
        let kafka = house.kafka();
        let mut found: Vec<String> = kafka
            .read(topic::IOT_SENSORS, &[0; 6])
            .into_iter()
            .map(|message| String::from_utf8(message.value).unwrap())
            .collect();
        found.sort();
        assert_eq!(found, self.written, "what is in Kafka, and what was written before");
        let next = self.written.len();
        let more: Vec<String> = (next..next + 100).map(|n| format!("record {n:06}")).collect();
        let outgoing = |value: &String| Outgoing {
            key: value.clone(),
            value: value.clone().into_bytes(),
            partition: None,
        };
        kafka.write(topic::IOT_SENSORS, &more.iter().map(outgoing).collect::<Vec<_>>());
        self.written.extend(more);
    }
}
