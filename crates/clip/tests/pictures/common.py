"""What the makers of pictures share: the drawn image, the tools, what Pillow makes of a file."""

import hashlib
import io
import os
import pathlib
import subprocess
import tempfile
import warnings

import numpy as np
from PIL import Image

SIZE = 32
TOOLS = os.environ.get("TOOLS", "/usr")


def tool(name, *arguments, data=b""):
    """Runs a program of Debian's on `data`; `{in}` and `{out}` are files where it wants such."""
    environment = dict(os.environ)
    if TOOLS != "/usr":
        libraries = f"{TOOLS}/usr/lib/x86_64-linux-gnu"
        environment["LD_LIBRARY_PATH"] = libraries
        magick = f"{libraries}/ImageMagick-6.9.11"
        environment["MAGICK_CODER_MODULE_PATH"] = f"{magick}/modules-Q16/coders"
        environment["MAGICK_CONFIGURE_PATH"] = f"{magick}/config-Q16:{TOOLS}/etc/ImageMagick-6"
        # netpbm's programs call each other.
        environment["PATH"] = f"{TOOLS}/usr/bin:{environment['PATH']}"
    path = f"{TOOLS}/usr/bin/{name}" if TOOLS != "/usr" else name
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
        source.write_bytes(data)
        words = [str(a).replace("{in}", str(source)).replace("{out}", str(target)) for a in arguments]
        run = subprocess.run([path, *words], input=data, capture_output=True, env=environment)
        if run.returncode != 0:
            raise RuntimeError(f"{name} {words}: {run.stderr.decode(errors='replace')}")
        return target.read_bytes() if target.exists() else run.stdout


def picture(width=37, height=29, seed=5):
    """Waves, edges and grain in colour: uint8, height × width × 3."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / a + y / b) for a, b in ((4, 9), (7, 3), (2.5, 14))]
    rgb = np.stack(waves, -1) * 90 + 128 + rng.normal(0, 10, (height, width, 3))
    rgb[height // 3 : height // 2, width // 4 : width // 2] = (230, 40, 20)
    rgb[height // 2 :, -width // 5 :] = (10, 60, 240)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def alpha(width=37, height=29):
    y, x = np.mgrid[0:height, 0:width]
    return np.clip((x + y - 8) * 9, 0, 255).astype(np.uint8)


def deep(samples, seed=9):
    """The same in 16 bits, with lower bytes of their own."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, samples.shape).astype(np.uint16)
    return (samples.astype(np.uint16) << 8) | low


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def ppm(samples):
    height, width = samples.shape[:2]
    kind = b"P5" if samples.ndim == 2 else b"P6"
    return kind + b"\n%d %d\n255\n" % (width, height) + samples.tobytes()


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


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def pixels(image):
    """The bytes that a picture is compared by: those of its mode, palettes looked up, bits as bytes."""
    if image.mode == "P":
        return image.convert("RGB").tobytes()
    return image.convert("L").tobytes() if image.mode == "1" else image.tobytes()


def described(data):
    """Mode, width, height, digest of the pixels and of the transform's; or what Pillow says instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
            if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
                return [image.mode, *image.size, "-", "-"]
            return [image.mode, *image.size, digest(pixels(image)), digest(transform(image).tobytes())]
        except Exception as error:  # whatever it is, Pillow has no picture
            return ["error", 0, 0, "-", type(error).__name__]
