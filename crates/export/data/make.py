"""Writes what open_clip says of its models: the preprocessing and activation of each published tag
(`open_clip_tags.tsv`, which `pgclip-encoder convert --pretrained` looks up), and all model
configurations (`../tests/open_clip/configurations.json`, which a test reads one by one).

    pip install open_clip_torch==3.3.0
    python make.py
"""

import json
from pathlib import Path

import open_clip
from open_clip.pretrained import _PRETRAINED

HERE = Path(__file__).parent
STATS = {
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)): "openai",
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)): "imagenet",
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)): "inception",
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)): "none",
}

rows = ["# model\ttag\tactivation\tmean and deviation\tinterpolation\tresize; open_clip_torch 3.3.0, by make.py"]
for model, tags in _PRETRAINED.items():
    for tag, cfg in tags.items():
        stats = STATS[tuple(cfg["mean"]), tuple(cfg["std"])]
        activation = "quick_gelu" if cfg.get("quick_gelu") else "gelu"
        rows.append("\t".join((model, tag, activation, stats, cfg["interpolation"], cfg["resize_mode"])))
(HERE / "open_clip_tags.tsv").write_text("\n".join(rows) + "\n")

folder = Path(open_clip.__file__).parent / "model_configs"
lines = []
for path in sorted(folder.glob("*.json"), key=lambda path: path.stem.lower()):
    config = json.dumps(json.loads(path.read_text()), separators=(",", ":"))
    lines.append(f"{json.dumps(path.stem)}:{config}")
(HERE / "../tests/open_clip/configurations.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
