//! Tests over the whole table of screens: pictures at three sizes in both languages and three states, and that no text
//! is missing, foreign, or wider than its place. Never here: what keys do (`behaviour.rs`).

use hone_protocol::catalogue::{Language, TABLES};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::model::TrashItem;
use hone_protocol::request::{Answer, Down, Request};
use hone_protocol::train::KeptCheckpoint;

use super::bench::{Bench, SIZES, answer_metrics, keep, word};
use super::sample::NOW_MS;
use super::{Place, SCREENS, page, sample};
use crate::action::{Action, Area};
use crate::event::Event;
use crate::keymap::Context;
use crate::widgets::text::width;

#[test]
fn every_screen_at_every_size_in_both_languages_and_three_states() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            for entry in &SCREENS {
                for state in ["filled", "empty", "away"] {
                    let snapshot = if state == "empty" { sample::empty() } else { sample::filled() };
                    let mut bench = Bench::new(language, snapshot);
                    bench.go(entry.area);
                    if state == "away" {
                        bench.lose();
                    }
                    let picture = bench.picture(size);
                    let area = format!("{:?}", entry.area).to_lowercase();
                    keep(format!("{area}_{state}_{}x{}_{}", size.0, size.1, word(language)), &picture);
                }
            }
        }
    }
}

#[test]
fn forms_the_curve_and_overlays() {
    let run = sample::filled().jobs[0].record.id;
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut bench = Bench::new(language, sample::filled());
            bench.app.open(Place::NewRun { base: String::new(), dataset: String::new() });
            bench.press(Action::Down);
            bench.press(Action::Down);
            keep(name("form_training"), &bench.picture(size));
            bench.app.open(Place::Run(run));
            bench.app.update(Event::Tick, NOW_MS);
            answer_metrics(&mut bench);
            bench.press(Action::Left);
            bench.press(Action::Left);
            keep(name("run_live"), &bench.picture(size));
            bench.press(Action::Inspect);
            bench.press(Action::Right);
            keep(name("run_samples"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Out);
            bench.go(Area::Training);
            for _ in 0..3 {
                bench.press(Action::Mark);
                bench.press(Action::Down);
            }
            bench.press(Action::Compare);
            bench.app.update(Event::Tick, NOW_MS);
            answer_metrics(&mut bench);
            bench.press(Action::Left);
            keep(name("compare"), &bench.picture(size));
            bench.press(Action::Out);
            bench.app.open(Place::Run(run));
            bench.press(Action::Stop);
            keep(name("question"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Help);
            keep(name("help"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Palette);
            bench.typed("tra");
            keep(name("palette"), &bench.picture(size));
            bench.press(Action::Out);
            bench.press(Action::Jobs);
            keep(name("drawer"), &bench.picture(size));
            bench.press(Action::Out);
            bench.app.open(Place::HowTo("desk".into()));
            keep(name("how_to_call"), &bench.picture(size));
            bench.press(Action::Out);
            bench.app.open(Place::Publish(String::new()));
            keep(name("form_publish"), &bench.picture(size));
        }
    }
}

/// Answers what was asked of this kind; what was asked is over then.
fn answer_of(bench: &mut Bench, answer: impl Fn(&Request) -> Option<Answer>) {
    bench.app.update(Event::Tick, NOW_MS);
    loop {
        let asked = bench.asks();
        if asked.is_empty() {
            return;
        }
        for (id, request) in asked {
            if let Some(answer) = answer(&request) {
                bench.answer(id, answer);
            }
        }
    }
}

fn tell_of_versions(request: &Request) -> Option<Answer> {
    let item = TrashItem {
        version: "support-desk-tuned@3".into(),
        trashed_at_ms: NOW_MS - 4 * 24 * 3_600_000,
        removed_at_ms: NOW_MS + 26 * 24 * 3_600_000,
        frees_bytes: 9_800_000,
    };
    let kept = |step, result| KeptCheckpoint { step, size_bytes: 9_770_000, result };
    match request {
        Request::History { .. } => Some(Answer::History(sample::history())),
        Request::TrashList => Some(Answer::Trash(vec![item])),
        Request::Checkpoints { .. } => Some(Answer::Checkpoints(vec![kept(142, false), kept(100, false)])),
        _ => None,
    }
}

#[test]
fn the_gallery_its_shelves_and_its_forms() {
    for language in [Language::En, Language::Zh] {
        for size in SIZES {
            let name = |what: &str| format!("{what}_{}x{}_{}", size.0, size.1, word(language));
            let mut bench = Bench::new(language, sample::gallery());
            bench.picture(size);
            bench.go(Area::Models);
            keep(name("gallery_loading"), &bench.picture(size));
            bench.app.open(Place::Model("support-desk-tuned@1".into()));
            answer_of(&mut bench, tell_of_versions);
            keep(name("gallery"), &bench.picture(size));
            bench.press(Action::Enter);
            bench.press(Action::Last);
            keep(name("gallery_page"), &bench.picture(size));
            bench.press(Action::Out);
            for (action, what) in [(Action::Merge, "form_merge"), (Action::Export, "form_export")] {
                bench.press(action);
                keep(name(what), &bench.picture(size));
                bench.press(Action::Out);
            }
            bench.app.open(Place::Model("support-desk-tuned@2".into()));
            bench.press(Action::Quantize);
            keep(name("form_quantize"), &bench.picture(size));
            bench.press(Action::Out);
            for shelf in ["mine", "presets", "imports", "trash"] {
                bench.press(Action::NextTab);
                answer_of(&mut bench, tell_of_versions);
                keep(name(&format!("gallery_{shelf}")), &bench.picture(size));
            }
            bench.press(Action::Delete);
            keep(name("question_purge"), &bench.picture(size));
            bench.press(Action::Out);
            bench.app.open(Place::Register(sample::filled().jobs[2].record.id));
            answer_of(&mut bench, tell_of_versions);
            keep(name("form_register"), &bench.picture(size));
        }
    }
}

#[test]
fn an_empty_shelf_and_a_record_that_cannot_be_told_say_so() {
    let mut bench = Bench::new(Language::En, sample::filled());
    bench.picture((100, 30));
    bench.go(Area::Models);
    for (id, request) in bench.asks() {
        if matches!(request, Request::History { .. }) {
            let failure = Failure::new(FailureCode::Internal, "the store cannot be read");
            bench.app.update(Event::Down(1, Box::new(Down::Answer { id, answer: Err(failure) })), NOW_MS);
        }
    }
    bench.press(Action::Enter);
    bench.press(Action::Last);
    assert!(bench.picture((100, 30)).contains("! the store cannot be read"));
    bench.press(Action::Out);
    bench.press(Action::PreviousTab);
    assert!(bench.picture((100, 30)).contains("The trash is empty."));
    bench.press(Action::PreviousTab);
    assert!(bench.picture((100, 30)).contains("Nothing stands on this shelf."));
}

#[test]
fn the_smallest_screen_still_says_where_one_is() {
    let mut bench = Bench::new(Language::En, sample::filled());
    for entry in &SCREENS {
        bench.go(entry.area);
        let picture = bench.picture((40, 10));
        assert!(picture.starts_with(&format!("[{}", entry.area.digit())), "{picture}");
    }
    assert!(bench.picture((32, 9)).contains("40x10"));
}

#[test]
fn no_message_is_wider_than_its_slot_at_eighty_columns() {
    // Slot of a key by its table prefix, in cells; messages that wrap have none.
    let slots: [(&str, usize); 9] = [
        ("tab.", 7),
        ("hint_row.", 30),
        ("col.", 12),
        ("outcome.", 14),
        ("services.tab_", 14),
        ("palette.action", 12),
        ("link.online", 12),
        ("preset.", 16),
        ("context.", 10),
    ];
    for (key, en, zh) in TABLES.iter().flat_map(|t| t.iter()) {
        for text in [en, zh] {
            for (prefix, cells) in slots {
                assert!(!key.starts_with(prefix) || width(text) <= cells, "{key}: {text:?} is wider than {cells}");
            }
        }
    }
    for language in [Language::En, Language::Zh] {
        for entry in &SCREENS {
            let mut bench = Bench::new(language, sample::filled());
            bench.go(entry.area);
            let picture = bench.picture((80, 24));
            let tabs = picture.lines().next().unwrap_or_default();
            let last = crate::screens::View { language, ..bench.app.view() }.t(Area::System.tab());
            assert!(tabs.contains(last), "the tab bar is cut: {tabs}");
            let hints = picture.lines().last().unwrap_or_default();
            assert!(width(hints) <= 80, "{hints}");
            let help = bench.app.view().t("hint_row.help");
            let browsing = bench.app.context() == Context::Browse;
            assert!(!browsing || hints.contains(help), "the way to help is cut: {hints}");
        }
    }
}

#[test]
fn every_message_of_the_shell_exists_in_both_languages() {
    let mut mirror = crate::mirror::Mirror::default();
    mirror.replace(sample::filled());
    for (_, offers) in super::visits::visited(&mirror) {
        for offer in offers {
            assert_ne!(hone_protocol::catalogue::find(Language::Zh, offer.label), None, "{}", offer.label);
        }
    }
    for entry in &SCREENS {
        for language in [Language::En, Language::Zh] {
            assert!(page(entry.area, language).starts_with("# "), "{:?}", entry.area);
        }
    }
}

#[test]
fn every_key_in_the_sources_stands_in_the_catalogue() {
    let src = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut seen = 0;
    for folder in [
        "",
        "/app",
        "/layers",
        "/screens",
        "/screens/datasets",
        "/screens/models",
        "/screens/playground",
        "/screens/services",
        "/widgets",
    ] {
        for file in std::fs::read_dir(format!("{src}{folder}")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|e| e != "rs") || path.ends_with("snapshots.rs") {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            for call in ["view.t(", "view.fill(", "text(language, ", "fill(language, "] {
                for rest in source.split(call).skip(1) {
                    let Some(key) = rest.trim_start().strip_prefix('"').and_then(|r| r.split('"').next()) else {
                        continue;
                    };
                    assert!(
                        hone_protocol::catalogue::find(Language::En, key).is_some(),
                        "{}: {key} is not in the catalogue",
                        path.display()
                    );
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 200, "the scan found only {seen} keys");
}

#[test]
fn a_screen_falls_into_other_languages_only_by_its_data() {
    // Chinese screens may hold names, units and keys in Latin letters, but no English sentence of ours.
    let mut bench = Bench::new(Language::Zh, sample::filled());
    for entry in &SCREENS {
        bench.go(entry.area);
        let picture = bench.picture((200, 50));
        for (key, en, zh) in TABLES.iter().flat_map(|t| t.iter()) {
            let sentence = en.split_whitespace().count() >= 5 && !en.contains('{') && en != zh;
            assert!(!sentence || !picture.contains(en), "{key} is shown in English: {en}");
        }
    }
}

/// The page of all keys, as `docs/` holds it.
fn keys_page(language: Language) -> String {
    let t = |key| hone_protocol::catalogue::text(language, key);
    let (title, intro, areas, columns) = match language {
        Language::En => (
            "# Keys",
            "The same letter means the same everywhere; a verb that makes no sense for a thing is not offered. Arrows, \
             Enter, Esc, digits and `x` reach everything. `?` lists the keys that work now. While something is typed, \
             letters are text; F1, Ctrl-P and Ctrl-C still work. Full-width characters count as their ASCII twins.\n\n\
             A click selects, a click on what is selected opens it, the wheel moves by three rows; tabs and hints can be \
             clicked too. Ctrl-G gives the mouse back to the terminal, so that text can be selected; `HONE_MOUSE=off` \
             never takes it.",
            "## Areas",
            "| key | does |\n| --- | --- |",
        ),
        Language::Zh => (
            "# 按键",
            "同一字母在各处含义相同；对当前对象没有意义的操作不会出现。方向键、Enter、Esc、数字和 `x` 可以到达一切。\
             `?` 列出当前可用的按键。输入文字时字母即文字；F1、Ctrl-P 与 Ctrl-C 仍然有效。全角字符等同于对应的 ASCII 字符。\n\n\
             单击选中，再次单击打开，滚轮一次移动三行；标签与按键提示也可点击。Ctrl-G 把鼠标交还终端以便选择文字；\
             设置 `HONE_MOUSE=off` 则从不占用鼠标。",
            "## 区域",
            "| 按键 | 作用 |\n| --- | --- |",
        ),
    };
    let row = |action: Action| {
        let keys = crate::keymap::keys(action).join(", ").replace('|', "\\|");
        format!("| {keys} | {} |\n", t(action.about()))
    };
    let actions: String = Action::ALL.iter().map(|a| row(*a)).collect();
    let places: String = Area::ALL.iter().map(|a| row(Action::Go(*a))).collect();
    format!("{title}\n\n{intro}\n\n{columns}\n{actions}\n{areas}\n\n{columns}\n{places}")
}

#[test]
fn the_page_of_keys_is_what_the_keymap_says() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    for (language, path) in [(Language::En, "keys.md"), (Language::Zh, "zh/keys.md")] {
        let path = format!("{root}/{path}");
        let page = keys_page(language);
        if std::env::var_os("HONE_WRITE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let held = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(held == page, "{path} is old; HONE_WRITE_DOCS=1 cargo test -p hone-tui writes it anew");
    }
}
