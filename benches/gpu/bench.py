"""Times one image tower three ways, for each model and batch size; run.sh calls it.

pgclip     `pgclip-encoder bench --batches`: inference as the server runs it, pixels in the host's
           memory before and embeddings there after, with and without IO binding
ort        ONNX Runtime's Python package on the same image.onnx, host to host
ort gpu    the same with inputs and outputs that stay on the device: what the graph itself takes
torch      the same weights in PyTorch, F.scaled_dot_product_attention, fp16, host to host
torch gpu  the same on tensors that stay on the device

The outputs of ONNX Runtime and PyTorch are compared first: both must compute the same tower.
"""

import argparse
import json
import pathlib
import subprocess
import time

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F

ORT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def rate(run, finish, items, seconds):
    """Items a second of `run`, which `finish` waits for."""
    for _ in range(3):
        run()
    finish()
    rounds, begun = 0, time.perf_counter()
    while (took := time.perf_counter() - begun) < seconds:
        run()
        rounds += 1
        if rounds % 4 == 0:
            finish()
    finish()
    took = time.perf_counter() - begun
    return rounds * items / took


def tensors(folder, device):
    """The tensors of a safetensors file of fp16."""
    data = np.memmap(folder / "open_clip_model.safetensors", np.uint8, "r")
    length = int(data[:8].view(np.uint64)[0])
    header = json.loads(bytes(data[8 : 8 + length]))
    values = data[8 + length :]
    found = {}
    for name, about in header.items():
        if name.startswith("visual."):
            begin, end = about["data_offsets"]
            array = np.array(values[begin:end]).view(np.float16).reshape(about["shape"])
            found[name.removeprefix("visual.")] = torch.from_numpy(array).to(device)
    return found


class Tower:
    """open_clip's VisionTransformer, in functions."""

    def __init__(self, folder, device):
        config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
        vision = config["vision_cfg"]
        self.layers, self.width = vision["layers"], vision["width"]
        self.heads = self.width // vision["head_width"]
        self.patch = vision["patch_size"]
        self.w = tensors(folder, device)

    def norm(self, x, at):
        return F.layer_norm(x, (self.width,), self.w[at + ".weight"], self.w[at + ".bias"])

    def linear(self, x, at):
        return F.linear(x, self.w[at + "weight"], self.w[at + "bias"])

    def __call__(self, pixels):
        x = F.conv2d(pixels, self.w["conv1.weight"], stride=self.patch)
        x = x.flatten(2).transpose(1, 2)
        first = self.w["class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], 1) + self.w["positional_embedding"]
        x = self.norm(x, "ln_pre")
        for layer in range(self.layers):
            at = f"transformer.resblocks.{layer}."
            qkv = self.linear(self.norm(x, at + "ln_1"), at + "attn.in_proj_")
            shape = (*x.shape[:2], self.heads, -1)
            q, k, v = (part.view(shape).transpose(1, 2) for part in qkv.chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v)
            x = x + self.linear(y.transpose(1, 2).reshape(x.shape), at + "attn.out_proj.")
            y = F.gelu(self.linear(self.norm(x, at + "ln_2"), at + "mlp.c_fc."))
            x = x + self.linear(y, at + "mlp.c_proj.")
        return F.normalize(self.norm(x[:, 0], "ln_post") @ self.w["proj"], dim=-1)


def of_pgclip(options, model, binding):
    """Inference alone, by batch size."""
    command = [options.encoder, "bench", str(model), "--device", options.device]
    command += ["--onnxruntime", options.library, "--io-binding", binding]
    command += ["--batches", ",".join(map(str, options.batches)), "--seconds", str(options.seconds)]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    lines = done.stdout.split("inference     texts\n", 1)[1].splitlines()
    rows = [line.split() for line in lines]
    return {int(row[0]): {"pipeline": float(row[1]), "inference": float(row[3])} for row in rows}


def measure(options, name):
    weights, model = options.work / "weights" / name, options.work / "models" / name
    cuda = options.device == "cuda"
    place = "cuda" if cuda else "cpu"
    finish = torch.cuda.synchronize if cuda else (lambda: None)
    ours = {binding: of_pgclip(options, model, binding) for binding in ["on", "off"]}

    providers = ["CUDAExecutionProvider"] if cuda else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model / "image.onnx", providers=providers)
    if session.get_providers()[0] != providers[0]:
        raise SystemExit(f"ONNX Runtime has no {providers[0]}: {session.get_providers()}")
    (given,) = session.get_inputs()
    result = session.get_outputs()[0].name
    tower = Tower(weights, place)
    random = np.random.default_rng(1)
    rows = []
    with torch.inference_mode():
        for size in options.batches:
            pixels = random.standard_normal((size, 3, 224, 224), np.float32)
            pixels = pixels.astype(ORT_TYPES[given.type])
            halves = torch.from_numpy(pixels).to(torch.float16)
            if cuda:
                halves = halves.pin_memory()
            (theirs,) = session.run([result], {given.name: pixels})
            other = tower(halves.to(place)).float().cpu().numpy()
            cosine = float((theirs.astype(np.float32) * other).sum(-1).min())
            if not cosine > 0.999:
                raise SystemExit(f"{name}: PyTorch and ONNX Runtime differ, cosine {cosine}")

            bound = session.io_binding()
            value = onnxruntime.OrtValue.ortvalue_from_numpy(pixels, place, 0)
            bound.bind_ortvalue_input(given.name, value)
            bound.bind_output(result, place, 0)
            here = halves.to(place)

            def timed(run):
                return rate(run, finish, size, options.seconds)

            rows.append({
                "model": name,
                "batch": size,
                "pgclip": ours["on"][size]["inference"],
                "pgclip unbound": ours["off"][size]["inference"],
                "pgclip with decoding": ours["on"][size]["pipeline"],
                "ort": timed(lambda: session.run([result], {given.name: pixels})),
                "ort gpu": timed(lambda: session.run_with_iobinding(bound)),
                "torch": timed(lambda: tower(halves.to(place, non_blocking=True)).cpu()),
                "torch gpu": timed(lambda: tower(here)),
                "cosine": cosine,
            })
            print(row_of(rows[-1]), flush=True)
    return rows


COLUMNS = ["model", "batch", "pgclip", "pgclip unbound", "pgclip with decoding", "ort", "ort gpu",
           "torch", "torch gpu", "cosine"]


def row_of(row):
    def cell(value):
        return f"{value:.1f}" if isinstance(value, float) else str(value)

    cells = [f"{row[c]:.5f}" if c == "cosine" else cell(row[c]) for c in COLUMNS]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--batches", type=lambda text: [int(n) for n in text.split(",")], required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("models", nargs="+")
    options = parser.parse_args()

    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    title = f"images/s, {device}, ONNX Runtime {onnxruntime.__version__}, PyTorch {torch.__version__}"
    head = [title, "", "| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    print("\n".join(head), flush=True)
    rows = [row for name in options.models for row in measure(options, name)]
    table = head + [row_of(row) for row in rows]
    (options.work / "results.md").write_text("\n".join(table) + "\n")
    (options.work / "results.json").write_text(json.dumps({"device": device, "rows": rows}, indent=1))


main()
