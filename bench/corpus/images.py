"""The generator of images: text-free pictures of the sizes of photos, as JPEG or PNG bytes.

The pixels of image i are a pure function of (seed, i), by integer arithmetic alone. The bytes of a file are Pillow's: another release of
its codecs may store them otherwise, which a plan's hash shows.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.core import random
from bench.corpus.generated import Dice, index

PHOTO_SIZES = ((640, 480), (480, 640), (640, 427), (500, 375), (612, 612), (800, 600), (1024, 683), (400, 300), (640, 360), (320, 240))


def pixels(seed: int, i: int) -> NDArray[np.uint8]:
    """The H×W×3 pixels of generated image `i`: a gradient, discs, stripes, boxes and sensor noise. Integer arithmetic only."""
    dice = Dice(f"image {seed} {i}")
    width, height = PHOTO_SIZES[dice.below(len(PHOTO_SIZES))]
    y, x = np.mgrid[0:height, 0:width].astype(np.int32)

    def colour() -> NDArray[np.int32]:
        return np.array([dice.below(256) for _ in range(3)], dtype=np.int32)

    low, high = colour(), colour()
    a, b = dice.below(512) - 256, dice.below(512) - 256
    ramp = a * x * 256 // width + b * y * 256 // height
    ramp = (ramp - ramp.min()) * 256 // max(1, int(ramp.max() - ramp.min()))
    picture = low + ((high - low) * ramp[..., None] >> 8)
    for _ in range(4 + dice.below(12)):
        cx, cy = dice.below(width), dice.below(height)
        size = 8 + dice.below(min(width, height) // 3)
        window = np.s_[max(0, cy - 2 * size) : cy + 2 * size, max(0, cx - 2 * size) : cx + 2 * size]
        part, px, py = picture[window], x[window], y[window]
        shape, paint, opacity = dice.below(3), colour(), 64 + dice.below(192)
        if shape == 0:
            stretch = 1 + dice.below(3)
            mask = (px - cx) ** 2 + stretch * (py - cy) ** 2 < size * size
        elif shape == 1:
            mask = (abs(px - cx) < size) & (abs(py - cy) < 8 + dice.below(size))
        else:
            p, q = 1 + dice.below(5), dice.below(11) - 5
            mask = (p * px + q * py) // size % 2 == 0
        part[mask] += (paint - part[mask]) * opacity >> 8
    strength = 1 + dice.below(24)
    noise = random.bits(f"image noise {i}", seed, (height * width * 3 + 7) // 8).astype("<u8").view(np.uint8)[: height * width * 3]
    picture += (noise.reshape(height, width, 3).astype(np.int32) - 128) * strength >> 7
    result: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return result


def image(seed: int, i: int) -> bytes:
    """Generated image `i` as a file: three of four are JPEG (quality 75–95), the others PNG; 320×240 to 1024×683."""
    dice = Dice(f"image file {seed} {i}")
    picture = Image.fromarray(pixels(seed, i))
    out = io.BytesIO()
    if dice.below(4):
        picture.save(out, "JPEG", quality=75 + dice.below(21))
    else:
        picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def special_images(seed: int) -> list[bytes]:
    """Extreme sizes and ratios, one colour, noise, every colour mode of PNG and JPEG."""

    def stored(picture: Image.Image, kind: str = "PNG") -> bytes:
        out = io.BytesIO()
        picture.save(out, kind)
        return out.getvalue()

    photo = Image.fromarray(pixels(seed, index("hard photo", 0)))
    noise = random.bits("hard noise", seed, 256 * 256 * 3 // 8).astype("<u8").view(np.uint8).reshape(256, 256, 3)
    y, x = np.mgrid[0:224, 0:224]
    chequered = ((x + y) % 2 * 255).astype(np.uint8)
    return [
        *(stored(Image.new("RGB", size, (200, 30, 90))) for size in ((1, 1), (224, 224))),
        *(stored(Image.new("RGB", (256, 256), (level, level, level))) for level in (0, 255, 128)),
        *(stored(photo.resize(size)) for size in ((2, 3), (900, 20), (20, 900), (223, 225), (224, 224), (225, 224), (2000, 1500))),
        *(stored(photo.convert(mode)) for mode in ("L", "LA", "RGBA", "P", "1")),
        *(stored(photo.convert(mode), "JPEG") for mode in ("L", "CMYK")),
        stored(photo.rotate(180)),
        stored(Image.fromarray(255 - np.asarray(photo))),
        stored(Image.fromarray(noise)),
        stored(Image.fromarray(chequered)),
    ]
