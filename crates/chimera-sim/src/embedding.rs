//! Embeddings that mean a little: texts that share words point in similar directions.

use crate::answer::{hash, mix};

/// No embedding is longer than this, whatever a request says.
pub(crate) const MAX_DIMENSIONS: usize = 8192;

/// A unit vector for `text`: the sum of one pseudo-random direction per word.
pub(crate) fn embed(text: &str, dimensions: usize, seed: u64) -> Vec<f32> {
    let dimensions = dimensions.clamp(1, MAX_DIMENSIONS);
    let mut vector = vec![0f32; dimensions];
    // The whole text adds a small direction of its own, so that no two texts coincide.
    add(&mut vector, hash(text.as_bytes()) ^ seed, 0.25);
    for word in text.split_whitespace().take(2048) {
        add(&mut vector, hash(word.to_lowercase().as_bytes()) ^ seed, 1.0);
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}

fn add(vector: &mut [f32], seed: u64, weight: f32) {
    for (x, index) in vector.iter_mut().zip(0u64..) {
        let bits = (mix(seed.wrapping_add(index)) >> 40) as f32;
        *x += weight * (bits / (1u32 << 23) as f32 - 1.0);
    }
}

/// Little-endian floats in base64, as OpenAI's SDK asks for by default.
pub(crate) fn base64(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let letter = ALPHABET.get(digit as usize).copied().unwrap_or(b'A');
            text.push(if place <= group.len() { letter as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn vectors_have_unit_length_and_shared_words_bring_them_closer() {
        let [a, b, c] =
            ["the red fox runs", "the red fox sleeps", "quarterly tax form"].map(|text| embed(text, 256, 7));
        assert!((dot(&a, &a) - 1.0).abs() < 1e-4);
        assert!(dot(&a, &b) > dot(&a, &c) + 0.3);
    }

    #[test]
    fn base64_pads_as_it_should() {
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, 2.0, 3.0]), "AACAPwAAAEAAAEBA");
    }
}
