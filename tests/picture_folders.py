"""Folders of pictures for tests, of every format and mode, and what is in them by hand."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from PIL import Image, ImageOps

from studies.form import Fit

MODES: Mapping[str, tuple[str, ...]] = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16"),
}


def picture(mode: str, size: tuple[int, int], seed: int, *, grey: bool = False) -> Image.Image:
    """Noise of a mode and a `(height, width)`; `grey` makes red, green and blue the same where the mode has them."""
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 1 << 16, size, dtype=np.uint16))
    pixels = rng.integers(0, 256, (*size, 4), dtype=np.uint8)
    if grey:
        pixels[..., 1:3] = pixels[..., :1]
    if mode in ("RGBA", "LA"):
        return Image.fromarray(pixels).convert(mode)
    rgb = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    return rgb.quantize(16) if mode == "P" else rgb.convert(mode)


def encoded(image: Image.Image, kind: str, *, orientation: int = 1, **more: Any) -> bytes:
    """A picture as the bytes of a file; `orientation` is EXIF's, for formats that have it."""
    stream = io.BytesIO()
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        more["exif"] = exif
    if kind == "WEBP":
        more.setdefault("lossless", True)
    image.save(stream, kind, **more)
    return stream.getvalue()


def write(file: Path | str, content: bytes | None = None, *, seed: int = 0, size: tuple[int, int] = (9, 7)) -> Path:
    """Write a file with its folders: a small RGB PNG where no content is given."""
    path = Path(os.fsdecode(file))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture("RGB", size, seed), "PNG") if content is None else content)
    return path


def by_hand(content: bytes, size: tuple[int, int], fit: Fit) -> npt.NDArray[np.uint8]:
    """What a file is as `(height, width, 3)`: Pillow's conversions, plainly, and each channel fitted by itself."""
    image: Image.Image = Image.open(io.BytesIO(content))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(float)
        image = Image.fromarray(np.round(np.clip(values, 0, 65535) / 65535 * 255).astype(np.uint8))
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.new("RGB", clear.size, (255, 255, 255))
        image.paste(clear, mask=clear.getchannel("A"))
    height, width = size
    channels = []
    for channel in image.convert("RGB").split():
        if fit == "crop":
            done = ImageOps.fit(channel, (width, height), Image.Resampling.LANCZOS)
        elif fit == "stretch":
            done = channel.resize((width, height), Image.Resampling.LANCZOS)
        else:
            scale = min(height / channel.height, width / channel.width)
            inner_height, inner_width = max(1, round(channel.height * scale)), max(1, round(channel.width * scale))
            inner = np.asarray(channel.resize((inner_width, inner_height), Image.Resampling.LANCZOS))
            above, left = (height - inner_height) // 2, (width - inner_width) // 2
            padding = ((above, height - inner_height - above), (left, width - inner_width - left))
            done = Image.fromarray(np.pad(inner, padding))
        channels.append(np.asarray(done))
    return np.stack(channels, axis=-1)


_NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=12).map(
    lambda name: f"_{name}"
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes, bool]:
    """A name, the content of a file, and whether it is a picture."""
    name = draw(_NAMES) + draw(st.sampled_from([".png", ".JPG", ".tif", ""]))
    kind = draw(st.sampled_from(sorted(MODES)))
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    image = picture(draw(st.sampled_from(MODES[kind])), size, draw(st.integers(0, 99)), grey=draw(st.booleans()))
    turns = kind in ("PNG", "JPEG", "WEBP", "TIFF")
    content = encoded(image, kind, orientation=draw(st.integers(1, 8)) if turns else 1)
    broken = draw(st.sampled_from([False] * 9 + [True]))
    return name, b"\x89PNG no picture" + content[40:] if broken else content, not broken
