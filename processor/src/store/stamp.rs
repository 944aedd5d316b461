use serde::{Deserialize, Serialize};

use crate::checkpoint::TOO_OLD_MS;

/// How far a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The Kafka cluster whose changelog it follows.
    pub cluster: String,
    /// What the changelog has before this offset is in the store.
    pub offset: i64,
    /// When it was written, epoch ms.
    pub at_ms: i64,
}

/// A changelog, as far as a stamp can be held against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Its Kafka cluster.
    pub cluster: String,
    /// Its first offset.
    pub start: i64,
    /// Its next offset.
    pub end: i64,
}

impl Stamp {
    /// Whether the store can be continued with what `log` has from the stamp on; otherwise why not.
    ///
    /// # Errors
    /// It can't.
    pub fn continues(&self, log: &Log, now_ms: i64) -> Result<(), String> {
        let Self { cluster, offset, at_ms } = self;
        if *cluster != log.cluster {
            Err(format!("it belongs to the Kafka cluster {cluster}, this one is {}", log.cluster))
        } else if *offset > log.end {
            Err(format!("it stands at changelog offset {offset}, the changelog ends at {}", log.end))
        } else if *offset < log.start {
            Err(format!("it stands at changelog offset {offset}, the changelog begins at {}", log.start))
        } else if now_ms - at_ms > TOO_OLD_MS {
            Err(format!("it is {} h old", (now_ms - at_ms) / 3_600_000))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_that_the_log_does_not_know_is_refused_with_the_reason() {
        let log = Log { cluster: "c".to_owned(), start: 3, end: 9 };
        let verdict = |cluster: &str, offset, at_ms| {
            Stamp { cluster: cluster.to_owned(), offset, at_ms }.continues(&log, TOO_OLD_MS).err()
        };
        assert_eq!([verdict("c", 3, 0), verdict("c", 9, TOO_OLD_MS)], [None, None]);
        let refused = [verdict("d", 5, 0), verdict("c", 10, 0), verdict("c", 2, 0), verdict("c", 5, -1)];
        let words = ["cluster d", "ends at 9", "begins at 3", "23 h old"];
        for (refused, word) in refused.into_iter().zip(words) {
            assert!(refused.as_ref().is_some_and(|reason| reason.contains(word)), "{refused:?} {word}");
        }
    }
}
