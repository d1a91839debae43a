//! What an import would make of a file, beside its form. Never here: importing.

use hone_protocol::catalogue::Language;
use hone_protocol::dataset::{DatasetSource, FieldMap, FieldRole, ImportPreview, RowFormat};
use hone_protocol::model::HubSource;
use hone_protocol::preset::Preset;
use hone_protocol::request::Request;

use super::super::{Desk, Errand, View};
use super::{Datasets, SOURCES, shape};
use crate::theme::Token;
use crate::widgets::canvas::piece;
use crate::widgets::list::cell;
use crate::widgets::number;
use crate::widgets::page::Page;
use crate::widgets::text;

/// Rows and rejections that are shown.
const SHOWN: usize = 4;

/// Path, format and mapping.
pub(super) type ArrivingKey = (String, String, String);

/// What fields are to become, as typed: `question=user answer=assistant`.
fn mapping(typed: &str) -> Vec<FieldMap> {
    let role = |word: &str| {
        Some(match word {
            "system" => FieldRole::System,
            "user" => FieldRole::User,
            "assistant" => FieldRole::Assistant,
            "chosen" => FieldRole::Chosen,
            "rejected" => FieldRole::Rejected,
            "text" => FieldRole::Text,
            "expected" => FieldRole::Expected,
            "messages" => FieldRole::Messages,
            _ => return None,
        })
    };
    let map = |word: &str| {
        let (field, word) = word.rsplit_once('=')?;
        Some(FieldMap { field: field.to_owned(), role: role(word)? })
    };
    typed.split_whitespace().filter_map(map).collect()
}

impl Datasets {
    /// How the rows of the form's file are written.
    pub(super) fn row_format(&self) -> RowFormat {
        let mapping = mapping(self.form.value("map"));
        if !mapping.is_empty() {
            return RowFormat::Mapped(mapping);
        }
        match self.form.value("format") {
            "openai" => RowFormat::OpenAi,
            "sharegpt" => RowFormat::ShareGpt,
            "alpaca" => RowFormat::Alpaca,
            "preference" => RowFormat::Preference,
            "text" => RowFormat::Text,
            "completion" => RowFormat::Completion,
            "ranked" => RowFormat::Ranked,
            "prompt" => RowFormat::Prompt,
            "qianfan" => RowFormat::Qianfan,
            "qianfan-ranked" => RowFormat::QianfanRanked,
            _ => RowFormat::Detect,
        }
    }

    /// Where the form's rows come from; nothing while its path is none.
    pub(super) fn row_source(&self) -> Option<DatasetSource> {
        let path = self.form.value("path").to_owned();
        match self.form.value("source") {
            preset if preset == SOURCES[0] => {
                Some(DatasetSource::Preset { name: self.form.value("preset").to_owned() })
            }
            hub if hub == SOURCES[2] => HubSource::parse_rows(&path).map(DatasetSource::Hub),
            _ => path.starts_with('/').then_some(DatasetSource::Path { path }),
        }
    }

    /// Asks what would become of the form's file, when it is named and nobody types.
    pub(super) fn want_arriving(&mut self, desk: &mut Desk<'_>) {
        let Some(DatasetSource::Path { path }) = self.row_source() else { return };
        if self.form.is_editing() || desk.view.away {
            return;
        }
        let key = (path.clone(), self.form.value("format").to_owned(), self.form.value("map").to_owned());
        if self.arriving.want(key) {
            let name = self.form.value("name").to_owned();
            desk.ask(Errand::Arriving, Request::PreviewImport { path, format: self.row_format(), name });
        }
    }

    /// The page beside the form.
    pub(super) fn arriving_page(&self, view: &View<'_>) -> Page {
        let mut page = Page::new();
        match self.row_source() {
            None => return page,
            Some(DatasetSource::Preset { name }) => {
                card(view, &name, &mut page);
                return page;
            }
            Some(DatasetSource::Hub(source)) => {
                page.blank().heading(cell(&source.typed()));
                page.text(view.t("datasets.hub_fetched"), Token::Muted);
                return page;
            }
            Some(_) => {}
        }
        page.blank().heading(view.t("datasets.preview"));
        if let Some(problem) = &self.arriving.problem {
            page.text(format!("! {problem}"), Token::Warn);
            return page;
        }
        match self.arriving.get().filter(|_| !self.arriving.is_waiting()) {
            Some(made) => show(view, made, &mut page),
            None => {
                page.text(view.t("datasets.previewing"), Token::Muted);
            }
        }
        page
    }
}

/// A preset, as its card tells it.
fn card(view: &View<'_>, name: &str, page: &mut Page) {
    let Some(preset) = Preset::of(name) else { return };
    page.blank().heading(preset.name);
    page.text(if view.language == Language::Zh { preset.about.1 } else { preset.about.0 }, Token::Text);
    page.fact(view.t("datasets.shape"), view.t(shape(preset.shape)));
    page.fact(view.t("word.row"), number::grouped(preset.rows));
    page.fact(view.t("datasets.language"), preset.language);
    page.fact(view.t("models.licence"), preset.licence);
    page.fact(view.t("datasets.source"), preset.package.map_or("hone", |file| file.package));
}

fn show(view: &View<'_>, made: &ImportPreview, page: &mut Page) {
    let format = if made.format.is_empty() { "?" } else { &made.format };
    page.fact(view.t("datasets.format"), cell(format));
    page.fact(view.t("datasets.shape"), view.t(shape(made.shape)));
    let fields: Vec<String> = made.fields.iter().map(|field| cell(&field.name)).collect();
    page.fact(view.t("datasets.fields"), fields.join(", "));
    if !made.mapping.is_empty() {
        let word = |role: FieldRole| format!("{role:?}").to_lowercase();
        let maps: Vec<String> =
            made.mapping.iter().map(|map| format!("{}={}", cell(&map.field), word(map.role))).collect();
        page.fact(view.t("datasets.mapping"), maps.join(" "));
    }
    let sum = [("read", made.read), ("kept", made.kept), ("rejected", made.read - made.kept)];
    let sum: Vec<(&str, String)> = sum.iter().map(|(k, v)| (*k, number::grouped(*v))).collect();
    let args: Vec<(&str, &str)> = sum.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let part = if made.whole { "datasets.preview_whole" } else { "datasets.preview_part" };
    page.fact(view.t(part), view.fill("datasets.sum", &args));
    for rejection in made.rejections.iter().take(SHOWN) {
        let line = rejection.line.to_string();
        let field = if rejection.field.is_empty() { String::new() } else { format!(" {}", cell(&rejection.field)) };
        let args = [("line", line.as_str()), ("field", &field), ("reason", &cell(&rejection.reason))];
        page.text(format!("! {}", view.fill("datasets.rejection", &args)), Token::Warn);
    }
    for row in made.rows.iter().take(SHOWN) {
        page.blank();
        for message in &row.messages {
            let token = if message.role == "user" { Token::User } else { Token::Text };
            page.line(vec![
                piece(format!("{:<9} ", cell(&message.role)), Token::Muted),
                piece(text::one_line(&message.content), token),
            ]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_mapping_is_fields_with_roles() {
        let map = |field: &str, role| FieldMap { field: field.into(), role };
        assert_eq!(
            mapping("q=user  a.0=assistant what"),
            [map("q", FieldRole::User), map("a.0", FieldRole::Assistant)]
        );
        assert!(mapping("q=king").is_empty());
    }
}
