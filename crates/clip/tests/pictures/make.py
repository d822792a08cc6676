#!/usr/bin/env python3
"""Makes the pictures of this folder and the manifest of what Pillow and open_clip make of them.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy tifffile imagecodecs pypng
    apt-get install libjpeg-turbo-progs libtiff-tools imagemagick webp gifsicle netpbm
    venv/bin/python make.py

One module a format yields names and bytes, and where a picture is refused the words that the refusal
must hold. `manifest.tsv` has a line for each: file, mode, width, height, digest of the pixels, digest
of the transform's 32 × 32 result, words. Digests are the first 16 hexadecimal digits of SHA-256.
Pictures lie in `files.bin` one after the other, in the manifest's order, whose second column is their
length: a thousand files of a kilobyte are more than git or a reader wants.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
import make_bmp, make_gif, make_jpeg, make_png, make_tiff, make_webp  # noqa: E401, E402
from common import described  # noqa: E402

HERE = pathlib.Path(__file__).parent


def main():
    lines, blob = [], []
    for module in (make_jpeg, make_png, make_gif, make_webp, make_bmp, make_tiff):
        for name, data, *words in module.make():
            found = described(data)
            lines.append([name, len(data), *found, *(words or ["-"])])
            blob.append(data)
    names = [line[0] for line in lines]
    assert len(set(names)) == len(names), sorted(n for n in set(names) if names.count(n) > 1)
    (HERE / "manifest.tsv").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    (HERE / "files.bin").write_bytes(b"".join(blob))
    print(f"{len(lines)} pictures, {sum(map(len, blob))} bytes")


if __name__ == "__main__":
    main()
