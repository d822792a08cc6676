"""Makes the expected values for the trainer's tests: what open_clip computes on PyTorch.

    pip install torch==2.11.0 torchvision==0.26.0 open_clip_torch==3.3.0 safetensors numpy
    python make.py

Neither weights nor pictures nor tokens are stored: both sides make them from the same integer
hash (`uniform` here, `seeded.rs` there), bit for bit, so that even a model at full size costs a few
kilobytes.

forward.safetensors   for each architecture NAME.image and NAME.text, [N, D], fp32
train.safetensors     for each recipe NAME.losses, [20], and the gradients of its first step, each
                      divided by its largest value, in fp16
models.json           the configurations, as open_clip has them but for what `shrink` changes
"""

import json
from argparse import Namespace
from pathlib import Path

import numpy
import open_clip
import torch
from open_clip.loss import ClipLoss
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch
from safetensors.torch import save_file

HERE = Path(__file__).parent
CONFIGS = Path(open_clip.__file__).parent / "model_configs"
FAMILY = ["ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-B-16-quickgelu", "ViT-L-14",
          "ViT-L-14-quickgelu", "ViT-H-14", "ViT-H-14-quickgelu", "ViT-g-14", "ViT-bigG-14",
          "ViT-bigG-14-quickgelu"]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
START, END = 49406, 49407

STEPS, BATCH = 20, 16
RATE, DECAY = 4e-4, 1.0
TRAINED = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 300, "width": 32, "heads": 2, "layers": 2},
}
RECIPES = {
    "plain": {},
    "accumulated": {"accum_freq": 4},
    "clipped": {"grad_clip_norm": 0.5},
    "locked_image": {"image": 2},
    "locked_text": {"text": 1},
}


def uniform(name, count):
    """`count` values in [-1, 1), multiples of 2^-23, by splitmix64 from the FNV-1a hash of name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(
            0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    return (z >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(2**23) - numpy.float32(1)


def whole(name, count, below):
    """`count` whole numbers from 0 to below - 1."""
    values = (uniform(name, count).astype(numpy.float64) + 1) / 2 * below
    return torch.from_numpy(values.astype(numpy.int64))


def fill(model):
    """Gives each parameter its values: matrices spread by their inputs, gains about 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.from_numpy(uniform(name, parameter.numel())).view(parameter.shape)
            if name == "logit_scale":
                parameter.fill_(2.5)
            elif parameter.ndim < 2:
                gain = ".ln_" in f".{name}" and name.endswith("weight")
                parameter.copy_(values * 0.3 + (1.0 if gain else 0.0))
            else:
                spread = numpy.float32(numpy.sqrt(3.0 / (parameter.numel() // len(parameter))))
                if "in_proj" in name:
                    spread *= numpy.float32(2)  # attention that tells tokens apart
                parameter.copy_(values * torch.tensor(spread))


def pictures(name, count, size):
    """Pictures of 4 by 4 coarse squares, normalised, [N, 3, S, S]."""
    coarse = whole(f"{name} pictures", count * 3 * 16, 256).view(count, 3, 4, 4)
    at = torch.arange(size) * 4 // size
    pixels = coarse[:, :, at][:, :, :, at]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (pixels / 255 - mean) / std


def tokens(name, count, length, start, end):
    """Texts of 1 to length - 2 tokens between start and end, [N, L]."""
    lengths = whole(f"{name} lengths", count, length - 2) + 1
    ids = whole(f"{name} tokens", count * length, start - 1).view(count, length) + 1
    at = torch.arange(length)
    ids = torch.where(at == 0, start, ids)
    ids = torch.where(at == lengths[:, None] + 1, end, ids)
    return torch.where(at > lengths[:, None] + 1, 0, ids)


def shrink(config):
    """Two heads and two layers a tower, three patches a side; the rest as it was."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    vision.update(layers=2, width=2 * vision.get("head_width", 64),
                  image_size=3 * vision["patch_size"])
    text.update(layers=2, heads=2, width=2 * text["width"] // text["heads"])
    return config | {"embed_dim": 32}


def forward(models):
    found = {}
    for name in FAMILY + ["ViT-B-32 at full size"]:
        config = json.loads((CONFIGS / f"{name.split()[0]}.json").read_text())
        if " " not in name:
            config = shrink(config)
        models[name] = config
        model = open_clip.CLIP(**config).eval()
        fill(model)
        with torch.no_grad():
            found[f"{name}.image"] = model.encode_image(
                pictures("forward", 6, config["vision_cfg"]["image_size"]), normalize=True)
            found[f"{name}.text"] = model.encode_text(
                tokens("forward", 6, 77, START, END), normalize=True)
        for kind in ("image", "text"):
            embeddings = found[f"{name}.{kind}"]
            similar = (embeddings @ embeddings.T).fill_diagonal_(1).min()
            print(f"{name}, {kind}s: {similar:.3f} (least similarity to each other)")
    save_file(found, HERE / "forward.safetensors")


class Recorded(ClipLoss):
    """open_clip's loss, which remembers what it gave."""

    def forward(self, *args, **kwargs):
        losses = super().forward(*args, **kwargs)
        self.seen.append(losses["contrastive_loss"].item())
        return losses


def train(models):
    models["trained"] = TRAINED
    found = {}
    for recipe, options in RECIPES.items():
        accum_freq = options.get("accum_freq", 1)
        model = open_clip.CLIP(**TRAINED, output_dict=True)
        fill(model)
        if "image" in options:
            model.lock_image_tower(unlocked_groups=options["image"])
        if "text" in options:
            model.lock_text_tower(unlocked_layers=options["text"])
        # The two groups of open_clip_train.main.
        exclude = lambda n, p: p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            [{"params": [p for n, p in named if exclude(n, p)], "weight_decay": 0.0},
             {"params": [p for n, p in named if not exclude(n, p)], "weight_decay": DECAY}],
            lr=RATE, betas=(0.9, 0.98), eps=1e-6)

        def first(*_):
            if not any(key.startswith(f"{recipe}.gradient") for key in found):
                for name, parameter in named:
                    grad = parameter.grad / parameter.grad.abs().max()
                    found[f"{recipe}.gradient.{name}"] = grad.half().contiguous()

        optimizer.register_step_pre_hook(first)
        part = BATCH // accum_freq
        batches = []
        for step in range(STEPS):
            images = pictures(f"step {step}", BATCH, 32)
            texts = tokens(f"step {step}", BATCH, 20, 298, 299)
            batches += zip(images.split(part), texts.split(part))

        class Loader(list):
            num_batches, num_samples = len(batches), STEPS * BATCH

        args = Namespace(
            device="cpu", precision="fp32", distill=False, accum_freq=accum_freq, batch_size=part,
            skip_scheduler=False, grad_clip_norm=options.get("grad_clip_norm"), horovod=False,
            world_size=1, rank=0, log_every_n_steps=100, wandb=False, distributed=False)
        loss = Recorded()
        loss.seen = []
        data = {"train": Namespace(dataloader=Loader(batches), set_epoch=lambda _: None)}
        schedule = cosine_lr(optimizer, RATE, 5, STEPS)
        train_one_epoch(model, data, loss, 0, optimizer, None, schedule, None, args)
        losses = torch.tensor(loss.seen, dtype=torch.float64).view(STEPS, accum_freq)
        assert (losses.std(1, correction=0) < 1e-5).all(), "each pass sees the loss of all parts"
        found[f"{recipe}.losses"] = losses[:, 0].contiguous()
        print(f"{recipe}: losses {losses[0, 0]:.4f} … {losses[-1, 0]:.4f}")
    save_file(found, HERE / "train.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    models = {}
    forward(models)
    train(models)
    (HERE / "models.json").write_text(json.dumps(models, indent=1) + "\n")
