//! Where a collection's records are: forty bytes for each, whatever its key.

use xxhash_rust::xxh3::xxh3_128;

use super::check::halves;
use crate::value::Key;

/// A record: the hash of its key, where it begins, the hash of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    key: [u64; 2],
    pub at: usize,
    text: [u64; 2],
}

impl Place {
    pub fn new(key: &Key, at: usize, text: &[u8]) -> Place {
        Place { key: halves(xxh3_128(&key.0)), at, text: halves(xxh3_128(text)) }
    }

    /// The hash of the record's text.
    pub fn hash(&self) -> u128 {
        u128::from(self.text[0]) << 64 | u128::from(self.text[1])
    }
}

/// The places of all records, by the hash of the key.
#[derive(Debug)]
pub struct Index(Vec<Place>);

impl Index {
    pub fn new(mut places: Vec<Place>) -> Index {
        places.sort_unstable();
        places.shrink_to_fit();
        Index(places)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn places(&self) -> &[Place] {
        &self.0
    }

    /// The places whose key has the hash of this one, by number: one at most, unless the file was made to have more.
    pub fn like(&self, key: &[u8]) -> std::ops::Range<usize> {
        let hash = halves(xxh3_128(key));
        let start = self.0.partition_point(|p| p.key < hash);
        start..start + self.0[start..].iter().take_while(|p| p.key == hash).count()
    }

    /// Places whose keys have one hash, each with those before it in the text.
    pub fn alike(&self) -> impl Iterator<Item = (&Place, &[Place])> {
        self.0.chunk_by(|a, b| a.key == b.key).flat_map(|same| (1..same.len()).map(move |i| (&same[i], &same[..i])))
    }

    /// Records that are not the same in both: the hash of the key, and each side's place.
    pub fn differences<'i>(&'i self, other: &'i Index) -> Vec<([u64; 2], Option<&'i Place>, Option<&'i Place>)> {
        let (mut old, mut new, mut out) = (self.0.iter().peekable(), other.0.iter().peekable(), Vec::new());
        loop {
            let (a, b) = (old.peek().map(|p| p.key), new.peek().map(|p| p.key));
            let Some(key) = a.into_iter().chain(b).min() else { return out };
            let (a, b) = (old.next_if(|p| p.key == key), new.next_if(|p| p.key == key));
            if a.map(|p| p.text) != b.map(|p| p.text) {
                out.push((key, a, b));
            }
        }
    }
}
