"""TIFF: depths, colours, alpha, planes, strips and tiles, compression, byte orders; then bad files."""

import io
import struct

import numpy as np
import tifffile
from PIL import Image

import common
from common import deep, ppm, saved, tool


def picture(width=25, height=19, seed=5):
    """Smaller than elsewhere: there are more of them."""
    return common.picture(width, height, seed)


def alpha():
    return common.alpha(25, 19)


def written(samples, **options):
    file = io.BytesIO()
    byteorder, bigtiff = options.pop("byteorder", "<"), options.pop("bigtiff", False)
    with tifffile.TiffWriter(file, byteorder=byteorder, bigtiff=bigtiff) as writer:
        writer.write(samples, metadata=None, software=False, **options)
    return file.getvalue()


def by_hand(width, height, tags, strips, order="<", big=False):
    """Tags by number as (type, values); strips of bytes. Tiles where tag 322 is there."""
    offsets, counts = (324, 325) if 322 in tags else (273, 279)
    head = 16 if big else 8
    data, places = b"", []
    for strip in strips:
        places.append(head + len(data))
        data += strip + b"\0" * (-len(strip) % 2)
    tags = {256: (4, [width]), 257: (4, [height]), **tags}
    tags.setdefault(offsets, (4, places))
    tags.setdefault(counts, (4, [len(strip) for strip in strips]))
    letters, sizes = {1: "B", 3: "H", 4: "I", 7: "B", 8: "h", 16: "Q"}, {1: 1, 3: 2, 4: 4, 7: 1, 8: 2, 16: 8}
    wide, fmt = (8, "Q") if big else (4, "I")
    directory, spill, start = b"", b"", head + len(data)
    length = (8 if big else 2) + len(tags) * (20 if big else 12) + wide
    for number in sorted(tags):
        kind, values = tags[number]
        raw = struct.pack(f"{order}{len(values)}{letters[kind]}", *values)
        entry = struct.pack(f"{order}HH{fmt}", number, kind, len(values))
        if len(raw) <= wide:
            directory += entry + raw.ljust(wide, b"\0")
        else:
            directory += entry + struct.pack(order + fmt, start + length + len(spill))
            spill += raw + b"\0" * (len(raw) % 2)
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    mark = b"II" if order == "<" else b"MM"
    first = struct.pack(order + "HHHQ", 43, 8, 0, start) if big else struct.pack(order + "HI", 42, start)
    return mark + first + data + count + directory + b"\0" * wide + spill


def packed(indices, bits):
    rows = b""
    for row in indices:
        value = "".join(format(int(v), f"0{bits}b") for v in row)
        value += "0" * (-len(value) % 8)
        rows += int(value, 2).to_bytes(len(value) // 8, "big")
    return rows


def make():
    image = picture()
    height, width = image.shape[:2]
    grey, ink = image[..., 1], np.dstack([255 - image, alpha() // 2])
    rgba = np.dstack([image, alpha()])
    associated = np.dstack([(image.astype(int) * alpha()[..., None] // 255).astype(np.uint8), alpha()])
    la = np.dstack([grey, alpha()])
    layouts = {"strip": {}, "strips": dict(rowsperstrip=7), "tiles": dict(tile=(16, 16)), "tile": dict(tile=(32, 48))}
    packs = {
        "none": {}, "lzw": dict(compression="lzw"), "lzw_predicted": dict(compression="lzw", predictor=2),
        "deflate": dict(compression="adobe_deflate"), "deflate_predicted": dict(compression="adobe_deflate", predictor=2),
        "packbits": dict(compression="packbits"),
    }
    for order in "<>":
        end = "ii" if order == "<" else "mm"
        for pack, packing in packs.items():
            for layout, place in layouts.items():
                options = {**packing, **place, "byteorder": order}
                predicted = "predictor" in packing
                yield f"rgb8_{pack}_{layout}_{end}.tif", written(image, photometric="rgb", **options)
                yield f"rgb16_{pack}_{layout}_{end}.tif", written(deep(image), photometric="rgb", **options)
                yield f"grey8_{pack}_{layout}_{end}.tif", written(grey, photometric="minisblack", **options)
                if layout in ("strips", "tiles"):
                    planes = np.moveaxis(image, -1, 0).copy()
                    yield f"rgb8_planes_{pack}_{layout}_{end}.tif", written(planes, photometric="rgb", planarconfig="separate", **options)
                    data = written(deep(planes), photometric="rgb", planarconfig="separate", **options)
                    yield f"rgb16_planes_{pack}_{layout}_{end}.tif", data, *(["planes of 16 bits"] if pack == "none" else [])
                    for name, kind in (("unassociated", "unassalpha"), ("associated", "assocalpha"), ("unspecified", "unspecified")):
                        four = associated if name == "associated" else rgba
                        yield f"rgba8_{name}_{pack}_{layout}_{end}.tif", written(four, photometric="rgb", extrasamples=[kind], **options)
                        yield f"rgba16_{name}_{pack}_{layout}_{end}.tif", written(deep(four), photometric="rgb", extrasamples=[kind], **options)
                    yield f"cmyk8_{pack}_{layout}_{end}.tif", written(ink, photometric="separated", **options)
        for big in (False, True):
            words = ["BigTIFF"] if big and order == ">" else []
            yield f"big{int(big)}_{end}.tif", written(image, photometric="rgb", byteorder=order, bigtiff=big, rowsperstrip=5), *words
        yield f"cmyk16_{end}.tif", written(deep(ink), photometric="separated", byteorder=order)
        for name, dtype, words in (
            ("grey16", np.uint16, "16 bits"), ("grey32", np.uint32, "32 bits"), ("signed16", np.int16, "signed samples of 16"),
            ("signed32", np.int32, "signed samples of 32"), ("float32", np.float32, "floating-point"), ("float64", np.float64, "floating-point"),
            ("float16", np.float16, "floating-point"), ("grey64", np.uint64, "64 bits"),
        ):
            yield f"{name}_{end}.tif", written(deep(grey).astype(np.uint16).astype(dtype) // 2, photometric="minisblack", byteorder=order), words
    yield "float_predicted.tif", written(grey.astype(np.float32), photometric="minisblack", compression="lzw", predictor=3), "floating-point"
    yield "rgb_float.tif", written(image.astype(np.float32), photometric="rgb"), "floating-point"
    yield "grey_white.tif", written(grey, photometric="miniswhite")
    yield "grey16_white.tif", written(deep(grey), photometric="miniswhite"), "16 bits"
    for name, kind, words in (("unassociated", 2, []), ("associated", 1, ["associated alpha"]), ("unspecified", 0, [])):
        for pack in ("none", "lzw_predicted", "deflate"):
            yield f"la8_{name}_{pack}.tif", written(la, photometric="minisblack", planarconfig="contig", extrasamples=[kind], **packs[pack]), *words
        yield f"la16_{name}.tif", written(deep(la), photometric="minisblack", planarconfig="contig", extrasamples=[kind]), "2 samples of 16"
        planes = np.moveaxis(la, -1, 0).copy()
        for pack in ("none", "lzw"):
            yield f"la8_planes_{name}_{pack}.tif", written(planes, photometric="minisblack", planarconfig="separate", extrasamples=[kind], **packs[pack]), *((words or ["planes"]) if kind else ["extra plane"] if pack == "none" else [])
        four = associated if kind == 1 else rgba
        planes = np.moveaxis(four, -1, 0).copy()
        for pack in ("none", "lzw", "deflate_predicted"):
            words = {(1, "none"): ["associated alpha in a plane"], (0, "none"): ["extra plane"]}.get((kind, pack), [])
            yield f"rgba8_planes_{name}_{pack}.tif", written(planes, photometric="rgb", planarconfig="separate", extrasamples=[kind], **packs[pack]), *words
            words = [["extra plane"] if kind == 0 else ["planes of 16"]][0] if pack == "none" else []
            yield f"rgba16_planes_{name}_{pack}.tif", written(deep(planes), photometric="rgb", planarconfig="separate", extrasamples=[kind], **packs[pack]), *words
    yield "cmyk_planes.tif", written(np.moveaxis(ink, -1, 0).copy(), photometric="separated", planarconfig="separate")
    yield "cmyk_planes_lzw.tif", written(np.moveaxis(ink, -1, 0).copy(), photometric="separated", planarconfig="separate", compression="lzw")
    for pack, words in (("zstd", "ZSTD"), ("lzma", "LZMA"), ("webp", "WebP"), ("jpeg2000", "JPEG 2000"), ("lerc", "LERC"), ("jpegxl", "JPEG XL")):
        yield f"packed_{pack}.tif", written(image, photometric="rgb", compression=pack), words
    yield from few_bits(image)
    yield from jpeg_inside(image)
    yield from libtiff(image)
    yield from odd(image)
    yield from badly_written(image)


def few_bits(image):
    height, width = image.shape[:2]
    table = picture(256, 1)[0].astype(int) * 257
    for order in "<>":
        end = "ii" if order == "<" else "mm"
        for bits in (1, 2, 4, 8):
            levels = image[..., 1] >> (8 - bits)
            strips = [packed(levels[at : at + 6], bits) for at in range(0, height, 6)]
            tiles = []
            for top in range(0, height, 16):
                for left in range(0, width, 16):
                    part = np.zeros((16, 16), int)
                    piece = levels[top : top + 16, left : left + 16]
                    part[: piece.shape[0], : piece.shape[1]] = piece
                    tiles.append(packed(part, bits))
            base = {258: (3, [bits]), 278: (3, [6])}
            colours = table[: 1 << bits].T.ravel().tolist()
            for name, photometric, more in (("white", 0, {}), ("black", 1, {}), ("palette", 3, {320: (3, colours)})):
                tags = {**base, 262: (3, [photometric]), **more}
                yield f"{name}{bits}_{end}.tif", by_hand(width, height, tags, strips, order)
                if order == "<":
                    yield f"{name}{bits}_big.tif", by_hand(width, height, tags, strips, order, big=True)
                    reversed_bits = [bytes(int(f"{b:08b}"[::-1], 2) for b in s) for s in strips]
                    words = ["lowest bits"] if name == "palette" and bits < 8 or name == "white" and bits == 8 else []
                    yield f"{name}{bits}_lsb_first.tif", by_hand(width, height, {**tags, 266: (3, [2])}, reversed_bits, order), *words
                    del tags[278]
                    tags.update({322: (3, [16]), 323: (3, [16])})
                    yield f"{name}{bits}_tiles.tif", by_hand(width, height, tags, tiles, order)
                    for orientation in (3, 6) if bits == 1 else ():
                        yield f"{name}1_turned{orientation}.tif", by_hand(width, height, {**tags, 274: (3, [orientation])}, tiles, order)
    yield "bits_default.tif", by_hand(width, height, {}, [packed(image[..., 1] >> 7, 1)])
    yield "palette_short.tif", by_hand(width, height, {258: (3, [8]), 262: (3, [3]), 320: (3, table[:10].T.ravel().tolist())}, [(image[..., 1] >> 4).tobytes()])
    yield "palette_none.tif", by_hand(width, height, {258: (3, [8]), 262: (3, [3])}, [image[..., 1].tobytes()])
    pa = np.dstack([image[..., 1], alpha()])
    for kind, words in ((0, []), (2, ["a palette and alpha"])):
        tags = {258: (3, [8, 8]), 277: (3, [2]), 262: (3, [3]), 338: (3, [kind]), 320: (3, table.T.ravel().tolist())}
        yield f"palette_extra{kind}.tif", by_hand(width, height, tags, [pa.tobytes()]), *words
    yield "grey12.tif", by_hand(width, height, {258: (3, [12]), 262: (3, [1])}, [packed(image[..., 1].astype(int) << 4, 12)]), "12 bits"
    yield "rgb4.tif", by_hand(width, height, {258: (3, [4] * 3), 277: (3, [3]), 262: (3, [2])}, [packed((image >> 4).reshape(height, -1), 4)]), "4 bits"
    yield "rgb565.tif", by_hand(width, height, {258: (3, [5, 6, 5]), 277: (3, [3]), 262: (3, [2])}, [packed(image[..., 0].astype(int) * 257, 16)]), "different numbers of bits"
    yield "signed8.tif", by_hand(width, height, {258: (3, [8]), 262: (3, [1]), 339: (3, [2])}, [image[..., 1].tobytes()])


def jpeg_inside(image):
    ink = np.dstack([255 - image, alpha() // 2])
    for layout, place in {"strips": dict(rowsperstrip=16), "tiles": dict(tile=(16, 16)), "strip": {}}.items():
        for sampling in ((1, 1), (2, 1), (2, 2)):
            name = f"jpeg_ycbcr_{sampling[0]}{sampling[1]}_{layout}.tif"
            yield name, written(image, photometric="ycbcr", compression="jpeg", subsampling=sampling, **place)
        yield f"jpeg_rgb_{layout}.tif", written(image, photometric="rgb", compression="jpeg", **place)
        yield f"jpeg_grey_{layout}.tif", written(image[..., 1], photometric="minisblack", compression="jpeg", **place)
        yield f"jpeg_cmyk_{layout}.tif", written(ink, photometric="separated", compression="jpeg", **place)
    planes = np.moveaxis(image, -1, 0).copy()
    yield "jpeg_rgb_planes.tif", written(planes, photometric="rgb", planarconfig="separate", compression="jpeg")
    for arguments in (("jpeg",), ("jpeg:r",), ("jpeg:90",)):
        for order in ("-L", "-B"):
            raw = tool("ppm2tiff", "{in}", "{out}", data=ppm(image))
            name = f"tiffcp_{arguments[0].replace(':', '_')}{order}.tif"
            yield name, tool("tiffcp", order, "-r", 16, "-c", *arguments, "{in}", "{out}", data=raw)
            yield name.replace(".tif", "_tiles.tif"), tool("tiffcp", order, "-t", "-w", 16, "-l", 16, "-c", *arguments, "{in}", "{out}", data=raw)
    yield "pillow_jpeg.tif", saved(Image.fromarray(image), "TIFF", compression="jpeg", quality=80)
    yield "pillow_jpeg_cmyk.tif", saved(Image.fromarray(ink, "CMYK"), "TIFF", compression="jpeg")
    yield "pillow_ycbcr.tif", saved(Image.fromarray(image).convert("YCbCr"), "TIFF"), "YCbCr"
    yield "pillow_ycbcr_lzw.tif", saved(Image.fromarray(image).convert("YCbCr"), "TIFF", compression="tiff_lzw"), "YCbCr"


def libtiff(image):
    """What libtiff's own tools write."""
    bits = saved(Image.fromarray(image).convert("1"), "TIFF")
    raw = tool("ppm2tiff", "{in}", "{out}", data=ppm(image))
    for pack, words in (("g4", None), ("g3", None), ("g3:2d", None), ("g3:fill", None), ("g3:2d:fill", None), ("packbits", None), ("lzw", None), ("zip", None), ("none", None)):
        for order in ("msb2lsb", "lsb2msb"):
            for end in ("-L", "-B"):
                data = tool("tiffcp", end, "-f", order, "-r", 8, "-c", pack, "{in}", "{out}", data=bits)
                yield f"bits_{pack.replace(':', '_')}_{order}{end}.tif", data, *([words] if words else [])
    for pack in ("none", "lzw", "lzw:2", "zip:2", "packbits"):
        for planes in ("contig", "separate"):
            for place in (["-r", 5], ["-t", "-w", 16, "-l", 32]):
                for end in ("-L", "-B", "-8"):
                    data = tool("tiffcp", end, *place, "-p", planes, "-c", pack, "{in}", "{out}", data=raw)
                    name = f"tiffcp_{pack.replace(':', '_')}_{planes}_{'tiles' if '-t' in place else 'strips'}{end}.tif"
                    yield name, data
    yield "tiffcp_lsb_rgb.tif", tool("tiffcp", "-f", "lsb2msb", "-c", "none", "{in}", "{out}", data=raw)
    yield "tiffcp_lsb_rgb_lzw.tif", tool("tiffcp", "-f", "lsb2msb", "-c", "lzw", "{in}", "{out}", data=raw)
    for kind in ("tiff64:", "tiff:"):
        yield f"convert_{kind[:-1]}.tif", tool("convert-im6.q16", "{in}", f"{kind}{{out}}", data=ppm(image))
    for pack in ("Fax", "Group4", "LZW", "Zip", "RLE", "JPEG", "LZMA"):
        try:
            data = tool("convert-im6.q16", "{in}", "-depth", 8, "-compress", pack, "tiff:{out}", data=ppm(image))
        except RuntimeError:
            continue
        yield f"convert_{pack}.tif", data, *({"LZMA": ["LZMA"]}.get(pack, []))
    yield "pnmtotiff_palette.tif", tool("pnmtotiff", "-indexbits=4,8", data=tool("pnmquant", "12", data=ppm(image)))
    yield "pnmtotiff_bits.tif", tool("pnmtotiff", "-miniswhite", data=tool("pamditherbw", data=tool("ppmtopgm", data=ppm(image))))
    yield "pnmtotiffcmyk.tif", tool("pnmtotiffcmyk", data=ppm(image))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        for pack in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            yield f"pillow_{mode}_{pack}.tif", saved(Image.fromarray(image).convert(mode), "TIFF", compression=pack)
    for mode, words in (("I;16", "16 bits"), ("I", "32 bits"), ("F", "floating-point"), ("LAB", "Lab")):
        plain = Image.fromarray(image)
        deeper = Image.fromarray(deep(image[..., 1])) if mode == "I;16" else Image.fromarray(image, "LAB") if mode == "LAB" else plain.convert(mode)
        yield f"pillow_{mode.replace(';', '')}.tif", saved(deeper, "TIFF"), words
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield f"pillow_{compression}.tif", saved(Image.fromarray(image).convert("1"), "TIFF", compression=compression)
    wide = Image.fromarray(picture(300, 40)).convert("1")
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield f"wide_{compression}.tif", saved(wide, "TIFF", compression=compression)
        yield f"blank_{compression}.tif", saved(Image.new("1", (3000, 3), 1), "TIFF", compression=compression)
        yield f"black_{compression}.tif", saved(Image.new("1", (3000, 3), 0), "TIFF", compression=compression)


def odd(image):
    height, width = image.shape[:2]
    rgb = {258: (3, [8] * 3), 277: (3, [3]), 262: (3, [2])}
    plain = [image.tobytes()]
    for orientation in range(0, 10):
        yield f"turned{orientation}.tif", by_hand(width, height, {**rgb, 274: (3, [orientation])}, plain)
        if 1 <= orientation <= 8:
            yield f"turned{orientation}_lzw.tif", written(image, photometric="rgb", compression="lzw", extratags=[(274, 3, 1, orientation, True)])
    yield "pages.tif", saved(Image.fromarray(image), "TIFF", save_all=True, append_images=[Image.fromarray(image[::-1].copy())])
    yield "one_bits_for_all.tif", by_hand(width, height, {**rgb, 258: (3, [8])}, plain)
    yield "too_many_bits.tif", by_hand(width, height, {**rgb, 258: (3, [8] * 4)}, plain)
    yield "no_alpha_kind.tif", by_hand(width, height, {**rgb, 258: (3, [8] * 4), 277: (3, [4])}, [np.dstack([image, alpha()]).tobytes()])
    for extra in ((0, 0), (1, 0), (2, 0), (0, 0, 0), (1, 0, 0), (2, 0, 0), (999,), (0, 2), (3,)):
        count = 3 + len(extra)
        samples = np.dstack([image] + [alpha()] * len(extra))
        tags = {**rgb, 258: (3, [8] * count), 277: (3, [count]), 338: (3, list(extra))}
        words = ["extra samples"] if extra in ((0, 2), (3,)) else []
        yield f"extra_{'_'.join(map(str, extra))}.tif", by_hand(width, height, tags, [samples.tobytes()]), *words
    ink = np.dstack([255 - image, alpha() // 2, alpha()])
    tags = {**rgb, 262: (3, [5]), 258: (3, [8] * 5), 277: (3, [5]), 338: (3, [0])}
    yield "cmyk_extra.tif", by_hand(width, height, tags, [ink.tobytes()])
    yield "seven_samples.tif", by_hand(width, height, {**rgb, 258: (3, [8] * 7), 277: (3, [7]), 338: (3, [0] * 4)}, [np.dstack([image] * 2 + [alpha()]).tobytes()]), "samples a pixel"
    yield "long_tags.tif", by_hand(width, height, {258: (4, [8] * 3), 277: (4, [3]), 262: (4, [2]), 274: (4, [6])}, plain)
    yield "rows_beyond.tif", by_hand(width, height, {**rgb, 278: (4, [2**32 - 1])}, plain)
    yield "no_counts.tif", by_hand(width, height, {**rgb, 279: (3, [])}, plain)
    for photometric, words in ((4, "mask"), (8, "Lab"), (9, "Lab"), (10, "Lab"), (32803, "filter"), (34892, "linear raw"), (77, "interpretation 77")):
        yield f"photometric{photometric}.tif", by_hand(width, height, {**rgb, 262: (3, [photometric])}, plain), words
    for compression, words in ((2, "more than 1 bit"), (3, "more than 1 bit"), (6, "old-style JPEG"), (32771, "RLE"), (32809, "ThunderScan"), (34676, "LogLuv"), (12345, "12345")):
        yield f"compression{compression}.tif", by_hand(width, height, {**rgb, 259: (3, [compression])}, plain), words
    yield "size1x1.tif", by_hand(1, 1, rgb, [b"\1\2\3"])


def badly_written(image):
    height, width = image.shape[:2]
    rgb = {258: (3, [8] * 3), 277: (3, [3]), 262: (3, [2])}
    plain = by_hand(width, height, rgb, [image.tobytes()])
    packed = written(image, photometric="rgb", compression="lzw", rowsperstrip=7)
    deflate = written(image, photometric="rgb", compression="adobe_deflate", rowsperstrip=7)
    jpeg = written(image, photometric="ycbcr", compression="jpeg", rowsperstrip=16)
    yield "bad_trailing_bytes.tif", plain + b"more"
    for part in (0.01, 0.3, 0.9):
        for name, data in (("plain", plain), ("lzw", packed), ("deflate", deflate), ("jpeg", jpeg)):
            yield f"bad_cut_{part}_{name}.tif", data[: int(len(data) * part)]
    yield "bad_short_strip.tif", by_hand(width, height, rgb, [image.tobytes()[:-500]])
    yield "bad_offset.tif", by_hand(width, height, {**rgb, 273: (4, [10**8])}, [image.tobytes()])
    yield "bad_directory.tif", plain[:4] + struct.pack("<I", 10**7) + plain[8:]
    yield "bad_no_width.tif", by_hand(0, height, rgb, [image.tobytes()])
    yield "bad_no_strips.tif", by_hand(width, height, {**rgb, 273: (3, []), 279: (3, [])}, [image.tobytes()])
    yield "bad_few_strips.tif", by_hand(width, height, {**rgb, 278: (3, [5])}, [image.tobytes()])
    yield "bad_bits_0.tif", by_hand(width, height, {**rgb, 258: (3, [0] * 3)}, [image.tobytes()])
    yield "bad_tile_0.tif", by_hand(width, height, {**rgb, 322: (3, [0]), 323: (3, [0])}, [image.tobytes()])
