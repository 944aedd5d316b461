/// Entries of a task's state, one after the other: key length, value length (u32, little endian), key, value.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Number of entries.
    pub entries: u64,
}

/// A state file that ends in the middle of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state file is cut off at byte {0}")]
pub struct Damaged(pub usize);

impl Snapshot {
    /// Adds an entry.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        for part in [key, value] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.bytes.extend_from_slice(&length.to_le_bytes());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.entries += 1;
    }
}

/// Reads the entries of a state file.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Damaged>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = bytes.len() - rest.len();
        let entry = split(rest);
        rest = entry.map_or(&[], |(_, _, rest)| rest);
        Some(entry.map(|(key, value, _)| (key, value)).ok_or(Damaged(at)))
    })
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key_length, rest) = bytes.split_first_chunk::<4>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
    Some((key, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_a_cut_is_seen() {
        let mut snapshot = Snapshot::default();
        snapshot.push(b"k1", b"value");
        snapshot.push(b"", b"");
        let read: Vec<_> = entries(&snapshot.bytes).collect();
        assert_eq!(read, [Ok((&b"k1"[..], &b"value"[..])), Ok((&b""[..], &b""[..]))]);
        for cut in 1..15 {
            assert_eq!(entries(&snapshot.bytes[..cut]).last(), Some(Err(Damaged(0))), "{cut}");
        }
        assert_eq!(entries(&snapshot.bytes[..18]).last(), Some(Err(Damaged(15))));
    }
}
