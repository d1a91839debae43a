//! Dependencies: licences, sources, pins, over `cargo metadata` of the locked tree. What cargo-deny would check, for
//! machines that cannot have it.

use std::collections::BTreeSet;
use std::process::Command;

use hone_tests::repository;
use serde_json::Value;

const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "0BSD",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "CC0-1.0",
    "Unlicense",
    "BSL-1.0",
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", &host()])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The platform of this build: what other platforms need was never downloaded here.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|l| l.strip_prefix("host: ")).unwrap().to_owned()
}

/// Whether a licence expression can be met: one side of each `OR`, both of each `AND`.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    expression.split(" AND ").all(|all| all.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

/// `name vX.Y.Z|licence` of everything that this build really contains. The lock and `cargo metadata` also list optional
/// parts of dependencies that are never built.
fn built() -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--locked", "--offline", "--prefix", "none", "--format", "{p}|{l}"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|l| !l.is_empty()).map(|l| l.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn every_dependency_has_a_licence_we_accept_and_comes_from_the_registry() {
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        match package["source"].as_str() {
            None => assert!(name.starts_with("hone-"), "{name} is a path dependency"),
            Some(source) => assert!(source.starts_with("registry+"), "{name} comes from {source}"),
        }
    }
    let built = built();
    assert!(built.len() > 100);
    let refused: Vec<&String> = built.iter().filter(|l| !allowed(l.rsplit('|').next().unwrap_or(""))).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn the_engine_and_the_codec_are_pinned_and_stand_once() {
    let metadata = metadata();
    let versions = |name: &str| -> Vec<String> {
        let packages = metadata["packages"].as_array().unwrap().iter();
        packages.filter(|p| p["name"] == name).map(|p| p["version"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(versions("llama-cpp-2"), ["0.1.160"]);
    assert_eq!(versions("llama-cpp-sys-2"), ["0.1.161"]);
    assert_eq!(versions("bincode"), ["2.0.1"]);
    for once in ["tokio", "redb", "arrow", "axum", "ratatui", "crossterm", "hyper"] {
        assert_eq!(versions(once).len(), 1, "{once} stands more than once");
    }
}

#[test]
fn licence_expressions_are_read_as_written() {
    assert!(allowed("MIT OR Apache-2.0") && allowed("MIT/Apache-2.0") && allowed("(MIT OR GPL-3.0) AND ISC"));
    assert!(!allowed("GPL-3.0") && !allowed("MIT AND AGPL-3.0") && !allowed(""));
}
