"""JPEG: sampling, scans, restarts, coding and colour models; then files that are written badly."""

import struct

import imagecodecs
import numpy as np
from PIL import Image

from common import alpha, picture, ppm, saved, tool

SAMPLINGS = """1x1,1x1,1x1 2x1,1x1,1x1 1x2,1x1,1x1 2x2,1x1,1x1 4x1,1x1,1x1 1x4,1x1,1x1 4x2,1x1,1x1
2x4,1x1,1x1 3x1,1x1,1x1 1x3,1x1,1x1 2x2,2x1,2x1 2x2,1x2,1x2 2x2,2x1,1x2 1x1,2x1,2x1 1x1,1x2,1x2
1x1,2x2,2x2 2x1,1x2,1x1 2x2,2x2,1x1 3x2,1x1,1x1 4x1,2x1,1x1 3x1,2x1,1x1 1x1,2x1,1x1 2x2,2x2,2x2""".split()
APART = "0;\n1;\n2;\n"
SPECTRAL = "0,1,2: 0-0, 0, 0;\n0: 1-9, 0, 0;\n2: 1-63, 0, 0;\n1: 1-63, 0, 0;\n0: 10-63, 0, 0;\n"
DEEP = "0: 0-0,0,3;\n1,2: 0-0,0,2;\n0: 1-63,0,2;\n1: 1-63,0,1;\n2: 1-63,0,1;\n" \
    "0: 0-0,3,2;\n0: 0-0,2,1;\n0: 0-0,1,0;\n1,2: 0-0,2,1;\n1,2: 0-0,1,0;\n" \
    "0: 1-63,2,1;\n0: 1-63,1,0;\n1: 1-63,1,0;\n2: 1-63,1,0;\n"
# Only the first coefficients: libjpeg smooths what is not there.
PARTIAL = "0,1,2: 0-0, 0, 1;\n0: 1-5, 0, 2;\n"


def cjpeg(image, *arguments, scans=None):
    if scans is None:
        return tool("cjpeg", *arguments, "{in}", data=ppm(image))
    import pathlib, tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".scans") as file:
        file.write(scans)
        file.flush()
        return tool("cjpeg", *arguments, "-scans", pathlib.Path(file.name), "{in}", data=ppm(image))


def segments(data):
    """Marker, start and end of each segment before the first scan."""
    at = 2
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        yield data[at + 1], at, at + 2 + length
        at += 2 + length


def without(data, *markers):
    for marker, start, end in reversed(list(segments(data))):
        if marker in markers:
            data = data[:start] + data[end:]
    return data


def with_ids(data, ids):
    """The components named otherwise, in the frame and in a first scan of all of them."""
    data = bytearray(data)
    for marker, start, _ in segments(bytes(data)):
        if marker in (0xC0, 0xC1, 0xC2):
            for index, name in enumerate(ids):
                data[start + 10 + 3 * index] = name
    scan = data.index(b"\xff\xda")
    for index, name in enumerate(ids):
        data[scan + 5 + 2 * index] = name
    return bytes(data)


def adobe(data, transform):
    segment = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    return data[:2] + segment + data[2:]


def make():
    image = picture()
    for sampling in SAMPLINGS:
        name = sampling.replace(",", "_")
        for kind, arguments, scans in (
            ("baseline", ["-baseline"], None),
            ("apart", [], APART),
            ("apart_restart", ["-restart", "3B"], APART),
            ("restart", ["-restart", "2"], None),
            ("progressive", ["-progressive"], None),
            ("arithmetic", ["-arithmetic"], None),
            ("arithmetic_progressive", ["-arithmetic", "-progressive", "-restart", "1"], None),
        ):
            try:
                data = cjpeg(image, "-sample", sampling, *arguments, scans=scans)
            except RuntimeError as error:
                if not any(words in str(error) for words in ("too large for interleaved", "Fractional")):
                    raise
                continue
            yield f"{kind}_{name}.jpg", data
    for kind, scans in (("spectral", SPECTRAL), ("deep", DEEP), ("partial", PARTIAL)):
        for sampling in ("1x1,1x1,1x1", "2x2,1x1,1x1"):
            data = cjpeg(image, "-sample", sampling, scans=scans)
            yield f"{kind}_{sampling.replace(',', '_')}.jpg", data
    yield "sixteen_quarters.jpg", cjpeg(image, "-sample", "4x4,1x1,1x1", scans=APART)
    yield "large_factors.jpg", cjpeg(image, "-sample", "4x4,2x2,4x2", scans=APART)
    for quality in (1, 5, 30, 100):
        yield f"quality{quality}.jpg", cjpeg(image, "-quality", quality)
        yield f"quality{quality}_grey.jpg", cjpeg(image[..., 1].copy(), "-quality", quality)
    for dct in ("fast", "float"):
        yield f"made_with_dct_{dct}.jpg", cjpeg(image, "-dct", dct)
    for width, height in ((1, 1), (1, 40), (40, 1), (2, 2), (3, 5), (8, 8), (9, 7), (15, 17), (16, 16), (17, 33)):
        small = picture(width, height)
        for sampling in ("1x1,1x1,1x1", "2x1,1x1,1x1", "1x2,1x1,1x1", "2x2,1x1,1x1"):
            data = cjpeg(small, "-sample", sampling, "-optimize")
            yield f"size{width}x{height}_{sampling[:3]}.jpg", data
    yield "grey_2x2.jpg", cjpeg(image[..., 1].copy(), "-sample", "2x2")
    yield "grey_progressive.jpg", cjpeg(image[..., 0].copy(), "-progressive")
    yield "grey_restart_block.jpg", cjpeg(image[..., 0].copy(), "-restart", "1B")
    yield from colour_models(image)
    yield from others()
    yield from badly_written(image)


def colour_models(image):
    rgb = cjpeg(image, "-rgb")
    yield "rgb_adobe_letters.jpg", rgb
    yield "rgb_adobe_123.jpg", with_ids(rgb, (1, 2, 3))
    yield "rgb_adobe_012.jpg", with_ids(rgb, (0, 1, 2))
    yield "rgb_letters_alone.jpg", without(rgb, 0xEE)
    yield "rgb_123_alone.jpg", with_ids(without(rgb, 0xEE), (1, 2, 3))
    yield "rgb_progressive.jpg", cjpeg(image, "-rgb", "-progressive")
    yield "rgb_apart.jpg", cjpeg(image, "-rgb", scans=APART)
    plain = cjpeg(image, "-sample", "2x2,1x1,1x1")
    bare = without(plain, 0xE0)
    yield "bare_123.jpg", bare
    yield "bare_012.jpg", with_ids(bare, (0, 1, 2))
    yield "bare_letters.jpg", with_ids(bare, b"RGB")
    yield "bare_others.jpg", with_ids(bare, (34, 35, 36))
    yield "jfif_letters.jpg", with_ids(plain, b"RGB")
    for transform in (0, 1, 2):
        yield f"adobe{transform}_bare.jpg", adobe(bare, transform)
        yield f"adobe{transform}_jfif.jpg", adobe(plain, transform)
    cmyk = np.dstack([255 - image, alpha() // 2])
    for model in ("CMYK", "YCCK"):
        for subsampling in ("444", "422", "420"):
            if model == "CMYK" and subsampling != "444":
                continue
            data = imagecodecs.jpeg8_encode(
                cmyk, colorspace="CMYK", outcolorspace=model, subsampling=subsampling
            )
            yield f"{model.lower()}_{subsampling}.jpg", data
            yield f"{model.lower()}_{subsampling}_bare.jpg", without(data, 0xEE)
    yield "cmyk_pillow.jpg", saved(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=90)
    yield "cmyk_pillow_progressive.jpg", saved(Image.fromarray(cmyk, "CMYK"), "JPEG", progressive=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"exif{orientation}.jpg", saved(Image.fromarray(image), "JPEG", exif=exif)
    mpo = saved(Image.fromarray(image), "MPO", save_all=True, append_images=[Image.fromarray(image[::-1])])
    yield "two_pictures.mpo.jpg", mpo


def others():
    """What is refused, with the words that must be in the refusal."""
    image = picture()
    twelve = image.astype(np.uint16) << 4
    yield "twelve_bits.jpg", imagecodecs.jpeg8_encode(twelve, bitspersample=12), "samples of 12 bits"
    yield "lossless.jpg", imagecodecs.jpeg8_encode(image, lossless=True), "lossless"
    yield "lossless_16_bits.jpg", imagecodecs.ljpeg_encode(image[..., 0].astype(np.uint16) * 256, bitspersample=16), "lossless"
    plain = cjpeg(image, "-sample", "1x1,1x1,1x1")
    frame = next(start for marker, start, _ in segments(plain) if marker == 0xC0)
    for marker, words in ((0xC5, "hierarchical"), (0xC6, "hierarchical"), (0xCB, "lossless"), (0xCD, "hierarchical")):
        yield f"frame_{marker:02x}.jpg", plain[: frame + 1] + bytes([marker]) + plain[frame + 2 :], words
    # One component of three taken away, so that there are two.
    for _, start, end in segments(plain):
        if start == frame:
            two = plain[:start] + b"\xff\xc0" + struct.pack(">H", end - start - 5)
            two += plain[start + 4 : start + 9] + b"\x02" + plain[start + 10 : end - 3] + plain[end:]
            yield "two_components.jpg", two, "2 components"


def badly_written(image):
    plain = cjpeg(image, "-sample", "2x2,1x1,1x1")
    frame = next(start for marker, start, _ in segments(plain) if marker == 0xC0)
    scan = plain.index(b"\xff\xda")
    yield "bad_trailing_bytes.jpg", plain + b"\0" * 100 + b"some more"
    yield "bad_trailing_picture.jpg", plain + plain
    yield "bad_no_end.jpg", plain[:-2]
    yield "bad_half_an_end.jpg", plain[:-1]
    yield "bad_no_end_and_more.jpg", plain[:-2] + b"\0" * 30
    yield "bad_between_segments.jpg", plain[:frame] + b"\0\0junk" + plain[frame:]
    yield "bad_fill_bytes.jpg", plain[:frame] + b"\xff" * 7 + plain[frame:]
    yield "bad_stray_restart.jpg", plain[:frame] + b"\xff\xd3" + plain[frame:]
    yield "bad_second_start.jpg", plain[:2] + b"\xff\xd8" + plain[2:]
    yield "bad_long_comment.jpg", plain[:frame] + b"\xff\xfe\x40\x00" + plain[frame:]
    yield "bad_short_comment.jpg", plain[:frame] + b"\xff\xfe\x00\x01" + plain[frame:]
    yield "bad_unknown_segment.jpg", plain[:frame] + b"\xff\xf5\x00\x06abcd" + plain[frame:]
    yield "bad_early_end.jpg", plain[: scan + 200] + b"\xff\xd9"
    yield "bad_restart_in_scan.jpg", plain[: scan + 200] + b"\xff\xd0" + plain[scan + 200 :]
    yield "bad_no_tables.jpg", without(plain, 0xC4)
    yield "bad_no_quantisation.jpg", without(plain, 0xDB)
    yield "bad_no_frame.jpg", without(plain, 0xC0)
    yield "bad_two_frames.jpg", plain[:frame] + plain[frame : frame + 19] + plain[frame:]
    yield "bad_no_height.jpg", plain[: frame + 5] + b"\0\0" + plain[frame + 7 :]
    yield "bad_taller.jpg", plain[: frame + 5] + b"\0\x30" + plain[frame + 7 :]
    yield "bad_shorter.jpg", plain[: frame + 5] + b"\0\x10" + plain[frame + 7 :]
    for length in (2, 3, 10, 100, frame + 6, scan, scan + 14, scan + 300, len(plain) - 40, len(plain) - 3):
        yield f"bad_cut_{length}.jpg", plain[:length]
    progressive = cjpeg(image, "-progressive")
    for part in (0.5, 0.9):
        yield f"bad_cut_progressive_{part}.jpg", progressive[: int(len(progressive) * part)]
    yield "bad_progressive_no_end.jpg", progressive[:-2]
    yield "bad_progressive_early_end.jpg", progressive[: len(progressive) // 2] + b"\xff\xd9"
    rng = np.random.default_rng(1)
    for kind, data in (("baseline", plain), ("progressive", progressive), ("restart", cjpeg(image, "-restart", "1B"))):
        for index in range(12):
            spoilt = bytearray(data)
            start = data.index(b"\xff\xda") + 14
            for _ in range(1 + index % 3):
                spoilt[rng.integers(start, len(data) - 2)] = rng.integers(0, 256)
            yield f"bad_bytes_{kind}_{index}.jpg", bytes(spoilt)
