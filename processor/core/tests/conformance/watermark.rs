//! Subject `watermark`: the valve, the multiplexer and the bounded generator.

use std::collections::HashMap;

use millrace_core::watermark::{
    Bounded, BoundedOutOfOrderness, Combined, Marker, Multiplexer, Progress, Valve,
};
use millrace_core::{EventTime, Watermark};
use serde_json::{Value, json};

use crate::case::{Case, compare};

pub fn run(case: &Case, restore: bool) -> Result<(), String> {
    let op = case.spec["op"].as_str().unwrap_or_default();
    let names = |field: &str| -> Vec<String> {
        case.spec[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|n| n.as_str().map(str::to_owned))
            .collect()
    };
    let mut run = Run {
        valve: None,
        multiplexer: Multiplexer::new(0),
        inputs: HashMap::new(),
        generators: Vec::new(),
        now: 0,
        out: Vec::new(),
    };
    match op {
        "valve" => {
            let names = names("inputs");
            run.valve = Some(Valve::new(names.len()));
            run.inputs = names.into_iter().enumerate().map(|(number, name)| (name, number)).collect();
        }
        "multiplexer" => {
            for name in names("inputs") {
                let number = run.multiplexer.register();
                run.inputs.insert(name, number);
            }
        }
        "generator" => {
            let spec = BoundedOutOfOrderness {
                max_out_of_orderness: case.spec["max_out_of_orderness"]
                    .as_i64()
                    .ok_or("no max_out_of_orderness")?,
                idle_timeout: case.spec.get("idle_timeout").and_then(Value::as_i64),
            };
            for name in names("partitions") {
                let generator = match (Bounded::new(spec), case.error.is_some()) {
                    (Ok(generator), false) => generator,
                    (Err(_), true) => return Ok(()),
                    (Ok(_), true) => return Err("the specification should have been refused".into()),
                    (Err(error), false) => return Err(error.to_string()),
                };
                let number = run.multiplexer.register();
                run.inputs.insert(name, number);
                run.generators.push((number, generator));
            }
        }
        other => return Err(format!("watermark: no kind {other}")),
    }
    for step in &case.steps {
        let (kind, value) = step.iter().next().ok_or("an empty step")?;
        match kind.as_str() {
            "expect" => {
                let out = std::mem::take(&mut run.out);
                compare("expect", &out, value.as_array().ok_or("expect is no list")?, case.order)?;
            }
            "current" => {
                let (wm, idle) = match &run.valve {
                    Some(valve) => (valve.watermark(), valve.is_idle()),
                    None => (run.multiplexer.watermark(), run.multiplexer.is_idle()),
                };
                let current = json!({"wm": wm.get(), "idle": idle});
                compare("current", &[current], std::slice::from_ref(value), case.order)?;
            }
            _ => run.step(kind, value)?,
        }
        if restore && let Some(valve) = &mut run.valve {
            let bytes = serde_json::to_vec(valve).map_err(|e| e.to_string())?;
            *valve = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        }
    }
    compare("at the end", &run.out, case.expect.as_deref().unwrap_or(&run.out), case.order)?;
    Ok(())
}

struct Run {
    valve: Option<Valve>,
    multiplexer: Multiplexer,
    inputs: HashMap<String, usize>,
    generators: Vec<(usize, Bounded)>,
    now: i64,
    out: Vec<Value>,
}

impl Run {
    fn step(&mut self, kind: &str, value: &Value) -> Result<(), String> {
        let name = ["input", "partition"]
            .iter()
            .find_map(|f| value.get(f))
            .unwrap_or(value)
            .as_str()
            .unwrap_or_default();
        let number = self.inputs.get(name).copied();
        let deferred = value.get("deferred").and_then(Value::as_bool).unwrap_or(false);
        let known = || number.ok_or_else(|| format!("no input {name:?}"));
        if let Some(valve) = &mut self.valve {
            let marker = match kind {
                "wm_in" => Marker::Watermark(Watermark(value["ts"].as_i64().ok_or("no ts")?)),
                "idle" => Marker::Idle,
                "active" => Marker::Active,
                other => return Err(format!("unknown step {other} of a valve")),
            };
            let changed = valve.marker(known()?, marker);
            self.tell(changed);
            return Ok(());
        }
        match kind {
            "wm_in" => {
                let ts = value["ts"].as_i64().ok_or("no ts")?;
                if self.multiplexer.update(known()?, Watermark(ts)) && !deferred {
                    self.combine();
                }
            }
            "idle" => {
                self.multiplexer.set_idle(known()?);
                if !deferred {
                    self.combine();
                }
            }
            "register" => {
                let number = self.multiplexer.register();
                self.inputs.insert(name.to_owned(), number);
            }
            "unregister" => self.multiplexer.unregister(known()?),
            "in" => {
                let (number, at) = (known()?, EventTime(value["ts"].as_i64().ok_or("no ts")?));
                self.generators.iter_mut().filter(|(n, _)| *n == number).for_each(|(_, g)| g.record(at));
            }
            "proc_time" => self.now = value.as_i64().ok_or("no time")?,
            "periodic" => {
                for (number, generator) in &mut self.generators {
                    match generator.tick(self.now) {
                        Progress::At(watermark) => {
                            self.multiplexer.update(*number, watermark);
                        }
                        Progress::Idle => self.multiplexer.set_idle(*number),
                        Progress::None => {}
                    }
                }
                self.combine();
            }
            other => return Err(format!("unknown step {other}")),
        }
        Ok(())
    }

    fn combine(&mut self) {
        let changed = self.multiplexer.combine();
        self.tell(changed);
    }

    fn tell(&mut self, Combined { advanced, status }: Combined) {
        self.out.extend(advanced.map(|wm| json!({"wm": wm.0})));
        self.out.extend(status.map(|idle| json!({"status": if idle { "idle" } else { "active" }})));
    }
}
