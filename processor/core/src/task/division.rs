//! More tasks than before: state goes with its keys.
//!
//! The new number is a multiple of the one before. Then the keys of a new task are all of one task, because a key's partition
//! is its hash modulo their number, and it goes on where that one stood: at its event time, in its windows, with its
//! pattern. Nothing has to be merged.
//!
//! What has been counted stays with the tasks that have counted it, but for records in open windows: they go with these.

use super::app::{AppTask, Time};
use super::{Application, Task};
use crate::invariant::Stats;
use crate::state::StateError;

/// More tasks instead of fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// So many there were.
    pub from: i32,
    /// So many there are to be.
    pub to: i32,
}

/// A task among those that come of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Its partition.
    pub partition: i32,
    /// Of which division.
    pub division: Division,
}

/// A number of tasks that is no multiple of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{to} partitions can't be made of {from}: take a multiple of {from}, so that the keys of each new one are all of one that \
     there is now, and no state has to be merged"
)]
pub struct Uneven {
    from: i32,
    to: i32,
}

impl Division {
    /// Of the state of `from` tasks among `to`.
    ///
    /// # Errors
    /// `to` is no multiple of `from`, or the same.
    pub fn new(from: i32, to: i32) -> Result<Self, Uneven> {
        if from < 1 || to <= from || to % from != 0 {
            return Err(Uneven { from, to });
        }
        Ok(Self { from, to })
    }

    /// All tasks that there are to be.
    pub fn shares(self) -> impl Iterator<Item = Share> {
        (0..self.to).map(move |partition| Share { partition, division: self })
    }
}

impl Share {
    /// The task that had its state.
    pub fn of(self) -> i32 {
        self.partition % self.division.from.max(1)
    }

    /// Whether there was no such task.
    pub fn is_new(self) -> bool {
        self.partition >= self.division.from
    }

    /// The task of a key that the former one had. `partition` tells the partition of a key among so many. A key that has been
    /// put into its partition by another rule stays there.
    pub fn task_of(self, key: &[u8], partition: impl Fn(&[u8], i32) -> i32) -> i32 {
        let Division { from, to } = self.division;
        if partition(key, from) == self.of() { partition(key, to) } else { self.of() }
    }
}

/// The task that goes on with a share of the state of another one, `entries`.
///
/// # Errors
/// The state can't be read.
pub fn divide<'a>(
    app: &dyn Application,
    share: Share,
    partition: impl Fn(&[u8], i32) -> i32,
    entries: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Box<dyn Task>, StateError> {
    let mut task = app.task(share.partition).map_err(|e| StateError::Damaged(e.to_string()))?;
    for (key, value) in entries {
        if task.owner(key)?.is_none_or(|owner| share.task_of(&owner, &partition) == share.partition) {
            task.load(key, Some(value))?;
        }
    }
    task.start();
    task.divided(share);
    Ok(task)
}

impl<E: 'static> AppTask<E> {
    pub(super) fn take(&mut self, share: Share) {
        let is_new = share.is_new();
        self.division = None;
        for input in &mut self.inputs {
            if is_new {
                input.next_offset = None;
            }
            if let Time::Repartition(downstream) = &mut input.time {
                downstream.valve.divide(usize::try_from(share.division.to).unwrap_or(0));
            }
        }
        if is_new {
            self.totals = super::Totals::default();
        }
        for job in &mut self.jobs {
            let (pending, stats) = (job.pending(), job.stats());
            job.restore_stats(if is_new {
                Stats { records: pending, ..Stats::default() }
            } else {
                Stats { records: stats.filtered + stats.late + stats.dead + pending + stats.done, ..stats }
            });
            if is_new {
                job.tables(&mut |table| table.count_anew());
            }
        }
    }
}
