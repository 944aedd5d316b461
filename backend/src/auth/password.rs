//! Argon2id. At most two at a time: each takes 19 MB and tens of milliseconds of a core.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

/// Shortest password that is taken.
pub const SHORTEST: usize = 8;
/// Longest: more work for no gain.
const LONGEST: usize = 512;
const AT_ONCE: usize = 2;

/// Hashes and verifies off the async threads.
pub struct Passwords {
    permits: Arc<Semaphore>,
    /// Verified for users that do not exist, so that they take as long.
    decoy: String,
}

/// The PHC string of a password. Takes tens of milliseconds.
///
/// # Errors
/// There is no randomness.
pub fn hash(password: &str) -> anyhow::Result<String> {
    let hash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|e| anyhow::anyhow!("the password can't be hashed: {e}"))?;
    Ok(hash.to_string())
}

/// A password that is made up: 24 characters, 119 bits.
pub fn generate() -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEF23";
    rand::random::<[u8; 24]>()
        .iter()
        .filter_map(|b| LETTERS.get(usize::from(b % 32)))
        .map(|b| char::from(*b))
        .collect()
}

impl Passwords {
    /// # Errors
    /// There is no randomness.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { permits: Arc::new(Semaphore::new(AT_ONCE)), decoy: hash(&generate())? })
    }

    /// Whether the password has this hash. Without a hash it does the same work and says no.
    pub async fn verify(&self, password: String, hash: Option<String>) -> bool {
        if password.len() > LONGEST {
            return false;
        }
        let Ok(permit) = self.permits.clone().acquire_owned().await else { return false };
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let verified = tokio::task::spawn_blocking(move || {
            let verified = Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok();
            drop(permit);
            verified
        });
        verified.await.unwrap_or(false) && known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_verifies() {
        let passwords = Passwords::new().unwrap();
        let hash = hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await);
        assert!(!passwords.verify("wrong horse".into(), Some(hash)).await);
        assert!(!passwords.verify("correct horse".into(), None).await);
        assert_ne!(generate(), generate());
        assert_eq!(generate().len(), 24);
    }
}
