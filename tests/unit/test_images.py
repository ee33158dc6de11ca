"""Pictures from anywhere become pictures of the data set, or are refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from storage.errors import BadInput
from studies.datasets.info import PREPARATIONS, Preparation
from studies.datasets.registry import dataset_info
from tuning.bundles.images import load_image

MNIST = (28, 28, 1)
CIFAR = (32, 32, 3)


def saved(image: Image.Image, file: Path, **options: object) -> Path:
    image.save(file, **options)  # type: ignore[arg-type]  # each format has its own options
    return file


def digit(size: int = 28, *, ink: int = 0, paper: int = 255, at: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    """A vertical stroke, about as thick as one of MNIST's when its box is 20 pixels high."""
    image = Image.new("L", (size, size), paper)
    x, y = at[0] * size, at[1] * size
    ImageDraw.Draw(image).rectangle((x - size / 20, y - size / 4, x + size / 20, y + size / 4), fill=ink)
    return image


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp"])
@pytest.mark.parametrize(("mode", "colour"), [("RGB", (200, 30, 30)), ("L", 120)])
def test_every_format_is_read(tmp_path: Path, suffix: str, mode: str, colour: object) -> None:
    source = Image.new(mode, (50, 40), colour)  # type: ignore[arg-type]  # a colour of its mode
    file = saved(source, tmp_path / f"a.{suffix}")
    pixels = load_image(file, CIFAR)
    assert pixels.shape == CIFAR
    assert pixels.dtype == np.uint8
    expected = np.broadcast_to(colour, 3)  # type: ignore[call-overload]  # one number or three
    assert np.abs(pixels.reshape(-1, 3).mean(axis=0) - expected).max() < 6


@pytest.mark.parametrize("shape", [MNIST, CIFAR])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_read(tmp_path: Path, mode: str, shape: tuple[int, int, int]) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((9, 9), 65_535, dtype=np.uint16))
    else:
        image = Image.new("RGB", (9, 9), "white").convert(mode)
    assert load_image(saved(image, tmp_path / "a.png"), shape).mean() == 255


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((9, 9), 128 * 257, dtype=np.uint16))
    assert load_image(saved(image, tmp_path / "a.png"), MNIST).mean() == 128


def test_a_cmyk_jpeg_keeps_its_colour(tmp_path: Path) -> None:
    file = saved(Image.new("RGB", (40, 40), (200, 40, 40)).convert("CMYK"), tmp_path / "a.jpg", quality=95)
    assert np.abs(load_image(file, CIFAR).mean(axis=(0, 1)) - (200, 40, 40)).max() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(tmp_path: Path, mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (9, 9), 0)
        file = saved(image, tmp_path / "a.png", transparency=0)
    else:
        file = saved(Image.new("RGBA", (9, 9), (0, 0, 0, 0)).convert(mode), tmp_path / "a.png")
    assert load_image(file, CIFAR).min() == 255


def test_a_picture_is_turned_as_its_exif_data_say(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 40), "white")
    image.paste("black", (0, 0, 40, 20))  # dark above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: above becomes right
    pixels = load_image(saved(image, tmp_path / "a.jpg", exif=exif), CIFAR)
    assert pixels[:, :10].min() > 200
    assert pixels[:, -10:].max() < 50


def test_of_an_animation_the_first_picture_counts(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    file = saved(first, tmp_path / "a.gif", save_all=True, append_images=[second])
    assert load_image(file, CIFAR)[0, 0].tolist() == [255, 0, 0]


def test_a_photo_is_cropped_to_its_middle_not_squeezed(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 100), "white")
    image.paste("black", (100, 0, 200, 100))
    assert load_image(saved(image, tmp_path / "a.png"), CIFAR).max() < 30


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3_000, 2)])
@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_any_size_is_taken(tmp_path: Path, size: tuple[int, int], preparation: Preparation) -> None:
    image = Image.new("L", size, 9)
    image.putpixel((size[0] // 2, size[1] // 2), 200)
    file = saved(image, tmp_path / "a.png")
    if size == (1, 1) and preparation != "photo":
        with pytest.raises(BadInput, match="nothing on it"):
            load_image(file, MNIST, preparation)
    else:
        assert load_image(file, MNIST, preparation).shape == MNIST


@pytest.mark.parametrize("preparation", ["digit", "silhouette"])
@pytest.mark.parametrize("colours", [(0, 255), (255, 0), (60, 200), (200, 60)])
def test_a_drawing_becomes_bright_on_black_whatever_it_was(
    tmp_path: Path, colours: tuple[int, int], preparation: Preparation
) -> None:
    ink, paper = colours
    file = saved(digit(280, ink=ink, paper=paper), tmp_path / "a.png")
    pixels = load_image(file, MNIST, preparation)
    assert pixels[:, 0].max() == 0
    assert pixels[14, 14] > 230
    assert pixels.max() == 255


@pytest.mark.parametrize("size", [28, 100, 1_000])
@pytest.mark.parametrize("at", [(0.5, 0.5), (0.2, 0.3), (0.8, 0.7)])
def test_a_digit_is_20_pixels_high_with_its_mass_where_mnist_has_it(
    tmp_path: Path, size: int, at: tuple[float, float]
) -> None:
    pixels = load_image(saved(digit(size, at=at), tmp_path / "a.png"), MNIST, "digit")[..., 0].astype(float)
    assert np.ptp(np.nonzero(pixels > 25)[0]) + 1 == 20
    assert (pixels.sum(axis=1) @ np.arange(28)) / pixels.sum() == pytest.approx(14, abs=0.6)
    assert (pixels.sum(axis=0) @ np.arange(28)) / pixels.sum() == pytest.approx(14, abs=0.6)


def test_a_silhouette_fills_the_picture(tmp_path: Path) -> None:
    pixels = load_image(saved(digit(200, at=(0.2, 0.3)), tmp_path / "a.png"), MNIST, "silhouette")[..., 0]
    rows, columns = np.nonzero(pixels > 25)
    assert (rows.min(), rows.max()) == (0, 27)
    assert columns.min() == pytest.approx(27 - columns.max(), abs=1)


def test_noise_on_the_paper_does_not_make_the_digit_small(tmp_path: Path) -> None:
    grey = np.asarray(digit(280, ink=40, paper=210), dtype=float)
    noisy = grey + np.random.default_rng(0).normal(0, 6, grey.shape)
    file = saved(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), tmp_path / "a.jpg", quality=60)
    pixels = load_image(file, MNIST, "digit")
    assert np.ptp(np.nonzero(pixels > 60)[0]) + 1 >= 19


@pytest.mark.parametrize(("preparation", "shown"), [("digit", "digit"), ("silhouette", "thing")])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("paper", [0, 90, 255])
def test_an_empty_sheet_is_refused(
    tmp_path: Path, preparation: Preparation, shown: str, suffix: str, paper: int
) -> None:
    sheet = np.full((50, 50), paper, dtype=np.uint8)
    sheet[20, 20] = abs(paper - 3)  # a speck of dust
    file = saved(Image.fromarray(sheet), tmp_path / f"a.{suffix}")
    with pytest.raises(BadInput, match=rf"a\.{suffix} has nothing on it.*Give a picture of one {shown}"):
        load_image(file, MNIST, preparation)


def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"hello", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n"]):
        file = tmp_path / f"{number}.png"
        file.write_bytes(content)
        with pytest.raises(BadInput, match=rf"{number}\.png"):
            load_image(file, CIFAR)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_truncated_picture_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, format={"jpg": "jpeg"}.get(suffix, suffix))
    file = tmp_path / f"half.{suffix}"
    for part in (0.1, 0.5, 0.9):
        file.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * part)])
        with pytest.raises(BadInput, match=rf"half\.{suffix}"):
            load_image(file, CIFAR)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(BadInput, match=str(path)):
            load_image(path, CIFAR)


@pytest.mark.parametrize("side", [9_500, 40_000])
def test_a_decompression_bomb_is_refused_unread(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    file = tmp_path / "bomb.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))
    with pytest.raises(BadInput, match=r"bomb\.png is too large"):
        load_image(file, CIFAR)


def test_data_sets_have_their_preparation() -> None:
    names = ("mnist", "mnist_sample", "fashion_mnist", "cifar10", "cifar10_sample", "cifar100")
    assert [dataset_info(name).preparation for name in names] == [
        "digit", "digit", "silhouette", "photo", "photo", "photo",
    ]  # fmt: skip
