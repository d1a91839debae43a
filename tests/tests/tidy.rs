//! The house rules that a machine can check: who may name what, sizes, headers, docs.

use std::path::{Path, PathBuf};

use hone_tests::repository;

/// Files past this are two rooms.
const LINES_MAX: usize = 800;

fn files(root: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && !["target", ".git", "snapshots"].contains(&name.as_str()) {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let root = repository();
    let name = |p: &PathBuf| p.strip_prefix(&root).unwrap().display().to_string();
    files(&root, "rs").iter().map(|p| (name(p), std::fs::read_to_string(p).unwrap())).collect()
}

/// Lines of code, comments and this test's own words left out.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|l| !l.trim_start().starts_with("//"))
}

#[test]
fn each_crate_names_only_what_it_may() {
    let rules: &[(&str, &[&str], &str)] = &[
        ("redb::", &["daemon/src/store/"], "only the store names redb"),
        ("axum::", &["daemon/src/http/"], "only http/ names axum"),
        ("arrow::", &["daemon/data/"], "only data/ names arrow"),
        ("bincode::", &["protocol/src/wire.rs"], "bincode has one module"),
        ("llama_cpp", &["kernels/"], "only kernels names the engine"),
        ("ratatui::", &["tui/"], "only tui draws"),
        ("tokio::", &["daemon/"], "only the daemon is async"),
    ];
    for (path, text) in sources().iter().filter(|(p, _)| !p.starts_with("tests/")) {
        for (word, homes, rule) in rules {
            let named = code(text).any(|l| l.contains(word));
            assert!(!named || homes.iter().any(|h| path.starts_with(h)), "{path}: {rule}");
        }
        if !path.starts_with("kernels/") {
            let unsafe_code = code(text).any(|l| l.contains("unsafe {") || l.contains("unsafe fn"));
            assert!(!unsafe_code, "{path}: unsafe lives in kernels/ alone");
        }
    }
}

#[test]
fn files_begin_with_what_they_are_and_stay_small() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{path}: begin with //! and say what lives here and what never will");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines; {LINES_MAX} are two rooms");
    }
}

#[test]
fn nothing_unfinished_and_no_switched_off_test() {
    let banned =
        [["to", "do!("].concat(), ["unimpl", "emented!("].concat(), ["#[ig", "nore"].concat(), ["FIX", "ME"].concat()];
    for (path, text) in sources() {
        for word in &banned {
            assert!(!text.contains(word.as_str()), "{path} contains {word}");
        }
    }
}

#[test]
fn wire_types_use_only_what_bincode_can_read() {
    for (path, text) in sources().iter().filter(|(p, _)| p.starts_with("protocol/src")) {
        for word in ["flatten", "untagged", "skip_serializing_if", "serde(default", "serde(tag"] {
            assert!(
                !code(text).any(|l| l.contains("serde(") && l.contains(word)),
                "{path}: bincode cannot read {word}"
            );
        }
    }
}

#[test]
fn docs_stand_in_both_languages() {
    let docs = repository().join("docs");
    let ours = |p: &Path| {
        let name = p.strip_prefix(&docs).unwrap().display().to_string();
        (!name.starts_with("zh/") && !name.starts_with("evidence/")).then_some(name)
    };
    let pages: Vec<String> = files(&docs, "md").iter().filter_map(|p| ours(p)).collect();
    assert!(pages.len() >= 10, "{pages:?}");
    for page in pages {
        assert!(docs.join("zh").join(&page).exists(), "docs/{page} has no docs/zh/{page}");
    }
}

#[test]
fn no_machine_path_and_no_registry_host_stands_in_the_tree() {
    let root = repository();
    // Written in pieces, so that this file does not contain them.
    let hosts = [["crates", ".io/"].concat(), ["py", "pi.org"].concat(), ["registry.npm", "js"].concat()];
    let own = root.parent().unwrap().display().to_string() + "/main";
    for extension in ["rs", "md", "toml", "py", "sh", "jsonl"] {
        for path in files(&root, extension) {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            assert!(!text.contains(&own), "{} names this machine", path.display());
            for host in &hosts {
                assert!(!text.contains(host.as_str()), "{} names {host}", path.display());
            }
        }
    }
}
