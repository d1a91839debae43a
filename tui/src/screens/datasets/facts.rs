//! Facts of a version, drawn. Never here: finding them.

use hone_protocol::dataset::DatasetView;
use hone_protocol::recipe::DatasetFacts;

use crate::screens::View;
use crate::theme::Token;
use crate::widgets::canvas::piece;
use crate::widgets::list::cell;
use crate::widgets::number;
use crate::widgets::page::Page;

/// Cells of the longest bar.
const BAR_CELLS: u64 = 30;
/// Cells of a name before its bar.
const NAME_CELLS: usize = 12;

/// What is known of the newest version.
pub(super) fn page(view: &View<'_>, dataset: &DatasetView) -> Page {
    let mut page = Page::new();
    let Some(version) = dataset.versions.last() else { return page };
    page.heading(format!("{}@{}", cell(&dataset.record.name), version.number)).blank();
    match &version.facts {
        Some(facts) => fill(view, facts, &mut page),
        None => {
            page.text(view.t("datasets.no_facts"), Token::Text);
        }
    }
    page
}

fn fill(view: &View<'_>, facts: &DatasetFacts, page: &mut Page) {
    page.fact(view.t("facts.rows"), number::grouped(facts.rows));
    page.fact(view.t("facts.messages"), number::grouped(facts.messages));
    page.fact(view.t("facts.characters"), number::grouped(facts.characters));
    if let Some((tokens, model)) = &facts.tokens {
        page.fact(view.t("facts.tokens"), format!("{} ({})", number::grouped(*tokens), cell(model)));
    }
    page.fact(view.t("facts.exact"), number::grouped(facts.exact_duplicates));
    page.fact(view.t("facts.near"), number::grouped(facts.near_duplicates));
    let marks = facts.length_marks.map(number::grouped).join("  ");
    page.text(format!("{}: {marks}", view.t("facts.marks")), Token::Muted);
    let lengths = facts.lengths.iter().enumerate();
    let lengths = lengths.map(|(class, rows)| (format!("<= {}", number::grouped(16 << class)), *rows));
    let turns = facts.turns.iter().enumerate().map(|(turns, rows)| (turns.to_string(), *rows));
    bars(view, page, "facts.lengths", lengths.collect());
    bars(view, page, "facts.turns", turns.collect());
    bars(view, page, "facts.languages", facts.languages.clone());
    bars(view, page, "facts.private", facts.private.clone());
}

fn bars(view: &View<'_>, page: &mut Page, key: &'static str, counts: Vec<(String, u64)>) {
    page.blank().heading(view.t(key));
    let counts: Vec<(String, u64)> = counts.into_iter().filter(|(_, rows)| *rows > 0).collect();
    if counts.is_empty() {
        page.text(view.t("facts.none"), Token::Muted);
    }
    let most = counts.iter().map(|(_, rows)| *rows).max().unwrap_or(1);
    for (name, rows) in counts {
        let bar = "#".repeat((rows * BAR_CELLS).div_ceil(most.max(1)) as usize);
        page.line(vec![
            piece(format!("{:<NAME_CELLS$} {:>11}  ", cell(&name), number::grouped(rows)), Token::Text),
            piece(bar, Token::Accent),
        ]);
    }
}
