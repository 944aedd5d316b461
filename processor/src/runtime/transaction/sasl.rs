//! SASL: how a client proves who it is. `PLAIN` (RFC 4616) and `SCRAM` with SHA-256 or SHA-512 (RFC 5802 and 7677).

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

/// A name and its password, and how they are to be proved.
#[derive(Clone)]
pub struct Credentials {
    mechanism: Mechanism,
    username: String,
    password: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Credentials {
    /// Of a mechanism by its name.
    ///
    /// # Errors
    /// The mechanism is not supported.
    pub fn new(mechanism: &str, username: &str, password: &str) -> Result<Self, String> {
        let mechanism = match mechanism {
            "PLAIN" => Mechanism::Plain,
            "SCRAM-SHA-256" => Mechanism::ScramSha256,
            "SCRAM-SHA-512" => Mechanism::ScramSha512,
            other => {
                return Err(format!(
                    "SASL mechanism {other} is not supported: use SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN"
                ));
            }
        };
        Ok(Self { mechanism, username: username.to_owned(), password: password.to_owned() })
    }

    /// The name of the mechanism.
    pub fn mechanism(&self) -> &'static str {
        match self.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// Proves it to a server: `ask` sends it bytes and returns its answer. `nonce` must be another each time.
    ///
    /// # Errors
    /// Those of `ask`, and a server that does not know the password either.
    pub fn prove<E: From<String>>(
        &self,
        nonce: &str,
        mut ask: impl FnMut(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let hash = match self.mechanism {
            Mechanism::Plain => {
                return ask(format!("\0{}\0{}", self.username, self.password).into_bytes()).map(drop);
            }
            Mechanism::ScramSha256 => &SHA256,
            Mechanism::ScramSha512 => &SHA512,
        };
        let mut text =
            |sent: String| Ok::<_, E>(String::from_utf8_lossy(&ask(sent.into_bytes())?).into_owned());
        let name = self.username.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={name},r={nonce}");
        let challenge = text(format!("n,,{first}"))?;
        let (last, expected) = answer(hash, &self.password, nonce, &first, &challenge)?;
        let verdict = text(last)?;
        if verdict.strip_prefix("v=") != Some(&expected) {
            return Err(E::from(format!("the broker could not prove that it knows the password: {verdict}")));
        }
        Ok(())
    }
}

struct Hash {
    pbkdf2: pbkdf2::Algorithm,
    hmac: hmac::Algorithm,
    digest: &'static digest::Algorithm,
}

static SHA256: Hash =
    Hash { pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256, hmac: hmac::HMAC_SHA256, digest: &digest::SHA256 };
static SHA512: Hash =
    Hash { pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512, hmac: hmac::HMAC_SHA512, digest: &digest::SHA512 };

/// The client's last message, and what the server must say to it.
fn answer(
    hash: &Hash,
    password: &str,
    nonce: &str,
    first: &str,
    challenge: &str,
) -> Result<(String, String), String> {
    let odd = || "the broker's SCRAM challenge can't be read".to_owned();
    let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).ok_or_else(odd);
    let (theirs, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
    if !theirs.starts_with(nonce) {
        return Err("the broker's SCRAM challenge answers somebody else".to_owned());
    }
    let salt = BASE64.decode(salt).map_err(|_| odd())?;
    let iterations: NonZeroU32 = iterations.parse().map_err(|_| odd())?;
    let mut salted = vec![0; hash.digest.output_len()];
    pbkdf2::derive(hash.pbkdf2, iterations, &salt, password.as_bytes(), &mut salted);
    let mac = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hash.hmac, key), data);

    // "biws" is "n,,", the beginning of the first message.
    let last = format!("c=biws,r={theirs}");
    let everything = format!("{first},{challenge},{last}");
    let client = mac(&salted, b"Client Key");
    let stored = digest::digest(hash.digest, client.as_ref());
    let signature = mac(stored.as_ref(), everything.as_bytes());
    let proof: Vec<u8> = client.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    let server = mac(mac(&salted, b"Server Key").as_ref(), everything.as_bytes());
    Ok((format!("{last},p={}", BASE64.encode(proof)), BASE64.encode(server)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    fn exchange(verdict: &str) -> (Vec<String>, Result<(), String>) {
        let user = Credentials::new("SCRAM-SHA-256", "user", "pencil").unwrap();
        let answers = [
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            verdict,
        ];
        let mut sent = Vec::new();
        let result = user.prove("rOprNGfwEbeRWgbNEkqO", |message| {
            sent.push(String::from_utf8(message).unwrap());
            Ok(answers[sent.len() - 1].as_bytes().to_vec())
        });
        (sent, result)
    }

    #[test]
    fn scram_is_that_of_the_rfc() {
        let (sent, result) = exchange("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(result, Ok(()));
        assert_eq!(
            sent,
            [
                "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            ]
        );
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_refused() {
        let (_, result) = exchange("v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert!(result.unwrap_err().contains("could not prove"));
    }

    #[test]
    fn challenges_that_make_no_sense_are_refused() {
        for challenge in ["", "r=other,s=W22Z,i=1", "r=mine1,s=?,i=1", "r=mine1,s=W22Z,i=0", "r=mine1,s=W22Z"]
        {
            assert!(answer(&SHA512, "pencil", "mine", "n=user,r=mine", challenge).is_err(), "{challenge}");
        }
    }

    #[test]
    fn plain_sends_both_and_others_are_not_supported() {
        let user = Credentials::new("PLAIN", "user", "pencil").unwrap();
        let mut sent = Vec::new();
        let result: Result<(), String> = user.prove("", |message| {
            sent = message;
            Ok(Vec::new())
        });
        assert_eq!((result, &sent[..]), (Ok(()), &b"\0user\0pencil"[..]));
        assert!(Credentials::new("GSSAPI", "", "").is_err_and(|error| error.contains("SCRAM-SHA-512")));
    }
}
