"""BMP: headers, depths, palettes, bit fields, run lengths, directions; then bad files.

Most are written here by the format's description, since no tool at hand writes them."""

import struct

import numpy as np
from PIL import Image

from common import alpha, picture, ppm, saved, tool


def packed(indices, bits):
    """Rows of indices, padded to four bytes."""
    rows = []
    for row in indices:
        value = "".join(format(int(v), f"0{bits}b") for v in row)
        value += "0" * (-len(value) % 32)
        rows.append(int(value, 2).to_bytes(len(value) // 8, "big"))
    return rows


def bmp(width, height, bits, rows, palette=b"", header=40, compression=0, masks=(), top=False, colours=0, offset=None, planes=1):
    rows = rows if top else rows[::-1]
    data = b"".join(rows)
    stored = struct.pack("<i", -height if top else height)
    if header == 12:
        head = struct.pack("<IHHHH", 12, width, height, planes, bits)
    else:
        head = struct.pack("<Ii", header, width) + stored + struct.pack("<HHIIIIII", planes, bits, compression, len(data), 2835, 2835, colours, 0)
        extra = b"".join(struct.pack("<I", mask) for mask in masks)
        head = (head + extra).ljust(header, b"\0") if header > 40 else head + extra
    start = 14 + len(head) + len(palette) if offset is None else offset
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(palette) + len(data), 0, 0, start) + head + palette + data


def rle8(row):
    out, at = b"", 0
    while at < len(row):
        run = 1
        while at + run < len(row) and row[at + run] == row[at] and run < 255:
            run += 1
        if run > 1 or len(row) - at < 4:
            out += bytes([run, row[at]])
            at += run
        else:
            part = bytes(row[at : at + 3])
            out += b"\0\3" + part + b"\0"
            at += 3
    return out + b"\0\0"


def rle4(row):
    out = b""
    for at in range(0, len(row), 7):
        part = [int(v) for v in row[at : at + 7]]
        if len(part) >= 3 and at % 2:
            nibbles = part + [0] * (-len(part) % 4)
            out += bytes([0, len(part)]) + bytes(a << 4 | b for a, b in zip(nibbles[::2], nibbles[1::2]))
        else:
            for pair in range(0, len(part), 2):
                two = part[pair : pair + 2] + [0]
                out += bytes([len(part[pair : pair + 2]), two[0] << 4 | two[1]])
    return out + b"\0\0"


def make():
    image = picture()
    height, width = image.shape[:2]
    bgr = image[..., ::-1]
    colours = lambda count, size: b"".join(bytes(c) + b"\0" * (size - 3) for c in picture(count, 1, seed=count)[0])
    ramp = lambda count, size: b"".join(bytes([i * 255 if count == 2 else i] * 3) + b"\0" * (size - 3) for i in range(count))
    for header in (12, 40, 52, 56, 64, 108, 124):
        size = 3 if header == 12 else 4
        for bits in (1, 4, 8):
            rows = packed(image[..., 0] >> (8 - bits), bits)
            yield f"h{header}_palette{bits}.bmp", bmp(width, height, bits, rows, colours(1 << bits, size), header)
        rows = packed(image[..., 0] >> 7, 1)
        yield f"h{header}_bits.bmp", bmp(width, height, 1, rows, ramp(2, size), header)
        yield f"h{header}_grey.bmp", bmp(width, height, 8, packed(image[..., 1], 8), ramp(256, size), header)
        full = [r.tobytes().ljust((3 * width + 3) // 4 * 4, b"\0") for r in bgr]
        yield f"h{header}_rgb24.bmp", bmp(width, height, 24, full, header=header)
        four = [r.tobytes() for r in np.dstack([bgr, alpha()])]
        yield f"h{header}_rgb32.bmp", bmp(width, height, 32, four, header=header)
        if header == 12:
            continue
        for name, bits, masks in (
            ("555", 16, (0x7C00, 0x3E0, 0x1F, 0)), ("565", 16, (0xF800, 0x7E0, 0x1F, 0)),
            ("bgrx", 32, (0xFF0000, 0xFF00, 0xFF, 0)), ("xbgr", 32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
            ("bgxr", 32, (0xFF000000, 0xFF00, 0xFF, 0)), ("abgr", 32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
            ("rgba", 32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)), ("bgra", 32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
            ("bgar", 32, (0xFF000000, 0xFF00, 0xFF, 0xFF0000)), ("none", 32, (0, 0, 0, 0)), ("bgr", 24, (0xFF0000, 0xFF00, 0xFF, 0)),
            ("444", 16, (0xF00, 0xF0, 0xF, 0)), ("10bit", 32, (0x3FF00000, 0xFFC00, 0x3FF, 0)), ("rgbx", 32, (0xFF, 0xFF00, 0xFF0000, 0)),
        ):
            if header == 52 and masks[3]:
                continue
            rows = {16: packed(image[..., 0].astype(int) * 257, 16), 24: full, 32: four}[bits]
            count = 3 if header in (40, 52) else 4
            data = bmp(width, height, bits, rows, header=header, compression=3, masks=masks[:count])
            words = ["bit fields"] if name in ("444", "10bit", "rgbx") or name in ("abgr", "rgba", "bgra", "bgar") and count == 3 and name == "rgba" else []
            yield f"h{header}_fields_{name}.bmp", data, *words
    for wide in range(1, 10):
        part = image[:5, :wide]
        for bits in (1, 4, 8):
            yield f"narrow{wide}_{bits}.bmp", bmp(wide, 5, bits, packed(part[..., 0] >> (8 - bits), bits), colours(1 << bits, 4))
        rows = [r.tobytes().ljust((3 * wide + 3) // 4 * 4, b"\0") for r in part[..., ::-1]]
        yield f"narrow{wide}_24.bmp", bmp(wide, 5, 24, rows)
        yield f"narrow{wide}_16.bmp", bmp(wide, 5, 16, packed(part[..., 0].astype(int) * 128, 16))
        bits = saved(Image.fromarray(part).convert("1"), "BMP")
        yield f"narrow{wide}_pillow.bmp", bits
    for bits in (1, 4, 8):
        rows = packed(image[..., 0] >> (8 - bits), bits)
        yield f"top_palette{bits}.bmp", bmp(width, height, bits, rows, colours(1 << bits, 4), top=True)
    yield "top_rgb24.bmp", bmp(width, height, 24, [r.tobytes().ljust(112, b"\0") for r in bgr], top=True)
    yield "rgb15.bmp", bmp(width, height, 16, packed(image[..., 0].astype(int) * 128 + image[..., 1] // 2, 16))
    yield "few_colours.bmp", bmp(width, height, 8, packed(image[..., 0] >> 4, 8), colours(16, 4), colours=16)
    yield "fewer_than_used.bmp", bmp(width, height, 8, packed(image[..., 0] >> 4, 8), colours(10, 4), colours=10)
    yield "two_grey_of_8.bmp", bmp(width, height, 8, packed(image[..., 0] >> 7, 8), ramp(2, 4), colours=2)
    yield "white_black.bmp", bmp(width, height, 1, packed(image[..., 0] >> 7, 1), b"\xff\xff\xff\0\0\0\0\0")
    yield "one_colour.bmp", bmp(width, height, 8, packed(image[..., 0] * 0, 8), colours(1, 4), colours=1)
    yield "one_black.bmp", bmp(width, height, 8, packed(image[..., 0] * 0, 8), b"\0\0\0\0", colours=1)
    yield "sixteen_grey_of_4.bmp", bmp(width, height, 4, packed(image[..., 0] >> 4, 4), ramp(16, 4)), "grey palette"
    yield "grey_17s.bmp", bmp(width, height, 4, packed(image[..., 0] >> 4, 4), b"".join(bytes([17 * i] * 3) + b"\0" for i in range(16)))
    yield "gap_before_pixels.bmp", bmp(width, height, 8, packed(image[..., 0], 8), colours(256, 4) + b"\0" * 20)
    yield "offset_0.bmp", bmp(width, height, 24, [r.tobytes().ljust(112, b"\0") for r in bgr], offset=0)
    yield "offset_0_palette.bmp", bmp(width, height, 8, packed(image[..., 0], 8), colours(256, 4), offset=0)
    yield "offset_of_header.bmp", bmp(width, height, 8, packed(image[..., 0], 8), colours(256, 4), offset=54)
    yield from run_lengths(image, colours, ramp)
    for kind in ("bmp", "bmp2", "bmp3"):
        yield f"convert_{kind}.bmp", tool("convert-im6.q16", "{in}", f"{kind}:{{out}}", data=ppm(image))
    yield "convert_rle.bmp", tool("convert-im6.q16", "{in}", "-colors", 40, "-compress", "RLE", "bmp3:{out}", data=ppm(image))
    quantised = tool("pnmquant", "16", data=ppm(image))
    for system in ("windows", "os2"):
        yield f"ppmtobmp_{system}.bmp", tool("ppmtobmp", f"-{system}", data=ppm(image))
        yield f"ppmtobmp_{system}_16.bmp", tool("ppmtobmp", f"-{system}", "-bpp=4", data=quantised)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"pillow_{mode}.bmp", saved(Image.fromarray(image).convert(mode), "BMP")
    yield from badly_written(image, colours)


def run_lengths(image, colours, ramp):
    height, width = image.shape[:2]
    eight, four = image[..., 0] >> 3 << 3, image[..., 0] >> 5
    for name, palette in (("", colours(256, 4)), ("_grey", ramp(256, 4))):
        yield f"rle8{name}.bmp", bmp(width, height, 8, [rle8(r) for r in eight[::-1]][::-1], palette, compression=1)
    yield "rle4.bmp", bmp(width, height, 4, [rle4(r) for r in four], colours(16, 4), compression=2)
    yield "rle8_top.bmp", bmp(width, height, 8, [rle8(r) for r in eight], colours(256, 4), compression=1, top=True)
    yield "rle4_bits.bmp", bmp(width, height, 4, [rle4(r & 1) for r in four], ramp(2, 4), compression=2, colours=2)
    rows = [rle8(r) for r in eight]
    delta = rows[:]
    delta[7] = b"\0\2\x05\x02" + rle8(eight[7][5:])
    delta[6] = delta[5] = b""
    yield "rle8_delta.bmp", bmp(width, height, 8, delta, colours(256, 4), compression=1)
    short = rows[:]
    short[4] = rle8(eight[4][:20])
    yield "rle8_short_line.bmp", bmp(width, height, 8, short, colours(256, 4), compression=1)
    long = rows[:]
    long[4] = b"\x40\x07" + rows[4]
    yield "rle8_long_line.bmp", bmp(width, height, 8, long, colours(256, 4), compression=1)
    yield "rle8_end.bmp", bmp(width, height, 8, rows + [b""], colours(256, 4), compression=1)
    data = bmp(width, height, 8, rows, colours(256, 4), compression=1)
    yield "rle8_end_of_bitmap.bmp", data[:-2] + b"\0\1"
    yield "rle8_early_end.bmp", bmp(width, height, 8, [b"\0\1"] + rows[1:10], colours(256, 4), compression=1)
    yield "rle8_cut.bmp", data[:-100]
    yield "jpeg_inside.bmp", bmp(width, height, 24, [b"\xff\xd8"] * 1, compression=4), "compression 4"
    yield "png_inside.bmp", bmp(width, height, 24, [b"\x89PNG"] * 1, compression=5), "compression 5"


def badly_written(image, colours):
    height, width = image.shape[:2]
    rows = packed(image[..., 0], 8)
    plain = bmp(width, height, 8, rows, colours(256, 4))
    yield "bad_trailing_bytes.bmp", plain + b"more"
    yield "bad_no_last_padding.bmp", plain[:-3]
    yield "bad_cut.bmp", plain[:-40]
    yield "bad_cut_palette.bmp", plain[:200]
    yield "bad_cut_header.bmp", plain[:30]
    yield "bad_offset.bmp", bmp(width, height, 8, rows, colours(256, 4), offset=10**6)
    yield "bad_header_41.bmp", plain[:14] + struct.pack("<I", 41) + plain[18:], "header of 41"
    yield "bad_bits_2.bmp", bmp(width, height, 2, packed(image[..., 0] >> 6, 2), colours(4, 4)), "2 bits"
    yield "bad_bits_3.bmp", bmp(width, height, 3, rows, colours(8, 4)), "3 bits"
    yield "bad_no_width.bmp", bmp(0, height, 8, rows, colours(256, 4))
    yield "bad_planes.bmp", bmp(width, height, 8, rows, colours(256, 4), planes=3)
    yield "bad_colours_300.bmp", bmp(width, height, 8, rows, colours(300, 4), colours=300)
    yield "bad_size_field.bmp", plain[:2] + b"\1\2\3\4" + plain[6:]
    yield "bad_reserved.bmp", plain[:6] + b"\1\2\3\4" + plain[10:]
