//! Base64, for HTTP basic authentication and Kafka's cluster id.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(alphabet: &[u8; 64], bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().chain([0, 0].iter()).take(3).fold(0_u32, |w, b| (w << 8) | u32::from(*b));
        for i in 0..=chunk.len() as u32 {
            let sextet = (word >> (18 - 6 * i)) & 63;
            out.extend(alphabet.get(sextet as usize).map(|b| char::from(*b)));
        }
    }
    out
}

/// RFC 4648 section 4, padded.
pub fn standard(bytes: &[u8]) -> String {
    let mut out = encode(STANDARD, bytes);
    while !out.len().is_multiple_of(4) {
        out.push('=');
    }
    out
}

/// RFC 4648 section 5, without padding: what Kafka's `Uuid` prints.
pub fn url_safe(bytes: &[u8]) -> String {
    encode(URL_SAFE, bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_rfc_4648() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(super::standard(plain.as_bytes()), encoded);
        }
        assert_eq!(super::url_safe(&[0xff, 0xfe]), "__4");
        assert_eq!(super::url_safe(&[0; 16]).len(), 22);
    }
}
