"""The upload guard: every file gives the right picture or one plain sentence, at a bounded cost.

The mutation fuzz runs 20,000 mutated files; `ATTNSCOPE_FUZZ=300000 python -m pytest tests/test_picture.py`
runs as many as you like.
"""

import io
import os
import random
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image, ImageFile

from models import CLASSES, data
from visualize import picture
from visualize.picture import NO_PICTURE, ImageError, load_image, load_with_notes, to_network

EXAMPLES = Path(__file__).parents[1] / "visualize" / "page" / "examples"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


# Files.


def pixels(width: int = 24, height: int = 16) -> np.ndarray:
    """(H, W, 3) uint8: no two of its eight flips and turns are equal."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, rows * columns % 256], axis=2).astype(
        np.uint8
    )


def encode(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(size: tuple[int, int], depth: int, colour: int, raw: bytes, *before: bytes) -> bytes:
    """A PNG from its raw rows, each with its filter byte; `before` are chunks that precede the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    return SIGNATURE + header + b"".join(before) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def exif(orientation: int, order: str = ">", kind: int = 3) -> bytes:
    """An Exif block that holds nothing but the orientation, as SHORT (kind 3) or LONG (4)."""
    value = (
        struct.pack(order + "H", orientation) + b"\0\0"
        if kind == 3
        else struct.pack(order + "I", orientation)
    )
    head = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(order + "HHI", 0x0112, kind, 1) + value
    return b"Exif\0\0" + head + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    return jpeg[:2] + b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def with_jpeg_size(jpeg: bytes, width: int, height: int) -> bytes:
    at = re.search(rb"\xff[\xc0-\xc2]\x00[\x0b\x11\x14]\x08", jpeg).end()
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


@pytest.fixture
def load(tmp_path):
    """Bytes -> pixels (H, W, 3) and notes; the file's name says nothing of its kind."""

    def from_bytes(content: bytes) -> tuple[np.ndarray, list[str]]:
        (tmp_path / "upload").write_bytes(content)
        image, notes = load_with_notes(tmp_path / "upload")
        assert image.mode == "RGB" and image.info == {} and type(image) is Image.Image
        return np.asarray(image), notes

    return from_bytes


@pytest.fixture
def refusal(tmp_path):
    """Bytes -> the sentence that refuses them."""

    def from_bytes(content: bytes) -> str:
        (tmp_path / "upload").write_bytes(content)
        with pytest.raises(ImageError) as caught:
            load_image(tmp_path / "upload")
        return sentence(caught.value)

    return from_bytes


def sentence(error: ImageError) -> str:
    """The message, after a check that it is one plain sentence: no path, no name from the code."""
    message = str(error)
    assert re.fullmatch(r"[A-Z][^\n/\\_<>\[\]'\"]{8,160}\.", message), message
    assert not re.search(r"Error|Exception|PIL|struct|\.py|tmp|upload", message), message
    assert not re.search(r"\. [A-Z]", message), f"more than one sentence: {message}"
    return message


# Right pictures.


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})],
)
def test_lossless_formats_keep_every_pixel(load, kind, options):
    image, notes = load(encode(Image.fromarray(pixels()), kind, **options))
    assert np.array_equal(image, pixels())
    assert notes == []


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"optimize": True, "subsampling": 0}],
)
def test_jpeg(load, options):
    image, notes = load(encode(Image.fromarray(pixels()), "JPEG", quality=95, **options))
    assert np.abs(image.astype(int) - pixels()).mean() < 8
    assert notes == []


def test_avif(load):
    image, notes = load(encode(Image.fromarray(pixels()), "AVIF", quality=95, subsampling="4:4:4"))
    assert np.abs(image.astype(int) - pixels()).mean() < 8
    assert notes == []


def test_cmyk_jpeg_is_not_inverted(load):
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red: no cyan, all magenta and yellow
    image, _ = load(encode(cmyk, "JPEG", quality=95))
    assert np.abs(image.astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_few_colours(load, mode, kind):
    original = Image.fromarray(pixels()).convert(mode)
    image, notes = load(encode(original, kind))
    assert np.array_equal(image, np.asarray(original.convert("RGB")))
    assert notes == []


def test_16_bit_grey_is_scaled(load):
    raw = b"\0" + struct.pack(">5H", 0, 257, 511, 32896, 65535)
    image, _ = load(png((5, 1), 16, 0, raw))
    assert image[0, :, 0].tolist() == [0, 1, 2, 128, 255]  # the nearest


def test_16_bit_colour_is_scaled(load):
    image, _ = load(png((1, 1), 16, 2, b"\0" + struct.pack(">3H", 65535, 32896, 0)))
    assert image[0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize(
    ("depth", "colour", "raw", "key"),
    [
        (2, 0, b"\0\x60", struct.pack(">H", 1)),  # 2-bit grey 1, 2
        (8, 0, b"\0\x55\xaa", struct.pack(">H", 0x55)),
        (16, 0, b"\0" + struct.pack(">2H", 0x5555, 0xAAAA), struct.pack(">H", 0x5555)),
        (8, 2, b"\0\x55\x55\x55\xaa\xaa\xaa", struct.pack(">3H", 0x55, 0x55, 0x55)),
        (16, 2, b"\0" + struct.pack(">6H", *[0x5555] * 3, *[0xAAAA] * 3), struct.pack(">3H", *[0x5555] * 3)),
    ],
)
def test_a_colour_declared_transparent_is_white(load, depth, colour, raw, key):
    image, notes = load(png((2, 1), depth, colour, raw, chunk(b"tRNS", key)))
    assert image[0].tolist() == [[255] * 3, [0xAA] * 3]
    assert notes == ["Transparent areas are shown on white."]


def test_transparency_goes_on_white(load):
    hidden = np.zeros((2, 2, 4), np.uint8)
    hidden[..., 0] = 200  # red everywhere, shown at none, half and full strength
    hidden[..., 3] = [[0, 0], [128, 255]]
    for kind, options in [
        ("PNG", {}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("AVIF", {"quality": 100}),
    ]:
        image, notes = load(encode(Image.fromarray(hidden), kind, **options))
        assert image[0].tolist() == [[255, 255, 255]] * 2
        assert np.abs(image[1, 0].astype(int) - (227, 127, 127)).max() <= 1
        assert np.abs(image[1, 1].astype(int) - (200, 0, 0)).max() <= (kind == "AVIF")
        assert notes == ["Transparent areas are shown on white."]


def test_palette_with_alpha(load):
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255, 9, 9, 9]))
    alphas = chunk(b"tRNS", bytes([0, 128]))
    image, _ = load(png((3, 1), 8, 3, b"\0\0\1\2", palette, alphas))
    assert image[0].tolist() == [[255, 255, 255], [127, 127, 255], [9, 9, 9]]


@pytest.mark.parametrize("alphas", [bytes(257), b"\xff" * 300 + b"\0", bytes(range(256)) * 9])
def test_a_table_of_alphas_that_is_too_long_is_ignored(load, alphas):
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    image, notes = load(png((2, 1), 8, 3, b"\0\0\1", palette, chunk(b"tRNS", alphas)))
    assert image[0].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert notes == []


def test_opaque_alpha_earns_no_note(load):
    image, notes = load(encode(Image.fromarray(pixels()).convert("RGBA"), "PNG"))
    assert np.array_equal(image, pixels())
    assert notes == []


def test_hidden_colour_does_not_bleed_when_a_large_picture_is_reduced(load):
    stripes = np.zeros((40, 4096, 4), np.uint8)
    stripes[..., 0] = 255
    stripes[:, ::2, 3] = 255  # every second column opaque red, the others hidden red
    image, _ = load(encode(Image.fromarray(stripes), "PNG"))
    assert image.shape == (10, 1024, 3)
    assert np.abs(image.astype(int) - (255, 128, 128)).max() <= 1


# What brings a stored picture upright, undone: upright pixels -> stored pixels, by Exif's definition.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright.transpose(1, 0, 2)[::-1],
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: upright.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(load, orientation):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](pixels())))
    short, long = exif(orientation), exif(orientation, "<", kind=4)
    files = [
        png(
            stored.size,
            8,
            2,
            b"".join(b"\0" + row.tobytes() for row in np.asarray(stored)),
            chunk(b"eXIf", short[6:]),
        ),
        encode(stored, "PNG", exif=long),
        encode(stored, "WEBP", lossless=True, exif=short),
    ]
    turned = ["The picture was turned upright, as its camera recorded."] if orientation > 1 else []
    for file in files:
        image, notes = load(file)
        assert np.array_equal(image, pixels())
        assert notes == turned
    for file in [
        encode(stored, "JPEG", quality=95, exif=long),
        encode(stored, "AVIF", quality=95, exif=short[6:]),
    ]:
        image, notes = load(file)
        assert np.abs(image.astype(int) - pixels()).mean() < 8
        assert notes == turned


@pytest.mark.parametrize(
    "block",
    [
        exif(9),
        exif(6)[:20],
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(40),
        b"http://ns.adobe.com/xap/1.0/\0 junk",
    ],
)
def test_a_broken_exif_block_is_ignored(load, block):
    image, notes = load(with_segment(encode(Image.fromarray(pixels()), "JPEG", quality=95), 0xE1, block))
    assert np.abs(image.astype(int) - pixels()).mean() < 8
    assert notes == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [("GIF", {"duration": 40}), ("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("AVIF", {})],
)
def test_first_frame_of_an_animation(load, kind, options):
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    image, notes = load(encode(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert image.shape == (7, 9, 3) and np.abs(image.astype(int) - (255, 0, 0)).max() <= (kind == "AVIF")
    assert notes == ["This is an animation: its first frame is shown."]


def test_a_second_picture_behind_the_first_is_ignored(load):
    first = encode(Image.fromarray(pixels()), "JPEG", quality=95)
    image, _ = load(first + encode(Image.new("RGB", (99, 99)), "JPEG") + b"\xff\xda\0\0" * 999)
    assert np.abs(image.astype(int) - pixels()).mean() < 8


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (1, 1)),
        ((1024, 768), (1024, 768)),
        ((1025, 3), (1024, 3)),
        ((2047, 1000), (1024, 500)),
        ((3000, 1500), (1024, 512)),
        ((1, 65000), (1, 1024)),
        ((65000, 1), (1024, 1)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_large_pictures_come_back_smaller(load, size, expected, kind):
    row = np.linspace(0, 255, size[0]).astype(np.uint8)
    ramp = np.tile(row, (size[1], 1))
    image, notes = load(encode(Image.fromarray(ramp), kind))
    assert image.shape == (expected[1], expected[0], 3)
    wanted = np.interp(np.linspace(0, size[0] - 1, expected[0]), np.arange(size[0]), row)
    assert np.abs(image[..., 0] - wanted).max() <= 4  # still the same ramp, from end to end
    assert notes == []


# Colour profiles.

XY_WHITE = (0.3127, 0.3290)
PROFILES = {  # red, green, blue and white as chromaticities; the exponent of the curve, None for that of sRGB
    "sRGB": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), XY_WHITE, None),
    "Display P3": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), XY_WHITE, None),
    "Adobe RGB": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), XY_WHITE, 2.19921875),
    "Generic RGB": ((0.63, 0.34), (0.295, 0.605), (0.155, 0.077), XY_WHITE, 1.8),
    "ProPhoto": ((0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105), (0.3457, 0.3585), 1.8),
}
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D50 = np.array([0.9642, 1.0, 0.8249])


def xyz(chromaticity: tuple[float, float]) -> np.ndarray:
    x, y = chromaticity
    return np.array([x / y, 1.0, (1 - x - y) / y])


def to_d50(red, green, blue, white, _exponent) -> np.ndarray:
    """(3, 3): linear RGB -> XYZ as a profile holds it, adapted to D50 by Bradford's matrix."""
    primaries = np.stack([xyz(red), xyz(green), xyz(blue)], axis=1)
    scaled = primaries * np.linalg.solve(primaries, xyz(white))
    cones = np.diag((BRADFORD @ D50) / (BRADFORD @ xyz(white)))
    return np.linalg.inv(BRADFORD) @ cones @ BRADFORD @ scaled


def linear(values: np.ndarray, exponent: float | None) -> np.ndarray:
    if exponent is not None:
        return values**exponent
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def from_linear(values: np.ndarray) -> np.ndarray:
    """Linear light 0 to 1 as sRGB 0 to 255."""
    return 255 * np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def icc(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    """An ICC profile of version 2 from its tags."""
    position, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", position + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s12s4s",
        position + len(body),
        b"    ",
        0x02400000,
        kind,
        space,
        b"XYZ ",
        bytes(12),
        b"acsp",
    )
    return head.ljust(68, b"\0") + fixed(*D50).ljust(60, b"\0") + table + body


def curve(exponent: float | None) -> bytes:
    if exponent is not None:
        return b"curv" + struct.pack(">IIH", 0, 1, round(exponent * 256))
    samples = np.round(linear(np.linspace(0, 1, 4096), None) * 65535).astype(">u2")
    return b"curv" + struct.pack(">II", 0, len(samples)) + samples.tobytes()


def rgb_profile(name: str) -> bytes:
    matrix, bend = to_d50(*PROFILES[name]), curve(PROFILES[name][-1])
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)}
    for index, colour in enumerate(b"rgb"):
        tags[bytes([colour]) + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*matrix[:, index])
        tags[bytes([colour]) + b"TRC"] = bend
    return icc(b"RGB ", tags)


def in_srgb(colours: np.ndarray, name: str) -> np.ndarray:
    """8-bit colours of a profile as 8-bit sRGB, cut off where sRGB ends."""
    seen = linear(colours / 255, PROFILES[name][-1]) @ to_d50(*PROFILES[name]).T
    return from_linear(np.clip(seen @ np.linalg.inv(to_d50(*PROFILES["sRGB"])).T, 0, 1))


def colour_chart() -> np.ndarray:
    """(5, 25, 3) uint8: all colours of five steps in each channel."""
    return np.stack(np.meshgrid(*[np.linspace(0, 255, 5)] * 3), axis=-1).astype(np.uint8).reshape(5, 25, 3)


CONVERTED = "The colours were converted to sRGB, as the colour profile of the picture says."
UNUSABLE = "Its colour profile cannot be used, so the colours may look different."


@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB", "Generic RGB", "ProPhoto"])
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_colours_are_converted_to_srgb(load, name, kind, options):
    file = encode(Image.fromarray(colour_chart()), kind, icc_profile=rgb_profile(name), **options)
    image, notes = load(file)
    assert np.abs(image - in_srgb(colour_chart(), name)).max() <= 2
    assert notes == [CONVERTED]


@pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
def test_colours_of_lossy_formats_are_converted(load, kind):
    wide = Image.new("RGB", (16, 16), (200, 100, 50))
    profile = rgb_profile("Adobe RGB") + bytes(100_000)  # a JPEG stores it in two pieces
    image, notes = load(encode(wide, kind, quality=95, icc_profile=profile))
    assert np.abs(image - in_srgb(np.array([200, 100, 50]), "Adobe RGB")).max() <= 4
    assert notes == [CONVERTED]


def test_known_colours():
    """What is widely known: P3's red lies beyond sRGB, sRGB's is Adobe's (219, 0, 0), and white is white."""
    assert in_srgb(np.array([255, 0, 0]), "Display P3").round().tolist() == [255, 0, 0]
    assert np.abs(in_srgb(np.array([219, 0, 0]), "Adobe RGB") - (255, 0, 0)).max() <= 1
    for name in PROFILES:
        assert np.abs(in_srgb(np.array([255, 255, 255]), name) - 255).max() < 0.5


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_profile_that_is_srgb_changes_no_pixel(load, kind):
    image, notes = load(
        encode(Image.fromarray(pixels()), kind, lossless=True, icc_profile=rgb_profile("sRGB"))
    )
    assert np.array_equal(image, pixels())
    assert notes == []


@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.2])
def test_grey_with_a_profile(load, exponent):
    ramp = np.arange(256, dtype=np.uint8)[None]
    profile = icc(b"GRAY", {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50), b"kTRC": curve(exponent)})
    image, notes = load(encode(Image.fromarray(ramp), "PNG", icc_profile=profile))
    assert np.abs(image[0, :, 1] - from_linear(linear(ramp[0] / 255, exponent))).max() <= 2
    assert notes == [CONVERTED]


def test_cmyk_with_a_profile(load):
    """A press of one table: Lab (50, 0, 0), a middle grey, wherever there is any ink, and white paper."""
    grid = b"\x80\x80\x80\x80\x80\x80" * 15
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += bytes(range(256)) * 4 + b"\xff\x80\x80" + grid[:45] + bytes(range(256)) * 3
    profile = bytearray(icc(b"CMYK", {b"A2B0": table, b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)}, b"prtr"))
    profile[20:24] = b"Lab "
    for ink, grey in [((0, 0, 0, 0), 255), ((255, 255, 0, 0), 119)]:
        file = encode(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100, icc_profile=bytes(profile))
        image, notes = load(file)
        assert notes == [CONVERTED]
        assert np.abs(image.astype(int) - grey).max() <= 3


def damaged_profiles() -> dict[str, bytes]:
    p3 = rgb_profile("Display P3")
    return {
        "junk": b"junk" * 99,
        "cut": p3[:2000],
        "too large": p3 + bytes(3 * 2**20),
        "of another kind": icc(b"GRAY", {b"kTRC": curve(1.0)}),
        "a link": icc(b"RGB ", {}, b"link"),
        "without tags": icc(b"RGB ", {}),
        "with a program": p3 + b"mpet",
        "empty": b"\0",
    }


@pytest.mark.parametrize("case", damaged_profiles())
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_a_profile_that_cannot_be_used_is_told(load, case, kind):
    options = {} if kind == "JPEG" else {"lossless": True}
    plain, _ = load(encode(Image.fromarray(pixels()), kind, **options))
    file = encode(Image.fromarray(pixels()), kind, icc_profile=damaged_profiles()[case], **options)
    image, notes = load(file)
    assert np.array_equal(image, plain)
    assert notes == [UNUSABLE]


def test_profiles_in_many_threads(tmp_path):
    names = ["Display P3", "Adobe RGB", "Generic RGB", "ProPhoto"]
    for name in names:
        file = encode(Image.fromarray(colour_chart()), "PNG", icc_profile=rgb_profile(name))
        (tmp_path / name).write_bytes(file)
    alone = {name: np.asarray(load_image(tmp_path / name)) for name in names}

    def same(number: int) -> bool:
        name = names[number % len(names)]
        return np.array_equal(np.asarray(load_image(tmp_path / name)), alone[name])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(same, range(64)))


# Damage that can be lived with.


@pytest.mark.parametrize("code", [0x02, 0x3A, 0xBF])
def test_a_meaningless_marker_in_the_pixels_of_a_jpeg_costs_what_it_hits_only(load, code):
    """With restarts: what follows the next one is whole, as in any other decoder."""
    image = Image.fromarray(pixels(256, 256))
    whole = encode(image, "JPEG", quality=95, restart_marker_rows=1)
    at = whole.index(b"\xff\xd2")  # the third row of blocks ends here
    broken = whole[: at - 60] + bytes([0xFF, code]) + whole[at - 58 :]
    shown, _ = load(broken)
    expected = np.asarray(Image.open(io.BytesIO(broken)).convert("RGB"))
    assert np.array_equal(shown, expected)
    intact, _ = load(whole)
    assert (shown[64:] != intact[64:]).mean() < 0.01


def test_a_meaningless_marker_does_not_hide_scans(refusal):
    still = photo("JPEG", progressive=True)
    scan = still.rindex(b"\xff\xda")
    assert "too many pieces" in refusal(
        still[:-2] + (still[scan:-2] + b"\xff\x3a\xff\xff") * 190 + still[-2:]
    )


# Refusals.


def photo(kind: str, **options) -> bytes:
    return encode(Image.fromarray(pixels(64, 64)), kind, **options)


OTHER_FORMATS = {  # content: what the sentence names and says
    photo("TIFF"): ("TIFF", "PNG or JPEG"),
    photo("PPM"): ("PNM", "PNG"),
    photo("ICO"): ("icon", "PNG"),
    photo("JPEG2000"): ("JPEG 2000", "JPEG or PNG"),
    b"\0\0\0\x0cJXL \r\n\x87\n": ("JPEG XL", "JPEG or PNG"),
    b"\xff\x0a\xfa\x1f": ("JPEG XL", "JPEG or PNG"),
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500): ("HEIC photograph", "JPEG"),
    b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(500): ("HEIC photograph", "Most Compatible"),
    b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(500): ("raw file", "JPEG"),
    b"II*\0\x10\0\0\0CR\2\0" + bytes(500): ("raw file", "JPEG"),
    b"\0\0\0\x18ftypqt  \0\0\0\0qt  " + bytes(500): ("video", "screenshot"),
    b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>': ("SVG", "PNG"),
    b'<?xml version="1.0"?>\n<!-- drawn by hand -->\n<svg>': ("SVG", "PNG"),
    b"<!DOCTYPE html><title>404</title>": ("web page", "picture itself"),
    b"%PDF-1.7\n": ("document", "PNG or JPEG"),
    b"%!PS-Adobe-3.0 EPSF-3.0\n": ("document", "PNG or JPEG"),
    b"8BPS\0\1": ("Photoshop", "PNG or JPEG"),
    b"PK\3\4\x14": ("archive", "unpack"),
}


@pytest.mark.parametrize("content", OTHER_FORMATS, ids=range(len(OTHER_FORMATS)))
def test_other_formats_are_named_with_what_to_do(refusal, content):
    words = refusal(content)
    assert words.startswith("This is a") and all(word in words for word in OTHER_FORMATS[content])


@pytest.mark.parametrize(
    "content",
    [
        b"just some text in a file named .png\n",
        photo("TGA"),
        b"\x89PNG",
        b"\xff\xd8",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b'<?xml version="1.0"?><note>',
        b"\0",
    ],
)
def test_other_files_are_refused(refusal, content):
    assert refusal(content) == NO_PICTURE


def test_a_picture_needs_no_extension_and_a_wrong_one_does_no_harm(tmp_path):
    for name in ("IMG_1234", "picture.png", "picture.heic"):
        (tmp_path / name).write_bytes(photo("JPEG"))
        assert load_image(tmp_path / name).size == (64, 64)


def test_empty_and_too_large_files(refusal):
    assert refusal(b"") == "This file is empty."
    assert refusal(photo("JPEG") + bytes(20 * 2**20)) == "This file is larger than 20 MB."


@pytest.mark.parametrize("file", [None, 0, 3.5, b"upload", ["upload"], {"path": "upload"}])
def test_what_is_no_path(file):
    with pytest.raises(ImageError, match=r"^No picture was given\.$"):
        load_image(file)


def test_paths_that_hold_no_file(tmp_path):
    (tmp_path / "file").write_bytes(photo("PNG"))
    os.mkfifo(tmp_path / "pipe")
    for path in [tmp_path / "none.png", tmp_path / "file" / "x", "https://example.com/cat.png"]:
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert sentence(caught.value) == "There is no such picture file."
    for path in [tmp_path, tmp_path / "pipe", "."]:
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert sentence(caught.value) == "This is not a picture file."
    for path in ["a\0b", "x" * 5000]:
        with pytest.raises(ImageError) as caught:
            load_image(path)
        assert sentence(caught.value) == "This picture file cannot be opened."


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WebP", {}),
        ("WebP", {"lossless": True}),
        ("AVIF", {}),
        ("GIF", {}),
        ("BMP", {}),
    ],
)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files(refusal, kind, options, part):
    whole = photo(kind, **options)
    expected = f"This {kind} picture is damaged or incomplete and cannot be read."
    assert refusal(whole[: int(len(whole) * part)]) == expected


def test_lying_headers(refusal):
    damaged = "This PNG picture is damaged or incomplete and cannot be read."
    assert refusal(png((4000, 4000), 8, 2, b"\0\1\2\3")) == damaged  # claims more than it has
    assert refusal(png((0, 5), 8, 2, b"\0")) == damaged
    assert refusal(png((5, 5), 8, 7, b"\0" * 30)) == damaged  # no such colour type
    assert refusal(SIGNATURE + chunk(b"IEND", b"")) == damaged
    wrong_sum = bytearray(photo("PNG"))
    wrong_sum[20] ^= 1
    assert refusal(bytes(wrong_sum)) == damaged
    bmp = bytearray(photo("BMP"))
    bmp[18:26] = struct.pack("<ii", 4000, -4000)
    assert refusal(bytes(bmp)) == "This BMP picture is damaged or incomplete and cannot be read."


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    image = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\2\2\x4c\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0, 0, 0) + image + b";"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png((13300, 13300), 1, 0, bytes(13300 * 1664)), "176.9 megapixels"),
        (png((1, 65536), 8, 0, bytes(131_072)), "1 x 65536 pixels: no side may be longer than 65535"),
        (png((65536, 1), 8, 0, bytes(65537)), "65536 x 1 pixels: no side may be longer than 65535"),
        (png((6000, 6001), 1, 0, b""), "36.0 megapixels: files of its kind may have at most 36"),
        (png((7000, 5100), 8, 2, b""), "35.7 megapixels: files of its kind may have at most 35"),
        (png((5100, 5000), 8, 6, b""), "25.5 megapixels: files of its kind may have at most 25"),
        (png((5100, 5000), 8, 2, b"", chunk(b"tRNS", bytes(6))), "25.5 megapixels"),
        (png((4000, 3200), 16, 6, b""), "12.8 megapixels: files of its kind may have at most 12"),
        (with_jpeg_size(photo("JPEG"), 12000, 9200), "110.4 megapixels"),
        (
            with_jpeg_size(photo("JPEG", progressive=True), 8000, 6300),
            "50.4 megapixels: files of its kind may have at most 50",
        ),
        (with_jpeg_size(photo("JPEG", progressive=True, subsampling=0), 5100, 5000), "25.5 megapixels"),
        (with_jpeg_size(photo("JPEG"), 65500, 65500), "4290.2 megapixels"),
        (gif((65535, 65535), (1, 1)), "4294.8 megapixels"),
        (gif((9000, 9000), (1, 1)), "81.0 megapixels"),
        (gif((1, 1), (9000, 9000)), "81.0 megapixels"),
        (gif((1, 1), (65535, 65535)), "too many pixels"),
        (
            b"BM"
            + bytes(12)
            + struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 1, 0, 0, 0, 0, 2, 0)
            + bytes(8),
            "81.0",
        ),
    ],
    ids=range(17),
)
def test_too_many_pixels_are_refused_before_any_is_decoded(refusal, monkeypatch, content, reason):
    def never(image):
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    assert len(content) < 30_000
    assert reason in refusal(content)


def test_a_webp_has_its_own_limit(refusal):
    flat = bytearray(encode(Image.new("RGB", (40, 30)), "WEBP"))
    at = flat.index(b"\x9d\x01\x2a") + 3  # VP8's start code, then width and height
    flat[at : at + 4] = struct.pack("<HH", 4100, 3200)
    assert (
        refusal(bytes(flat))
        == "This WebP picture has 13.1 megapixels: files of its kind may have at most 12."
    )


def boxed(name: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), name) + b"".join(content)


def avif(shown: tuple[int, int], stream: bytes, pieces: int = 1) -> bytes:
    """An AVIF that says it shows so many pixels, and holds this AV1 stream, perhaps many times over."""
    full = b"\0\0\0\0"
    ispe = boxed(b"ispe", full, struct.pack(">II", *shown))
    pixi, av1c = boxed(b"pixi", full, b"\3\x08\x08\x08"), boxed(b"av1C", b"\x81\0\x0c\0")
    ipma = boxed(b"ipma", full, struct.pack(">IHB", 1, 1, 3), b"\1\2\x83")
    head = boxed(b"ftyp", b"avif", full, b"avifmif1miaf")

    def meta(at: int) -> bytes:
        places = struct.pack(">II", at, len(stream)) * pieces
        return boxed(
            b"meta",
            full,
            boxed(b"hdlr", full, full, b"pict", bytes(13)),
            boxed(b"pitm", full, b"\0\1"),
            boxed(b"iloc", full, b"\x44\0\0\1", struct.pack(">HHH", 1, 0, pieces), places),
            boxed(b"iinf", full, b"\0\1", boxed(b"infe", b"\2\0\0\0", b"\0\1\0\0av01\0")),
            boxed(b"iprp", boxed(b"ipco", ispe, pixi, av1c), ipma),
        )

    return head + meta(len(head) + len(meta(0)) + 8) + boxed(b"mdat", stream)


def av1(size: tuple[int, int]) -> bytes:
    """The AV1 data of a black still picture."""
    return stream_of(encode(Image.new("RGB", size), "AVIF", speed=10))


def av1_claim(size: tuple[int, int], frames: int = 1) -> bytes:
    """AV1 data that says it holds frames of this size, and no more."""
    bits = "000110000011111111" + f"{size[0] - 1:016b}{size[1] - 1:016b}"
    header = int(bits.ljust(56, "0"), 2).to_bytes(7)
    return b"\x12\0\x0a\7" + header + b"\x32\1\0" * frames


def stream_of(file: bytes) -> bytes:
    return file[file.rindex(b"mdat") + 4 :]


def test_the_avif_made_here_is_one(load):
    image, notes = load(avif((40, 30), av1((40, 30))))
    assert image.shape == (30, 40, 3) and not image.any() and notes == []


def test_pixels_of_av1_data():
    """Against what the encoder was asked for; of an animation, the most that the bits of a size can say."""
    for size in [(1, 1), (40, 30), (640, 480), (1000, 700)]:
        assert picture._av1_pixels(av1(size)) == size[0] * size[1]
    frames = [Image.new("RGB", (200, 100), colour) for colour in ("red", "lime", "blue")]
    moving = encode(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert picture._av1_pixels(stream_of(moving)) == 3 * 256 * 128


def test_an_avif_that_hides_what_it_costs_is_refused_before_decoding(refusal, monkeypatch):
    def never(image):
        raise AssertionError("a decoder saw it")

    monkeypatch.setattr(AvifImagePlugin.AvifImageFile, "_open", never)
    small = av1_claim((1000, 1000))
    cases = {
        "30.0 megapixels": avif((60, 50), av1_claim((6000, 5000))),  # a huge picture in a small frame
        "40.0 megapixels": avif((1000, 1000), av1_claim((1000, 1000), frames=40)),  # frames that nobody sees
        "pieces": avif((1000, 1000), small, pieces=100),  # the same bytes, again and again
        "too many pieces": avif((1000, 1000), small[:2] * 5000),
        "damaged": avif((1000, 1000), small)[:60],
    }
    for reason, file in cases.items():
        assert reason in refusal(file)
    assert refusal(photo("AVIF") + bytes(8 * 2**20)) == (
        "This file is larger than 8 MB, the most for an AVIF picture."
    )


def test_an_avif_has_its_own_limit(refusal):
    assert refusal(avif((4000, 3200), av1((40, 30)))) == (
        "This AVIF picture has 12.8 megapixels: files of its kind may have at most 12."
    )


def avif_listing(*indexes: bytes) -> bytes:
    """A file whose meta box holds these iloc boxes."""
    full = b"\0\0\0\0"
    return boxed(b"ftyp", b"avif", full, b"avifmif1miaf") + boxed(b"meta", full, *indexes)


def index_of(items: int, content: bytes) -> bytes:
    """An iloc box that promises so many items, of 17 bytes each."""
    return boxed(b"iloc", b"\2\0\0\0", b"\0\x70", struct.pack(">I", items), content)


def test_an_index_ends_where_its_box_ends(refusal):
    file = avif_listing(*[index_of(2**19, bytes(34))] * 1_900)
    assert "damaged" in refusal(file + boxed(b"free", bytes(7 * 2**20)))


def many_pieces() -> dict[str, bytes]:
    still = photo("JPEG", progressive=True)
    scan = still.rindex(b"\xff\xda")
    gif, whole = photo("GIF"), photo("PNG")
    palette_end = 13 + 3 * 2 ** (gif[10] % 8 + 1)
    head, tail = gif[:palette_end], gif[palette_end:]
    return {
        "PNG of empty chunks": whole[:33] + chunk(b"IDAT", b"") * 30_000 + whole[33:],
        "JPEG of comments": still[:2] + b"\xff\xfe\0\2" * 3_000 + still[2:],
        "JPEG of 200 scans": still[:-2] + still[scan:-2] * 190 + still[-2:],
        "AVIF of boxes": avif((8, 8), av1((8, 8))) + boxed(b"free") * 5_000,
        "AVIF of indexes": avif_listing(index_of(1, bytes(17)), index_of(1, bytes(17))),
        "AVIF of lists": avif((8, 8), av1((8, 8))) + boxed(b"meta", b"\0\0\0\0"),
        "AVIF of empty items": avif_listing(index_of(3_000, bytes(17 * 3_000))),
        "GIF of extensions": head + b"!\xfe\0" * 100 + tail,
        "GIF of tiny blocks": head + b"!\xfe" + b"\1c" * 200_000 + b"\0" + tail,
    }


@pytest.mark.parametrize("case", many_pieces())
def test_files_made_to_keep_a_parser_busy(refusal, case):
    assert refusal(many_pieces()[case]) == f"This {case.split()[0]} picture consists of too many pieces."


def test_a_run_length_coded_bmp_is_refused(refusal):
    header = struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, 0, 0, 0, 256, 0)
    assert "run-length" in refusal(b"BM" + bytes(12) + header + bytes(1024))


@pytest.mark.parametrize("place", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_overlapping_exif_entries_cost_nothing(load, place):
    """5,000 entries that all point at the same 60 kB: a reader that copies each needs 300 MB."""
    entries = b"".join(struct.pack("<HHII", 1000 + index, 1, 60_000, 8) for index in range(5000))
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5000) + entries
    image = Image.fromarray(pixels())
    if place == "JPEG":
        file = with_segment(encode(image, "JPEG"), 0xE1, block)
    else:
        file = encode(image, place, exif=block)
    tracemalloc.start()
    load(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_compressed_metadata_is_never_inflated(load):
    profile = chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(1_000_000), 9))
    text = chunk(b"zTXt", b"name\0\0" + zlib.compress(bytes(50_000_000), 9))
    whole = photo("PNG")
    tracemalloc.start()
    image, _ = load(whole[:33] + profile * 100 + text + whole[33:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(image, pixels(64, 64))
    assert peak < 8e6  # of 150 MB: one profile, and no more of it than a profile may have


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
@pytest.mark.parametrize("case", ["PNG", "progressive JPEG", "JPEG of 108 megapixels"])
def test_the_largest_legal_picture_stays_below_200_mb(tmp_path, case):
    if case == "PNG":
        squeezer = zlib.compressobj(1)
        row = b"\0" + bytes(range(250)) * 80  # 5000 pixels of red, green, blue and alpha
        body = b"".join(squeezer.compress(row) for _ in range(5000)) + squeezer.flush()
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 5000, 5000, 8, 6, 0, 0, 0))
        file = SIGNATURE + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    elif case == "progressive JPEG":
        file = with_jpeg_size(photo("JPEG", progressive=True, subsampling=0), 5000, 5000)
    else:
        file = with_jpeg_size(photo("JPEG"), 12000, 9000)  # what is missing, the decoder fills with grey
    (tmp_path / "upload").write_bytes(file)
    script = (
        "import re, sys; from picture import load_image\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = peak(); image = load_image(sys.argv[1]); print(max(image.size), (peak() - before) / 1000)"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "upload")]
    done = subprocess.run(command, cwd=EXAMPLES.parents[1], capture_output=True, text=True, check=True)
    side, megabytes = done.stdout.split()
    assert int(side) == 1024
    assert 5 < float(megabytes) < 200


# The picture for the networks.


def test_a_32x32_picture_reaches_the_network_untouched():
    image = Image.fromarray(pixels(32, 32))
    for crop in ["centre", "squeeze", (0, 0, 32), [0.0, 0.2, 32]]:
        assert np.array_equal(np.asarray(to_network(image, crop)), pixels(32, 32))


def test_crops():
    colours = np.zeros((64, 128, 3), np.uint8)
    colours[:, :32], colours[:, 32:96], colours[:, 96:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = Image.fromarray(colours)

    def seen(crop) -> list[tuple[int, int, int]]:
        small = to_network(image, crop)
        assert small.size == (32, 32) and small.mode == "RGB"
        return [small.getpixel((x, 16)) for x in (1, 16, 30)]

    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert seen("centre") == [green, green, green]
    assert seen("squeeze") == [red, green, blue]
    assert seen((0, 10, 32)) == [red, red, red]
    assert seen((96, 0, 32)) == [blue, blue, blue]
    assert seen((120, -50, 32)) == [blue, blue, blue]  # moved inside
    assert seen((0, 0, 1000)) == seen((0, 0, 64))


@pytest.mark.parametrize("size", [(33, 32), (67, 32), (32, 35), (32, 65)])
def test_the_centre_of_an_odd_size_lies_half_a_pixel_to_the_left_and_above(size):
    """As many pixels are left out on both sides, and the odd one on the right or below."""
    width, height = size
    picture = Image.fromarray(pixels(width, height))
    left, top = (width - 32) // 2, (height - 32) // 2
    assert np.array_equal(
        np.asarray(to_network(picture)), pixels(width, height)[top : top + 32, left : left + 32]
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 1024), (1024, 1), (3, 2)])
def test_tiny_and_thin_pictures_reach_the_network(size):
    image = Image.new("RGB", size, (10, 200, 30))
    for crop in ["centre", "squeeze", (0, 0, 1), (-5, 2000, 7)]:
        small = to_network(image, crop)
        assert small.size == (32, 32)
        assert small.getextrema() == ((10, 10), (200, 200), (30, 30))


@pytest.mark.parametrize(
    "crop",
    [
        None,
        "center of the picture",
        "",
        5,
        (1, 2),
        (1, 2, 3, 4),
        (0, 0, 0),
        (0, 0, -3),
        (0, 0, 0.2),
        (0, 0, float("nan")),
        (float("inf"), 0, 5),
        (10**400, 0, 5),
        (True, 0, 5),
        ("1", "2", "3"),
        {"left": 0},
        [None] * 3,
        [[0], 0, 5],
    ],
)
def test_a_crop_that_makes_no_sense_is_refused(crop):
    with pytest.raises(ImageError) as caught:
        to_network(Image.new("RGB", (50, 40)), crop)
    assert "crop" in sentence(caught.value)


# Examples.


def test_one_example_per_class():
    assert {path.stem for path in EXAMPLES.glob("*.png")} >= set(CLASSES)
    for name in CLASSES:
        image = load_image(EXAMPLES / f"{name}.png")
        assert image.size == (32, 32)
        assert np.asarray(image).std() > 10


def test_examples_are_the_first_test_image_of_each_class():
    try:
        images, labels = data.load(train=False)
    except data.DataError:
        pytest.skip("CIFAR-10 is not on this machine: python -m models.data downloads it")
    for label, name in enumerate(CLASSES):
        first = images[(labels == label).nonzero()[0, 0]].permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(load_image(EXAMPLES / f"{name}.png")), first)


# Fuzz.


def fuzz_seeds() -> list[bytes]:
    """Tiny files of every accepted format, with every feature that the loader handles."""
    small = Image.fromarray(pixels(6, 5))
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "lime")]
    animation = {"save_all": True, "append_images": frames[1:]}
    palette = chunk(b"PLTE", bytes(range(12)))
    profile = icc(b"RGB ", {name: b"curv" + bytes(8) for name in (b"rXYZ", b"rTRC", b"gTRC", b"bTRC")})
    return [
        encode(small, "PNG", exif=exif(6)),
        encode(small.convert("RGBA"), "PNG"),
        encode(frames[0], "PNG", **animation),
        png((3, 2), 16, 0, b"\0" + bytes(6) + b"\0" + bytes(6), chunk(b"tRNS", b"\0\0")),
        png((3, 2), 16, 2, (b"\0" + bytes(18)) * 2, chunk(b"tRNS", bytes(6))),
        png((3, 2), 2, 3, b"\0\x1b\0\x1b", palette, chunk(b"tRNS", b"\0\x80")),
        encode(small, "PNG", icc_profile=profile),
        encode(small, "JPEG", quality=50, exif=exif(3, "<")),
        encode(small.convert("CMYK"), "JPEG", quality=50, icc_profile=profile),
        encode(Image.fromarray(pixels(24, 24)), "JPEG", quality=50, restart_marker_blocks=1),
        encode(small, "JPEG", quality=50, progressive=True),
        encode(small.convert("CMYK"), "JPEG", quality=50),
        encode(small, "WEBP", quality=50, exif=exif(8)),
        encode(small.convert("RGBA"), "WEBP", lossless=True),
        encode(frames[0], "WEBP", **animation),
        encode(small.convert("RGBA"), "AVIF", quality=50, exif=exif(8)[6:]),
        encode(frames[0], "AVIF", **animation),
        encode(frames[0], "GIF", duration=50, loop=0, comment=b"hello", **animation),
        encode(small.convert("P"), "GIF", transparency=0),
        encode(small, "BMP"),
        encode(small.convert("L"), "BMP"),
        encode(small.convert("1"), "BMP"),
    ]


def mutate(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to four random changes: bytes, numbers, cuts, repeats, and pieces of another file."""
    file = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, length = chance.randrange(len(file) + 1), chance.randrange(1, 17)
        # Headers decide most, and stand in front.
        at = at if chance.random() < 0.5 else min(at, chance.randrange(64))
        match chance.randrange(7):
            case 0:
                file[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                file[at : at + 1] = bytes([(file[at] if at < len(file) else 0) ^ 1 << chance.randrange(8)])
            case 2:
                number = chance.choice(
                    (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 5000, 12000)
                )
                width = chance.choice((1, 2, 4))
                order = chance.choice(("big", "little"))
                file[at : at + width] = (number % 256**width).to_bytes(width, order)
            case 3:
                del file[at : at + length]
            case 4:
                file[at:at] = file[at : at + length] * chance.randrange(1, 4)
            case 5:
                start = chance.randrange(len(other))
                file[at:at] = other[start : start + length]
            case 6:
                del file[max(at, 12) :]
    return bytes(file)


def with_right_checksums(content: bytes) -> bytes:
    """A mutated PNG would otherwise seldom get past its checksums."""
    position, parts = 8, [content[:8]]
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        if position + 12 + length > len(content):
            break
        parts.append(
            chunk(content[position + 4 : position + 8], content[position + 8 : position + 8 + length])
        )
        position += 12 + length
    return b"".join(parts) + content[position:]


def fuzz(count: int, seed: int = 0) -> tuple[int, set[str], list[str]]:
    """Mutates files and loads each: how many were pictures, the sentences of the rest, and stray exceptions.

    They go past the reading of a file, which would take four fifths of the time.

    Args:
        count: number of mutations, always the same ones for the same seed.
    """
    seeds, chance = fuzz_seeds(), random.Random(seed)
    pictures, sentences, strays = 0, set(), []
    with mock.patch.object(picture, "_read", lambda content: content):
        for number in range(count):
            content = mutate(seeds[number % len(seeds)], chance.choice(seeds), chance)
            if content[:4] == SIGNATURE[:4] and chance.random() < 0.7:
                content = with_right_checksums(content)
            try:
                image = load_image(content)
                assert image.mode == "RGB" and image.info == {} and 1 <= max(image.size) <= 1024
                assert to_network(image).size == (32, 32)
                pictures += 1
            except ImageError as error:
                sentences.add(sentence(error))
            except Exception as error:
                strays.append(f"mutation {number} raised {error!r}: {content.hex()}")
    return pictures, sentences, strays


@pytest.mark.filterwarnings("ignore")  # Pillow warns about what it overlooks
def test_mutated_files_give_a_picture_or_a_sentence():
    count = int(os.environ.get("ATTNSCOPE_FUZZ", "20000"))
    pictures, sentences, strays = fuzz(count)
    assert not strays, strays[0]
    assert pictures > count / 10  # the mutations are mild enough to reach the decoders' depths
    assert any("damaged" in text for text in sentences) and any("pixels" in text for text in sentences)
