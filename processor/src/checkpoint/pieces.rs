use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Sender;

use super::Encoded;
use crate::store::Whole;

/// Bytes of a piece, and a little more.
const PIECE: usize = 256 << 10;

/// What was sent of a file that is never in memory as a whole.
#[derive(Default)]
pub(super) struct Sent {
    /// Its entries.
    pub entries: u64,
    /// Its length.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: Sha256,
}

impl Sent {
    /// Sends all entries as a file, piece by piece, or the error that ends them. Waits for whoever receives; stops when
    /// there is no one.
    pub fn to(send: &Sender<anyhow::Result<Vec<u8>>>, whole: &Whole) -> Self {
        let (mut sent, mut piece) = (Self::default(), Encoded::default());
        for entry in whole.entries() {
            let going = match entry {
                Ok((key, value)) => {
                    piece.push(&key, Some(&value));
                    piece.bytes.len() < PIECE || sent.piece(send, &mut piece)
                }
                Err(error) => {
                    // Without a receiver there is no one to tell.
                    let _ = send.blocking_send(Err(error));
                    false
                }
            };
            if !going {
                return sent;
            }
        }
        sent.piece(send, &mut piece);
        sent
    }

    fn piece(&mut self, send: &Sender<anyhow::Result<Vec<u8>>>, piece: &mut Encoded) -> bool {
        let Encoded { bytes, entries } = std::mem::take(piece);
        self.sha256.update(&bytes);
        self.entries += entries;
        self.bytes += bytes.len() as u64;
        send.blocking_send(Ok(bytes)).is_ok()
    }
}
