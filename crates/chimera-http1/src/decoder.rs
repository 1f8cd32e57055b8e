//! Where a message's body ends: by its length, by its last chunk, or with the connection.

use bytes::BytesMut;

/// Chunk extensions and trailers are skipped, and no more of them than this per message.
const MAX_SKIPPED: usize = 16 * 1024;

/// Chunks that cannot be read, or could be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not validly chunked")]
pub struct ChunkError;

/// Cuts the body of one message out of a connection's bytes (RFC 9112, sections 6 and 7).
///
/// It keeps its place between any two bytes, so that it does not matter how the message was cut up on
/// its way; and it is strict, because what two readers may take in two ways is how messages get mixed up.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// Chunks of stated length.
    Chunked(Chunks),
    /// Everything until the connection closes.
    UntilClose,
    /// The body is over.
    Ended,
}

/// A body in chunks: the place in it, and the bytes of extensions and trailers so far.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunks {
    at: At,
    skipped: usize,
}

/// The place in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a chunk's size, after so many digits.
    Size { size: u64, digits: u8 },
    /// Behind the size, before the end of its line.
    Extension { size: u64 },
    /// Between the two bytes that end the line of the size.
    SizeEnd { size: u64 },
    /// In a chunk's data; so many bytes are left.
    Data(u64),
    /// Before the two bytes that end a chunk.
    DataEnd,
    /// Between them.
    DataEndLine,
    /// At the beginning of a trailer's line.
    Trailer,
    /// In a trailer.
    InTrailer,
    /// Between the two bytes that end a trailer.
    TrailerEnd,
    /// Between the two bytes that end the body.
    Last,
    /// Behind them.
    Over,
}

impl Decoder {
    /// A body of so many bytes.
    pub fn length(length: u64) -> Self {
        if length == 0 { Self::Ended } else { Self::Length(length) }
    }

    /// A body in chunks.
    pub fn chunked() -> Self {
        Self::Chunked(Chunks { at: At::Size { size: 0, digits: 0 }, skipped: 0 })
    }

    /// Whether all of it has been taken.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended | Self::Chunked(Chunks { at: At::Over, .. }))
    }

    /// Whether there were chunk extensions or trailers, which are skipped: readers differ over them.
    pub fn has_skipped(&self) -> bool {
        matches!(self, Self::Chunked(Chunks { skipped: 1.., .. }))
    }

    /// Appends the body's part of `input` to `out` and says how many bytes it took: all of them, or
    /// those up to the body's end.
    pub fn decode(&mut self, input: &[u8], out: &mut BytesMut) -> Result<usize, ChunkError> {
        match self {
            Self::Ended => Ok(0),
            Self::UntilClose => {
                out.extend_from_slice(input);
                Ok(input.len())
            }
            Self::Length(left) => {
                let taken = take(left, input, out);
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(taken)
            }
            Self::Chunked(Chunks { at, skipped }) => chunks(at, skipped, input, out),
        }
    }
}

/// Moves up to `left` bytes.
fn take(left: &mut u64, input: &[u8], out: &mut BytesMut) -> usize {
    let taken = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    out.extend_from_slice(input.get(..taken).unwrap_or(input));
    *left -= taken as u64;
    taken
}

/// Decodes chunks; says how many bytes were taken.
fn chunks(at: &mut At, skipped: &mut usize, input: &[u8], out: &mut BytesMut) -> Result<usize, ChunkError> {
    let mut taken = 0;
    while *at != At::Over
        && let Some(rest) = input.get(taken..)
        && let Some(byte) = rest.first().copied()
    {
        if let At::Data(left) = at {
            taken += take(left, rest, out);
            if *left == 0 {
                *at = At::DataEnd;
            }
            continue;
        }
        taken += 1;
        if matches!(at, At::Extension { .. } | At::InTrailer) {
            *skipped += 1;
            if *skipped > MAX_SKIPPED {
                return Err(ChunkError);
            }
        }
        *at = step(*at, byte)?;
    }
    Ok(taken)
}

/// The place behind a byte of framing.
fn step(at: At, byte: u8) -> Result<At, ChunkError> {
    Ok(match (at, byte) {
        (At::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
            let digit = char::from(byte).to_digit(16).unwrap_or(0);
            At::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
        }
        (At::Size { size, digits: 1.. }, b'\r') => At::SizeEnd { size },
        (At::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => At::Extension { size },
        (At::Extension { size }, b'\r') => At::SizeEnd { size },
        (At::Extension { size }, byte) if byte != b'\n' => At::Extension { size },
        (At::SizeEnd { size: 0 }, b'\n') => At::Trailer,
        (At::SizeEnd { size }, b'\n') => At::Data(size),
        (At::DataEnd, b'\r') => At::DataEndLine,
        (At::DataEndLine, b'\n') => At::Size { size: 0, digits: 0 },
        (At::Trailer, b'\r') => At::Last,
        (At::InTrailer, b'\r') => At::TrailerEnd,
        (At::Trailer | At::InTrailer, byte) if byte != b'\n' => At::InTrailer,
        (At::TrailerEnd, b'\n') => At::Trailer,
        (At::Last, b'\n') => At::Over,
        _ => return Err(ChunkError),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes pieces one after the other: the body, and what was left behind its end.
    fn decoded(mut decoder: Decoder, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let (mut out, mut left) = (BytesMut::new(), 0);
        for piece in pieces {
            left += piece.len() - decoder.decode(piece, &mut out)?;
        }
        Ok((out.to_vec(), left, decoder.is_ended()))
    }

    #[test]
    fn a_length_is_kept_to_and_what_follows_is_left() {
        assert_eq!(decoded(Decoder::length(5), &[b"hel", b"lo!!"]).unwrap(), (b"hello".to_vec(), 2, true));
        assert_eq!(decoded(Decoder::length(5), &[b"hel"]).unwrap(), (b"hel".to_vec(), 0, false));
        assert_eq!(decoded(Decoder::length(0), &[b"x"]).unwrap(), (b"".to_vec(), 1, true));
        assert_eq!(decoded(Decoder::UntilClose, &[b"a", b"b"]).unwrap(), (b"ab".to_vec(), 0, false));
    }

    #[test]
    fn u21_chunks_are_the_same_however_they_were_cut() {
        let wire = b"5\r\nhello\r\n0A;name=value\r\n, world...\r\n0\r\nx-trailer: 1\r\ny: 2\r\n\r\n";
        let whole = (b"hello, world...".to_vec(), 0, true);
        for at in 0..wire.len() {
            let (one, two) = wire.split_at(at);
            assert_eq!(decoded(Decoder::chunked(), &[one, two]).unwrap(), whole, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(decoded(Decoder::chunked(), &bytes).unwrap(), whole);
        let followed = [&wire[..], b"HTTP/1.1"].concat();
        assert_eq!(decoded(Decoder::chunked(), &[&followed]).unwrap().1, 8);
    }

    #[test]
    fn u09_chunks_that_two_readers_could_read_in_two_ways_are_faults() {
        for wire in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"1_0\r\n",
            b" 5\r\n",
            b"5\nhello\r\n",
            b"5;a\nb\r\n",
            b"5\rhello",
            b"5\r\nhello!\r\n",
            b"5\r\nhello\n",
            b"5\r\nhello\r0\r\n\r\n",
            b"12345678901234567\r\n",
            b"0\r\n\n",
            b"0\r\n\rx",
            b"0\r\na: b\n\r\n",
        ] {
            assert!(decoded(Decoder::chunked(), &[wire]).is_err(), "{}", wire.escape_ascii());
        }
        let endless = [b"5;".to_vec(), vec![b'x'; MAX_SKIPPED + 1]].concat();
        assert!(decoded(Decoder::chunked(), &[&endless]).is_err());
        let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(MAX_SKIPPED)].concat();
        assert!(decoded(Decoder::chunked(), &[&trailers]).is_err());
    }

    proptest! {
        #[test]
        fn u21_any_chunks_cut_anywhere_are_the_body(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(1_usize..9, 1..60),
        ) {
            let mut wire = Vec::new();
            for part in &parts {
                wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                wire.extend_from_slice(part);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let (mut pieces, mut rest) = (Vec::new(), &wire[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(decoded(Decoder::chunked(), &pieces).unwrap(), (parts.concat(), 0, true));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decoded(Decoder::chunked(), &[&bytes]);
            let _ = decoded(Decoder::length(7), &[&bytes]);
        }
    }
}
