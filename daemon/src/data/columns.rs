//! Rows as Arrow columns, and back.
//! Lives here: the schema of a segment. Never here: files.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, StructArray, UInt64Array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use hone_protocol::dataset::{ChatMessage, Row};
use hone_protocol::value::{Hash, Json};

use super::format::Turn;

/// The version of the segment format, in the schema's metadata. A reader refuses another.
const FORMAT_KEY: &str = "hone.segment";
const FORMAT_VERSION: &str = "1";

fn message_fields() -> Fields {
    Fields::from(vec![Field::new("role", DataType::Utf8, false), Field::new("content", DataType::Utf8, false)])
}

fn message_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(message_fields()), false))
}

/// `row_id: u64`, `content_sha256: 32 bytes`, `messages: [{role, content}]`, `original: JSON text`; no nulls.
pub(super) fn schema() -> SchemaRef {
    let fields = vec![
        Field::new("row_id", DataType::UInt64, false),
        Field::new("content_sha256", DataType::FixedSizeBinary(32), false),
        Field::new("messages", DataType::List(message_item()), false),
        Field::new("original", DataType::Utf8, false),
    ];
    Arc::new(Schema::new_with_metadata(fields, HashMap::from([(FORMAT_KEY.to_owned(), FORMAT_VERSION.to_owned())])))
}

/// Texts of one column, end to end, with the end of each. Ends fit 32 bits: a batch holds at most
/// `BATCH_BYTES_MAX` and one line.
#[derive(Debug)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Default for Texts {
    fn default() -> Texts {
        Texts { bytes: Vec::new(), ends: vec![0] }
    }
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(i32::try_from(self.bytes.len()).expect("a batch is cut long before 2 GiB"));
    }

    fn take(&mut self) -> Result<StringArray, ArrowError> {
        let texts = std::mem::take(self);
        StringArray::try_new(offsets(texts.ends), Buffer::from_vec(texts.bytes), None)
    }
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(ends))
}

/// Rows on their way into a batch.
#[derive(Debug)]
pub(super) struct Columns {
    rows: usize,
    hashes: Vec<u8>,
    message_ends: Vec<i32>,
    roles: Texts,
    contents: Texts,
    originals: Texts,
}

impl Default for Columns {
    fn default() -> Columns {
        Columns {
            rows: 0,
            hashes: Vec::new(),
            message_ends: vec![0],
            roles: Texts::default(),
            contents: Texts::default(),
            originals: Texts::default(),
        }
    }
}

impl Columns {
    /// Adds the messages of a row. Its original must follow.
    pub(super) fn push_messages(&mut self, turns: &[Turn<'_>], content_sha256: &[u8; 32]) {
        for turn in turns {
            self.roles.push(turn.role.word());
            self.contents.push(&turn.content);
        }
        self.message_ends.push(self.contents.ends.len() as i32 - 1);
        self.hashes.extend_from_slice(content_sha256);
    }

    /// Adds the original of the row whose messages were added last.
    pub(super) fn push_original(&mut self, original: &str) {
        self.originals.push(original);
        self.rows += 1;
    }

    /// The same without a copy, for the first row of a batch.
    pub(super) fn take_original(&mut self, original: String) {
        debug_assert!(self.originals.bytes.is_empty(), "only the first original can be taken over");
        self.originals.bytes = original.into_bytes();
        self.push_original("");
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes so far, before compression.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.roles.bytes.len() + self.contents.bytes.len() + self.originals.bytes.len();
        texts + self.hashes.len() + 8 * self.rows + 4 * (self.contents.ends.len() * 2 + self.rows * 2)
    }

    /// Makes a batch of the rows, the first of them with that id, and begins anew.
    pub(super) fn take(&mut self, first_row_id: u64) -> Result<RecordBatch, ArrowError> {
        let ids = UInt64Array::from_iter_values(first_row_id..first_row_id + self.rows as u64);
        let hashes = FixedSizeBinaryArray::try_new(32, Buffer::from_vec(std::mem::take(&mut self.hashes)), None)?;
        let parts: Vec<ArrayRef> = vec![Arc::new(self.roles.take()?), Arc::new(self.contents.take()?)];
        let messages = ListArray::try_new(
            message_item(),
            offsets(std::mem::replace(&mut self.message_ends, vec![0])),
            Arc::new(StructArray::try_new(message_fields(), parts, None)?),
            None,
        )?;
        let originals = self.originals.take()?;
        self.rows = 0;
        RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(hashes), Arc::new(messages), Arc::new(originals)])
    }
}

/// A batch that was read, with its columns found and checked.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    ids: UInt64Array,
    hashes: FixedSizeBinaryArray,
    messages: ListArray,
    roles: StringArray,
    contents: StringArray,
    originals: StringArray,
}

impl Rows {
    /// Checks that a batch has the columns of a segment; says what is wrong with it.
    pub(super) fn new(batch: &RecordBatch) -> Result<Rows, String> {
        if batch.schema() != schema() || batch.columns().iter().any(|column| column.null_count() > 0) {
            return Err("its columns are not those of a segment of this version of hone".into());
        }
        fn column<A: Array + Clone + 'static>(array: &dyn Array) -> Result<A, String> {
            array.as_any().downcast_ref::<A>().cloned().ok_or_else(|| "a column has another type".to_owned())
        }
        let messages: ListArray = column(batch.column(2))?;
        let parts: StructArray = column(messages.values())?;
        Ok(Rows {
            ids: column(batch.column(0))?,
            hashes: column(batch.column(1))?,
            roles: column(parts.column(0))?,
            contents: column(parts.column(1))?,
            messages,
            originals: column(batch.column(3))?,
        })
    }

    /// Rows in the batch.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the ids count up from that one.
    pub(super) fn counts_from(&self, first_row_id: u64) -> bool {
        self.ids.values().iter().zip(first_row_id..).all(|(id, expected)| *id == expected)
    }

    /// Id, messages and original of a row, the original as text. `index` is below [`Rows::len`].
    pub(super) fn plain(&self, index: usize) -> (u64, Vec<ChatMessage>, &str) {
        let ends = self.messages.value_offsets();
        let messages = (ends[index] as usize..ends[index + 1] as usize).map(|at| ChatMessage {
            role: self.roles.value(at).to_owned(),
            content: self.contents.value(at).to_owned(),
        });
        (self.ids.value(index), messages.collect(), self.originals.value(index))
    }

    /// One row, or what is wrong with its original. `index` is below [`Rows::len`].
    pub(super) fn row(&self, index: usize) -> Result<Row, String> {
        let ends = self.messages.value_offsets();
        let messages = (ends[index] as usize..ends[index + 1] as usize)
            .map(|at| ChatMessage {
                role: self.roles.value(at).to_owned(),
                content: self.contents.value(at).to_owned(),
            })
            .collect();
        let row_id = self.ids.value(index);
        let original = serde_json::from_str(self.originals.value(index))
            .map_err(|error| format!("the original of row {row_id} is not JSON: {error}"))?;
        let hash = self.hashes.value(index).try_into().map_err(|_| "a hash has not 32 bytes".to_owned())?;
        Ok(Row { row_id, messages, content_sha256: Hash(hash), original: Json(original) })
    }
}
