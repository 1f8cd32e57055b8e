//! Content encodings for the caller: negotiation by q-value, and the encoders.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

/// An encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Encoding {
    Brotli,
    Zstd,
    Gzip,
}

/// Brotli's quality: 5 is where the curve of size over time bends for JSON of some kilobytes.
const BROTLI_QUALITY: u32 = 5;
const BROTLI_WINDOW: u32 = 22;
const ZSTD_LEVEL: i32 = 3;

impl Encoding {
    pub(crate) const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }

    /// Encodes a body.
    pub(crate) fn encode(self, body: &[u8]) -> io::Result<Vec<u8>> {
        let out = Vec::with_capacity(body.len() / 3);
        Ok(match self {
            Self::Brotli => {
                let mut writer = brotli::CompressorWriter::new(out, 4096, BROTLI_QUALITY, BROTLI_WINDOW);
                writer.write_all(body)?;
                writer.into_inner()
            }
            Self::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL)?,
            Self::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                writer.write_all(body)?;
                writer.finish()?
            }
        })
    }
}

/// Brotli's quality and window for streams, whose encoders live for minutes: 64 KiB of window each.
const STREAM_BROTLI: (u32, u32) = (4, 16);

/// Encodes a stream piece by piece; each piece can be decoded when it has arrived.
pub(crate) enum StreamEncoder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl StreamEncoder {
    pub(crate) fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Brotli => {
                let (quality, window) = STREAM_BROTLI;
                Self::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), 4096, quality, window)))
            }
            Encoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1)?;
                encoder.window_log(16)?;
                Self::Zstd(encoder)
            }
            Encoding::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()))
            }
        })
    }

    /// One piece, encoded and flushed.
    pub(crate) fn push(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let out = match self {
            Self::Brotli(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }

    /// What ends the encoded stream.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Gzip(encoder) => encoder.finish()?,
        }
        .into())
    }
}

/// The encoding to answer with: the highest q-value that is not zero; between equals brotli, then
/// zstd, then gzip. `None` is identity: where it is named with a higher value than the others, and
/// where the header cannot be read.
pub(crate) fn negotiate(headers: &HeaderMap) -> Option<Encoding> {
    let mut weights = [None::<u16>; 3];
    let (mut any, mut identity) = (None, 0);
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for item in value.to_str().ok()?.split(',') {
            let mut parts = item.split(';');
            let name = parts.next().unwrap_or("").trim();
            let weight = parts.find_map(quality).map_or(Some(1000), thousandths)?;
            if name == "*" {
                any = Some(weight);
            } else if name.eq_ignore_ascii_case("identity") {
                identity = weight;
            } else if let Some(index) =
                Encoding::ALL.iter().position(|encoding| name.eq_ignore_ascii_case(encoding.as_str()))
                && let Some(slot) = weights.get_mut(index)
            {
                *slot = Some(weight);
            }
        }
    }
    Encoding::ALL
        .into_iter()
        .zip(weights)
        .filter_map(|(encoding, weight)| Some((encoding, weight.or(any)?)))
        .filter(|(_, weight)| *weight > 0 && *weight >= identity)
        .rev()
        .max_by_key(|(_, weight)| *weight)
        .map(|(encoding, _)| encoding)
}

/// The text of a `q=` parameter.
fn quality(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("q").then_some(value)
}

/// How many times its size a compressed answer may grow when it is decoded: more is a bomb.
const MAX_RATIO: usize = 100;

/// Decodes an answer that a provider compressed unasked, under a cap on bytes and on the ratio.
pub(crate) fn decode(encoding: &HeaderValue, body: &[u8], max: usize) -> Option<Bytes> {
    let limit = max.min(body.len().saturating_mul(MAX_RATIO));
    let mut plain = Vec::new();
    let source: Box<dyn io::Read + '_> = match encoding.as_bytes().to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        b"br" => Box::new(brotli::Decompressor::new(body, 4096)),
        b"zstd" => Box::new(zstd::stream::read::Decoder::new(body).ok()?),
        _ => return None,
    };
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    source.take(most).read_to_end(&mut plain).ok()?;
    (plain.len() <= limit).then(|| plain.into_boxed_slice().into())
}

/// A q-value in thousandths: at most 1, at most three digits.
fn thousandths(text: &str) -> Option<u16> {
    let value: f32 = text.trim().parse().ok()?;
    (0.0..=1.0).contains(&value).then_some((value * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, accept.parse().unwrap());
        negotiate(&headers).map(Encoding::as_str)
    }

    #[test]
    fn the_highest_weight_wins_and_zero_refuses() {
        assert_eq!(chosen("gzip, deflate, br, zstd"), Some("br"));
        assert_eq!(chosen("gzip;q=1.0, br;q=0.5"), Some("gzip"));
        assert_eq!(chosen("br;q=0, gzip;q=0.1"), Some("gzip"));
        assert_eq!(chosen("*;q=0.3, br;q=0"), Some("zstd"));
        assert_eq!(chosen("identity"), None);
        assert_eq!(chosen("*;q=0"), None);
        assert_eq!(chosen("GZIP"), Some("gzip"));
        assert_eq!(chosen("br;q=2"), None);
        assert_eq!(chosen("br;q=x"), None);
        assert_eq!(negotiate(&HeaderMap::new()), None);
        assert_eq!(chosen("identity;q=1, br;q=0.5"), None, "identity is an encoding like others");
        assert_eq!(chosen("identity;q=0.5, br;q=0.6"), Some("br"));
        assert_eq!(chosen("identity, gzip"), Some("gzip"));
        assert_eq!(chosen("br;Q=0.2, gzip"), Some("gzip"));
    }

    /// Prose of a chat answer, seeded, not repeated as a whole.
    fn chat_answer() -> Vec<u8> {
        const WORDS: [&str; 48] = [
            "the",
            "gateway",
            "answers",
            "a",
            "request",
            "from",
            "its",
            "cache",
            "when",
            "it",
            "has",
            "seen",
            "same",
            "prompt",
            "before",
            "and",
            "otherwise",
            "asks",
            "provider",
            "that",
            "is",
            "healthy",
            "which",
            "means",
            "latency",
            "stays",
            "low",
            "while",
            "cost",
            "of",
            "tokens",
            "falls",
            "for",
            "every",
            "tenant",
            "in",
            "example",
            "code",
            "below",
            "function",
            "returns",
            "value",
            "error",
            "case",
            "list",
            "table",
            "between",
            "model",
        ];
        let mut seed = 7_u64;
        let mut text = String::new();
        while text.len() < 7_900 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(WORDS[(seed >> 33) as usize % WORDS.len()]);
            text.push(if seed.is_multiple_of(13) { '.' } else { ' ' });
        }
        serde_json::to_vec(&serde_json::json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 1500, "total_tokens": 1510},
        })).unwrap()
    }

    #[test]
    fn an_8_kb_answer_shrinks_by_70_percent_and_comes_back_whole() {
        let answer = chat_answer();
        assert!(answer.len() > 8_000);
        for encoding in Encoding::ALL {
            let encoded = encoding.encode(&answer).unwrap();
            assert!(encoded.len() * 10 <= answer.len() * 3, "{encoding:?}: {}", encoded.len());
            let mut decoded = Vec::new();
            match encoding {
                Encoding::Brotli => {
                    brotli::Decompressor::new(&encoded[..], 4096).read_to_end(&mut decoded).unwrap();
                }
                Encoding::Zstd => decoded = zstd::bulk::decompress(&encoded, 1 << 20).unwrap(),
                Encoding::Gzip => {
                    flate2::read::GzDecoder::new(&encoded[..]).read_to_end(&mut decoded).unwrap();
                }
            }
            assert_eq!(decoded, answer);
        }
    }

    #[test]
    fn u20_a_bomb_is_cut_by_ratio_and_by_size() {
        for encoding in Encoding::ALL {
            let name = encoding.header();
            let bomb = encoding.encode(&vec![b' '; 10 << 20]).unwrap();
            assert!(bomb.len() * MAX_RATIO < 10 << 20, "{encoding:?}: {}", bomb.len());
            assert_eq!(decode(&name, &bomb, 64 << 20), None, "{encoding:?}: by ratio");
            let honest = encoding.encode(&chat_answer()).unwrap();
            assert_eq!(decode(&name, &honest, 64 << 20).unwrap(), chat_answer());
            assert_eq!(decode(&name, &honest, 100), None, "{encoding:?}: by size");
            assert_eq!(decode(&name, &honest, chat_answer().len() - 1), None);
            assert_eq!(decode(&name, b"nothing of the kind", 1 << 20), None);
            assert_eq!(decode(&HeaderValue::from_static("deflate"), &honest, 1 << 20), None);
        }
    }
}
