//! Where judgements and notes stand in the store, and the rows of preferences that judgements make. Never here: deciding what
//! may be judged (the dispatcher does).

use std::collections::BTreeMap;
use std::sync::Arc;

use hone_protocol::judgement::{Contender, JudgedSet, JudgementRecord};
use hone_protocol::note::NoteKind;
use serde_json::json;

use crate::store::{Store, StoreError, Table, codec, key};

/// The key of a judgement. A dataset's name holds no zero byte.
pub(crate) fn judgement_key(dataset: &str, seq: u64) -> Vec<u8> {
    key(&[dataset.as_bytes(), &[0], &seq.to_be_bytes()])
}

/// The key of a note; an empty name gives the prefix of all of a person's notes of a kind.
pub(crate) fn note_key(person: &str, kind: NoteKind, name: &str) -> Vec<u8> {
    key(&[person.replace('\0', "").as_bytes(), &[0], kind.word().as_bytes(), &[0], name.as_bytes()])
}

/// Judgements for a dataset whose number is in `from..until`, in order.
pub(crate) fn judgements(
    store: &Store,
    dataset: &str,
    from: u64,
    until: u64,
) -> Result<Vec<JudgementRecord>, StoreError> {
    let (from, to) = (judgement_key(dataset, from), judgement_key(dataset, until));
    codec::read_all(Table::Judgements, &store.range(Table::Judgements, &from, &to, false, usize::MAX)?)
}

/// At start: the judgements that no version has, and the rows that each will make.
pub(crate) fn unmade<'s>(
    store: &Store,
    sets: impl Iterator<Item = &'s Arc<JudgedSet>>,
) -> Result<BTreeMap<(String, u64), u64>, StoreError> {
    let mut unmade = BTreeMap::new();
    for set in sets {
        for record in judgements(store, &set.dataset, set.made_until, u64::MAX)? {
            unmade.insert((set.dataset.clone(), record.seq), record.judgement.pairs().len() as u64);
        }
    }
    Ok(unmade)
}

/// The rows of a judgement as lines of JSON: prompt, better and worse answer, and who gave both of them how.
pub(crate) fn lines(record: &JudgementRecord) -> String {
    let judgement = &record.judgement;
    let of = |contender: &Contender| {
        json!({
            "service": contender.service,
            "version": contender.version,
            "settings": contender.settings,
            "completion_tokens": contender.completion_tokens,
        })
    };
    let row = |(chosen, rejected): (&Contender, &Contender)| {
        let row = json!({
            "prompt": judgement.messages,
            "chosen": chosen.text,
            "rejected": rejected.text,
            "judged": {
                "seq": record.seq,
                "person": record.person,
                "at_ms": record.at_ms,
                "blind": judgement.blind,
                "chosen": of(chosen),
                "rejected": of(rejected),
            },
        });
        format!("{row}\n")
    };
    judgement.pairs().into_iter().map(row).collect()
}

/// The versions that were compared, for the lineage of what is made: each once, in the order of their first judgement.
pub(crate) fn versions(records: &[JudgementRecord]) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    for contender in records.iter().flat_map(|record| &record.judgement.contenders) {
        if !versions.contains(&contender.version) {
            versions.push(contender.version.clone());
        }
    }
    versions
}
