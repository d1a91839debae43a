//! Makes this crate's programs offer ggml's functions to backends that are loaded at run time, puts our own clearing of
//! buffers in the place of ggml's (`src/ggml/clear.rs`), and tells the crate which ggml it is built from. It compiles
//! nothing: llama-cpp-sys-2 does.

use std::path::Path;

/// ggml's own functions by prefix: what a module leaves undefined because the program has it.
const OFFERED: &[&str] = &["ggml_*", "gguf_*", "quantize_*", "dequantize_*", "_Z*ggml*"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=HONE_GGML={}", source());
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        for symbols in OFFERED {
            println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol={symbols}");
        }
        println!("cargo:rustc-link-arg=-Wl,--wrap=ggml_backend_buffer_clear");
    }
}

/// The package that brings ggml and its version, `llama-cpp-sys-2 1.2.3`: the stamp of a module that fits.
fn source() -> String {
    let lock = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../Cargo.lock");
    println!("cargo:rerun-if-changed={}", lock.display());
    let text = std::fs::read_to_string(&lock).expect("Cargo.lock stands in the repository's root");
    let name = "name = \"llama-cpp-sys-2\"\nversion = \"";
    let version = text.split_once(name).and_then(|(_, rest)| rest.split_once('"')).map(|(version, _)| version);
    format!("llama-cpp-sys-2 {}", version.expect("Cargo.lock names llama-cpp-sys-2"))
}
