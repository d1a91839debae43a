//! Models in and out over the real socket with the real starter: an adapter is trained, merged, quantised, written for
//! PEFT and read back. Never here: whether logits are the same (kernels' tests and `tests/prove/peft.py`).

use std::path::Path;

use hone_tests::{Client, Daemon, http, train_spec};
use serde_json::{Value, json};

fn convert(client: &mut Client, what: &str, fields: Value) -> Result<Value, Value> {
    let job = client.try_ask(json!({"submit": {"spec": {"convert": {what: fields}}}}))?;
    let view = client.finish(job["record"]["id"].as_str().unwrap());
    let state = &view["record"]["state"];
    if state["failed"].is_null() { Ok(state["succeeded"].clone()) } else { Err(state["failed"].clone()) }
}

/// The version of a reference as lists show it.
fn version(client: &mut Client, reference: &str) -> Value {
    let models = client.ask(json!("models"));
    let all = models.as_array().unwrap().iter().flat_map(|m| m["versions"].as_array().unwrap().clone());
    all.into_iter().find(|v| v["reference"] == reference).unwrap_or_else(|| panic!("no {reference} in {models}"))
}

fn file(daemon: &Daemon, version: &Value) -> Vec<u8> {
    let path = Path::new("models").join(version["record"]["file"]["path"].as_str().unwrap());
    std::fs::read(daemon.state().join(path)).unwrap()
}

/// The tensor data of an adapter file: what follows its header, which names where it came from.
fn tail(bytes: &[u8], count: usize) -> &[u8] {
    &bytes[bytes.len() - count..]
}

fn trained() -> (Daemon, Client) {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    client.import_rows();
    few_rows(&mut client, &daemon);
    client.job(train_spec(3, json!({"model": "support", "alias": "", "publish": ""})));
    (daemon, client)
}

/// The first rows of the preset as a dataset of their own.
fn few_rows(client: &mut Client, daemon: &Daemon) {
    let few = daemon.state().join("few.jsonl");
    let rows =
        std::fs::read_to_string(hone_tests::repository().join("daemon/data/presets/support-desk.jsonl")).unwrap();
    std::fs::write(&few, rows.lines().take(6).map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let source = json!({"path": {"path": few.display().to_string()}});
    client.job(json!({"import_dataset": {"source": source, "name": "few", "format": "detect"}}));
}

#[test]
fn an_adapter_is_merged_quantised_served_and_goes_to_peft_and_back() {
    let (daemon, mut client) = trained();
    let merge = json!({"version": "support", "format": "f16", "name": "support", "receipt_rows": "few"});
    convert(&mut client, "merge", merge).unwrap();
    let merged = version(&mut client, "support@2");
    let adapter = version(&mut client, "support@1");
    let record = &merged["record"];
    assert_eq!(record["weights"], "base");
    assert_eq!(record["lineage"]["parent"], adapter["record"]["id"]);
    assert_eq!(record["lineage"]["dataset"], adapter["record"]["lineage"]["dataset"]);
    assert!(record["lineage"]["warning"].as_str().unwrap().contains("Q4_1"), "{record}");
    assert_eq!(record["facts"]["tensor_types"][0][0], "F16");
    let receipt = &record["receipt"];
    assert_eq!((receipt["dataset"].as_str(), receipt["rows"].as_u64()), (Some("few@1"), Some(6)), "{receipt}");
    let number = |key: &str| receipt[key].as_f64().unwrap();
    assert!(number("tokens") > 60.0 && number("perplexity") > 1.0, "{receipt}");
    // Nothing but the rounding of activations over the quantised base lies between the two.
    assert!((number("perplexity") / number("parent_perplexity") - 1.0).abs() < 0.03, "{receipt}");
    assert!((0.0..0.02).contains(&number("mean_kl")) && number("same_greedy") > 0.9, "{receipt}");
    let starter = version(&mut client, "starter@1");
    assert_eq!(record["facts"]["template_sha256"], starter["record"]["facts"]["template_sha256"]);
    assert_eq!(record["facts"]["parameters"], starter["record"]["facts"]["parameters"]);

    convert(&mut client, "quantize", json!({"version": "support@2", "format": "q8_0", "name": "small"})).unwrap();
    let small = version(&mut client, "small@1");
    assert_eq!(small["record"]["facts"]["tensor_types"][0][0], "Q8_0");
    assert_eq!(small["record"]["lineage"]["parent"], record["id"]);
    // From the version that it was made from, not from what was rounded; by what matters on these rows.
    let rounded =
        json!({"version": "small@1", "format": "q4_0", "name": "small", "receipt_rows": "few", "imatrix_rows": "few"});
    convert(&mut client, "quantize", rounded).unwrap();
    let rounded = version(&mut client, "small@2")["record"].clone();
    assert_eq!(rounded["lineage"]["parent"], record["id"]);
    let source = rounded["lineage"]["source"].as_str().unwrap();
    assert_eq!(source, "support@2 quantised to q4_0 by the importance matrix of few@1");
    assert_eq!(rounded["receipt"]["imatrix"], "few@1");

    answers_alike(&daemon, &mut client);

    let folder = daemon.state().join("peft");
    let to = folder.display().to_string();
    let export = json!({"version": "support@1", "format": "peft", "path": to});
    let made = convert(&mut client, "export", export.clone()).unwrap();
    assert_eq!(made["exported"]["files"], json!(["adapter_config.json", "adapter_model.safetensors", "README.md"]));
    assert_eq!(convert(&mut client, "export", export).unwrap_err()["code"], "name_taken", "nothing is written over");
    convert(&mut client, "import_peft", json!({"path": to, "base": "starter", "name": "back"})).unwrap();
    let back = version(&mut client, "back@1");
    assert_eq!(back["base_reference"], "starter@1");
    assert_eq!(back["record"]["weights"], adapter["record"]["weights"]);
    let (before, after) = (file(&daemon, &adapter), file(&daemon, &back));
    let values = 4 * adapter["record"]["facts"]["parameters"].as_u64().unwrap() as usize;
    assert_eq!(sorted(tail(&before, values)), sorted(tail(&after, values)), "the same values, tensors in any order");
}

/// Values of an adapter in an order that does not depend on that of its tensors.
fn sorted(bytes: &[u8]) -> Vec<[u8; 4]> {
    let mut values: Vec<[u8; 4]> = bytes.chunks_exact(4).map(|four| four.try_into().unwrap()).collect();
    values.sort_unstable();
    values
}

/// The merged version and the adapter over its base say the same.
fn answers_alike(daemon: &Daemon, client: &mut Client) {
    let price = json!({"input_micros": 0, "cached_micros": 0, "output_micros": 0});
    client.ask(json!({"set_application": {"name": "shop", "title": "", "services": []}}));
    let key = client.ask(json!({"create_key": {"application": "shop", "label": ""}}));
    let key = key["secret"].as_str().unwrap();
    let mut said = Vec::new();
    for (name, version) in [("adapter", "support@1"), ("merged", "support@2")] {
        let publish = json!({"name": name, "version": version, "slots": 1, "context_tokens": 512, "price": price});
        client.ask(json!({"publish": publish}));
        client.wait_for_service(name);
        let body = json!({"model": name, "messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, "max_tokens": 6});
        let answer = http(&daemon.http(), "POST", "/v1/chat/completions", Some(key), Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        said.push(answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned());
    }
    assert_eq!(said[0], said[1]);
}

#[test]
fn a_copy_for_other_programs_is_whole_and_names_its_end_texts() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let folder = daemon.state().join("out");
    let export = json!({"version": "starter", "format": "gguf", "path": folder.display().to_string()});
    convert(&mut client, "export", export).unwrap();
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(read("starter-1.gguf"), std::fs::read(hone_tests::starter()).unwrap());
    let modelfile = String::from_utf8(read("Modelfile")).unwrap();
    assert_eq!(modelfile, "FROM ./starter-1.gguf\nPARAMETER stop \"<|im_end|>\"\n");
    let card = String::from_utf8(read("README.md")).unwrap();
    assert!(card.contains("license: apache-2.0") && card.contains("starter@1"), "{card}");

    // As a folder for transformers, which is read back by the same program that reads published ones.
    let folder = daemon.state().join("hf");
    let to = folder.display().to_string();
    let export = json!({"version": "starter", "format": "huggingface", "path": to});
    let made = convert(&mut client, "export", export).unwrap();
    let files = json!([
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "README.md"
    ]);
    assert_eq!(made["exported"]["files"], files);
    client.job(json!({"import_model": {"source": {"folder": {"path": to, "weights": "as_stored"}}, "name": "back"}}));
    let (back, starter) = (version(&mut client, "back@1"), version(&mut client, "starter@1"));
    for same in ["architecture", "parameters", "vocabulary", "context_tokens", "template_sha256"] {
        assert_eq!(back["record"]["facts"][same], starter["record"]["facts"][same], "{same}");
    }
}

#[test]
fn what_cannot_be_converted_is_refused_before_work_begins() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    let place = daemon.state().join("out").display().to_string();
    for (what, fields, field) in [
        ("merge", json!({"version": "starter", "format": "f16", "name": "x"}), "version"),
        ("quantize", json!({"version": "starter", "format": "same", "name": "x"}), "format"),
        ("quantize", json!({"version": "starter", "format": "q8_0", "name": "No Name"}), "name"),
        ("export", json!({"version": "starter", "format": "peft", "path": place}), "version"),
        ("export", json!({"version": "starter", "format": "huggingface", "path": "/tmp/x.gguf"}), "path"),
        ("export", json!({"version": "starter", "format": "gguf", "path": "out"}), "path"),
        ("import_peft", json!({"path": "peft", "base": "starter", "name": "x"}), "path"),
    ] {
        let job = client.try_ask(json!({"submit": {"spec": {"convert": {what: fields}}}})).unwrap_err();
        assert_eq!((job["code"].as_str(), job["place"].as_str()), (Some("invalid_field"), Some(field)), "{job}");
    }
    let folder = daemon.state().join("adapter");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("adapter_config.json"), r#"{"peft_type": "LORA", "r": 8, "use_dora": true}"#).unwrap();
    let fields = json!({"path": folder.display().to_string(), "base": "starter", "name": "x"});
    let failed = convert(&mut client, "import_peft", fields).unwrap_err();
    assert_eq!(failed["place"], "use_dora", "{failed}");
    assert_eq!(client.ask(json!("models"))[0]["versions"].as_array().unwrap().len(), 1);
}

#[test]
fn formats_are_measured_beside_each_other_and_one_is_advised() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.import_starter();
    few_rows(&mut client, &daemon);
    // Threads are few, because other tests compute meanwhile: what is looked at is no speed.
    let wanted = json!({"version": "starter", "dataset": "few", "formats": ["q8_0", "q4_k_m", "q4_0"], "threads": 1});
    let made = convert(&mut client, "bench", wanted).unwrap();
    let report = &made["bench"];
    assert_eq!(report["source"], "starter@1");
    let formats = report["formats"].as_array().unwrap();
    let words: Vec<&str> = formats.iter().map(|figures| figures["format"].as_str().unwrap()).collect();
    assert_eq!(words, ["q8_0", "q4_k_m", "q4_0"]);
    let number = |at: usize, key: &str| formats[at][key].as_f64().unwrap_or_else(|| panic!("{key}: {}", formats[at]));
    for (at, figures) in formats.iter().enumerate() {
        println!("{figures}");
        for speed in ["train_tokens_per_s", "prefill_tokens_per_s", "decode_tokens_per_s"] {
            assert!(number(at, speed) > 0.0, "{speed}");
        }
        assert_eq!(
            (figures["receipt"]["dataset"].as_str(), figures["receipt"]["rows"].as_u64()),
            (Some("few@1"), Some(6))
        );
    }
    assert!(
        number(0, "size_bytes") > 1.3 * number(1, "size_bytes") && number(1, "size_bytes") > number(2, "size_bytes")
    );
    let kl = |at: usize| formats[at]["receipt"]["mean_kl"].as_f64().unwrap();
    assert!(kl(0) < kl(1) && kl(1) < kl(2), "{report}");
    // Rows of 576 values do not fit K blocks, which is said.
    assert!(formats[1]["note"].as_str().unwrap().contains("blocks"), "{report}");
    for advised in ["train_on", "serve"] {
        let at = words.iter().position(|word| report[advised] == *word).unwrap();
        assert!(kl(at) <= 0.05, "{advised}: {report}");
    }
    // It makes no version and leaves no file.
    assert_eq!(client.ask(json!("models")).as_array().unwrap().len(), 1);
    let left = std::fs::read_dir(daemon.state().join("jobs")).unwrap().map(|job| job.unwrap().path().join("made"));
    assert_eq!(left.filter(|made| made.exists()).count(), 0);

    for formats in [json!(["same"]), json!(["q8_0", "q8_0"])] {
        let wanted = json!({"version": "starter", "dataset": "few", "formats": formats, "threads": 1});
        let refused = client.try_ask(json!({"submit": {"spec": {"convert": {"bench": wanted}}}})).unwrap_err();
        assert_eq!(refused["place"], "formats", "{refused}");
    }
}
