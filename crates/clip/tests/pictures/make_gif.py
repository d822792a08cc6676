"""GIF: palettes, interlace, offsets, transparency, disposal; then bad files."""

import struct

import numpy as np
from PIL import Image

from common import picture, ppm, saved, tool


def lzw(indices, bits):
    """Codes of one width, cleared before they would grow: what the patents left to encoders."""
    clear, end = 1 << bits, (1 << bits) + 1
    codes = []
    for at, index in enumerate(indices):
        if at % ((1 << bits) - 2) == 0:
            codes.append(clear)
        codes.append(int(index))
    codes.append(end)
    value = sum(code << (bits + 1) * at for at, code in enumerate(codes))
    data = value.to_bytes((len(codes) * (bits + 1) + 7) // 8, "little")
    return b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255)) + b"\0"


def gif(screen, frame, indices, bits, table=None, local=None, transparent=None, disposal=0, flags=0, background=0):
    size = lambda colours: 0x80 | (len(colours) // 3).bit_length() - 2
    data = b"GIF89a" + struct.pack("<HH", *screen)
    data += bytes([size(table) if table else 0, background, 0]) + (table or b"")
    if transparent is not None or disposal:
        packed = disposal << 2 | (transparent is not None)
        data += b"!\xf9\x04" + bytes([packed, 0, 0, transparent or 0, 0])
    data += b"," + struct.pack("<HHHH", *frame) + bytes([flags | (size(local) if local else 0)]) + (local or b"")
    return data + bytes([bits]) + lzw(indices, bits) + b";"


def make():
    image = picture()
    full = Image.fromarray(image)
    for colours in (2, 3, 4, 16, 40, 256):
        yield f"colours{colours}.gif", saved(full.quantize(colours), "GIF")
        yield f"colours{colours}_interlaced.gif", tool("gifsicle", "--interlace", data=saved(full.quantize(colours), "GIF"))
    yield "grey.gif", saved(full.convert("L"), "GIF")
    yield "bits.gif", saved(full.convert("1"), "GIF")
    yield "transparent.gif", saved(full.quantize(30), "GIF", transparency=4)
    for disposal in range(4):
        frames = [full.quantize(20), Image.fromarray(image[::-1].copy()).quantize(20)]
        yield f"animated_disposal{disposal}.gif", saved(
            frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=disposal, transparency=3
        )
    yield "ppmtogif.gif", tool("ppmtogif", "-interlace", data=tool("pnmquant", "32", data=ppm(image)))
    yield "ppmtogif_no_lzw.gif", tool("ppmtogif", "-nolzw", data=tool("pnmquant", "32", data=ppm(image)))
    yield "convert.gif", tool("convert-im6.q16", "{in}", "gif:{out}", data=ppm(image))
    small = saved(full.quantize(16), "GIF")
    for place in ("0,0", "5,6", "13,11"):
        data = tool("gifsicle", "--logical-screen", "50x40", "--position", place, data=small)
        yield f"position_{place.replace(',', '_')}.gif", data
    yield "beyond_screen.gif", tool("gifsicle", "--logical-screen", "20x10", "--position", "3,4", data=small)
    indices = (image[..., 0] >> 4).ravel()
    table = picture(16, 1).tobytes()
    other = picture(16, 1, seed=8).tobytes()
    ramp = bytes(v for i in range(16) for v in (i, i, i))
    plain = dict(screen=(37, 29), frame=(0, 0, 37, 29), indices=indices, bits=4)
    for name, options in {
        "global": dict(table=table),
        "local": dict(local=other),
        "global_and_local": dict(table=table, local=other),
        "grey_ramp": dict(table=ramp),
        "grey_ramp_local": dict(table=table, local=ramp),
        "grey_ramps": dict(table=ramp, local=ramp),
        "no_palette": dict(),
        "grey_ramp_alone": dict(local=ramp),
        "transparent_global": dict(table=table, transparent=3, background=5),
        "transparent_0": dict(table=table, transparent=0),
        "transparent_beyond": dict(table=table, transparent=200),
        "short_palette": dict(table=table[:12]),
        "background": dict(table=table, background=7, disposal=2),
        "screen_larger": dict(table=table, screen=(50, 40), frame=(4, 5, 37, 29), background=7),
        "screen_larger_transparent": dict(
            table=table, screen=(50, 40), frame=(4, 5, 37, 29), transparent=9, background=7
        ),
        "screen_zero": dict(table=table, screen=(0, 0)),
        "screen_larger_grey": dict(table=ramp, screen=(50, 40), frame=(4, 5, 37, 29), transparent=9),
    }.items():
        words = ["grey ramp"] if name == "grey_ramp_local" else []
        yield f"made_{name}.gif", gif(**{**plain, **options}), *words
    yield from badly_written(gif(**plain, table=table), {**plain, "table": table})


def badly_written(plain, options):
    yield "bad_trailing_bytes.gif", plain + b"more"
    yield "bad_no_trailer.gif", plain[:-1]
    yield "bad_no_last_block.gif", plain[:-2]
    yield "bad_version.gif", b"GIF88a" + plain[6:]
    yield "bad_87.gif", b"GIF87a" + plain[6:]
    for part in (0.05, 0.3, 0.6, 0.95):
        yield f"bad_cut_{part}.gif", plain[: int(len(plain) * part)]
    few = {**options, "indices": options["indices"][:500]}
    yield "bad_few_pixels.gif", gif(**few)
    yield "bad_many_pixels.gif", gif(**{**options, "indices": np.concatenate([options["indices"]] * 2)})
    yield "bad_no_frame.gif", plain[: 13 + 48] + b";"
    frame = 13 + 48
    yield "bad_between_blocks.gif", plain[:frame] + b"\0\0\0" + plain[frame:]
    yield "bad_empty_comment.gif", plain[:frame] + b"!\xfe\0" + plain[frame:]
    yield "bad_unknown_extension.gif", plain[:frame] + b"!\x42\x03abc\0" + plain[frame:]
    yield "bad_code_size_12.gif", plain[: frame + 10] + b"\x0d" + plain[frame + 11 :]
