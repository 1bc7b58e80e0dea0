"""Files that anybody may send, and what shall come of them: the right 32x32 picture, or a plain sentence."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tests.test_picture import (
    OTHER_FORMATS,
    SIGNATURE,
    STORED,
    av1_claim,
    avif,
    chunk,
    encode,
    exif,
    gif,
    many_pieces,
    photo,
    png,
    rgb_profile,
    with_jpeg_size,
    with_segment,
)
from visualize.picture import NO_PICTURE, ImageError, load_image, to_network

WHITE = np.full((32, 32, 3), 255, np.uint8)
RED = np.full((32, 32, 3), (255, 0, 0), np.uint8)
Expected = np.ndarray | str  # (32, 32, 3) uint8, or a part of the sentence


def hostile_files() -> dict[str, tuple[bytes, Expected]]:
    """Name -> content and what to expect of it."""
    return {**odd_pictures(), **refused_files()}


def odd_pictures() -> dict[str, tuple[bytes, Expected]]:
    """Pictures that are all right, though many programs get them wrong."""
    rows, columns = np.mgrid[:32, :32]
    shown = np.stack([rows * 8, columns * 8, (rows + columns) * 4], axis=2).astype(np.uint8)
    image = Image.fromarray(shown)
    jpeg, adobe = encode(image, "JPEG", quality=95), rgb_profile("Adobe RGB")
    files = {
        "png": (encode(image, "PNG"), shown),
        "bmp": (encode(image, "BMP"), shown),
        "webp lossless": (encode(image, "WEBP", lossless=True), shown),
        "avif": (encode(image, "AVIF", quality=95), shown),
        "webp lossy": (encode(image, "WEBP", quality=95), shown),
        "png junk profile": (encode(image, "PNG", icc_profile=b"junk" * 99), shown),
        "png opaque alpha": (encode(image.convert("RGBA"), "PNG"), shown),
        "png junk behind": (encode(image, "PNG") + b"junk" * 999, shown),
        "jpeg": (jpeg, shown),
        "jpeg progressive": (encode(image, "JPEG", quality=95, progressive=True), shown),
        "jpeg junk profile": (encode(image, "JPEG", quality=95, icc_profile=b"junk" * 50_000), shown),
        "jpeg cmyk": (encode(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95), RED),
        "jpeg junk behind": (jpeg + jpeg + b"\xff\xda\0\0" * 999, shown),
        "jpeg two pictures": (encode(image, "MPO", quality=95, save_all=True, append_images=[image]), shown),
        "16 bit grey": (deep(shown[..., 0], colour=0), np.repeat(shown[..., :1], 3, axis=2)),
        "16 bit colour": (deep(shown, colour=2), shown),
        "all transparent": (encode(Image.new("RGBA", (32, 32), (255, 0, 0, 0)), "PNG"), WHITE),
        "transparent palette": (
            png((32, 32), 8, 3, bytes(33) * 32, chunk(b"PLTE", bytes(6)), chunk(b"tRNS", b"\0")),
            WHITE,
        ),
        "1x1": (encode(Image.new("RGB", (1, 1), "red"), "PNG"), RED),
        "1x20000": (encode(Image.new("RGB", (1, 20_000), "red"), "PNG"), RED),
        "20000x1": (encode(Image.new("RGB", (20_000, 1), "red"), "PNG"), RED),
        "colour profile": (encode(Image.new("RGB", (32, 32), (219, 0, 0)), "PNG", icc_profile=adobe), RED),
    }
    for mode in ("1", "L", "P", "LA"):
        converted = image.convert(mode)
        files[f"png {mode}"] = encode(converted, "PNG"), np.asarray(converted.convert("RGB"))
    for mode in ("1", "L", "P"):
        converted = image.convert(mode)
        for kind in ("GIF", "BMP"):
            files[f"{kind} {mode}"] = encode(converted, kind), np.asarray(converted.convert("RGB"))
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    for kind, options in {"GIF": {"duration": 40}, "WEBP": {"lossless": True}, "PNG": {}, "AVIF": {}}.items():
        moving = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        files[f"animated {kind}"] = moving, RED
    for turn, store in STORED.items():
        stored = Image.fromarray(np.ascontiguousarray(store(shown)))
        files[f"orientation {turn} png"] = encode(stored, "PNG", exif=exif(turn)), shown
        files[f"orientation {turn} webp"] = encode(stored, "WEBP", lossless=True, exif=exif(turn)), shown
        files[f"orientation {turn} avif"] = encode(stored, "AVIF", quality=95, exif=exif(turn)[6:]), shown
        files[f"orientation {turn} jpeg"] = encode(stored, "JPEG", quality=95, exif=exif(turn, "<")), shown
    for number, block in enumerate((exif(9), exif(6)[:20], b"Exif\0\0MM\0*\xff\xff\xff\xff")):
        files[f"broken exif {number}"] = with_segment(jpeg, 0xE1, block), shown
    return files


def deep(values: np.ndarray, colour: int) -> bytes:
    """A PNG of 16 bits a sample from (32, 32) or (32, 32, 3) uint8."""
    rows = (values.astype(">u2") * 257).reshape(32, -1)
    return png((32, 32), 16, colour, b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows))


def two_headers() -> bytes:
    """A PNG that says to be small, and then to be larger than one of 16 bits and alpha may be."""
    small, large = (
        chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colours, 0, 0, 0))
        for size, depth, colours in [((1, 1), 8, 0), ((5200, 2500), 16, 6)]
    )
    return SIGNATURE + small + large + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def refused_files() -> dict[str, tuple[bytes, Expected]]:
    """Files that are no pictures, broken ones, and ones made to keep a server busy."""
    wrong_sum = bytearray(photo("PNG"))
    wrong_sum[20] ^= 1
    run_length = struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, 0, 0, 0, 256, 0)
    files = {
        "empty": (b"", "empty"),
        "too many bytes": (photo("JPEG") + bytes(20 * 2**20 - 1), "larger than 20 MB"),
        "claims more than it has": (png((4000, 4000), 8, 2, b"\0\1\2\3"), "damaged"),
        "no width": (png((0, 5), 8, 2, b"\0"), "damaged"),
        "no such colours": (png((5, 5), 8, 7, bytes(30)), "damaged"),
        "two headers": (two_headers(), "damaged"),
        "no header": (SIGNATURE + chunk(b"IEND", b""), "damaged"),
        "wrong sum": (bytes(wrong_sum), "damaged"),
        "bomb": (png((13_300, 13_300), 1, 0, bytes(13_300 * 1664)), "megapixels"),
        "1x70000": (png((1, 70_000), 8, 0, bytes(140_000)), "65535"),
        "26 megapixels of alpha": (png((5200, 5000), 8, 6, b""), "megapixels"),
        "13 megapixels of 16 bits": (png((5200, 2500), 16, 6, b""), "megapixels"),
        "jpeg of 110 megapixels": (with_jpeg_size(photo("JPEG"), 12_000, 9200), "megapixels"),
        "progressive of 25": (
            with_jpeg_size(photo("JPEG", progressive=True, subsampling=0), 5100, 5000),
            "megapixels",
        ),
        "avif that hides its size": (avif((60, 50), av1_claim((6000, 5000))), "megapixels"),
        "avif of hidden frames": (avif((1000, 1000), av1_claim((1000, 1000), 40)), "megapixels"),
        "gif screen": (gif((9000, 9000), (1, 1)), "megapixels"),
        "gif frame": (gif((1, 1), (9000, 9000)), "megapixels"),
        "bmp run length": (b"BM" + bytes(12) + run_length + bytes(1024), "run-length"),
    }
    files |= {words[0]: (content, words[0]) for content, words in OTHER_FORMATS.items()}
    others = {
        "text": b"just some text in a file named .png\n",
        "wave": b"RIFF\x24\0\0\0WAVEfmt ",
        "zero": b"\0",
        "TGA": photo("TGA"),
    }
    files |= {name: (content, NO_PICTURE) for name, content in others.items()}
    for kind in ("PNG", "JPEG", "WebP", "AVIF", "GIF", "BMP"):
        for percent in (10, 50, 90):
            whole = photo(kind)
            files[f"{kind} cut at {percent} %"] = whole[: len(whole) * percent // 100], "damaged"
    return files | {name: (content, "too many pieces") for name, content in many_pieces().items()}


def is_right(expected: Expected, picture: Image.Image | None, sentence: str | None) -> bool:
    """Whether a file came out as it should: its picture of 32x32, or else the sentence that refuses it."""
    if isinstance(expected, str):
        return sentence is not None and expected in sentence and "\n" not in sentence and "/" not in sentence
    if picture is None:
        return False
    return bool(np.abs(np.asarray(picture).astype(int) - expected).mean() < 6)  # JPEG loses a little


def wrong_files(folder: Path) -> list[str]:
    """The names of those that the loader gets wrong."""
    wrong = []
    for name, (content, expected) in hostile_files().items():
        (folder / "upload").write_bytes(content)
        picture = sentence = None
        try:
            picture = to_network(load_image(folder / "upload"))
        except ImageError as error:
            sentence = str(error)
        if not is_right(expected, picture, sentence):
            wrong.append(name)
    return wrong


def worst_files() -> dict[str, bytes]:
    """The largest pictures of each format that are taken, full of detail where their bytes allow it."""
    chance = np.random.default_rng(0)
    grain = chance.integers(0, 256, (1000, 1250, 3), np.uint8)
    soft = np.asarray(Image.fromarray(grain).resize((5000, 5000), Image.BICUBIC))  # 25 megapixels
    image = Image.fromarray(soft)
    sharp = Image.fromarray(chance.integers(0, 256, (3080, 4090, 4), np.uint8))
    large = image.resize((8150, 6130))
    row = b"\4" + chance.bytes(500) * 50  # Paeth's filter is the slowest
    return {
        "PNG": png((4960, 7016), 8, 2, row[: 1 + 4960 * 3] * 7016),  # a page at 600 dpi
        "PNG with alpha": png((5020, 5020), 8, 6, row[: 1 + 5020 * 4] * 5020),
        "grey PNG with alpha": png((6000, 6000), 8, 4, row[: 1 + 6000 * 2] * 6000),
        "16-bit PNG": png((2500, 5000), 16, 6, row[: 1 + 2500 * 8] * 5000),
        "JPEG": encode(image, "JPEG", quality=85),
        "progressive JPEG": encode(large, "JPEG", quality=75, progressive=True),
        "JPEG of 108 megapixels": encode(image.resize((12_000, 9000)), "JPEG", quality=70),
        "WebP": encode(sharp, "WEBP", quality=40, method=0),
        "lossless WebP": encode(
            ImageOps.posterize(image.resize((4090, 3080)), 5), "WEBP", lossless=True, quality=0, method=0
        ),
        "AVIF": encode(sharp, "AVIF", quality=40, speed=10, subsampling="4:4:4"),
        "GIF": encode(image.quantize(64), "GIF"),
        "BMP": encode(image.resize((2600, 2600)), "BMP"),
    }
