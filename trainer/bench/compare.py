"""Our training steps against open_clip's on Python's PyTorch, in alternating rounds.

    make bench-trainer                 the built-in model on the CPU, fp32 and bf16
    make bench-trainer DEVICE=cuda     ViT-B-32 (256), L-14 (64) and bigG-14 (25) on a GPU, bf16

Prints medians and the ratio, and writes every round to target/bench-trainer.json. `--python` names
an interpreter with torch 2.11.0 and open_clip_torch 3.3.0; ours needs none.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CPU = [
    ["--model", "pgclip-traffic-tiny", "--batch-size", "256", "--precision", "fp32"],
    ["--model", "pgclip-traffic-tiny", "--batch-size", "256", "--precision", "amp_bf16"],
    ["--model", "pgclip-traffic-tiny", "--batch-size", "256", "--precision", "fp32",
     "--tokens", "20"],
]
GPU = [
    ["--model", "ViT-B-32", "--batch-size", "256", "--precision", "amp_bf16"],
    ["--model", "ViT-L-14", "--batch-size", "64", "--precision", "amp_bf16"],
    ["--model", "ViT-bigG-14", "--batch-size", "25", "--precision", "amp_bf16",
     "--grad-checkpointing"],
    ["--model", "ViT-bigG-14", "--batch-size", "25", "--precision", "amp_bf16"],
]

parser = argparse.ArgumentParser()
parser.add_argument("--ours", required=True, help="the built example `step`")
parser.add_argument("--python", default=sys.executable)
parser.add_argument("--device", default="cpu")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--steps", default="10")
parser.add_argument("--out", default="target/bench-trainer.json")
args = parser.parse_args()


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"  failed: {' '.join(command)}\n  {done.stderr.strip()[-600:]}")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


results = []
for case in CPU if args.device == "cpu" else GPU:
    sides = {"pgclip-train": [args.ours], "open_clip": [args.python, str(HERE / "step.py")]}
    rounds = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, command in sides.items():
            found = run(command + case + ["--steps", args.steps, "--device", args.device])
            if found:
                rounds[name].append(found)
    results.append({"case": case, "device": args.device, "rounds": rounds})
    print(" ".join(case), flush=True)
    speed = {}
    for name, found in rounds.items():
        if found:
            speed[name] = statistics.median(f["samples_per_second"] for f in found)
            peak = max(f["peak_bytes"] for f in found) / 2**30
            print(f"  {name:12} {speed[name]:9.1f} samples/s, peak {peak:.2f} GiB")
    if len(speed) == 2:
        ratios = [o["seconds"] / t["seconds"] for t, o in zip(*rounds.values())]
        print(f"  ratio {speed['pgclip-train'] / speed['open_clip']:.2f}"
              f" (rounds {', '.join(f'{r:.2f}' for r in ratios)})", flush=True)
Path(args.out).write_text(json.dumps(results, indent=1) + "\n")
