use crate::time::Watermark;

/// Merges the watermarks of the partitions of one task: the minimum over those that are not idle, never falling.
#[derive(Debug, Clone)]
pub struct Multiplexer {
    inputs: Vec<Option<Input>>,
    combined: Watermark,
    idle: bool,
}

#[derive(Debug, Clone, Copy)]
struct Input {
    watermark: Watermark,
    idle: bool,
}

/// What combining changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Combined {
    /// The combined watermark, if it rose.
    pub advanced: Option<Watermark>,
    /// The new status (true: idle), if it changed.
    pub status: Option<bool>,
}

impl Multiplexer {
    /// With `inputs` active inputs, numbered from 0.
    pub fn new(inputs: usize) -> Self {
        let input = Some(Input { watermark: Watermark::NONE, idle: false });
        Self { inputs: vec![input; inputs], combined: Watermark::NONE, idle: false }
    }

    /// Adds an input and returns its number.
    pub fn register(&mut self) -> usize {
        self.inputs.push(Some(Input { watermark: Watermark::NONE, idle: false }));
        self.inputs.len() - 1
    }

    /// Takes an input away. Does not combine.
    pub fn unregister(&mut self, input: usize) {
        if let Some(slot) = self.inputs.get_mut(input) {
            *slot = None;
        }
    }

    /// Raises an input's watermark, never lowers it, and makes it active. Returns whether it rose above the combined.
    pub fn update(&mut self, input: usize, watermark: Watermark) -> bool {
        let Some(Some(input)) = self.inputs.get_mut(input) else { return false };
        input.idle = false;
        if watermark <= input.watermark {
            return false;
        }
        input.watermark = watermark;
        watermark > self.combined
    }

    /// Marks an input as idle: it does not hold the watermark back.
    pub fn set_idle(&mut self, input: usize) {
        if let Some(Some(input)) = self.inputs.get_mut(input) {
            input.idle = true;
        }
    }

    /// Combines the inputs.
    pub fn combine(&mut self) -> Combined {
        let mut changed = Combined::default();
        let mut inputs = self.inputs.iter().flatten().peekable();
        if inputs.peek().is_none() {
            return changed;
        }
        let active = inputs.filter(|input| !input.idle).map(|input| input.watermark).min();
        if self.idle != active.is_none() {
            self.idle = active.is_none();
            changed.status = Some(self.idle);
        }
        if let Some(watermark) = active.filter(|&watermark| watermark > self.combined) {
            self.combined = watermark;
            changed.advanced = Some(watermark);
        }
        changed
    }

    /// The combined watermark.
    pub fn watermark(&self) -> Watermark {
        self.combined
    }

    /// Whether all inputs are idle.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// Continues from a combined watermark of before.
    pub fn restore(&mut self, combined: Watermark) {
        self.combined = self.combined.max(combined);
    }
}
