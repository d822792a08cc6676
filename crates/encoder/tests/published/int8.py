"""What 8 bits gain and lose on a CPU: the image and text towers of a ViT-B-32 as ONNX graphs in fp32 and as
transformers.js publishes them (dynamic quantisation of the matrices to u8), in turns on one thread.

    pip install torch==2.11.0 transformers==4.57.1 optimum-onnx==0.1.0 onnx onnxruntime==1.32.0
    python int8.py [ROUNDS]

Weights are random, so that the cosines tell of the arithmetic alone and not of a trained model; times are
the process's own on the processor, so that what else runs on the machine counts little.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime
import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic
from optimum.exporters.onnx import onnx_export_from_model

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 12
BATCH = 8


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def unit(x):
    return x / numpy.linalg.norm(x, axis=-1, keepdims=True)


torch.manual_seed(1)
torch.set_num_threads(1)
model = transformers.CLIPModel(transformers.CLIPConfig()).eval()
random = numpy.random.default_rng(1)
images = random.normal(0, 1, (BATCH, 3, 7, 7)).astype(numpy.float32).repeat(32, 2).repeat(32, 3)
ids = random.integers(1000, 40000, (BATCH, 16))
ids[:, 0], ids[:, -1] = 49406, 49407
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    onnx_export_from_model(model, folder, task="zero-shot-image-classification", do_validation=False, opset=17)
    import onnx
    extractor = onnx.utils.Extractor(onnx.load(folder / "model.onnx"))
    towers = {"images": (["pixel_values"], "image_embeds", {"pixel_values": images}),
              "texts of 16 tokens": (["input_ids", "attention_mask"], "text_embeds",
                                     {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})}
    for name, (inputs, output, feed) in towers.items():
        plain, small = folder / "tower.onnx", folder / "tower_quantized.onnx"
        onnx.save(extractor.extract_model(inputs, [output]), plain)
        quantize_dynamic(plain, small, weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul"])
        sessions = [session(plain), session(small)]
        found = [unit(s.run([output], feed)[0]) for s in sessions]
        # One by one, since the scale of a batch's numbers is the batch's.
        alone = numpy.concatenate([
            unit(sessions[1].run([output], {key: value[at:at + 1] for key, value in feed.items()})[0])
            for at in range(BATCH)])
        taken = [[], []]
        for _ in range(ROUNDS):
            for at, s in enumerate(sessions):
                start = time.process_time()
                s.run([output], feed)
                taken[at].append((time.process_time() - start) / BATCH)
        fp32, int8 = (1000 * numpy.median(t) for t in taken)
        cosine = (found[0] * alone).sum(-1)
        print(f"{name}: fp32 {fp32:.1f} ms, int8 {int8:.1f} ms of one thread each, {fp32 / int8:.2f} times as fast;"
              f" cosine {cosine.min():.4f} to {cosine.max():.4f};"
              f" {plain.stat().st_size / 1e6:.0f} and {small.stat().st_size / 1e6:.0f} MB", flush=True)
