//! New datasets out of rows that are there: a mixture of several by weight, and the parts of one. Never here: which row goes where (the
//! daemon's child decides).

use serde::{Deserialize, Serialize};

/// Versions that one mixture is made of.
pub const MIX_SOURCES_MAX: usize = 32;
/// Parts of one split.
pub const SPLIT_PARTS_MAX: usize = 8;
/// Largest weight of a source.
pub const WEIGHT_MAX: u32 = 10_000;

/// Rows of several versions, by weight, become one. The same seed chooses the same rows, and each keeps its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixSpec {
    /// What it is made of.
    pub sources: Vec<MixSource>,
    /// Name of the dataset to add a version to; made if it is not there.
    pub name: String,
    /// Rows in all; 0 for as many as the weights allow without taking a row twice.
    pub rows: u64,
    /// Another seed, other rows.
    pub seed: u64,
}

/// One of the versions of a mixture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixSource {
    /// `name` or `name@number`.
    pub dataset: String,
    /// Its share beside those of the others, from 1.
    pub weight: u32,
}

/// The rows of a version become several datasets. Rows that differ only in case, signs and white space stay together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitSpec {
    /// `name` or `name@number`.
    pub dataset: String,
    /// The parts; their shares are 100 percent together.
    pub parts: Vec<SplitPart>,
    /// Another seed, another split.
    pub seed: u64,
}

/// One part of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPart {
    /// Name of the dataset to add a version to; made if it is not there.
    pub name: String,
    /// Its share of the rows.
    pub percent: u32,
}

impl MixSpec {
    /// Rows that each source gives, where it has so many; how many a source lacks is told by its place.
    pub fn shares(&self, there: &[u64]) -> Result<Vec<u64>, usize> {
        let weights: u128 = self.sources.iter().map(|source| u128::from(source.weight)).sum();
        let share = |rows: u64, weight: u32| (u128::from(rows) * u128::from(weight) / weights.max(1)) as u64;
        let whole = |(source, rows): (&MixSource, &u64)| {
            (u128::from(*rows) * weights / u128::from(source.weight.max(1))) as u64
        };
        let rows = match self.rows {
            0 => self.sources.iter().zip(there).map(whole).min().unwrap_or(0),
            rows => rows,
        };
        let shares: Vec<u64> = self.sources.iter().map(|source| share(rows, source.weight)).collect();
        match shares.iter().zip(there).position(|(share, there)| share > there) {
            Some(lacking) => Err(lacking),
            None => Ok(shares),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(weights: &[u32], rows: u64) -> MixSpec {
        let source = |weight: &u32| MixSource { dataset: "a".into(), weight: *weight };
        MixSpec { sources: weights.iter().map(source).collect(), name: "m".into(), rows, seed: 1 }
    }

    #[test]
    fn shares_follow_weights_and_never_take_a_row_twice() {
        assert_eq!(mix(&[3, 1], 0).shares(&[300, 1000]), Ok(vec![300, 100]));
        assert_eq!(mix(&[3, 1], 0).shares(&[1000, 10]), Ok(vec![30, 10]));
        assert_eq!(mix(&[1, 1], 50).shares(&[100, 100]), Ok(vec![25, 25]));
        assert_eq!(mix(&[1, 1], 500).shares(&[300, 100]), Err(1));
        assert_eq!(mix(&[], 5).shares(&[]), Ok(Vec::new()));
    }
}
