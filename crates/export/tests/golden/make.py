"""Makes the expected values for crates/export: small CLIPs with random weights, and what the
libraries that define them say about a few pictures and texts.

    pip install torch==2.11.0 open_clip_torch==3.3.0 transformers==5.23.0 safetensors
    python make.py

open_clip/     custom text tower, QuickGELU, a cut vocabulary (token_rows), odd sizes
hugging_face/  transformers' CLIPModel in fp16, a cut vocabulary as well
described/     descriptions of an odd preprocessing as transformers 5 and open_clip write them, a
               picture, and what both libraries make of it for the weights of hugging_face/

Each folder has the weights and their description as the library names and writes them, and
expected.safetensors: pixels (u8, N 3 S S), tokens (i64, N 77), image and text (f32, unit length),
logit_scale.

    python make.py --given FOLDER

takes erf_gelu/ from a folder of values that open_clip made before, with its plain CLIP, exact
GELU and the whole vocabulary: the model, preprocess.npz and embeddings.npz (`crop/NAME` and
`pad/NAME` for each picture, `text` for the first strings of tokens.jsonl).
"""

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

HERE = Path(__file__).parent
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TEXTS = [
    "", "a", "a red Toyota sedan", "a photo of a person", "the white truck at the north gate",
    "Bus", "a black microbus, seen by a surveillance camera", "rain " * 90,
    "two people with backpacks", "ein grüner Wagen", "车", "CAMERA 7, 03:14:15",
]


def shake(model, generator):
    """Moves vectors away from ones and zeros, and spreads matrices, so that each weight counts."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                parameter.fill_(3.7)
            elif parameter.ndim <= 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            else:
                spread = parameter[0].numel() ** -0.5
                if any(part in name for part in ("in_proj", "q_proj", "k_proj")):
                    spread *= 3  # attention that tells tokens apart
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))


def pictures(count, size, generator):
    """Pictures of a few coarse squares, as 8-bit pixels and as the towers want them."""
    coarse = torch.randint(0, 256, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
    pixels = coarse.repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return pixels, (pixels / 255 - mean) / std


def cut(state, name, tokens):
    """Keeps the rows of the tokens in use, and maps all ids to them; row 0 is for the others."""
    used = tokens.unique()
    rows = torch.zeros(len(state[name]), dtype=torch.int32)
    rows[used] = torch.arange(1, len(used) + 1, dtype=torch.int32)
    table = state[name]
    state[name] = torch.cat([torch.zeros_like(table[:1]), table[used]])
    return rows


def write(folder, state, file, **expected):
    folder.mkdir(exist_ok=True)
    for path, tensors in ((folder / file, state), (folder / "expected.safetensors", expected)):
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)
        path.chmod(0o644)


def open_clip_golden():
    generator = torch.Generator().manual_seed(1)
    config = {
        "embed_dim": 24,
        "quick_gelu": True,
        "custom_text": True,
        "vision_cfg": {"image_size": 36, "layers": 2, "width": 40, "head_width": 10,
                       "mlp_ratio": 2.5, "patch_size": 8},
        "text_cfg": {"width": 32, "heads": 4, "layers": 3},
    }
    cfg = {k: v for k, v in config.items() if k != "custom_text"}
    model = open_clip.CustomTextCLIP(**cfg).eval()
    shake(model, generator)
    pixels, images = pictures(10, 36, generator)
    tokens = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    with torch.no_grad():
        image = model.encode_image(images, normalize=True)
        text = model.encode_text(tokens, normalize=True)
    state = dict(model.state_dict())
    state["text.token_rows"] = cut(state, "text.token_embedding.weight", tokens)
    write(HERE / "open_clip", state, "open_clip_model.safetensors", pixels=pixels, tokens=tokens,
          image=image, text=text, logit_scale=state["logit_scale"].exp())
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    (HERE / "open_clip/open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=1) + "\n")
    return image, text


def hugging_face_golden():
    generator = torch.Generator().manual_seed(2)
    config = CLIPConfig(
        text_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                     "num_attention_heads": 2, "hidden_act": "gelu"},
        vision_config={"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
                       "num_attention_heads": 3, "image_size": 32, "patch_size": 16},
        projection_dim=20,
    )
    model = CLIPModel(config).eval()
    shake(model, generator)
    model = model.half().float()  # the weights are stored in fp16
    pixels, images = pictures(10, 32, generator)
    tokens = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    with torch.no_grad():
        outputs = model(input_ids=tokens, pixel_values=images)
    image, text = normalize(outputs.image_embeds, dim=-1), normalize(outputs.text_embeds, dim=-1)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    name = "text_model.embeddings.token_embedding.weight"
    state["token_rows"] = cut(state, name, tokens)
    write(HERE / "hugging_face", state, "model.safetensors", pixels=pixels, tokens=tokens,
          image=image, text=text, logit_scale=model.logit_scale.detach().exp())
    config.save_pretrained(HERE / "hugging_face")
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(HERE / "hugging_face")
    return image, text


def described_golden():
    """Mean and deviation of neither OpenAI's nor anybody's, through both libraries' own pipelines."""
    folder = HERE / "described"
    folder.mkdir(exist_ok=True)
    generator = numpy.random.default_rng(3)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 8, 3), numpy.uint8))
    # Of 3 to 2, so that the centre is between pixels: where it is not, the libraries crop differently.
    picture = coarse.resize((96, 64), Image.Resampling.BICUBIC)
    picture.save(folder / "picture.png")
    odd = {"mean": (0.3, 0.45, 0.6), "std": (0.5, 0.35, 0.2)}
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32},
        image_mean=list(odd["mean"]), image_std=list(odd["std"]))
    described = json.loads(processor.to_json_string())
    described["image_processor_type"] = "CLIPImageProcessor"
    (folder / "processor_config.json").write_text(json.dumps(
        {"image_processor": described, "processor_class": "CLIPProcessor"}, indent=2) + "\n")
    preprocess = PreprocessCfg(size=32, **odd)
    (folder / "preprocess_cfg.json").write_text(json.dumps(asdict(preprocess), indent=2) + "\n")
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
    other = image_transform_v2(preprocess, is_train=False)(picture)[None]
    model = CLIPModel(CLIPConfig.from_pretrained(HERE / "hugging_face")).eval()
    state = load_file(HERE / "hugging_face/model.safetensors")
    vision = {k: v.float() for k, v in state.items() if k.startswith("vi")}
    model.load_state_dict(vision, strict=False)
    with torch.no_grad():
        found = [model.get_image_features(pixel_values=p) for p in (pixels, other)]
    image = [normalize(getattr(f, "pooler_output", f), dim=-1) for f in found]
    save_file({"hugging_face": image[0].contiguous(), "open_clip": image[1].contiguous()},
              folder / "expected.safetensors")
    print("the libraries' own difference:", 1 - (image[0] @ image[1].T).item())


def given(folder):
    pixels, embeddings = numpy.load(folder / "preprocess.npz"), numpy.load(folder / "embeddings.npz")
    keys = sorted(pixels.files)
    images = torch.stack([torch.from_numpy(pixels[key]) for key in keys])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    whole = ((images * std + mean) * 255).round()
    assert ((whole / 255 - mean) / std - images).abs().max() < 1e-6, "pixels are whole numbers"
    text = torch.from_numpy(embeddings["text"])
    with open(folder / "tokens.jsonl") as lines:
        tokens = torch.tensor([json.loads(line)["ids"] for line, _ in zip(lines, text)])
    image = torch.stack([torch.from_numpy(embeddings[key]).flatten() for key in keys])
    shutil.copy(folder / "open_clip_config.json", HERE / "erf_gelu")
    write(HERE / "erf_gelu", load_file(folder / "open_clip_model.safetensors"),
          "open_clip_model.safetensors", pixels=whole.to(torch.uint8), tokens=tokens, image=image,
          text=text, logit_scale=torch.from_numpy(embeddings["logit_scale"]).float())
    return image, text


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    parser = argparse.ArgumentParser()
    parser.add_argument("--given", type=Path, metavar="FOLDER")
    folder = parser.parse_args().given
    goldens = (lambda: given(folder),) if folder else (open_clip_golden, hugging_face_golden)
    for golden in goldens:
        for kind, embeddings in zip(("image", "text"), golden()):
            similar = (embeddings @ embeddings.T).fill_diagonal_(1).median()
            print(f"{kind}s {tuple(embeddings.shape)}, similar to each other: {similar:.3f} (median)")
    described_golden()
