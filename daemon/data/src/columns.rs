//! Rows as Arrow columns, and back.
//! Lives here: the schema of a segment. Never here: files.
//!
//! Version 2 keeps each text once: in an original, the literal of each message's content is a hole ([`HOLE`]), filled again when the row
//! is read. Row ids count up from that of the segment. Version 1 had whole originals and a column of ids; its segments are still read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray, StructArray, UInt64Array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use hone_protocol::dataset::{ChatMessage, Row};
use hone_protocol::value::{Hash, JsonText};

use super::canonical::escape;
use super::format::Turn;
use super::quick::Literal;

/// The version of the segment format, in the schema's metadata. A reader refuses others than these two.
const FORMAT_KEY: &str = "hone.segment";

/// Stands in an original for the literal of a message's content, the first for the first message's and so on. No JSON has this byte.
const HOLE: char = '\u{1}';

/// How a segment is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Compressed, with whole originals and ids; named by the hash of the whole file.
    One,
    /// Each text once; named by the hash of what stands around the blocks, which has their hashes.
    Two,
}

impl Layout {
    /// The layout whose schema that is.
    pub(super) fn of(found: &Schema) -> Option<Layout> {
        [Layout::Two, Layout::One].into_iter().find(|layout| **layout.schema() == *found)
    }

    pub(super) fn schema(self) -> &'static SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 2]> = LazyLock::new(|| [schema_of("1"), schema_of("2")]);
        &SCHEMAS[self as usize]
    }
}

fn message_fields() -> Fields {
    Fields::from(vec![Field::new("role", DataType::Utf8, false), Field::new("content", DataType::Utf8, false)])
}

fn message_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(message_fields()), false))
}

/// `content_sha256: 32 bytes`, `messages: [{role, content}]`, `original: JSON text`, and in version 1 first `row_id: u64`; no nulls.
fn schema_of(version: &str) -> SchemaRef {
    let mut fields = vec![
        Field::new("content_sha256", DataType::FixedSizeBinary(32), false),
        Field::new("messages", DataType::List(message_item()), false),
        Field::new("original", DataType::Utf8, false),
    ];
    if version == "1" {
        fields.insert(0, Field::new("row_id", DataType::UInt64, false));
    }
    Arc::new(Schema::new_with_metadata(fields, HashMap::from([(FORMAT_KEY.to_owned(), version.to_owned())])))
}

/// Texts of one column, end to end, with the end of each. Ends fit 32 bits: a batch holds at most
/// `BATCH_BYTES_MAX` and one row.
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
        self.end();
    }

    fn end(&mut self) {
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
    /// Columns with room for the rows of so many bytes of lines, so that they seldom move.
    pub(super) fn with_room(bytes: usize) -> Columns {
        let mut columns = Columns::default();
        columns.contents.bytes.reserve(bytes);
        columns.originals.bytes.reserve(bytes / 4);
        columns
    }

    /// Adds a row. `literals` are the places of all its contents in the original, in order; empty when they are not known.
    pub(super) fn push(&mut self, turns: &[Turn<'_>], content_sha256: &[u8; 32], original: &str, literals: &[Literal]) {
        for turn in turns {
            self.roles.push(turn.role.word());
            self.contents.push(&turn.content);
        }
        self.message_ends.push(self.contents.ends.len() as i32 - 1);
        self.hashes.extend_from_slice(content_sha256);
        let mut from = 0;
        for literal in literals {
            // The hole takes the place of the quotes too.
            self.originals.bytes.extend_from_slice(&original.as_bytes()[from..literal.start - 1]);
            self.originals.bytes.push(HOLE as u8);
            from = literal.end + 1;
        }
        self.originals.bytes.extend_from_slice(&original.as_bytes()[from..]);
        self.originals.end();
        self.rows += 1;
    }

    /// Adds a row as it stands in another batch.
    pub(super) fn copy(&mut self, rows: &Rows, index: usize) {
        for (role, content) in rows.messages(index) {
            self.roles.push(role);
            self.contents.push(content);
        }
        self.message_ends.push(self.contents.ends.len() as i32 - 1);
        self.hashes.extend_from_slice(rows.hashes.value(index));
        self.originals.push(rows.originals.value(index));
        self.rows += 1;
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.roles.bytes.len() + self.contents.bytes.len() + self.originals.bytes.len();
        texts + self.hashes.len() + 4 * (self.contents.ends.len() * 2 + self.rows * 2)
    }

    /// Makes a batch of the rows and begins anew.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
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
        let columns: Vec<ArrayRef> = vec![Arc::new(hashes), Arc::new(messages), Arc::new(originals)];
        RecordBatch::try_new(Layout::Two.schema().clone(), columns)
    }
}

/// A batch that was read, with its columns found and checked.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    first_row_id: u64,
    hashes: FixedSizeBinaryArray,
    messages: ListArray,
    roles: StringArray,
    contents: StringArray,
    originals: StringArray,
}

impl Rows {
    /// Checks that a batch has the columns of a segment and the ids that it should have; says what is wrong with it.
    pub(super) fn new(batch: &RecordBatch, layout: Layout, first_row_id: u64) -> Result<Rows, String> {
        if batch.schema() != *layout.schema() || batch.columns().iter().any(|column| column.null_count() > 0) {
            return Err("its columns are not those of a segment of this version of hone".into());
        }
        fn column<A: Array + Clone + 'static>(array: &dyn Array) -> Result<A, String> {
            array.as_any().downcast_ref::<A>().cloned().ok_or_else(|| "a column has another type".to_owned())
        }
        let mut columns = batch.columns();
        if let (Layout::One, Some((ids, rest))) = (layout, columns.split_first()) {
            let ids: UInt64Array = column(ids)?;
            if !ids.values().iter().zip(first_row_id..).all(|(id, expected)| *id == expected) {
                return Err("its row ids are not those of the version".into());
            }
            columns = rest;
        }
        let messages: ListArray = column(&columns[1])?;
        let parts: StructArray = column(messages.values())?;
        Ok(Rows {
            first_row_id,
            hashes: column(&columns[0])?,
            roles: column(parts.column(0))?,
            contents: column(parts.column(1))?,
            messages,
            originals: column(&columns[2])?,
        })
    }

    /// Rows in the batch.
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Roles and contents of one row. `index` is below [`Rows::len`].
    pub(super) fn messages(&self, index: usize) -> impl Iterator<Item = (&str, &str)> {
        let ends = self.messages.value_offsets();
        (ends[index] as usize..ends[index + 1] as usize).map(|at| (self.roles.value(at), self.contents.value(at)))
    }

    /// Id of a row.
    pub(super) fn row_id(&self, index: usize) -> u64 {
        self.first_row_id + index as u64
    }

    /// Hash of a row's messages. `index` is below [`Rows::len`].
    pub(super) fn hash(&self, index: usize) -> Result<[u8; 32], String> {
        self.hashes.value(index).try_into().map_err(|_| "a hash has not 32 bytes".to_owned())
    }

    /// Bytes of the texts of all rows, at most.
    pub(super) fn bytes(&self) -> usize {
        self.contents.value_data().len() + self.originals.value_data().len()
    }

    /// Messages of a row. `index` is below [`Rows::len`].
    pub(super) fn owned_messages(&self, index: usize) -> Vec<ChatMessage> {
        let owned = |(role, content): (&str, &str)| ChatMessage { role: role.to_owned(), content: content.to_owned() };
        self.messages(index).map(owned).collect()
    }

    /// Id, messages and original of a row, the original as text. `index` is below [`Rows::len`].
    pub(super) fn plain(&self, index: usize) -> (u64, Vec<ChatMessage>, Cow<'_, str>) {
        let messages = self.owned_messages(index);
        let original = filled(self.originals.value(index), &messages);
        (self.row_id(index), messages, original)
    }

    /// One row, or what is wrong with its original. `index` is below [`Rows::len`].
    pub(super) fn row(&self, index: usize) -> Result<Row, String> {
        let (row_id, messages, original) = self.plain(index);
        if memchr::memchr_iter(HOLE as u8, self.originals.value(index).as_bytes()).count() > messages.len() {
            return Err(format!("the original of row {row_id} has more holes than messages"));
        }
        Ok(Row { row_id, messages, content_sha256: Hash(self.hash(index)?), original: JsonText::new(original) })
    }
}

/// An original with its holes filled.
fn filled<'o>(original: &'o str, messages: &[ChatMessage]) -> Cow<'o, str> {
    let mut pieces = original.split(HOLE);
    let first = pieces.next().unwrap_or_default();
    if first.len() == original.len() {
        return original.into();
    }
    let room: usize = messages.iter().map(|message| message.content.len() + message.content.len() / 16 + 2).sum();
    let mut text = String::with_capacity(original.len() + room);
    text.push_str(first);
    for (piece, message) in pieces.zip(messages) {
        text.push('"');
        escape(&message.content, |piece| text.push_str(piece));
        text.push('"');
        text.push_str(piece);
    }
    text.into()
}
