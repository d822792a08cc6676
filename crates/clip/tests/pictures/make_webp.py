"""WebP: lossy and lossless, alpha, filters, animation; then bad files."""

import struct

import numpy as np
from PIL import Image

from common import alpha, picture, saved, tool


def make():
    image = picture()
    rgb, rgba = Image.fromarray(image), Image.fromarray(np.dstack([image, alpha()]))
    plain = saved(rgb, "PNG")
    with_alpha = saved(rgba, "PNG")
    cwebp = lambda data, *arguments: tool("cwebp", "-quiet", *arguments, "{in}", "-o", "{out}", data=data)
    for quality in (0, 20, 50, 75, 90, 100):
        yield f"lossy_q{quality}.webp", cwebp(plain, "-q", quality)
        yield f"lossy_alpha_q{quality}.webp", cwebp(with_alpha, "-q", quality)
    for name, arguments in {
        "filter0": ["-f", 0], "filter100": ["-f", 100], "sharp7": ["-sharpness", 7, "-f", 60],
        "simple_filter": ["-nostrong", "-f", 60], "segments1": ["-segments", 1], "segments4": ["-segments", 4],
        "partitions": ["-partition_limit", 50], "m0": ["-m", 0], "m6": ["-m", 6], "sharp_yuv": ["-sharp_yuv"],
        "autofilter": ["-af"], "jpeg_like": ["-jpeg_like"], "photo": ["-preset", "photo"], "text": ["-preset", "text"],
    }.items():
        yield f"lossy_{name}.webp", cwebp(plain, "-q", 40, *arguments)
    for name, arguments in {
        "lossless": ["-lossless"], "lossless_m0": ["-lossless", "-m", 0], "lossless_z9": ["-z", 9],
        "near_lossless": ["-near_lossless", 40], "exact": ["-lossless", "-exact"],
    }.items():
        yield f"{name}.webp", cwebp(plain, *arguments)
        yield f"{name}_alpha.webp", cwebp(with_alpha, *arguments)
    few = saved(rgb.quantize(6).convert("RGB"), "PNG")
    two = saved(rgb.convert("1").convert("RGB"), "PNG")
    grey = saved(rgb.convert("L").convert("RGB"), "PNG")
    for name, data in (("few", few), ("two", two), ("grey", grey)):
        yield f"lossless_{name}.webp", cwebp(data, "-lossless")
        yield f"lossy_{name}.webp", cwebp(data, "-q", 60)
    for compression in (0, 1):
        for kind in ("none", "fast", "best"):
            yield f"alpha_{compression}_{kind}.webp", cwebp(
                with_alpha, "-q", 50, "-alpha_method", compression, "-alpha_filter", kind, "-alpha_q", 80
            )
    for width, height in ((1, 1), (1, 30), (30, 1), (2, 2), (15, 17), (16, 16), (33, 31), (64, 3)):
        data = saved(Image.fromarray(picture(width, height)), "PNG")
        yield f"size{width}x{height}_lossy.webp", cwebp(data, "-q", 60)
        yield f"size{width}x{height}_lossless.webp", cwebp(data, "-lossless")
    frames = [rgb, Image.fromarray(image[::-1].copy())]
    for lossless in (False, True):
        yield f"animated_{'lossless' if lossless else 'lossy'}.webp", saved(
            frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=lossless, duration=50
        )
    yield "animated_alpha.webp", saved(
        rgba, "WEBP", save_all=True, append_images=frames[1:], duration=50, background=(200, 100, 50, 255)
    )
    moved = tool(
        "webpmux", "-frame", "{in}", "+100+6+4+0+b", "-bgcolor", "255,200,10,90", "-o", "{out}",
        data=cwebp(with_alpha, "-q", 60),
    )
    yield "animated_offset_alpha.webp", moved
    yield "animated_offset.webp", tool(
        "webpmux", "-frame", "{in}", "+100+6+4+1-b", "-bgcolor", "255,200,10,90", "-o", "{out}",
        data=cwebp(plain, "-q", 60),
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "exif6.webp", saved(rgb, "WEBP", exif=exif, quality=80)
    yield "profile.webp", saved(rgb, "WEBP", icc_profile=b"x" * 200, quality=80)
    yield from badly_written(cwebp(plain, "-q", 50), cwebp(plain, "-lossless"), cwebp(with_alpha, "-q", 50))


def badly_written(lossy, lossless, extended):
    for name, data in (("lossy", lossy), ("lossless", lossless), ("extended", extended)):
        yield f"bad_trailing_bytes_{name}.webp", data + b"\0more"
        yield f"bad_cut_1_{name}.webp", data[:-1]
        for part in (0.1, 0.5, 0.9):
            yield f"bad_cut_{part}_{name}.webp", data[: int(len(data) * part)]
            short = data[: int(len(data) * part) // 2 * 2]
            yield f"bad_cut_and_told_{part}_{name}.webp", short[:4] + struct.pack("<I", len(short) - 8) + short[8:]
        yield f"bad_size_0_{name}.webp", data[:4] + b"\0\0\0\0" + data[8:]
        rng = np.random.default_rng(2)
        for index in range(4):
            spoilt = bytearray(data)
            spoilt[rng.integers(30, len(data))] ^= 1 << index
            yield f"bad_bytes_{name}_{index}.webp", bytes(spoilt)
    yield "bad_unknown_chunk.webp", lossy[:4] + struct.pack("<I", len(lossy) + 4) + lossy[8:] + b"WHAT\4\0\0\0abcd"
