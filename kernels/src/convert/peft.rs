//! LoRA adapters between GGUF and the folder that PEFT writes (`adapter_config.json`, `adapter_model.safetensors`,
//! <https://huggingface.co/docs/peft/developer_guides/checkpoint>). Names of modules follow transformers' own. What the
//! other form cannot hold is refused by its name, never dropped. Never here: the base's weights; of the base only sizes are
//! read.
//!
//! Two things differ between the forms beside names. Converters of llama files to GGUF reorder the rows of Q and K, so
//! that rotary pairs are neighbours; B follows them. And GGUF has one alpha for all matrices and always divides it by the
//! rank, so a scale by the root of the rank (rsLoRA, <https://arxiv.org/abs/2312.03732>) becomes another alpha, and scales
//! that differ from module to module move into B.

mod settings;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;

use super::merge::values;
use super::{ConvertError, is_adapter, refuse};
use crate::arch::{self, Config, Matrix};
use crate::ggml;
use crate::gguf::{GgufFile, GgufWriter, Value};
use crate::inspect::{self, Facts};
use settings::Settings;

/// Name of the settings file.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Name of the file of values.
pub const VALUES_FILE: &str = "adapter_model.safetensors";
/// Longest file of values that is read, in bytes: it is read whole.
pub const VALUES_BYTES_MAX: u64 = 8 << 30;
/// What stands before `layers.N.` in the names of adapters of models for text.
const LAYER_PREFIXES: [&str; 4] =
    ["model.layers.", "layers.", "model.language_model.layers.", "language_model.model.layers."];

/// Where transformers has a matrix inside a layer. A family whose names differ has its own line here.
fn module(matrix: Matrix) -> &'static str {
    match matrix {
        Matrix::Q => "self_attn.q_proj",
        Matrix::K => "self_attn.k_proj",
        Matrix::V => "self_attn.v_proj",
        Matrix::O => "self_attn.o_proj",
        Matrix::Qkv => "self_attn.qkv_proj",
        Matrix::Gate => "mlp.gate_proj",
        Matrix::Up => "mlp.up_proj",
        Matrix::Down => "mlp.down_proj",
        Matrix::GateUp => "mlp.gate_up_proj",
    }
}

/// Heads whose rows a converter to GGUF reorders, in matrix `matrix` of architecture `name`; `None` where it does not.
fn reordered_heads(name: &str, config: &Config, matrix: Matrix) -> Option<usize> {
    match (name, matrix) {
        ("llama", Matrix::Q) => Some(config.heads),
        ("llama", Matrix::K) => Some(config.kv_heads),
        _ => None,
    }
}

/// The base of an adapter, as far as names and sizes go.
struct Base {
    file: GgufFile,
    architecture: &'static str,
    config: Config,
}

/// A matrix of the base that can be adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// In a layer, by its index among the matrices of one.
    Layer(usize, usize),
    /// The output head.
    Head,
}

impl Base {
    fn open(path: &Path) -> Result<Base, ConvertError> {
        let file = GgufFile::open(path)?;
        let (arch, config) = arch::recognise(&file)?;
        Ok(Base { file, architecture: arch.name, config })
    }

    fn matrices(&self) -> Vec<Matrix> {
        self.config.matrices().collect()
    }

    fn tensor(&self, place: Place) -> String {
        match place {
            Place::Layer(layer, index) => self.matrices()[index].weight_name(layer),
            Place::Head => "output.weight".to_owned(),
        }
    }

    fn module(&self, place: Place) -> String {
        match place {
            Place::Layer(layer, index) => format!("model.layers.{layer}.{}", module(self.matrices()[index])),
            Place::Head => "lm_head".to_owned(),
        }
    }

    /// The matrix that GGUF calls so.
    fn of_tensor(&self, name: &str) -> Option<Place> {
        let layers = (0..self.config.layers).flat_map(|layer| (0..self.matrices().len()).map(move |at| (layer, at)));
        let mut places = layers.map(|(layer, at)| Place::Layer(layer, at));
        let head = (name == "output.weight" && self.file.tensor(name).is_some()).then_some(Place::Head);
        head.or_else(|| places.find(|&place| self.tensor(place) == name))
    }

    /// The matrix that transformers calls so.
    fn of_module(&self, name: &str) -> Option<Place> {
        if name == "lm_head" && self.file.tensor("output.weight").is_some() {
            return Some(Place::Head);
        }
        let rest = LAYER_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
        let (layer, inside) = rest.split_once('.')?;
        let layer = layer.parse().ok().filter(|layer| *layer < self.config.layers)?;
        let at = self.matrices().iter().position(|&matrix| module(matrix) == inside)?;
        Some(Place::Layer(layer, at))
    }

    /// Inputs and outputs.
    fn dims(&self, place: Place) -> (usize, usize) {
        match place {
            Place::Layer(_, at) => self.config.matrix_dims(self.matrices()[at]),
            Place::Head => (self.config.width, self.config.vocab),
        }
    }

    /// B with its rows in the order of the other form. `to_gguf`: from transformers' order.
    fn reordered(&self, place: Place, b: Vec<f32>, rank: usize, to_gguf: bool) -> Vec<f32> {
        let Place::Layer(_, at) = place else { return b };
        match reordered_heads(self.architecture, &self.config, self.matrices()[at]) {
            Some(heads) => reorder(&b, heads, rank, to_gguf),
            None => b,
        }
    }
}

/// transformers has first the one half of a head's rows, then the other; GGUF has the two of each pair beside each other.
fn reorder(b: &[f32], heads: usize, rank: usize, to_gguf: bool) -> Vec<f32> {
    let head = b.len() / rank / heads;
    let mut out = vec![0.0; b.len()];
    for row in 0..b.len() / rank {
        let (start, at) = (row / head * head, row % head);
        let (half, pair) = (at / (head / 2), at % (head / 2));
        let neighbour = start + 2 * pair + half;
        let (from, to) = if to_gguf { (row, neighbour) } else { (neighbour, row) };
        out[to * rank..][..rank].copy_from_slice(&b[from * rank..][..rank]);
    }
    out
}

/// One adapted matrix: A [rank][input] and B [output][rank].
struct Pair {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
}

/// Writes the adapter's values and settings into `folder`, which is there; answers the names of the files.
pub fn to_peft(adapter: &Path, base: &Path, folder: &Path, base_name: &str) -> Result<Vec<&'static str>, ConvertError> {
    let (base, file) = (Base::open(base)?, GgufFile::open(adapter)?);
    if !is_adapter(&file) {
        return refuse(adapter, "general.type", "is a model; only an adapter can be written for PEFT");
    }
    let Facts::Adapter(facts) = inspect::facts(&file)? else {
        return refuse(adapter, "general.type", "is a model; only an adapter can be written for PEFT");
    };
    if file.get("adapter.alora.invocation_tokens").is_some() {
        let problem = "the adapter takes effect only behind these tokens, which a LoRA of PEFT cannot say";
        return refuse(adapter, "adapter.alora.invocation_tokens", problem);
    }
    let data =
        File::open(adapter).map_err(|source| ConvertError::Io { action: "read", path: adapter.to_owned(), source })?;
    let mut pairs = BTreeMap::new();
    for a in &file.tensors {
        let Some(stem) = a.name.strip_suffix(".lora_a") else { continue };
        let b = file.require_tensor(&format!("{stem}.lora_b"))?;
        let Some(place) = base.of_tensor(stem) else {
            return refuse(
                adapter,
                &a.name,
                format!("there is no module for it in a {} of transformers", base.architecture),
            );
        };
        let rank = a.dim(1) as usize;
        if (a.dim(0) as usize, b.dim(1) as usize) != base.dims(place) {
            return refuse(adapter, &a.name, "does not fit the base; the adapter is of another model");
        }
        let (a, b) = (values(&file, &data, a)?, values(&file, &data, b)?);
        pairs.insert(place, Pair { a, b: base.reordered(place, b, rank, false), rank });
    }
    // llama.cpp takes an alpha of 0 for no scale at all.
    let alpha = if facts.alpha == 0.0 { facts.rank as f32 } else { facts.alpha };
    write_values(&base, &pairs, &folder.join(VALUES_FILE))?;
    let config = config(&base, &pairs, facts.rank, alpha, base_name);
    let path = folder.join(CONFIG_FILE);
    let text = serde_json::to_string_pretty(&config).expect("plain JSON can be written") + "\n";
    fs::write(&path, text).map_err(|source| ConvertError::Io { action: "write", path, source })?;
    Ok(vec![CONFIG_FILE, VALUES_FILE])
}

fn config(base: &Base, pairs: &BTreeMap<Place, Pair>, rank: u64, alpha: f32, base_name: &str) -> serde_json::Value {
    // Short names where every layer has the same modules, else each by its whole name: PEFT adapts all that match.
    let whole: Vec<String> = pairs.keys().map(|&place| base.module(place)).collect();
    let kinds: BTreeSet<usize> =
        pairs.keys().filter_map(|place| if let Place::Layer(_, at) = place { Some(*at) } else { None }).collect();
    let even = pairs.len() == kinds.len() * base.config.layers;
    let short = |at: &usize| module(base.matrices()[*at]).rsplit('.').next().unwrap_or_default().to_owned();
    let modules = if even { kinds.iter().map(short).collect() } else { whole };
    let ranks: serde_json::Map<String, serde_json::Value> = pairs
        .iter()
        .filter(|(_, pair)| pair.rank as u64 != rank)
        .map(|(&place, pair)| (base.module(place), json!(pair.rank)))
        .collect();
    // A whole alpha is written as PEFT writes it.
    let alpha = if alpha.fract() == 0.0 && alpha.abs() < 1e9 { json!(alpha as i64) } else { json!(alpha) };
    json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": ranks,
        "revision": null,
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    })
}

fn write_values(base: &Base, pairs: &BTreeMap<Place, Pair>, path: &Path) -> Result<(), ConvertError> {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors = Vec::with_capacity(2 * pairs.len());
    for (&place, pair) in pairs {
        let (input, output) = base.dims(place);
        let name = format!("base_model.model.{}", base.module(place));
        tensors.push((format!("{name}.lora_A.weight"), vec![pair.rank, input], bytes(&pair.a)));
        tensors.push((format!("{name}.lora_B.weight"), vec![output, pair.rank], bytes(&pair.b)));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("four bytes for every value");
        (name.as_str(), view)
    });
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(about)).map_err(std::io::Error::other);
    let written = bytes.and_then(|bytes| fs::write(path, bytes)).and_then(|()| File::open(path)?.sync_all());
    written.map_err(|source| ConvertError::Io { action: "write", path: path.to_owned(), source })
}

/// What was made of a PEFT folder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FromPeft {
    /// Largest rank.
    pub rank: u32,
    /// Alpha as GGUF has it.
    pub alpha: f32,
    /// Adapted matrices.
    pub pairs: usize,
}

/// Makes an adapter of `folder` over `base`, with `metadata` beside what llama.cpp needs.
pub fn from_peft(
    folder: &Path,
    base: &Path,
    target: &Path,
    metadata: &[(String, Value)],
) -> Result<FromPeft, ConvertError> {
    let base = Base::open(base)?;
    let settings = Settings::read(&folder.join(CONFIG_FILE))?;
    let path = folder.join(VALUES_FILE);
    let bytes = read(&path, folder)?;
    let tensors = SafeTensors::deserialize(&bytes).or_else(|error| {
        refuse(&path, "header", format!("is no safetensors file ({error}); fetch or save it again"))
    })?;
    let pairs = read_pairs(&base, &path, &tensors)?;
    // The scale times the rank, which GGUF calls alpha, of every matrix.
    let mut alphas = Vec::with_capacity(pairs.len());
    for (&place, pair) in &pairs {
        alphas.push(settings.scale(&base.module(place), pair.rank)? * pair.rank as f64);
    }
    let alpha = alphas[0];
    let mut writer = GgufWriter::new();
    writer
        .meta("general.type", Value::Str("adapter".to_owned()))
        .meta("general.architecture", Value::Str(base.architecture.to_owned()))
        .meta("adapter.type", Value::Str("lora".to_owned()))
        .meta("adapter.lora.alpha", Value::F32(alpha as f32));
    for (key, value) in metadata {
        writer.meta(key, value.clone());
    }
    let (count, mut rank) = (pairs.len(), 0);
    for ((place, pair), own) in pairs.into_iter().zip(alphas) {
        let (input, output) = base.dims(place);
        let mut b = base.reordered(place, pair.b, pair.rank, true);
        if own != alpha {
            b.iter_mut().for_each(|value| *value = (f64::from(*value) * (own / alpha)) as f32);
        }
        let name = base.tensor(place);
        writer.tensor_f32(&format!("{name}.lora_a"), &[input as u64, pair.rank as u64], &pair.a);
        writer.tensor_f32(&format!("{name}.lora_b"), &[pair.rank as u64, output as u64], &b);
        rank = rank.max(pair.rank);
    }
    writer.write(target)?;
    Ok(FromPeft { rank: rank as u32, alpha: alpha as f32, pairs: count })
}

fn read(path: &Path, folder: &Path) -> Result<Vec<u8>, ConvertError> {
    if !path.exists() && folder.join("adapter_model.bin").exists() {
        let problem =
            "is a pickle, which can run programs when it is read; save the adapter with safe_serialization=True";
        return refuse(&folder.join("adapter_model.bin"), "file", problem);
    }
    let fail = |source| ConvertError::Io { action: "read", path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(fail)?.len();
    if length > VALUES_BYTES_MAX {
        return refuse(path, "file", format!("has {length} bytes; at most {VALUES_BYTES_MAX} are read"));
    }
    fs::read(path).map_err(fail)
}

/// A or B with its rank, once it was met.
type Half = Option<(Vec<f32>, usize)>;

fn read_pairs(base: &Base, path: &Path, tensors: &SafeTensors<'_>) -> Result<BTreeMap<Place, Pair>, ConvertError> {
    let mut halves: BTreeMap<Place, [Half; 2]> = BTreeMap::new();
    for (name, view) in tensors.iter() {
        let (place, is_b) = place(base, path, name)?;
        let (input, output) = base.dims(place);
        let shape = match *view.shape() {
            [rank, columns] if !is_b && columns == input => Some(rank),
            [rows, rank] if is_b && rows == output => Some(rank),
            _ => None,
        };
        let Some(rank) = shape.filter(|rank| *rank > 0) else {
            let problem = format!("of {:?} does not fit {input} x {output}; the base is another model", view.shape());
            return refuse(path, name, problem);
        };
        let slot = &mut halves.entry(place).or_default()[usize::from(is_b)];
        if slot.replace((floats(path, name, &view)?, rank)).is_some() {
            return refuse(path, name, "names a matrix that another tensor names too");
        }
    }
    let mut pairs = BTreeMap::new();
    for (place, half) in halves {
        match half {
            [Some((a, rank)), Some((b, other))] if rank == other => pairs.insert(place, Pair { a, b, rank }),
            [Some((_, rank)), Some((_, other))] => {
                return refuse(path, base.module(place), format!("ranks differ: {rank} and {other}"));
            }
            _ => return refuse(path, base.module(place), "has one of lora_A and lora_B, not both"),
        };
    }
    if pairs.is_empty() {
        return refuse(path, "tensors", "there is none");
    }
    Ok(pairs)
}

/// The matrix that a tensor belongs to, and whether it is its B.
fn place(base: &Base, path: &Path, name: &str) -> Result<(Place, bool), ConvertError> {
    let bare = name.strip_prefix("base_model.model.").unwrap_or(name);
    let found = [(".lora_A", false), (".lora_B", true)].into_iter().find_map(|(part, is_b)| {
        let (module, rest) = bare.split_once(part)?;
        matches!(rest, ".weight" | ".default.weight").then_some((module, is_b))
    });
    let Some((module, is_b)) = found else {
        let problem = "is no lora_A or lora_B of a linear module; an adapter in GGUF cannot hold it";
        return refuse(path, name, problem);
    };
    match base.of_module(module) {
        Some(place) => Ok((place, is_b)),
        None => refuse(
            path,
            name,
            format!("the base, a {} of {} layers, has no such module", base.architecture, base.config.layers),
        ),
    }
}

fn floats(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, ConvertError> {
    let kind = match view.dtype() {
        Dtype::F32 => ggml::F32,
        Dtype::F16 => ggml::F16,
        Dtype::BF16 => ggml::BF16,
        other => return refuse(path, name, format!("is stored as {other:?}; F32, F16 and BF16 can be read")),
    };
    let mut values = vec![0.0; view.shape().iter().product()];
    ggml::decode(kind, view.data(), &mut values);
    if values.iter().any(|value| !value.is_finite()) {
        return refuse(
            path,
            name,
            "holds values that are no numbers; the training run diverged or the file is damaged",
        );
    }
    Ok(values)
}
