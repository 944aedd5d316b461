use std::collections::VecDeque;

use super::function::WindowFunction;
use super::slices::Slice;
use super::spec::Aligned;

/// Slices merged already, so that a window costs about four merges however many slices it has.
///
/// Time is cut into blocks of a window's length. A window is the end of one block and the beginning of what follows: the
/// ends are merged from the right, once per block, and the beginning grows from the left (van Herk, Gil and Werman).
/// The blocks are fixed, so a window is merged in the same order whatever happened before: a sum of floats is the same
/// to the last bit after a restart.
#[derive(Debug)]
pub(super) struct Running<Acc> {
    /// Where the block ends; `None`: nothing is merged.
    pivot: Option<i128>,
    /// For each slice before the pivot, latest first: its start, and everything from it to the pivot.
    before: Vec<(i64, Acc)>,
    /// Everything from the pivot to `covered`.
    after: Option<Acc>,
    covered: i128,
}

impl<Acc> Default for Running<Acc> {
    fn default() -> Self {
        Self { pivot: None, before: Vec::new(), after: None, covered: 0 }
    }
}

impl<Acc> Running<Acc> {
    /// The contents of the window that starts at `start`, which is after the one of the last call.
    pub fn window<P, I, F: WindowFunction<P, I, Acc = Acc>>(
        &mut self,
        function: &F,
        slices: &VecDeque<Slice<Acc>>,
        aligned: &Aligned,
        start: i128,
    ) -> Acc {
        let end = start + i128::from(aligned.size);
        let mut acc = function.create();
        // From the back: what a window adds is near it, and a key may have many slices.
        let before = |index: usize, t: i128| {
            let earlier = slices.range(..index).rposition(|slice| i128::from(slice.start) < t);
            earlier.map_or(0, |earlier| earlier + 1)
        };
        let between = |from: i128, to: i128| {
            let last = before(slices.len(), to);
            slices.range(before(last, from)..last)
        };
        if !F::SMALL {
            between(start, end).for_each(|slice| function.merge(&mut acc, &slice.acc));
            return acc;
        }
        let block = aligned.size / aligned.slide * aligned.slide;
        let pivot = Aligned { slide: block, ..*aligned }.ceil(start + 1);
        if self.pivot != Some(pivot) {
            (self.pivot, self.after, self.covered) = (Some(pivot), None, pivot);
            self.before.clear();
            for slice in between(start, pivot).rev() {
                let mut merged = function.create();
                function.merge(&mut merged, &slice.acc);
                if let Some((_, later)) = self.before.last() {
                    function.merge(&mut merged, later);
                }
                self.before.push((slice.start, merged));
            }
        }
        while self.before.pop_if(|(slice, _)| i128::from(*slice) < start).is_some() {}
        for slice in between(self.covered, end) {
            function.merge(self.after.get_or_insert_with(|| function.create()), &slice.acc);
        }
        self.covered = end;
        for part in self.before.last().map(|(_, acc)| acc).into_iter().chain(&self.after) {
            function.merge(&mut acc, part);
        }
        acc
    }
}
