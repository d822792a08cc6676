"""Makes the AVIF, JPEG XL and HEIC files of this folder and, as PNG beside each, what the libraries make
of it that Python's programs read such files with; and the larger ones of ../need.

    pip install pillow==13.0.0 pillow_heif==1.8.1 imagecodecs==2026.3.6 numpy
    python make.py
"""

import io
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
from PIL import Image, ImageFilter, ImageOps

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "pictures"))
from common import alpha, deep, picture  # noqa: E402

pillow_heif.register_heif_opener()
IMAGE, ALPHA = picture(), alpha()
RGB = Image.fromarray(IMAGE)
# Without grain: libraries interpolate chroma in their own ways.
SMOOTH = RGB.filter(ImageFilter.GaussianBlur(4))
CLEAR = Image.fromarray(np.dstack([np.asarray(SMOOTH), ALPHA]))


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def avif():
    for name in ("4:2:0", "4:2:2", "4:4:4", "4:0:0"):
        yield name.replace(":", ""), saved(SMOOTH, "AVIF", quality=80, subsampling=name)
    yield "limited", saved(SMOOTH, "AVIF", quality=80, range="limited")
    yield "alpha", saved(CLEAR, "AVIF", quality=80)
    yield "premultiplied", saved(CLEAR, "AVIF", quality=90, subsampling="4:4:4", alpha_premultiplied=True)
    yield "turned", saved(SMOOTH, "AVIF", quality=80, exif=turned(6))
    yield "mirrored", saved(SMOOTH, "AVIF", quality=80, exif=turned(5))
    yield "sequence", saved(SMOOTH, "AVIF", quality=80, save_all=True, append_images=[Image.fromarray(255 - IMAGE)])
    yield "best", saved(RGB, "AVIF", quality=100, subsampling="4:4:4")
    ten = (deep(IMAGE) >> 6).astype(np.uint16)
    yield "ten_bits", imagecodecs.avif_encode(ten, level=80, bitspersample=10)


def jxl():
    encode = imagecodecs.jpegxl_encode
    grey = np.asarray(RGB.convert("L"))
    yield "lossless", encode(IMAGE, lossless=True)
    yield "lossy", encode(IMAGE, distance=1.0)
    yield "coarse", encode(IMAGE, distance=6.0)
    yield "container", encode(IMAGE, distance=1.0, usecontainer=True)
    yield "grey", encode(grey, lossless=True)
    yield "grey_lossy", encode(grey, distance=1.0)
    yield "alpha", encode(np.dstack([IMAGE, ALPHA]), lossless=True)
    yield "grey_alpha", encode(np.dstack([grey, ALPHA]), lossless=True)
    yield "sixteen_bits", encode(deep(IMAGE), lossless=True)
    yield "animated", encode(np.stack([IMAGE, 255 - IMAGE]), lossless=True)


def heic():
    yield "plain", saved(RGB, "HEIF", quality=80)
    yield "alpha", saved(CLEAR, "HEIF", quality=80)


def seen(name, data):
    """The picture as its library shows it: AVIF and HEIC by Pillow, turned, JPEG XL by libjxl."""
    if not name.endswith(".jxl"):
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        return image.convert("RGB") if image.mode == "L" else image
    samples = imagecodecs.jpegxl_decode(data)
    if name.startswith("animated"):
        samples = samples[0]
    if samples.dtype == np.uint16:
        samples = np.round(samples / 257).astype(np.uint8)
    return Image.fromarray(samples.squeeze())


if __name__ == "__main__":
    for kind, files in (("avif", avif), ("jxl", jxl), ("heic", heic)):
        for name, data in files():
            (HERE / f"{name}.{kind}").write_bytes(data)
            image = seen(f"{name}.{kind}", data)
            image.save(HERE / f"{name}.{kind}.png", optimize=True, exif=b"")
            print(f"{name}.{kind}", len(data), image.mode, image.size)
    y, x = np.mgrid[0:1300, 0:700]
    waves = np.stack([np.sin(x / 90 + y / 200), np.sin(x / 50 - y / 300), np.sin(y / 150)], -1) * 90 + 128
    tall = waves.astype(np.uint8)
    wide = np.ascontiguousarray(tall.transpose(1, 0, 2))
    for name, shape in (("tall", tall), ("wide", wide)):
        clear = np.dstack([shape, shape[:, :, 0]])
        need = HERE.parent / "need"
        for way in ("4:2:0", "4:4:4"):
            data = saved(Image.fromarray(shape), "AVIF", quality=30, subsampling=way)
            (need / f"{name}_{way.replace(':', '')}.avif").write_bytes(data)
        (need / f"{name}_alpha.avif").write_bytes(saved(Image.fromarray(clear), "AVIF", quality=30))
        ten = (shape.astype(np.uint16) << 2)
        (need / f"{name}_ten_bits.avif").write_bytes(imagecodecs.avif_encode(ten, level=30, bitspersample=10))
        for way, options in {"lossy": {"distance": 8.0}, "lossless": {"lossless": True}}.items():
            few = shape // 64 * 64 if way == "lossless" else shape
            (need / f"{name}_{way}.jxl").write_bytes(imagecodecs.jpegxl_encode(few, **options))
        (need / f"{name}_alpha.jxl").write_bytes(imagecodecs.jpegxl_encode(clear // 64 * 64, lossless=True))
