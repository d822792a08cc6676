"""Times whole training steps of open_clip on PyTorch, as `examples/step.rs` does ours.

Prints one line of JSON with the same keys. The step is that of open_clip_train: autocast, fused
attention as its model has it, AdamW with its two groups, zero_grad, clamp.
"""

import argparse
import contextlib
import json
import math
import resource
import time
from pathlib import Path

import open_clip
import torch
from open_clip.loss import ClipLoss

TINY = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3},
}

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--batch-size", type=int, required=True)
parser.add_argument("--tokens", type=int, default=77)
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--precision", default="amp_bf16", choices=["fp32", "amp_bf16"])
parser.add_argument("--grad-checkpointing", action="store_true")
args = parser.parse_args()
if args.threads:
    torch.set_num_threads(args.threads)
torch.manual_seed(1)

if args.model == "pgclip-traffic-tiny":
    config = TINY
else:
    config = json.loads(
        (Path(open_clip.__file__).parent / f"model_configs/{args.model}.json").read_text())
model = open_clip.CLIP(**config, output_dict=True).to(args.device)
model.set_grad_checkpointing(args.grad_checkpointing)
size, vocabulary = config["vision_cfg"]["image_size"], config["text_cfg"]["vocab_size"]
images = torch.randn(args.batch_size, 3, size, size, device=args.device)
texts = torch.zeros(args.batch_size, 77, dtype=torch.long)
texts[:, :args.tokens] = torch.randint(1, vocabulary - 2, (args.batch_size, args.tokens))
texts[:, 0], texts[:, args.tokens - 1] = vocabulary - 2, vocabulary - 1
texts = texts.to(args.device)

exclude = lambda n, p: p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n
named = list(model.named_parameters())
optimizer = torch.optim.AdamW(
    [{"params": [p for n, p in named if exclude(n, p)], "weight_decay": 0.0},
     {"params": [p for n, p in named if not exclude(n, p)], "weight_decay": 0.01}],
    lr=1e-4, betas=(0.9, 0.98), eps=1e-6)
loss_of = ClipLoss(cache_labels=True)
autocast = contextlib.nullcontext if args.precision == "fp32" else (
    lambda: torch.amp.autocast(device_type=args.device.split(":")[0], dtype=torch.bfloat16))
model.train()


def step():
    optimizer.zero_grad()
    with autocast():
        loss = loss_of(**model(images, texts))
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return loss.detach()


for _ in range(3):
    loss = step().item()
start = time.perf_counter()
for _ in range(args.steps):
    loss = step()
loss = loss.item()  # waits for the device
seconds = (time.perf_counter() - start) / args.steps
if args.device.startswith("cuda"):
    peak = torch.cuda.max_memory_allocated()
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"samples_per_second": round(args.batch_size / seconds, 3),
                  "seconds": round(seconds, 5), "peak_bytes": peak, "loss": round(loss, 5)}))
