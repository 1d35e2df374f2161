//! The bytes of a resource, in pieces that successive versions share.
//!
//! A RouteConfiguration of ten thousand hosts is megabytes. A change of one route replaces one piece of some kilobytes
//! and its hash; the rest is shared with the version before. How a message is cut must be a function of its content, so
//! that equal content has the same version in every replica and after every restart.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_128;

use super::Version;

/// A run of bytes, and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    bytes: Bytes,
    hash: u128,
}

impl Piece {
    /// A piece of these bytes.
    pub fn new(bytes: Bytes) -> Self {
        Self { hash: xxh3_128(&bytes), bytes }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// An encoded message: the concatenation of its pieces. Cloning it copies no bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    version: Version,
    len: usize,
    pieces: Arc<[Bytes]>,
}

impl Body {
    /// A message from its pieces in order.
    pub fn new<'a>(pieces: impl IntoIterator<Item = &'a Piece>) -> Self {
        let pieces: Vec<&Piece> = pieces.into_iter().collect();
        let hash = match pieces.as_slice() {
            [one] => one.hash,
            many => {
                let hashes: Vec<u8> = many.iter().flat_map(|piece| piece.hash.to_le_bytes()).collect();
                xxh3_128(&hashes)
            }
        };
        Self {
            len: pieces.iter().map(|piece| piece.bytes.len()).sum(),
            version: Version::of_hash(hash),
            pieces: pieces.into_iter().map(|piece| piece.bytes.clone()).collect(),
        }
    }

    /// The version of its content.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its pieces in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// All bytes, one after the other. Copies them if there are several pieces.
    pub fn to_bytes(&self) -> Bytes {
        if let [one] = &*self.pieces {
            return one.clone();
        }
        let mut bytes = BytesMut::with_capacity(self.len);
        for piece in &*self.pieces {
            bytes.extend_from_slice(piece);
        }
        bytes.freeze()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::new([&Piece::new(bytes)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &'static str) -> Piece {
        Piece::new(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_body_is_its_pieces_in_order() {
        let body = Body::new(&[piece("ab"), piece(""), piece("c")]);
        assert_eq!((&*body.to_bytes(), body.len()), (&b"abc"[..], 3));
        assert!(Body::new([]).to_bytes().is_empty());
    }

    #[test]
    fn a_body_of_one_piece_has_the_version_of_its_bytes() {
        assert_eq!(Body::from(Bytes::from_static(b"abc")).version(), Version::of(b"abc"));
    }

    #[test]
    fn every_piece_and_its_place_count() {
        let version = |pieces: &[&'static str]| {
            let pieces: Vec<Piece> = pieces.iter().map(|text| piece(text)).collect();
            Body::new(&pieces).version()
        };
        assert_eq!(version(&["a", "b"]), version(&["a", "b"]));
        assert_ne!(version(&["a", "b"]), version(&["b", "a"]));
        assert_ne!(version(&["a", "b"]), version(&["a", "c"]));
        assert_ne!(version(&["a", "b"]), version(&["a", "b", ""]));
    }
}
