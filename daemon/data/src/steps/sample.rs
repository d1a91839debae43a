//! The step that draws rows. Lives here: which stay. Never here: splits (see `hone_protocol::dataset::Split`).
//!
//! Each row has a number between 0 and 1 from seed and id alone: the same seed draws the same rows, in any order and on any machine.

use std::collections::HashMap;

use hone_protocol::failure::Failure;
use hone_protocol::recipe::Settings;
use serde_json::Value;

use super::filters::shown;
use super::item::{Item, Of, Why};
use super::language::language;
use super::{Built, Dropped, Rows, SetStep};
use crate::ordered::{ordered, threads};

pub(super) fn sample(settings: &Settings) -> Result<Built, Failure> {
    let how = settings.text("how").to_owned();
    let by = settings.text("by").to_owned();
    if matches!(how.as_str(), "stratified" | "weighted") && by.is_empty() {
        return Err(Failure::field("by", format!("a {how} sample needs the name of a field in `by`")));
    }
    let (rows, percent, seed) = (settings.whole("rows"), settings.real("percent"), settings.whole("seed"));
    Ok(Built::set(Sample { how, by, rows, percent, seed }))
}

struct Sample {
    how: String,
    by: String,
    rows: u64,
    percent: f64,
    seed: u64,
}

/// A row as it is drawn.
struct Lot {
    index: u64,
    row_id: u64,
    stratum: String,
    /// Lowest first.
    order: f64,
}

/// SplitMix64 over seed and id, as a number above 0 and up to 1.
fn drawn(seed: u64, row_id: u64) -> f64 {
    let mut z = seed
        .wrapping_mul(0xd134_2543_de82_ef95)
        .wrapping_add(row_id.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + f64::MIN_POSITIVE
}

impl Sample {
    fn lot(&self, item: &Item) -> Lot {
        let random = drawn(self.seed, item.row_id);
        let (stratum, order) = match self.how.as_str() {
            "first" => (String::new(), item.index as f64),
            "stratified" => (self.stratum(item), random),
            // Efraimidis and Spirakis: the largest of u^(1/w) are a sample without putting back; here -ln(u)/w, lowest first.
            "weighted" => {
                let weight = item.field(&self.by).and_then(|value| match &value {
                    Value::Number(number) => number.as_f64(),
                    Value::String(text) => text.trim().parse().ok(),
                    _ => None,
                });
                let weight = weight.filter(|weight| weight.is_finite() && *weight > 0.0);
                (String::new(), weight.map_or(f64::INFINITY, |weight| -random.ln() / weight))
            }
            _ => (String::new(), random),
        };
        Lot { index: item.index, row_id: item.row_id, stratum, order }
    }

    fn stratum(&self, item: &Item) -> String {
        match self.by.as_str() {
            "language" => language(&item.text(Of::Row)).map_or("?", |(code, _)| code).to_owned(),
            "turns" => item.messages.iter().filter(|message| message.role != "system").count().to_string(),
            path => item.field(path).as_ref().map_or(String::new(), shown),
        }
    }
}

impl SetStep for Sample {
    fn decide(&self, rows: &dyn Rows, progress: &mut dyn FnMut(u64)) -> Result<Vec<Dropped>, Failure> {
        let mut strata: HashMap<String, Vec<Lot>> = HashMap::new();
        let lots = |chunk| Ok(rows.read(chunk)?.iter().map(|item| self.lot(item)).collect::<Vec<_>>());
        ordered(0..rows.chunks(), threads(), lots, |lots| {
            for mut lot in lots {
                progress(lot.index);
                strata.entry(std::mem::take(&mut lot.stratum)).or_default().push(lot);
            }
            Ok(())
        })?;
        let mut dropped = Vec::new();
        for (stratum, mut lots) in strata {
            let wanted = match self.rows {
                0 => (lots.len() as f64 * self.percent / 100.0).round() as u64,
                rows => rows,
            };
            lots.sort_by(|one, two| one.order.total_cmp(&two.order).then(one.index.cmp(&two.index)));
            for (rank, lot) in (0..).zip(&lots) {
                // What weighs nothing is never drawn.
                if rank >= wanted || lot.order == f64::INFINITY {
                    let why = Why::new("not_drawn", rank as f64, wanted as f64).of(stratum.clone());
                    dropped.push(Dropped { index: lot.index, row_id: lot.row_id, why });
                }
            }
        }
        dropped.sort_by_key(|one| one.index);
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::chat;
    use super::super::tests::decided;
    use super::*;

    fn rows(count: u64) -> Vec<Item> {
        let of = |n: u64| {
            let mut item = chat(&[("text", "t")]);
            (item.index, item.row_id) = (n, n * 3);
            item.original =
                format!(r#"{{"text":"t","kind":"{}","weight":{}}}"#, n % 4, if n.is_multiple_of(2) { 0 } else { n });
            item
        };
        (0..count).map(of).collect()
    }

    #[test]
    fn as_many_stay_as_were_wanted() {
        assert_eq!(decided("sample", &[("rows", "30")], rows(100), &[]).len(), 70);
        assert_eq!(decided("sample", &[("percent", "25")], rows(100), &[]).len(), 75);
        assert_eq!(decided("sample", &[("rows", "500")], rows(100), &[]).len(), 0);
        let first = decided("sample", &[("how", "first"), ("rows", "2")], rows(4), &[]);
        assert_eq!(first, ["6 not_drawn ", "9 not_drawn "]);
        let strata = decided("sample", &[("how", "stratified"), ("rows", "5"), ("by", "kind")], rows(100), &[]);
        assert_eq!(strata.len(), 80);
        for kind in 0..4 {
            assert_eq!(strata.iter().filter(|said| said.ends_with(&format!("not_drawn {kind}"))).count(), 20);
        }
        // Half of the rows weigh nothing.
        assert_eq!(
            decided("sample", &[("how", "weighted"), ("rows", "80"), ("by", "weight")], rows(100), &[]).len(),
            50
        );
    }

    #[test]
    fn the_seed_decides_and_heavy_rows_come_more_often() {
        let of = |seed: &str| decided("sample", &[("rows", "50"), ("seed", seed)], rows(100), &[]);
        assert_eq!(of("1"), of("1"));
        assert_ne!(of("1"), of("2"));
        let mut light = 0;
        for seed in 0..30 {
            let gone = decided(
                "sample",
                &[("how", "weighted"), ("rows", "25"), ("by", "weight"), ("seed", &seed.to_string())],
                rows(100),
                &[],
            );
            light += gone.iter().filter(|said| said.split(' ').next().unwrap().parse::<u64>().unwrap() < 150).count();
        }
        // Of each half of the ids 25 rows weigh something; of 25 that go besides, the lighter half has far more.
        assert!(light > 30 * (25 + 16), "{light}");
    }
}
