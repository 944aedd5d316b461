//! The file format: entries one after the other, by ascending key. Key length and value length (u32, little endian; a
//! value length of [`GONE`] says that the key is gone), key, value.

use super::Changes;

/// In the place of a value's length: the key is gone.
const GONE: u32 = u32::MAX;

/// A file's bytes and how many entries they are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Number of entries.
    pub entries: u64,
}

impl Encoded {
    /// Adds an entry, whose key must be greater than the ones before.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(GONE - 1);
        self.bytes.extend_from_slice(&length(key).to_le_bytes());
        self.bytes.extend_from_slice(&value.map_or(GONE, length).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.entries += 1;
    }

    /// What has changed, keys that are gone included.
    pub fn delta(changes: &Changes) -> Self {
        let mut encoded = Self::default();
        for (key, value) in changes.sorted() {
            encoded.push(key, value);
        }
        encoded
    }

    /// What `files` (the oldest first) come to together.
    ///
    /// # Errors
    /// One of them is damaged.
    pub fn base(files: &[&[u8]]) -> Result<Self, Damaged> {
        let mut encoded = Self::default();
        for entry in merged(files) {
            let (key, value) = entry?;
            encoded.push(key, Some(value));
        }
        Ok(encoded)
    }
}

/// A file that can't be read from some byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is cut off or damaged at byte {0}")]
pub struct Damaged(pub usize);

/// An entry of a file: its key, and its value or `None` if the key is gone.
pub type Entry<'a> = (&'a [u8], Option<&'a [u8]>);

/// The entries of a file. Ends with the first that can't be read.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, Damaged>> {
    let mut rest = bytes;
    let mut last: Option<&[u8]> = None;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = bytes.len() - rest.len();
        // Merging relies on the order.
        let entry = split(rest).filter(|((key, _), _)| last.is_none_or(|last| last < *key));
        rest = entry.map_or(&[], |(_, rest)| rest);
        last = entry.map(|((key, _), _)| key);
        Some(entry.map(|(entry, _)| entry).ok_or(Damaged(at)))
    })
}

fn split(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (key_length, rest) = bytes.split_first_chunk::<4>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    let value_length = u32::from_le_bytes(*value_length);
    if value_length == GONE {
        return Some(((key, None), rest));
    }
    let (value, rest) = rest.split_at_checked(value_length as usize)?;
    Some(((key, Some(value)), rest))
}

/// The entries that `files` (the oldest first) come to together: of each key the newest value, unless it is gone.
pub fn merged<'a>(files: &[&'a [u8]]) -> impl Iterator<Item = Result<(&'a [u8], &'a [u8]), Damaged>> {
    let mut heads: Vec<_> = files.iter().map(|file| entries(file).peekable()).collect();
    std::iter::from_fn(move || {
        loop {
            let mut least: Option<&[u8]> = None;
            for head in &mut heads {
                match head.peek() {
                    None => {}
                    Some(Err(damaged)) => {
                        let damaged = *damaged;
                        heads.clear();
                        return Some(Err(damaged));
                    }
                    Some(Ok((key, _))) => least = Some(least.map_or(*key, |least| least.min(*key))),
                }
            }
            let least = least?;
            let mut newest = None;
            for head in &mut heads {
                if let Some(Ok((_, value))) =
                    head.next_if(|entry| matches!(entry, Ok((key, _)) if *key == least))
                {
                    newest = value;
                }
            }
            if let Some(value) = newest {
                return Some(Ok((least, value)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_read_back_and_a_cut_is_seen() {
        let mut file = Encoded::default();
        file.push(b"k1", Some(b"value"));
        file.push(b"k2", None);
        file.push(b"k3", Some(b""));
        let read: Vec<_> = entries(&file.bytes).collect();
        assert_eq!(read, [Ok((&b"k1"[..], Some(&b"value"[..]))), Ok((b"k2", None)), Ok((b"k3", Some(b"")))]);
        for cut in 1..15 {
            assert_eq!(entries(&file.bytes[..cut]).last(), Some(Err(Damaged(0))), "{cut}");
        }
        assert_eq!(entries(&file.bytes[..18]).last(), Some(Err(Damaged(15))));
        assert_eq!(merged(&[&file.bytes, &file.bytes[..18]]).last(), Some(Err(Damaged(15))));
    }

    #[test]
    fn keys_out_of_order_are_damage() {
        let mut file = Encoded::default();
        file.push(b"b", None);
        file.push(b"a", None);
        assert_eq!(entries(&file.bytes).last(), Some(Err(Damaged(9))));
    }

    proptest! {
        #[test]
        fn files_together_are_what_the_changes_come_to(
            rounds in prop::collection::vec(
                prop::collection::vec((0_u8..20, prop::option::of(prop::collection::vec(any::<u8>(), 0..4))), 0..30),
                0..10,
            ),
        ) {
            let (mut model, mut files) = (BTreeMap::new(), Vec::new());
            for round in &rounds {
                let mut changes = Changes::default();
                for (key, value) in round {
                    changes.put(&[*key], value.as_deref());
                    match value {
                        Some(value) => model.insert(vec![*key], value.clone()),
                        None => model.remove(&vec![*key]),
                    };
                }
                files.push(Encoded::delta(&changes).bytes);
            }
            let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
            let read: BTreeMap<_, _> =
                merged(&files).map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
            prop_assert_eq!(&read, &model);
            // However they are compacted on the way.
            for cut in 0..files.len() {
                let base = Encoded::base(&files[..cut]).unwrap();
                let mut rest = vec![base.bytes.as_slice()];
                rest.extend_from_slice(&files[cut..]);
                prop_assert_eq!(Encoded::base(&rest).unwrap(), Encoded::base(&files).unwrap());
            }
        }
    }
}
