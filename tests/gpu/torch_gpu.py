"""PyTorch + PEFT on the same shapes as gpu-check: `torch_gpu.py SHAPE...`, one line of JSON. LoRA steps on random
weights (rank 8 on all seven projections, AdamW, BF16) and plain products. On the CPU it does one small step: a dry run."""
import json
import os
import sys
import time

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import torch  # noqa: E402

SHAPES = {
    "tiny": dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, vocab_size=4096, tie_word_embeddings=True),
    "135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                 num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True),
    "7b": dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
               num_key_value_heads=32, vocab_size=32000, tie_word_embeddings=False),
}
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CUDA = torch.cuda.is_available()
if not CUDA:
    # A build for CUDA without its libraries (tests/peers/install.py) ends in this call, which does not ask for a card.
    torch.cuda.is_current_stream_capturing = lambda: False
DEVICE = "cuda" if CUDA else "cpu"
# Rows and tokens of a step: the one of bench-train, and one that fills a card.
STEPS = [(4, 128), (16, 512)] if CUDA else [(1, 32)]
SAMPLES = 8 if CUDA else 1


def wait():
    if CUDA:
        torch.cuda.synchronize()


def best(function, samples):
    function()
    wait()
    found = []
    for _ in range(samples):
        started = time.perf_counter()
        function()
        wait()
        found.append(time.perf_counter() - started)
    return min(found)


def train(shape):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(1)
    with torch.device(DEVICE):
        torch.set_default_dtype(torch.bfloat16)
        base = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], use_cache=False))
        torch.set_default_dtype(torch.float32)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    answers = []
    for rows, length in STEPS:
        tokens = torch.randint(0, SHAPES[shape]["vocab_size"], (rows, length), device=DEVICE)

        def step():
            optimizer.zero_grad(set_to_none=True)
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()

        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        seconds = best(step, SAMPLES)
        peak = torch.cuda.max_memory_allocated() if CUDA else None
        answers.append({"rows": rows, "tokens": length, "tok_s": rows * length / seconds, "peak_bytes": peak})
    return answers


def products(outputs, inputs, columns):
    answers = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        weight = torch.randn(outputs, inputs, device=DEVICE, dtype=dtype)
        states = torch.randn(columns, inputs, device=DEVICE, dtype=dtype)
        seconds = best(lambda: states @ weight.T, SAMPLES)
        answers.append({"weights": str(dtype), "shape": [outputs, inputs, columns], "seconds": seconds,
                        "tflop_s": 2 * outputs * inputs * columns / seconds / 1e12})
    return answers


def main():
    name = torch.cuda.get_device_name(0) if CUDA else "CPU"
    found = {"torch": torch.__version__, "device": name, "products": products(*(4096, 4096, 512) if CUDA else (576, 576, 64))}
    try:
        import peft
        import transformers
        found |= {"peft": peft.__version__, "transformers": transformers.__version__}
        found["train"] = {shape: train(shape) for shape in sys.argv[1:]}
    except ImportError as error:
        found["missing"] = f"{error.name} is not installed here, so there is no training to compare with"
    print(json.dumps(found))


main()
