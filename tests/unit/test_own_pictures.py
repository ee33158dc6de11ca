"""Pictures of every kind are opened to the same plain pixels, and what is damaged is refused, never made up."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from studies.datasets.own.pictures import UnreadablePicture, fitted, load_picture, open_picture, picture_size
from studies.form import FITS, Fit
from tests.picture_folders import MODES, by_hand, encoded, picture

KINDS = [(kind, mode) for kind, modes in MODES.items() for mode in modes]


def reason(content: bytes) -> str:
    with pytest.raises(UnreadablePicture) as caught:
        open_picture(content, "a\n.png")
    assert str(caught.value).startswith("a\\n.png is ")
    return caught.value.reason


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_a_picture_that_is_cut_off_is_refused_or_whole_never_filled_up(kind: str, mode: str) -> None:
    content = encoded(picture(mode, (23, 17), 3), kind)
    whole = np.asarray(open_picture(content, "a"))
    refused = 0
    for length in range(0, len(content), 41):
        try:
            found = np.asarray(open_picture(content[:length], "a"))
        except UnreadablePicture:
            refused += 1
        else:
            np.testing.assert_array_equal(found, whole)
    assert refused > 0.8 * len(content) / 41


@pytest.mark.parametrize(("kind", "mode"), KINDS)
@pytest.mark.parametrize("fit", FITS)
def test_what_classifies_takes_the_same_pixels_as_what_prepares(tmp_path: Path, kind: str, mode: str, fit: Fit) -> None:
    content = encoded(picture(mode, (23, 17), 3, grey=True), kind)
    (tmp_path / "a").write_bytes(content)
    expected = by_hand(content, (9, 12), fit)
    np.testing.assert_array_equal(load_picture(tmp_path / "a", (9, 12, 3), fit), expected)
    if (expected == expected[..., :1]).all():
        np.testing.assert_array_equal(load_picture(tmp_path / "a", (9, 12, 1), fit), expected[..., :1])


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    wanted=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    fit=st.sampled_from(FITS),
    mode=st.sampled_from(["L", "RGB"]),
)
def test_every_size_is_fitted_to_every_other_and_its_own_is_left_alone(
    size: tuple[int, int], wanted: tuple[int, int], fit: Fit, mode: str
) -> None:
    image = picture(mode, size, 1)
    assert fitted(image, wanted, fit).size == wanted[::-1]
    np.testing.assert_array_equal(np.asarray(fitted(image, size, fit)), np.asarray(image))


def test_padding_is_black_and_the_same_on_both_sides() -> None:
    found = np.asarray(fitted(Image.new("RGB", (4, 2), (9, 9, 9)), (8, 8), "pad"))[..., 0]
    assert found.tolist() == [[0] * 8] * 2 + [[9] * 8] * 4 + [[0] * 8] * 2


def test_stretching_cuts_nothing_off() -> None:
    image = Image.new("L", (100, 10), 50)
    image.paste(200, (0, 0, 30, 10))
    assert np.asarray(fitted(image, (10, 10), "stretch"))[5, [0, 1, 5, 9]].tolist() == pytest.approx(
        [200, 200, 50, 50], abs=4
    )


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_pictures_in_a_file_the_first_counts(kind: str) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "green")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert len(set(np.asarray(open_picture(content, "a")).reshape(-1, 3)[:, 0])) == 1
    assert np.asarray(open_picture(content, "a"))[0, 0].tolist() == [255, 0, 0]


def test_whole_numbers_of_32_bits_have_the_scale_of_16() -> None:
    values = np.array([[0, 257, 65_535, 70_000, -5]], dtype=np.int32)
    assert np.asarray(open_picture(encoded(Image.fromarray(values), "TIFF"), "a")).tolist() == [[0, 1, 255, 255, 0]]


def test_floating_point_numbers_are_refused_since_nothing_says_what_is_white() -> None:
    content = encoded(Image.fromarray(np.ones((3, 3), dtype=np.float32)), "TIFF")
    assert reason(content) == "a picture of floating-point numbers, without a scale"


def test_the_transparent_grey_of_16_bits_becomes_white() -> None:
    values = np.array([[1_000, 2_570]], dtype=np.uint16)
    content = encoded(Image.fromarray(values), "PNG", transparency=1_000)
    assert np.asarray(open_picture(content, "a")).tolist() == [[255, 10]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_data_do_not_cost_the_picture(kind: str) -> None:
    image = picture("RGB", (5, 9), 0)
    for damaged in (b"Exif\0\0MM\0*\0\0\xff\xff", b"nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"):
        assert open_picture(encoded(image, kind, exif=damaged), "a").size == (9, 5)


def test_a_turn_that_stands_behind_the_pixels_of_a_png_counts() -> None:
    plain, turned = (encoded(picture("RGB", (5, 9), 0), "PNG", orientation=turn) for turn in (1, 6))
    start = turned.index(b"eXIf") - 4
    length = struct.unpack(">I", turned[start : start + 4])[0] + 12
    behind = plain[:-12] + turned[start : start + length] + plain[-12:]
    assert open_picture(behind, "a").size == (5, 9)
    assert picture_size(behind, "a") == (9, 5)


@pytest.mark.parametrize(
    "header",
    [
        b"GIF89a" + struct.pack("<HHBBBBHHHHB", 60_000, 60_000, 0, 0, 0, 44, 0, 0, 60_000, 60_000, 0),
        b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
    ids=["GIF", "BMP"],
)
def test_a_bomb_of_another_format_is_refused_unread(header: bytes) -> None:
    assert reason(header + bytes(100)).startswith("too large:")
    with pytest.raises(UnreadablePicture, match="too large"):
        picture_size(header + bytes(100), "a")


MAGIC = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0"]


@given(content=st.binary(max_size=60), magic=st.sampled_from(MAGIC))
def test_no_bytes_do_more_than_be_refused(content: bytes, magic: bytes) -> None:
    for look in (open_picture, picture_size):
        with suppress(UnreadablePicture):
            look(magic + content, "a")


def test_a_file_s_first_bytes_count_not_its_name(tmp_path: Path) -> None:
    stream = io.BytesIO()
    picture("L", (4, 4), 0).save(stream, "BMP")
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    assert load_picture(tmp_path / "a.jpg", (4, 4, 1)).shape == (4, 4, 1)
