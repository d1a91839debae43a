//! Labelling: where projects, labels and suggestions stand in the store, who works on which row (`desk.rs`), what each has said
//! (`said.rs`), whether a decision fits (`values.rs`), how far persons agree (`agreement.rs`), and what rows become of labels
//! (`made.rs`). Never here: writing to the store (the dispatcher does), the bytes of rows (a child has them).

pub(crate) mod agreement;
pub(crate) mod desk;
pub(crate) mod made;
mod said;
pub(crate) mod values;

use std::collections::BTreeMap;

use hone_protocol::labelling::{LabelRecord, Suggestion};
use hone_protocol::wire;

use crate::state::State;
use crate::store::{Store, StoreError, Table, after, codec, key};
use desk::Desk;

/// The key of a label. A name holds no zero byte.
pub(crate) fn label_key(project: &str, seq: u64) -> Vec<u8> {
    key(&[project.as_bytes(), &[0], &seq.to_be_bytes()])
}

/// The key of a suggestion.
pub(crate) fn suggestion_key(project: &str, row_id: u64) -> Vec<u8> {
    key(&[project.as_bytes(), &[0], &row_id.to_be_bytes()])
}

/// The prefix of all labels, or all suggestions, of a project.
pub(crate) fn prefix(project: &str) -> Vec<u8> {
    key(&[project.as_bytes(), &[0]])
}

/// All labels of a project in order, those that were taken back included.
pub(crate) fn labels(store: &Store, project: &str) -> Result<Vec<LabelRecord>, StoreError> {
    let mut labels: Vec<LabelRecord> = codec::read_all(Table::Labels, &store.prefix(Table::Labels, &prefix(project))?)?;
    for (key, value) in store.prefix(Table::LabelsBack, &prefix(project))? {
        let seq = key.last_chunk().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        if let Ok(at) = labels.binary_search_by_key(&seq, |label| label.seq) {
            labels[at].taken_back_at_ms = Some(codec::read(Table::LabelsBack, &key, &value)?);
        }
    }
    Ok(labels)
}

/// Labels below a number, the newest first, that a filter lets through.
pub(crate) fn newest(
    store: &Store,
    project: &str,
    before: Option<u64>,
    count: usize,
    wanted: impl Fn(&LabelRecord) -> bool,
) -> Result<Vec<LabelRecord>, StoreError> {
    /// Labels that are read at once.
    const PAGE: usize = 1000;
    /// Most bytes of an answer, so that it fits into a frame.
    const PAGE_BYTES: usize = 8 << 20;
    let from = prefix(project);
    let mut to = before.map_or_else(|| after(&from), |before| label_key(project, before));
    let mut found = Vec::new();
    let mut bytes = 0;
    loop {
        let pairs = store.range(Table::Labels, &from, &to, true, PAGE)?;
        let Some((last, _)) = pairs.last() else { return Ok(found) };
        to.clone_from(last);
        for mut record in codec::read_all::<LabelRecord>(Table::Labels, &pairs)? {
            if found.len() == count || bytes > PAGE_BYTES {
                return Ok(found);
            }
            let key = label_key(project, record.seq);
            if let Some(value) = store.get(Table::LabelsBack, &key)? {
                record.taken_back_at_ms = Some(codec::read(Table::LabelsBack, &key, &value)?);
            }
            if wanted(&record) {
                bytes += wire::encode(&record).len();
                found.push(record);
            }
        }
    }
}

/// At start: the desks of all projects.
pub(crate) fn desks(state: &State, store: &Store) -> Result<BTreeMap<String, Desk>, StoreError> {
    let mut desks = BTreeMap::new();
    for (name, project) in state.projects.iter() {
        let chosen = match project.is_chosen {
            true => match store.get(Table::ProjectRows, name.as_bytes())? {
                Some(value) => Some(codec::read(Table::ProjectRows, name.as_bytes(), &value)?),
                None => Some(Vec::new()),
            },
            false => None,
        };
        let mut desk = Desk::new(&project.spec, state.rows_of(&project.spec.dataset), chosen);
        for suggestion in
            codec::read_all::<Suggestion>(Table::Suggestions, &store.prefix(Table::Suggestions, &prefix(name))?)?
        {
            desk.suggest(&suggestion);
        }
        for record in labels(store, name)? {
            desk.remember(&record);
        }
        desks.insert(name.clone(), desk);
    }
    Ok(desks)
}

impl State {
    /// The ids of the rows of a version, as first id and number of each segment; none where it is not there.
    pub(crate) fn rows_of(&self, dataset: &str) -> Vec<(u64, u64)> {
        let version = self.any_dataset_version(dataset);
        version.map_or_else(
            |_| Vec::new(),
            |version| version.segments.iter().map(|segment| (segment.first_row_id, segment.rows)).collect(),
        )
    }
}

/// A project for tests: rows in order, judged once.
#[cfg(test)]
pub(crate) fn sample_spec(task: hone_protocol::labelling::Task) -> hone_protocol::labelling::ProjectSpec {
    hone_protocol::labelling::ProjectSpec {
        title: String::new(),
        dataset: "chats@1".into(),
        standard: None,
        question: String::new(),
        task,
        guide: String::new(),
        order: hone_protocol::labelling::Order::File,
        seed: 0,
        repeat_percent: 0,
        persons: 1,
        rows_max: 0,
    }
}
