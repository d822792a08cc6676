#!/usr/bin/env python3
"""Makes the expected values of this folder: what Pillow and open_clip's transform make of images.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy
    venv/bin/python make.py [--check FOLDER]

`images/` holds inputs, `expected/crop/` and `expected/pad/` the 64×64 RGB images before mean and
standard deviation are applied, so that they can be looked at. The transform is written out here
with the Pillow calls that torchvision makes for open_clip's (Resize, CenterCrop, convert), so that
neither need be installed. `--check FOLDER` compares it with values that open_clip itself made:
FOLDER/images and FOLDER/preprocess.npz (`crop/NAME` and `pad/NAME`, float32 3×64×64).

The images whose names start with `base`, `grey`, `progressive` and `s0` to `s9` came with such
values and are only read; the others are drawn here, from a fixed seed.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image, ImageOps

SIZE = 64
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
HERE = pathlib.Path(__file__).parent


def pad(image):
    """Zero padding to a square by integer halves (A3R)."""
    width, height = image.size
    side = max(width, height)
    x, y = (side - width) // 2, (side - height) // 2
    border = (x, y, x, y)
    if image.mode == "P":  # as torchvision: the index 0, and the palette stays
        palette = image.getpalette()
        image = ImageOps.expand(image, border=border, fill=0)
        image.putpalette(palette)
        return image
    return ImageOps.expand(image, border=border, fill=0)


def transform(image):
    """open_clip's evaluation transform up to ToTensor: Resize, CenterCrop, RGB."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    new_long = int(SIZE * long / short)
    size = (SIZE, new_long) if width <= height else (new_long, SIZE)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (int(round((side - SIZE) / 2.0)) for side in image.size)
    return image.crop((left, top, left + SIZE, top + SIZE)).convert("RGB")


def draw(images):
    """Images of the kinds that the given ones lack."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:90, 0:140]
    waves = [np.sin(x / a + y / b) for a, b in ((9, 23), (17, 7), (5, 40))]
    rgb = np.clip(np.stack(waves, -1) * 90 + 128 + rng.normal(0, 12, (90, 140, 3)), 0, 255)
    rgb = rgb.astype(np.uint8)
    image = Image.fromarray(rgb)
    alpha = Image.fromarray(np.clip((x - 20) * 2.5, 0, 255).astype(np.uint8))

    rgba = image.copy()
    rgba.putalpha(alpha)
    rgba.save(images / "rgba.png")
    grey_alpha = image.convert("L")
    grey_alpha.putalpha(alpha)
    grey_alpha.save(images / "grey_alpha.png")
    exact = image.resize((SIZE, SIZE))
    exact.putalpha(alpha.resize((SIZE, SIZE)))
    exact.save(images / "rgba_64x64.png")
    palette = image.quantize(40)
    palette.save(images / "palette.png")
    palette.save(images / "palette.bmp")
    image.quantize(14).save(images / "palette4.png", bits=4)
    image.convert("1").save(images / "bits1.png")
    image.convert("L").point(lambda v: v // 17 * 17).save(images / "bits8_grey.png")
    image.save(images / "rgb.bmp")
    image.save(images / "rgb.tif")
    image.save(images / "lzw.tif", compression="tiff_lzw")
    image.convert("CMYK").save(images / "cmyk.jpg", quality=92, subsampling=0)
    image.save(images / "lossless.webp", lossless=True)
    rgba.save(images / "alpha.webp", lossless=True)
    image.save(images / "lossy.webp", quality=90)
    image.save(images / "sub420.jpg", quality=90, subsampling="4:2:0")
    image.save(images / "sub422.jpg", quality=90, subsampling="4:2:2")
    tall = image.rotate(90, expand=True).resize((70, 200))
    tall.save(images / "tall.png")
    # A frame of the size that the benches measure.
    image.resize((320, 240)).save(images / "frame_320x240.jpg", quality=85, subsampling="4:2:0")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        small = image.resize((70, 45))
        small.save(images / f"exif{orientation}.jpg", quality=90, subsampling=0, exif=exif)
    frames = [image.quantize(30), ImageOps.flip(image).quantize(30)]
    frames[0].save(images / "animated.gif", save_all=True, append_images=frames[1:], duration=80)
    image.convert("L").save(images / "grey.gif")


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", type=pathlib.Path)
    given = parser.parse_args().check
    if given:
        values = np.load(given / "preprocess.npz")
        for path in sorted((given / "images").iterdir()):
            for mode, image in (("crop", Image.open(path)), ("pad", pad(Image.open(path)))):
                ours = np.asarray(transform(image), np.float32) / np.float32(255)
                ours = ((ours - MEAN) / STD).transpose(2, 0, 1)
                worst = np.abs(ours - values[f"{mode}/{path.name}"]).max()
                print(f"{mode}/{path.name}: largest difference {worst}")
    images = HERE / "images"
    images.mkdir(exist_ok=True)
    draw(images)
    for path in sorted(images.iterdir()):
        save(transform(Image.open(path)), HERE / "expected" / "crop" / f"{path.name}.png")
        save(transform(pad(Image.open(path))), HERE / "expected" / "pad" / f"{path.name}.png")
        if path.name.startswith("exif"):
            turned = ImageOps.exif_transpose(Image.open(path))
            save(transform(turned), HERE / "expected" / "oriented" / f"{path.name}.png")


if __name__ == "__main__":
    main()
