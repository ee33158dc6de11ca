"""One picture from anywhere, opened and fitted. What prepares a data set and what classifies take the same pixels here.

What a file is, its content tells, not its name: PNG, JPEG, WebP, GIF, BMP or TIFF, and of one with several pictures the
first counts. Whatever its mode, it becomes RGB or grey of 8 bits, upright as its EXIF data say, on white where it was
transparent:

- 16 bits are divided by 257, also where a file has 32 bits for whole numbers (a value above 65,535 is white); CMYK,
  YCbCr, LAB and palettes are converted as Pillow does.
- Floating-point numbers are refused: a file does not say which of them is white.
- A picture that is cut off or damaged is refused, never filled up with grey; one whose EXIF data alone are damaged is
  taken as it lies.

No Keras.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

# Named one by one: asked for a format that is not loaded yet, Pillow loads all fifty that it knows.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from storage.errors import BadInput, first_line, shown
from studies.form import Fit

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

MOST_PIXELS = 89_000_000
"""A larger picture is refused unread: a few kilobytes can unpack to gigabytes."""

LARGEST_UNSCALED = 64
"""Pictures that are all of one size, no side longer than this many pixels, are taken as they are."""

_ORIENTATION = 0x0112
# Where Pillow looks for one; it turns a TIFF by itself.
_METADATA = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})
_METADATA_OF_PNG = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadablePicture(BadInput):
    """A file is not a picture that can be used.

    Attributes:
        reason: why, in a few words, without the file's name.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def load_picture(file: Path, shape: tuple[int, int, int], fit: Fit = "crop") -> npt.NDArray[np.uint8]:
    """Return a picture as a data set of that shape has it.

    Args:
        file: the picture's.
        shape: `(height, width, channels)` of the result, with 1 or 3 channels.
        fit: see `fitted`.

    Returns:
        uint8 of that shape, 0..255.

    Raises:
        UnreadablePicture: the file is not there, is no picture, is damaged or too large.
    """
    height, width, channels = shape
    image = open_picture(file, file).convert("RGB" if channels == 3 else "L")
    return np.asarray(fitted(image, (height, width), fit), dtype=np.uint8).reshape(shape)


def open_picture(source: Path | bytes, name: str | Path) -> Image.Image:
    """Return a picture in mode `RGB` or `L`, upright, without transparency.

    Args:
        source: a file, or a file's content.
        name: how the picture is called where it cannot be read.

    Raises:
        UnreadablePicture: it is not there, is no picture, is damaged or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata
            with Image.open(_stream(source), formats=FORMATS) as image:
                _require_size(name, image)
                image.load()
                if image.mode == "F":
                    raise _refused(
                        name, "a picture of floating-point numbers, without a scale", "Save it with 8 or 16 bits."
                    )
                return _opaque(_eight_bits(_upright(image)))
    except UnreadablePicture:
        raise
    except Exception as error:  # a decoder may raise anything at all on bytes that were made up
        raise _unreadable(name, error) from error


def picture_size(source: Path | bytes, name: str | Path) -> tuple[int, int]:
    """Return `(height, width)` in pixels of a picture, of which no more is read than that takes.

    Of one with a side longer than `LARGEST_UNSCALED` they may be the other way round: how it is turned is not
    looked at.

    Raises:
        UnreadablePicture: see `open_picture`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(_stream(source), formats=FORMATS) as image:
                _require_size(name, image)
                width, height = image.size
                square = width == height or max(width, height) > LARGEST_UNSCALED
                turned = not square and _may_be_turned(image, source)
    except UnreadablePicture:
        raise
    except Exception as error:
        raise _unreadable(name, error) from error
    if turned:
        width, height = open_picture(source, name).size
    return height, width


def fitted(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """Return an image of that size, resampled with Lanczos' filter unless it has that size already.

    Args:
        image: in mode `RGB` or `L`.
        size: `(height, width)` in pixels.
        fit: `crop` scales it until it covers the size and cuts off what is outside, the same on both sides; `pad`
            scales it until it is inside, in the middle of black; `stretch` scales height and width each by itself.
    """
    height, width = size
    if fit == "crop":
        return ImageOps.fit(image, (width, height), method=Image.Resampling.LANCZOS)
    if fit == "stretch":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    scale = min(height / image.height, width / image.width)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new(image.mode, (width, height))
    canvas.paste(image.resize(inner, Image.Resampling.LANCZOS), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def has_colour(image: Image.Image) -> bool:
    """Return whether red, green and blue differ anywhere in an image of mode `RGB` or `L`."""
    if image.mode == "L":
        return False
    pixels = np.asarray(image)
    red = pixels[..., 0]
    return bool((red != pixels[..., 1]).any() or (red != pixels[..., 2]).any())


def names_of_formats() -> str:
    """Return the formats that are read, as a sentence has them."""
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _stream(source: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _unreadable(name: str | Path, error: Exception) -> UnreadablePicture:
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(name)
    if isinstance(error, UnidentifiedImageError):
        return _refused(name, "no picture that can be read", f"Give a {names_of_formats()} file.")
    if isinstance(error, (FileNotFoundError, IsADirectoryError, PermissionError)):
        reason = str(error.strerror)
        return UnreadablePicture(f"{shown(name)}: {reason}. Give the path of a picture.", reason)
    return _refused(name, f"a damaged picture: {first_line(error)}", "Give another one.")


def _require_size(name: str | Path, image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(name, f" {image.width}x{image.height} pixels:")


def _too_large(name: str | Path, size: str = "") -> UnreadablePicture:
    return _refused(name, f"too large:{size} more than {MOST_PIXELS / 1e6:.0f} million", "Scale it down first.")


def _refused(name: str | Path, reason: str, then: str) -> UnreadablePicture:
    return UnreadablePicture(f"{shown(name)} is {reason}. {then}", reason)


def _upright(image: Image.Image) -> Image.Image:
    if not _has_metadata(image):
        return image
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # its pixels are whole
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _has_metadata(image: Image.Image) -> bool:
    """Whether Pillow found something that may have an orientation; asking for it costs as much as a small picture."""
    return not _METADATA.isdisjoint(image.info)


def _may_be_turned(image: Image.Image, source: Path | bytes) -> bool:
    if image.format == "PNG":  # the metadata may stand behind the pixels, which were not read
        content = source if isinstance(source, bytes) else source.read_bytes()
        return any(name in content for name in _METADATA_OF_PNG)
    return image.format == "TIFF" or _has_metadata(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    # 16 bits: converting would cut every value above 255 down to it.
    values = np.asarray(image).astype(np.float64)
    grey = np.rint(np.clip(values, 0, 65_535) / 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _opaque(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)
