use std::collections::VecDeque;

use super::slices::Slice;

/// The slices of a key, by start. The newest, which most records go to, stands in the key's own entry: a record of a key with
/// many slices touches no memory but that.
#[derive(Debug)]
pub(super) struct Line<Acc> {
    older: VecDeque<Slice<Acc>>,
    /// `None` only if there is no slice, or before [`Line::sort`].
    newest: Option<Slice<Acc>>,
}

impl<Acc> Default for Line<Acc> {
    fn default() -> Self {
        Self { older: VecDeque::new(), newest: None }
    }
}

impl<Acc> Line<Acc> {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Slice<Acc>> {
        self.older.iter().chain(&self.newest)
    }

    pub fn front(&self) -> Option<&Slice<Acc>> {
        self.older.front().or(self.newest.as_ref())
    }

    pub fn pop_front(&mut self) -> Option<Slice<Acc>> {
        self.older.pop_front().or_else(|| self.newest.take())
    }

    pub fn len(&self) -> usize {
        self.older.len() + usize::from(self.newest.is_some())
    }

    pub fn is_empty(&self) -> bool {
        self.newest.is_none() && self.older.is_empty()
    }

    pub fn get_mut(&mut self, start: i64) -> Option<&mut Slice<Acc>> {
        // Most often one of the last.
        let slices = self.older.iter_mut().chain(&mut self.newest);
        slices.rev().find(|slice| slice.start == start)
    }

    /// The slice that begins at `start`, and whether it is new.
    pub fn at(&mut self, start: i64, create: impl FnOnce() -> Acc) -> (Option<&mut Slice<Acc>>, bool) {
        let newest = self.newest.as_ref().map(|slice| slice.start);
        if newest == Some(start) {
            return (self.newest.as_mut(), false);
        }
        if newest.is_none_or(|newest| newest < start) {
            self.older.extend(self.newest.take());
            return (Some(self.newest.insert(Slice::new(start, create()))), true);
        }
        let after = self.older.iter().rposition(|slice| slice.start <= start);
        let found = after.filter(|&index| self.older.get(index).is_some_and(|slice| slice.start == start));
        let index = found.unwrap_or_else(|| {
            let index = after.map_or(0, |index| index + 1);
            self.older.insert(index, Slice::new(start, create()));
            index
        });
        (self.older.get_mut(index), found.is_none())
    }

    /// Those that begin in `from..to`.
    pub fn between(&self, from: i128, to: i128) -> impl DoubleEndedIterator<Item = &Slice<Acc>> {
        // From the back: what a window adds is near it, and a key may have many slices.
        let before = |index: usize, t: i128| {
            let earlier = self.older.range(..index).rposition(|slice| i128::from(slice.start) < t);
            earlier.map_or(0, |earlier| earlier + 1)
        };
        let last = before(self.older.len(), to);
        let newest = self.newest.iter().filter(move |slice| (from..to).contains(&i128::from(slice.start)));
        self.older.range(before(last, from)..last).chain(newest)
    }

    /// Adds one, in any place until [`Line::sort`].
    pub fn load(&mut self, slice: Slice<Acc>) {
        self.older.push_back(slice);
    }

    /// Takes one out.
    pub fn remove(&mut self, start: i64) -> Option<Slice<Acc>> {
        if let Some(index) = self.older.iter().position(|slice| slice.start == start) {
            return self.older.remove(index);
        }
        self.newest.take_if(|slice| slice.start == start)
    }

    /// Puts all in order.
    pub fn sort(&mut self) {
        self.older.extend(self.newest.take());
        self.older.make_contiguous().sort_by_key(|slice| slice.start);
        self.newest = self.older.pop_back();
    }
}
