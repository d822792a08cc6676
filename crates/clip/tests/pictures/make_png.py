"""PNG: every colour type, depth and interlace, filters, transparency, animation; then bad files."""

import io
import struct
import zlib

import numpy as np
import png as pypng
from PIL import Image

from common import alpha, deep, picture, ppm, saved, tool


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunks(data):
    at = 8
    while at + 8 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def written(rows, width, height, **options):
    file = io.BytesIO()
    pypng.Writer(width, height, **options).write(file, rows)
    return file.getvalue()


def make():
    image = picture()
    height, width = image.shape[:2]
    grey = image[..., 1]
    for interlace in (False, True):
        tail = "_interlaced" if interlace else ""
        for depth in (1, 2, 4, 8):
            levels = (grey >> (8 - depth)).tolist()
            data = written(levels, width, height, greyscale=True, bitdepth=depth, interlace=interlace)
            yield f"grey{depth}{tail}.png", data
            data = written(
                levels, width, height, greyscale=True, bitdepth=depth, interlace=interlace, transparent=1
            )
            yield f"grey{depth}_transparent{tail}.png", data
            colours = [tuple(int(v) for v in c) for c in picture(2**depth, 1, seed=depth)[0]]
            data = written(
                levels, width, height, palette=colours, bitdepth=depth, interlace=interlace
            )
            yield f"palette{depth}{tail}.png", data
            faded = [(*c, (37 * i) % 256) for i, c in enumerate(colours)]
            data = written(levels, width, height, palette=faded, bitdepth=depth, interlace=interlace)
            yield f"palette{depth}_transparent{tail}.png", data
        rgba = np.dstack([image, alpha()])
        la = np.dstack([grey, alpha()])
        for depth, of in ((8, lambda a: a), (16, deep)):
            for name, samples, options in (
                ("rgb", image, dict(greyscale=False)),
                ("rgb_transparent", image, dict(greyscale=False, transparent=(0, 1, 2))),
                ("rgba", rgba, dict(greyscale=False, alpha=True)),
                ("la", la, dict(greyscale=True, alpha=True)),
                ("grey", grey[..., None], dict(greyscale=True)),
            ):
                if name == "grey" and depth == 8:
                    continue
                rows = of(samples).reshape(height, -1).tolist()
                data = written(rows, width, height, bitdepth=depth, interlace=interlace, **options)
                words = ["grey samples of 16 bits"] if (name, depth) == ("grey", 16) else []
                yield f"{name}{depth}{tail}.png", data, *words
    for filters in range(6):
        data = tool(
            "convert-im6.q16", "{in}", "-define", f"png:compression-filter={filters}", "png:{out}",
            data=ppm(image),
        )
        yield f"filter{filters}.png", data
    yield "pillow_rgb.png", saved(Image.fromarray(image), "PNG")
    yield "pillow_bits.png", saved(Image.fromarray(grey).convert("1"), "PNG")
    yield "pnmtopng_interlaced.png", tool("pnmtopng", "-interlace", data=ppm(image))
    yield "pnmtopng_gamma.png", tool("pnmtopng", "-gamma", "0.45", "-background", "red", data=ppm(image))
    for size in ((1, 1), (1, 9), (9, 1), (2, 3), (5, 5), (8, 8), (33, 2)):
        rows = picture(*size).reshape(size[1], -1).tolist()
        data = written(rows, *size, greyscale=False, bitdepth=8, interlace=True)
        yield f"size{size[0]}x{size[1]}_interlaced.png", data
    frames = [Image.fromarray(image), Image.fromarray(image[::-1].copy())]
    yield "animated.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=50)
    yield "animated_default.png", saved(
        frames[0], "PNG", save_all=True, append_images=frames, default_image=True, duration=50
    )
    short = picture(4, 1)[0].tolist()
    data = written(((grey >> 6) % 4).tolist(), width, height, palette=[tuple(c) for c in short], bitdepth=8)
    yield "palette_of_4_in_8_bits.png", data
    ramp = [(i, i, i) for i in range(256)]
    yield "palette_grey_ramp.png", written(grey.tolist(), width, height, palette=ramp, bitdepth=8)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "exif6.png", saved(Image.fromarray(image), "PNG", exif=exif)
    yield from badly_written(image)


def badly_written(image):
    plain = saved(Image.fromarray(image), "PNG")
    head, parts = plain[:8], list(chunks(plain))
    build = lambda parts: head + b"".join(chunk(kind, data) for kind, data in parts)
    data = next(data for kind, data in parts if kind == b"IDAT")
    split = [(b"IDAT", data[at : at + 50]) for at in range(0, len(data), 50)]
    yield "idat_in_pieces.png", build([parts[0], *split, parts[-1]])
    yield "idat_empty_pieces.png", build([parts[0], (b"IDAT", b""), *split, (b"IDAT", b""), parts[-1]])
    yield "bad_no_iend.png", build(parts[:-1])
    yield "bad_trailing_bytes.png", plain + b"more"
    yield "bad_private_chunk.png", build([parts[0], (b"prVt", b"abc"), *parts[1:]])
    yield "bad_critical_chunk.png", build([parts[0], (b"PRVT", b"abc"), *parts[1:]]), "critical chunk"
    yield "bad_text.png", build([parts[0], (b"tEXt", b"no separator"), *parts[1:]])
    yield "bad_profile.png", build([parts[0], (b"iCCP", b"x\0\0rubbish"), *parts[1:]])
    yield "bad_gamma.png", build([parts[0], (b"gAMA", b"\0"), *parts[1:]])
    yield "bad_two_palettes.png", build([parts[0], (b"PLTE", b"abc"), (b"PLTE", b"def"), *parts[1:]])
    yield "bad_late_chunk.png", build([*parts[:-1], (b"pHYs", b"\0\0\0\1\0\0\0\1\0"), parts[-1]])
    for part in (0.1, 0.3, 0.6, 0.95):
        yield f"bad_cut_{part}.png", plain[: int(len(plain) * part)]
    yield "bad_cut_iend.png", plain[:-7]
    header = bytearray(parts[0][1])
    for name, at, value in (("depth3", 8, 3), ("colour5", 9, 5), ("interlace2", 12, 2), ("no_width", 3, 0)):
        spoilt = bytearray(header)
        spoilt[at] = value
        yield f"bad_{name}.png", build([(b"IHDR", bytes(spoilt)), *parts[1:]])
