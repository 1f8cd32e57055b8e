//! Values and keys as bytes, for tiers outside of the process.

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;

use crate::purge::Labels;

/// How keys and values are written and read.
///
/// What was written must be read back as the same; what was not written by this codec may be read as
/// `None`, and must not be read as something else.
pub trait Codec<K, V>: Labels<K, V> {
    /// The key that [`write_key`](Labels::write_key) wrote.
    fn read_key(&self, bytes: &[u8]) -> Option<K>;

    /// Appends the value as bytes.
    fn write_value(&self, value: &V, out: &mut Vec<u8>);

    /// The value that [`write_value`](Self::write_value) wrote. The bytes are its own: slices of them may be kept, and
    /// hold no buffer that they were read into.
    fn read_value(&self, bytes: Bytes) -> Option<V>;
}

/// A codec of any kind.
pub type SharedCodec<K, V> = Arc<dyn Codec<K, V>>;

/// Keys that are text and values that are bytes. The scope of a key is what stands before its first
/// colon, if there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextCodec<V>(PhantomData<fn() -> V>);

impl<V> TextCodec<V> {
    /// The codec.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<V: 'static> Labels<String, V> for TextCodec<V> {
    fn write_key(&self, key: &String, out: &mut Vec<u8>) {
        out.extend_from_slice(key.as_bytes());
    }

    fn scope<'a>(&self, key: &'a String, _: &'a V) -> Option<&'a str> {
        key.split_once(':').map(|(scope, _)| scope)
    }
}

impl<V> Codec<String, V> for TextCodec<V>
where
    V: AsRef<[u8]> + From<Vec<u8>> + 'static,
{
    fn read_key(&self, bytes: &[u8]) -> Option<String> {
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }

    fn write_value(&self, value: &V, out: &mut Vec<u8>) {
        out.extend_from_slice(value.as_ref());
    }

    fn read_value(&self, bytes: Bytes) -> Option<V> {
        Some(Vec::from(bytes).into())
    }
}
