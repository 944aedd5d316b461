//! Subject `watermark`: the valve, the multiplexer and the bounded generator.

use std::collections::HashMap;

use millrace_core::watermark::{
    Bounded, BoundedOutOfOrderness, Combined, InvalidIdleTimeout, Marker, Multiplexer, Progress, Valve,
};
use millrace_core::{EventTime, Watermark};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::case::{Case, Current, Step, compare, read, same, unknown};

#[derive(Clone, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Spec {
    Valve { inputs: Vec<String> },
    Multiplexer { inputs: Vec<String> },
    Generator { max_out_of_orderness: i64, idle_timeout: Option<i64>, partitions: Vec<String> },
}

/// Restored are valves, and generators from what a task keeps: their latest times and the watermark. A multiplexer by itself
/// is nothing that a task keeps; the silence of generators with an idle timeout is tested with the task
/// (`task/tests/restore.rs`).
pub fn keeps_state(case: &Case) -> bool {
    match read(&case.spec) {
        Ok(Spec::Valve { .. }) => true,
        Ok(Spec::Generator { idle_timeout, .. }) => idle_timeout.is_none(),
        Ok(Spec::Multiplexer { .. }) | Err(_) => false,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    partition: String,
    ts: i64,
}

pub fn run(case: &Case, restore: bool) -> Result<(), String> {
    let spec: Spec = read(&case.spec)?;
    let mut run = match (Run::new(&spec), &case.error) {
        (Ok(run), None) => run,
        (Err(_), Some(_)) => return Ok(()),
        (Ok(_), Some(_)) => return Err("the specification should have been refused".into()),
        (Err(error), None) => return Err(error.to_string()),
    };
    for step in &case.steps {
        match step {
            Step::Expect(expected) => {
                compare("expect", &std::mem::take(&mut run.out), expected, case.order)?;
            }
            Step::Current(expected) => same("current", &run.current(), expected)?,
            step if run.valve.is_some() => run.valve(step)?,
            step => run.sources(step)?,
        }
        if restore {
            run.restore(&spec)?;
        }
    }
    // A case that asks for `current` alone says nothing of outputs.
    if case.expect.is_some() || case.has_expect_steps() {
        compare("at the end", &run.out, case.at_the_end(), case.order)?;
    }
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
    fn new(spec: &Spec) -> Result<Self, InvalidIdleTimeout> {
        let mut run = Self {
            valve: None,
            multiplexer: Multiplexer::new(0),
            inputs: HashMap::new(),
            generators: Vec::new(),
            now: 0,
            out: Vec::new(),
        };
        match spec {
            Spec::Valve { inputs } => {
                run.valve = Some(Valve::new(inputs.len()));
                run.inputs = inputs.iter().cloned().zip(0..).collect();
            }
            Spec::Multiplexer { inputs } => inputs.iter().for_each(|name| {
                run.register(name);
            }),
            Spec::Generator { max_out_of_orderness, idle_timeout, partitions } => {
                let (max_out_of_orderness, idle_timeout) = (*max_out_of_orderness, *idle_timeout);
                for name in partitions {
                    let generator =
                        Bounded::new(BoundedOutOfOrderness { max_out_of_orderness, idle_timeout })?;
                    let number = run.register(name);
                    run.generators.push((number, generator));
                }
            }
        }
        Ok(run)
    }

    fn register(&mut self, name: &str) -> usize {
        let number = self.multiplexer.register();
        self.inputs.insert(name.to_owned(), number);
        number
    }

    fn input(&self, name: &str) -> Result<usize, String> {
        self.inputs.get(name).copied().ok_or_else(|| format!("no input {name:?}"))
    }

    fn current(&self) -> Current {
        let (wm, idle) = match &self.valve {
            Some(valve) => (valve.watermark(), valve.is_idle()),
            None => (self.multiplexer.watermark(), self.multiplexer.is_idle()),
        };
        Current { wm: wm.get(), idle }
    }

    fn valve(&mut self, step: &Step) -> Result<(), String> {
        let (name, marker) = match step {
            Step::WmIn(wm) => (&wm.input, Marker::Watermark(Watermark(wm.ts))),
            Step::Idle(status) => (&status.input, Marker::Idle),
            Step::Active(status) => (&status.input, Marker::Active),
            other => return Err(unknown(other)),
        };
        let input = self.input(name)?;
        if let Some(valve) = &mut self.valve {
            let changed = valve.marker(input, marker);
            self.tell(changed);
        }
        Ok(())
    }

    fn sources(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::WmIn(wm) => {
                if self.multiplexer.update(self.input(&wm.input)?, Watermark(wm.ts)) && !wm.deferred {
                    self.combine();
                }
            }
            Step::Idle(status) => {
                self.multiplexer.set_idle(self.input(&status.input)?);
                if !status.deferred {
                    self.combine();
                }
            }
            Step::Register(name) => {
                self.register(name);
            }
            Step::Unregister(name) => self.multiplexer.unregister(self.input(name)?),
            Step::In(record) => {
                let In { partition, ts } = read(record)?;
                let input = self.input(&partition)?;
                let generator = self.generators.iter_mut().find(|(number, _)| *number == input);
                generator.ok_or("records are for generators")?.1.record(EventTime(ts));
            }
            Step::ProcTime(to) => self.now = *to,
            Step::Periodic(_) => {
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
            other => return Err(unknown(other)),
        }
        Ok(())
    }

    /// Makes it again from what a task keeps, as a task does.
    fn restore(&mut self, spec: &Spec) -> Result<(), String> {
        if let Some(valve) = &mut self.valve {
            let bytes = serde_json::to_vec(valve).map_err(|e| e.to_string())?;
            *valve = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
            return Ok(());
        }
        let mut new = Self::new(spec).map_err(|e| e.to_string())?;
        new.multiplexer.restore(self.multiplexer.watermark());
        for ((_, before), (_, generator)) in self.generators.iter().zip(&mut new.generators) {
            generator.restore(before.max());
        }
        new.now = self.now;
        new.out = std::mem::take(&mut self.out);
        *self = new;
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
