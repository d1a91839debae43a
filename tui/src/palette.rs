//! What the palette finds: actions of this screen, areas, objects and settings, in one list with the direct key beside
//! each. Never here: typing or drawing.

use hone_protocol::catalogue::{self, Language};

use crate::action::{Action, Area, EVERYWHERE, Offer};
use crate::glyphs::GlyphSet;
use crate::keymap;
use crate::screens::{Place, Setting, View, Wish};
use crate::theme::Palette;

/// Rows that are offered at once; typing more narrows them.
const ENTRIES_MAX: usize = 200;

/// One row.
pub(crate) struct Found {
    /// What it says.
    pub(crate) text: String,
    /// Catalogue key of its kind.
    pub(crate) kind: &'static str,
    /// The direct key, or a fact about the object.
    pub(crate) key: String,
    /// What Enter does.
    pub(crate) wish: Wish,
    /// The same in English; empty for objects, whose names are the same in every language.
    english: &'static str,
}

impl Found {
    /// How well it fits what was typed, in the words shown or in the English ones: no input method is needed.
    fn rank(&self, needle: &str) -> Option<u32> {
        [self.text.as_str(), self.english].into_iter().filter_map(|t| rank(&t.to_lowercase(), needle)).min()
    }
}

fn found(text: impl Into<String>, kind: &'static str, key: impl Into<String>, wish: Wish) -> Found {
    Found { text: text.into(), kind, key: key.into(), wish, english: "" }
}

/// A row whose text is a message of the catalogue.
fn named(view: &View<'_>, text: &'static str, kind: &'static str, key: impl Into<String>, wish: Wish) -> Found {
    Found { english: catalogue::text(Language::En, text), ..found(view.t(text), kind, key, wish) }
}

fn of_action(view: &View<'_>, action: Action, label: &'static str) -> Found {
    let key = keymap::keys(action).into_iter().next().unwrap_or_default();
    named(view, label, "palette.action", key, Wish::Act(action))
}

/// All rows, best match first. `>` keeps actions, `@` objects, `#` settings.
pub(crate) fn entries(view: &View<'_>, offers: &[Offer], typed: &str) -> Vec<Found> {
    let typed = typed.trim();
    let (kinds, needle): (&[&str], &str) = match typed.chars().next() {
        Some('>') => (&["palette.action", "palette.area"], &typed[1..]),
        Some('@') => (&["palette.object"], &typed[1..]),
        Some('#') => (&["palette.setting"], &typed[1..]),
        _ => (&[], typed),
    };
    let needle = needle.trim().to_lowercase();
    let mut ranked: Vec<(u32, Found)> = all(view, offers)
        .into_iter()
        .filter(|e| kinds.is_empty() || kinds.contains(&e.kind))
        .filter_map(|e| e.rank(&needle).map(|r| (r, e)))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    // Letters in order match almost anything; they count only when nothing else does.
    if ranked.first().is_some_and(|(rank, _)| *rank < 4) {
        ranked.retain(|(rank, _)| *rank < 4);
    }
    ranked.into_iter().map(|(_, e)| e).take(ENTRIES_MAX).collect()
}

/// 0 begins with it, 1 a word begins with it, 2 holds it, 3 holds all its words, 4 its letters in order.
fn rank(text: &str, needle: &str) -> Option<u32> {
    if text.starts_with(needle) {
        return Some(0);
    }
    if text.split([' ', ':', '@', '-']).any(|w| w.starts_with(needle)) {
        return Some(1);
    }
    if text.contains(needle) {
        return Some(2);
    }
    if needle.split_whitespace().all(|w| text.contains(w)) {
        return Some(3);
    }
    let mut letters = text.chars();
    needle.chars().filter(|c| !c.is_whitespace()).all(|c| letters.any(|t| t == c)).then_some(4)
}

fn all(view: &View<'_>, offers: &[Offer]) -> Vec<Found> {
    let mut rows: Vec<Found> = offers.iter().map(|o| of_action(view, o.action, o.label)).collect();
    rows.extend(verbs(view));
    for area in Area::ALL {
        let key = format!("{}   g {}", area.digit(), area.letter());
        rows.push(named(view, area.name(), "palette.area", key, Wish::Act(Action::Go(area))));
    }
    rows.extend(objects(view));
    rows.extend(settings(view));
    let here: Vec<Action> = offers.iter().map(|o| o.action).collect();
    for action in EVERYWHERE.iter().filter(|a| !here.contains(a) && **a != Action::Palette) {
        rows.push(of_action(view, *action, action.about()));
    }
    rows.push(named(view, "palette.messages", "palette.action", "", Wish::Messages));
    rows
}

/// Things to do from anywhere.
fn verbs(view: &View<'_>) -> Vec<Found> {
    let open = |key, place| named(view, key, "palette.action", "", Wish::Open(place));
    vec![
        open("palette.train_new", Place::NewRun { base: String::new(), dataset: String::new() }),
        open("palette.import_model", Place::ImportModel(String::new())),
        open("palette.import_dataset", Place::ImportDataset(String::new())),
        open("palette.publish", Place::Publish(String::new())),
        open("palette.new_key", Place::NewKey(String::new())),
        open("palette.evaluate", Place::Evaluate(String::new())),
    ]
}

fn objects(view: &View<'_>) -> Vec<Found> {
    let mut rows = Vec::new();
    let object = |kind: &'static str, name: &str, place| {
        found(format!("{}: {name}", view.t(kind)), "palette.object", "", Wish::Open(place))
    };
    for model in view.mirror.models() {
        rows.push(object("word.model", &model.record.name, Place::Model(model.record.name.clone())));
        for version in model.live() {
            rows.push(object("word.version", &version.reference, Place::Model(version.reference.clone())));
        }
    }
    for dataset in view.mirror.datasets() {
        rows.push(object("word.dataset", &dataset.record.name, Place::Dataset(dataset.record.name.clone())));
    }
    for service in view.mirror.services() {
        rows.push(object("word.service", &service.record.name, Place::HowTo(service.record.name.clone())));
    }
    for run in view.mirror.runs().take(20) {
        rows.push(object("word.run", &crate::screens::job_subject(run), Place::Run(run.record.id)));
    }
    rows
}

fn settings(view: &View<'_>) -> Vec<Found> {
    let set = |text: &str, about: &'static str, setting| {
        let mut row = found(format!("set {text}"), "palette.setting", view.t(about), Wish::Set(setting));
        row.key = view.t(about).to_owned();
        row
    };
    vec![
        set("language en", "setting.language", Setting::Language(Language::En)),
        set("language zh", "setting.language", Setting::Language(Language::Zh)),
        set("theme terminal", "setting.theme_terminal", Setting::Theme(Palette::Terminal)),
        set("theme dark", "setting.theme_dark", Setting::Theme(Palette::Dark)),
        set("theme light", "setting.theme_light", Setting::Theme(Palette::Light)),
        set("theme contrast", "setting.theme_contrast", Setting::Theme(Palette::Contrast)),
        set("glyphs full", "setting.glyphs_full", Setting::Glyphs(GlyphSet::Full)),
        set("glyphs narrow", "setting.glyphs_narrow", Setting::Glyphs(GlyphSet::Narrow)),
        set("glyphs ascii", "setting.glyphs_ascii", Setting::Glyphs(GlyphSet::Ascii)),
        set("hints on", "setting.hints", Setting::Hints(true)),
        set("hints off", "setting.hints", Setting::Hints(false)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Mirror;

    #[test]
    fn a_typed_command_is_found_first() {
        let mut mirror = Mirror::default();
        mirror.replace(crate::screens::sample::filled());
        let view = View::plain(&mirror);
        let first = |typed: &str| entries(&view, &[], typed).into_iter().next().map(|e| e.wish);
        assert!(matches!(first("set language zh"), Some(Wish::Set(Setting::Language(Language::Zh)))));
        assert!(matches!(first("# theme light"), Some(Wish::Set(Setting::Theme(Palette::Light)))));
        assert!(matches!(first("@support"), Some(Wish::Open(_))));
        assert!(matches!(
            first("train"),
            Some(Wish::Open(Place::NewRun { .. }) | Wish::Act(Action::Go(Area::Training)))
        ));
        assert!(entries(&view, &[], "zzzqqq").is_empty());
    }
}
