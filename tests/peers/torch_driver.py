"""PyTorch + PEFT under remote control, with the commands of hone's bench-train-driver: one JSON command a line on
standard input, one JSON answer a line on standard output. `torch_driver.py DTYPE HOW`, DTYPE fp32, autocast or bf16,
HOW eager, compile or chunked."""
import gc
import json
import os
import sys
import time
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
warnings.filterwarnings("ignore")
import torch  # noqa: E402

# The CUDA libraries are stubs (see install.py); this call does not ask first whether there is a device.
torch.cuda.is_current_stream_capturing = lambda: False
import torch.nn.functional as F  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(os.cpu_count())
DTYPE, HOW = sys.argv[1:3]
CHUNK = 128
STEMS = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
         "up_proj": "ffn_up", "down_proj": "ffn_down"}


def gguf_name(name):
    """Of a PEFT parameter: base_model.model.model.layers.3.self_attn.q_proj.lora_A.default.weight."""
    parts = name.split(".")
    layer, stem = parts[parts.index("layers") + 1], next(STEMS[part] for part in parts if part in STEMS)
    return f"blk.{layer}.{stem}.weight.lora_{'a' if 'lora_A' in parts else 'b'}"


class Run:
    def __init__(self, model, rows, order, adapter, learning_rate, rank, alpha):
        folder, file = os.path.split(model)
        dtype = torch.bfloat16 if DTYPE == "bf16" else torch.float32
        base = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=dtype)
        base.config.use_cache = False
        gc.collect()
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=list(STEMS), task_type="CAUSAL_LM")
        self.model = get_peft_model(base, config)
        self.trained = {gguf_name(name): value for name, value in self.model.named_parameters() if value.requires_grad}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=learning_rate, weight_decay=0.0)
        self.rows, self.order, self.done = rows, order, 0
        if adapter:
            self.set_adapter(adapter)
        self.loss = torch.compile(self.loss_sum) if HOW == "compile" else self.loss_sum

    def read(self, path):
        """Tensors of an adapter file by name. GGUF pairs neighbouring outputs of Q and K for rotation, Hugging Face's
        models pair halves of a head."""
        from gguf import GGUFReader
        config = self.model.config
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        for tensor in GGUFReader(path).tensors:
            values, stem = torch.from_numpy(tensor.data.copy()), tensor.name.split(".")[2]
            if stem in heads and tensor.name.endswith("lora_b"):
                pairs = values.reshape(heads[stem], -1, 2, values.shape[-1])
                values = pairs.swapaxes(1, 2).reshape(values.shape)
            yield tensor.name, values

    def set_adapter(self, path):
        for name, values in self.read(path):
            with torch.no_grad():
                self.trained[name].copy_(values)

    def batch(self, rows):
        """Rows side by side, as long as the longest; -100 is no target."""
        longest = max(len(row["tokens"]) for row in rows)
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        labels = torch.full((len(rows), longest), -100)
        for at, row in enumerate(rows):
            length = len(row["tokens"])
            tokens[at, :length] = torch.tensor(row["tokens"])
            labels[at, :length] = torch.where(torch.tensor(row["trained"]), tokens[at, :length], -100)
        labels[:, 0] = -100
        return tokens, labels

    def loss_sum(self, tokens, labels):
        inner = self.model.base_model.model
        hidden = inner.model(input_ids=tokens)[0][:, :-1].flatten(0, 1)
        labels = labels[:, 1:].flatten()

        def part(hidden, labels):
            return F.cross_entropy(inner.lm_head(hidden).float(), labels, reduction="sum", ignore_index=-100)

        if HOW == "chunked":
            hidden, labels = hidden[labels >= 0], labels[labels >= 0]
            parts = zip(hidden.split(CHUNK), labels.split(CHUNK))
            return sum(checkpoint(part, *pair, use_reentrant=False) for pair in parts)
        return part(hidden, labels)

    def forward(self, rows):
        tokens, labels = self.batch(rows)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=DTYPE == "autocast"):
            return self.loss(tokens, labels), int((labels[:, 1:] >= 0).sum())

    def step(self):
        rows = [self.rows[row] for row in self.order[self.done]]
        started = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        total, targets = self.forward(rows)
        loss = total / targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        seconds = time.perf_counter() - started
        self.done += 1
        return {"seconds": seconds, "loss": loss.item(), "tokens": sum(len(row["tokens"]) for row in rows)}

    def gradient_cosine(self, adapter, gradient):
        """Cosine between the gradient in a file and the one here, at the values of an adapter and the next rows."""
        self.set_adapter(adapter)
        self.optimizer.zero_grad(set_to_none=True)
        self.forward([self.rows[row] for row in self.order[self.done]])[0].backward()
        dot = own = other = 0.0
        for name, theirs in self.read(gradient):
            theirs, ours = theirs.double(), self.trained[name].grad.double()
            dot, own, other = dot + (ours * theirs).sum(), own + (ours * ours).sum(), other + (theirs * theirs).sum()
        return {"cosine": (dot / (own * other).sqrt()).item()}

    def evaluate(self, rows):
        with torch.no_grad():
            found = [self.forward(rows[at:at + 8]) for at in range(0, len(rows), 8)]
        return {"loss": sum(total.item() for total, _ in found) / sum(count for _, count in found),
                "targets": sum(count for _, count in found)}


def memory():
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    kib = {name: int(status[name].split()[0]) for name in ("VmHWM", "RssFile")}
    # Pages of library files are not the trainer's doing, and the CUDA build has more of them than a CPU build would.
    return {"peak_mib": (kib["VmHWM"] - kib["RssFile"]) / 1024, "peak_with_files_mib": kib["VmHWM"] / 1024}


def main():
    run = None
    for line in sys.stdin:
        command = json.loads(line)
        do = command.pop("do")
        if do == "load":
            run = Run(**command)
            answer = {"parameters": sum(value.numel() for value in run.trained.values())}
        elif do == "memory":
            answer = memory()
        elif do == "versions":
            import peft
            import transformers
            answer = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
        else:
            answer = getattr(run, do)(**command)
        print(json.dumps(answer), flush=True)


main()
