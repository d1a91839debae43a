#!/usr/bin/env python3
"""transformers + PEFT for tests/prove/peft.py, run by the peers' own Python. The base is read from the GGUF file, all its
weights as F32. `peft_driver.py logits MODEL FOLDER|- ROWS OUT` writes the logits of every position of every row of the JSON file
ROWS as F32, under the adapter of FOLDER; `make MODEL FOLDER SEED` makes an adapter there with rsLoRA, ranks and alphas that differ from module to module, and
values that are not zero; `compare ONE OTHER ROWS` says how far the distributions of the next token are apart in two such files of logits;
`values FILE` is a hash of the tensors of a GGUF file, whatever their order. Ends with one line of JSON."""
import hashlib
import json
import os
import sys
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
warnings.filterwarnings("ignore")
import numpy  # noqa: E402

# What only compares files does not wait for these.
if sys.argv[1:2] and sys.argv[1] in ("logits", "make"):
    import peft
    import torch
    import transformers

    # The CUDA libraries are stubs (see install.py); this call does not ask first whether there is a device.
    torch.cuda.is_current_stream_capturing = lambda: False
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(os.cpu_count())


TIE_NATS = 0.02


def load(path):
    folder, file = os.path.split(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    return model.eval()


def logits(path, adapter, rows, out):
    model = load(path)
    if adapter != "-":
        model = peft.PeftModel.from_pretrained(model, adapter).eval()
    with open(rows) as file, open(out, "wb") as sink, torch.no_grad():
        for row in json.load(file):
            found = model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
            sink.write(found.to(torch.float32).contiguous().numpy().tobytes())
    adapted = sum("lora_B" in name for name, _ in model.named_parameters())
    return {"adapted_modules": adapted}


def make(path, folder, seed):
    model = load(path)
    torch.manual_seed(int(seed))
    config = peft.LoraConfig(
        r=8, lora_alpha=16, use_rslora=True, rank_pattern={"down_proj": 4}, alpha_pattern={"q_proj": 8, "mlp.up_proj": 24},
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(0.0, 0.03)
    model.save_pretrained(folder)
    return {"adapted_modules": sum("lora_B" in name for name, _ in model.named_parameters())}


def compare(one, other, rows):
    with open(rows) as file:
        positions = sum(len(row) for row in json.load(file))
    one, other = (numpy.fromfile(path, dtype=numpy.float32).reshape(positions, -1) for path in (one, other))
    kls, gaps, same = [], [], 0
    for pair in zip(one, other):
        a, b = (row.astype(numpy.float64) - row.max() for row in pair)
        p, q = (row - numpy.log(numpy.exp(row).sum()) for row in (a, b))
        kls.append(float((numpy.exp(p) * (p - q)).sum()))
        gaps.append(float(numpy.abs(numpy.exp(p) - numpy.exp(q)).max()))
        # Two tokens within TIE_NATS of each other are one choice: which is ahead hangs on the last bits.
        same += int(p.max() - p[q.argmax()] < TIE_NATS)
    return {"positions": positions, "mean_kl": float(f"{sum(kls) / positions:.3g}"), "max_kl": float(f"{max(kls):.3g}"),
            "max_probability_gap": float(f"{max(gaps):.3g}"), "same_top_token": round(same / positions, 4)}


def values(path):
    from gguf import GGUFReader
    tensors = sorted((tensor.name, tensor.data.tobytes()) for tensor in GGUFReader(path).tensors)
    digest = hashlib.sha256()
    for name, data in tensors:
        digest.update(name.encode() + b"\0" + data)
    return {"tensors": len(tensors), "sha256": digest.hexdigest()}


def main():
    do, *words = sys.argv[1:]
    said = {"logits": logits, "make": make, "compare": compare, "values": values}[do](*words)
    if "torch" in sys.modules:
        said["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
