//! Modules loaded at run time: a small backend, compiled here against the program's own ggml source, is found, listed,
//! chosen and given a model; one of another ggml, one that is no module and one without a symbol are named and left
//! out, and without a card that takes the model the CPU computes.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Threads of ggml wait for each other without sleeping: two programs that compute at the same time take many times as long.
static COMPUTES: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    COMPUTES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs gpu-check with `folder` as its modules.
fn gpu_check(folder: &Path, device: Option<&str>, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-check"));
    command.args(words).env("HONE_BACKENDS", folder).env_remove("HONE_DEVICE");
    if let Some(device) = device {
        command.env("HONE_DEVICE", device);
    }
    command.output().expect("gpu-check runs")
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON value")
}

/// ggml's folder in the source of llama-cpp-sys-2, and the stamp of a module that fits.
fn ggml() -> (PathBuf, String) {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let found = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    let metadata = json(&found);
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "llama-cpp-sys-2").expect("it is locked");
    let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().join("llama.cpp/ggml");
    (folder, format!("llama-cpp-sys-2 {}", package["version"].as_str().unwrap()))
}

/// Compiles tests/probe.cpp into `folder` as libggml-`name`.so with `extra` flags.
fn probe(folder: &Path, name: &str, stamp: Option<&str>, extra: &[&str]) {
    let (ggml, _) = ggml();
    let mut command = Command::new("c++");
    command.args(["-std=c++17", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-DGGML_BACKEND_DL", "-o"]);
    command.arg(folder.join(format!("libggml-{name}.so")));
    command.arg("-I").arg(ggml.join("include")).arg("-I").arg(ggml.join("src"));
    command.args(stamp.map(|stamp| format!("-DSTAMP=\"{stamp}\""))).args(extra);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe.cpp"));
    let built = command.output().expect("a C++ compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

fn names(devices: &Value) -> Vec<&str> {
    devices["devices"].as_array().unwrap().iter().map(|device| device["name"].as_str().unwrap()).collect()
}

#[test]
fn a_module_of_the_same_ggml_is_loaded_and_its_card_chosen() {
    let folder = tempfile::tempdir().unwrap();
    probe(folder.path(), "probe", Some(&ggml().1), &[]);
    let found = json(&gpu_check(folder.path(), None, &["devices"]));
    assert_eq!(names(&found), ["CPU", "PROBE0", "PROBE1"], "{found}");
    assert_eq!(found["chosen"], "PROBE1", "the card with more free memory");
    assert_eq!(found["devices"][2]["memory_free_bytes"], 7u64 << 30);
    assert_eq!(found["devices"][2]["kind"], "gpu");
    for (wish, chosen) in [("cpu", "CPU"), ("PROBE0", "PROBE0"), ("probe0,probe1", "PROBE1")] {
        assert_eq!(json(&gpu_check(folder.path(), Some(wish), &["devices"]))["chosen"], chosen);
    }
}

#[test]
fn a_module_that_does_not_fit_is_named_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let stamp = ggml().1;
    probe(folder.path(), "older", Some("llama-cpp-sys-2 0.0.1"), &[]);
    probe(folder.path(), "stranger", None, &[]);
    probe(folder.path(), "interface", Some(&stamp), &["-DAPI_VERSION=99"]);
    probe(folder.path(), "lost", Some(&stamp), &["-DLOST"]);
    std::fs::write(folder.path().join("libggml-text.so"), "no module").unwrap();
    std::fs::write(folder.path().join("README.so"), "not named as one").unwrap();
    let output = gpu_check(folder.path(), None, &["devices"]);
    let found = json(&output);
    assert_eq!(names(&found), ["CPU"]);
    assert_eq!(found["chosen"], "CPU");
    let said = String::from_utf8_lossy(&output.stderr);
    for (name, why) in [
        ("libggml-older.so", "was built from llama-cpp-sys-2 0.0.1"),
        ("libggml-stranger.so", "was not built for hone"),
        ("libggml-interface.so", "ggml refused it"),
        ("libggml-lost.so", "ggml_hone_never_had_this"),
        ("libggml-text.so", "it cannot be loaded"),
    ] {
        let named = said.lines().any(|line| line.contains(name) && line.contains(why));
        assert!(named, "{name}: {why}\n{said}");
    }
    assert!(!said.contains("README"), "{said}");
}

#[test]
fn a_folder_that_is_not_there_and_a_device_that_is_not_there_are_said() {
    let output = gpu_check(Path::new("/nonexistent-backends"), None, &["devices"]);
    assert_eq!(json(&output)["chosen"], "CPU");
    assert!(String::from_utf8_lossy(&output.stderr).contains("only the CPU is used"));
    let output = gpu_check(Path::new("/nonexistent-backends"), Some("CUDA0"), &["devices"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no device is called CUDA0; there are CPU"));
}

/// A seeded model, and what gpu-check says of it on `device`: the answer, standard error, and the logits.
fn with_model(folder: &Path, device: Option<&str>) -> (Output, Vec<u8>) {
    let (model, logits) = (folder.join("tiny.gguf"), folder.join("logits"));
    if !model.exists() {
        let generated = Command::new(env!("CARGO_BIN_EXE_generate-gguf")).arg("tiny").arg(&model).status().unwrap();
        assert!(generated.success());
    }
    let output = gpu_check(folder, device, &["model", model.to_str().unwrap(), logits.to_str().unwrap()]);
    (output, std::fs::read(&logits).unwrap_or_default())
}

fn values(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|raw| f32::from_le_bytes(raw.try_into().unwrap())).collect()
}

#[test]
fn a_model_is_served_by_the_card_that_is_chosen_or_by_those_that_are_named() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    probe(folder.path(), "probe", Some(&ggml().1), &[]);
    let (cpu, expected) = with_model(folder.path(), Some("CPU"));
    assert_eq!(json(&cpu)["devices"], serde_json::json!([]));
    assert!(!expected.is_empty());
    for (wish, devices) in [(None, vec!["PROBE1"]), (Some("PROBE0,PROBE1"), vec!["PROBE1", "PROBE0"])] {
        let (output, logits) = with_model(folder.path(), wish);
        assert_eq!(json(&output)["devices"], serde_json::json!(devices));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("the model's layers are on {}", devices.join(", "))), "{said}");
        // The same processor computes, but ggml may arrange the weights for its own kernels and sum in another order.
        let (logits, expected) = (values(&logits), values(&expected));
        let apart = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        assert!(logits.len() == expected.len() && apart < 1e-4, "{wish:?}: {apart}");
    }
}

#[test]
fn when_no_card_takes_the_model_the_cpu_computes_unless_a_card_was_named() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    probe(folder.path(), "probe", Some(&ggml().1), &["-DFULL"]);
    let (output, _) = with_model(folder.path(), None);
    assert_eq!(json(&output)["devices"], serde_json::json!([]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("PROBE1 did not take the model"), "{said}");
    let (output, _) = with_model(folder.path(), Some("PROBE0"));
    assert!(!output.status.success());
}

#[test]
fn every_operation_runs_on_a_card_of_a_module() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    probe(folder.path(), "probe", Some(&ggml().1), &[]);
    let output = gpu_check(folder.path(), Some("PROBE0"), &["parity"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let results: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(results.len() > 40, "{lines}");
    assert!(results.iter().all(|result| result["same"] == true), "{lines}");
}

/// What `gpu-check` does on a machine without a compiler for cards, from a pack of this build's programs: it stops when
/// time is up, goes on, and says what is missing.
#[test]
fn the_check_of_a_machine_stops_in_time_goes_on_and_writes_one_report() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (pack, work) = (folder.path().join("pack"), folder.path().join("work"));
    std::fs::create_dir_all(pack.join("bin")).unwrap();
    for program in [env!("CARGO_BIN_EXE_gpu-check"), env!("CARGO_BIN_EXE_generate-gguf")] {
        let name = Path::new(program).file_name().unwrap();
        std::os::unix::fs::symlink(program, pack.join("bin").join(name)).unwrap();
    }
    std::fs::write(pack.join("manifest.json"), r#"{"stamp": "a test", "digest": "1"}"#).unwrap();
    probe(folder.path(), "probe", Some(&ggml().1), &[]);
    let check = |seconds: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/gpu/check.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(&pack).arg("--work").arg(&work).args(["--seconds", seconds]);
        command.env("HONE_BACKENDS", folder.path()).env("HONE_DEVICE", "CPU").env("HONE_TORCH_PYTHON", "/none");
        command.env_remove("OUT").output().expect("python3 runs")
    };
    let early = check("5");
    assert_eq!(early.status.code(), Some(75), "{}", String::from_utf8_lossy(&early.stderr));
    let output = check("540");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(work.join("gpu-check.json")).unwrap()).unwrap();
    for step in ["parity", "products", "model tiny"] {
        assert!(report["steps"][step]["seconds"].is_number(), "{step}: {report}");
    }
    assert_eq!(report["steps"]["model tiny"]["logits_error"], 0.0);
    let missing = report["missing"].to_string();
    assert!(missing.contains("compared with itself") && missing.contains("has no PyTorch"), "{missing}");
}
