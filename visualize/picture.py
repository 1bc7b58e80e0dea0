"""A visitor's file becomes a small RGB picture, or one plain sentence that says why not.

    image = load_image("holiday.jpg")       # RGB, upright, at most 1024 pixels on its longer side
    small = to_network(image, "centre")     # the 32x32 picture that the networks see

Whatever a file claims, its cost stays bounded. Before a decoder sees it, it is rewritten to hold only what
draws its first picture: text, colour profiles, Exif, thumbnails and later frames, where most traps hide, are
left out. The decoder of its format is then called directly, so that no other one can be reached, and the
size in its header is checked before any pixel is decoded. Our limits are narrower than Pillow's own.
"""

import base64
import io
import os
import re
import stat
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

SIDE = 32  # of the picture that the networks see, in pixels
THUMBNAIL_SIDE = 320  # longest side, in pixels
KEPT_SIDE = 1024  # longest side of a loaded picture, in pixels
MAX_BYTES = 20 * 2**20  # of a file
MAX_SIDE = 12_000  # in pixels

# Most pixels of each format, so that decoding stays below one second and 200 MB. Pillow holds a WebP five
# times; a JPEG is decoded at up to 1/8 of its size, but one with several scans is held whole first.
MAX_PIXELS = {"PNG": 25e6, "GIF": 25e6, "BMP": 25e6, "WebP": 10e6}
MAX_JPEG_PIXELS = 110e6
MAX_COEFFICIENTS = 75e6  # of a JPEG with several scans: pixels times components

# A file of 20 MB with more parts than this was made to keep a parser busy.
MAX_PNG_CHUNKS = 20_000
MAX_JPEG_SEGMENTS = 2_000
MAX_JPEG_SCANS = 32
MAX_GIF_EXTENSIONS = 50
MAX_GIF_BLOCKS = 100_000

DECODERS = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
}
SIGNATURES = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "BMP": re.compile(rb"BM"),
}

# What brings a picture with the Exif orientation 2 to 8 upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """The file or the crop cannot be used; the message is one sentence for the visitor."""


@dataclass(frozen=True)
class _Still:
    """The bytes of a file that draw its first picture, and what was read from the rest.

    `exif` is the block as stored, perhaps empty; `depth` the bits per sample of a PNG.
    """

    data: bytes
    max_pixels: float
    exif: bytes = b""
    animated: bool = False
    depth: int = 8


def load_image(file: str | os.PathLike) -> Image.Image:
    """Reads a picture that anybody may have made: PNG, JPEG, WebP, GIF or BMP.

    Args:
        file: path of a regular file. Whether its place may be read is for the caller to decide.

    Returns:
        RGB, without metadata, upright as its Exif says, the first frame, transparent areas on white, at most
        `KEPT_SIDE` pixels on its longer side.

    Raises:
        ImageError: for every file that is no such picture, is damaged, or would cost too much.
    """
    return load_with_notes(file)[0]


def load_with_notes(file: str | os.PathLike) -> tuple[Image.Image, list[str]]:
    """Like `load_image`, with a sentence for each thing that a visitor may wonder about."""
    data = _read(file)
    kind = next((kind for kind, signature in SIGNATURES.items() if signature.match(data)), None)
    if kind is None:
        raise ImageError("This file is not a picture in PNG, JPEG, WebP, GIF or BMP format.")
    still = STILLS[kind](data)
    damaged = f"This {kind} picture is damaged or incomplete and cannot be read."
    try:
        image = DECODERS[kind](io.BytesIO(still.data))
    except Image.DecompressionBombError as error:
        raise ImageError("This picture has too many pixels.") from error
    except Exception as error:  # the decoders raise nearly everything
        raise ImageError(damaged) from error
    _check_size(image.size, still.max_pixels, kind)

    animated = still.animated or (kind == "WebP" and image.is_animated)
    orientation = _orientation(still.exif or image.info.get("exif", b""))
    try:
        if kind == "JPEG":
            shrink = min(1, KEPT_SIDE / max(image.size))
            image.draft(None, tuple(max(1, int(side * shrink)) for side in image.size))
        image.load()
    except Exception as error:
        raise ImageError(damaged) from error
    image, transparent = _to_small_rgb(_with_exact_key(image, still.depth))

    notes = []
    if animated:
        notes.append("This is an animation: its first frame is shown.")
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
        notes.append("The picture was turned upright, as its camera recorded.")
    if transparent:
        notes.append("Transparent areas are shown on white.")
    return image, notes


def to_network(image: Image.Image, crop: str | tuple[float, float, float] = "centre") -> Image.Image:
    """The 32x32 picture that the networks see.

    Args:
        image: RGB, as `load_image` returns it. One of 32x32 comes back pixel by pixel.
        crop: "centre" for the largest square in the middle, "squeeze" for the whole picture with its sides
            made equal, or (left, top, side) of a square in pixels of `image`, moved inside where it
            sticks out and rounded to whole pixels.

    Raises:
        ImageError: when `crop` is none of these.
    """
    width, height = image.size
    most = min(width, height)
    if isinstance(crop, str) and crop == "squeeze":
        return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if isinstance(crop, str) and crop == "centre":
        left, top, side = (width - most) // 2, (height - most) // 2, most
    else:
        left, top, side = _square(crop)
        side = min(side, most)
        left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def thumbnail(image: Image.Image) -> dict:
    """A small copy of a loaded picture for a page: {"data": its URL, "width", "height" of the picture}."""
    small, file = image.copy(), io.BytesIO()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    small.save(file, "WEBP", quality=80, lossless=max(image.size) <= SIDE)
    data = base64.b64encode(file.getvalue()).decode()
    return {"data": f"data:image/webp;base64,{data}", "width": image.width, "height": image.height}


def _square(crop: object) -> tuple[int, int, int]:
    plain = "The crop must be centre, squeeze, or three numbers: left, top and side of a square in pixels."
    if not isinstance(crop, (tuple, list)) or len(crop) != 3:
        raise ImageError(plain)
    for value in crop:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e6 <= value <= 1e6:
            raise ImageError(plain)
    left, top, side = (round(value) for value in crop)
    if side < 1:
        raise ImageError("The side of the crop must be at least one pixel.")
    return left, top, side


def _read(file: str | os.PathLike) -> bytes:
    if not isinstance(file, (str, os.PathLike)):
        raise ImageError("No picture was given.")
    try:
        status = os.stat(file)
        regular, data = stat.S_ISREG(status.st_mode), b""
        if regular:  # opening a pipe would wait for ever
            with open(file, "rb") as stream:
                data = stream.read(min(status.st_size, MAX_BYTES) + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("There is no such picture file.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError("This picture file cannot be opened.") from error
    if not regular:
        raise ImageError("This is not a picture file.")
    if not data:
        raise ImageError("This file is empty.")
    if len(data) > MAX_BYTES:
        raise ImageError(f"This file is larger than {MAX_BYTES // 2**20} MB.")
    return data


def _check_size(size: tuple[int, int], max_pixels: float, kind: str) -> None:
    width, height = size
    if max(size) > MAX_SIDE:
        raise ImageError(f"This picture is {width} x {height} pixels: no side may be longer than {MAX_SIDE}.")
    if width * height > max_pixels:
        raise ImageError(
            f"This {kind} picture has {width * height / 1e6:.1f} megapixels: "
            f"files of its kind may have {max_pixels / 1e6:.0f}."
        )


def _png(data: bytes) -> _Still:
    """Keeps header, palette, transparency and pixels; of an animation, its still picture."""
    kept, exif, animated, position = [data[:8]], b"", False, 8
    for _ in range(MAX_PNG_CHUNKS):
        length, name = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        chunk = data[position : position + length + 12]  # length, name, content, checksum
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND") or (name == b"tRNS" and length <= 256):
            kept.append(chunk)
        elif name == b"eXIf":
            exif = chunk[8:-4]
        elif name == b"acTL":
            animated = struct.unpack(">I", chunk[8:12].ljust(4, b"\0"))[0] > 1
        position += length + 12
        if name == b"IEND" or position >= len(data):
            depth = data[24] if len(data) > 24 else 8
            max_pixels = MAX_PIXELS["PNG"] * 8 / max(depth, 8)  # 16 bits a sample take twice as long
            return _Still(b"".join(kept), max_pixels, exif, animated, depth)
    raise ImageError("This PNG picture consists of too many pieces.")


# A marker is 0xff and a code; in coded pixels, 0xff 0x00 is a value and 0xd0 to 0xd7 are restarts.
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


def _jpeg(data: bytes) -> _Still:
    """Keeps tables, frame header and scans of the first picture, and two markers that tell its colours."""
    kept, exif, scans, position = [data[:2]], b"", 0, 2
    frame, components, components_at_once = 0, 3, 0
    for _ in range(MAX_JPEG_SEGMENTS):
        found = JPEG_MARKER.search(data, position)
        end = found.start() if found else len(data)
        if kept[-1][:2] == b"\xff\xda":
            kept.append(data[position:end])  # coded pixels follow the header of their scan
        marker = data[found.end() - 1] if found else 0xD9
        if marker == 0xD9:  # end of the picture
            break
        if marker in (0x01, 0xD8):  # stand alone
            position = found.end()
            continue
        (length,) = struct.unpack(">H", data[found.end() : found.end() + 2].ljust(2, b"\0"))
        position = found.end() + max(length, 2)
        segment = data[found.end() - 2 : position]
        content = segment[4:].ljust(6, b"\0")
        coded = 0xC0 <= marker <= 0xCF or marker in (0xDA, 0xDB, 0xDD)
        colours = (marker == 0xE0 and content[:4] == b"JFIF") or (marker == 0xEE and content[:5] == b"Adobe")
        if coded or colours:
            kept.append(segment)
        elif marker == 0xE1 and content[:6] == b"Exif\0\0":
            exif = exif or content
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, components = marker, max(1, content[5])
        elif marker == 0xDA:
            scans += 1
            components_at_once = components_at_once or content[0]
    if marker != 0xD9 or scans > MAX_JPEG_SCANS:
        raise ImageError("This JPEG picture consists of too many pieces.")
    single_pass = frame in (0xC0, 0xC1) and components_at_once == components
    max_pixels = MAX_JPEG_PIXELS if single_pass else MAX_COEFFICIENTS / components
    ending = b"\xff\xd9" if found else b""  # a file that breaks off stays one
    return _Still(b"".join(kept) + ending, max_pixels, exif)


def _gif(data: bytes) -> _Still:
    """Keeps the palettes, the transparency and the first picture."""

    def after_blocks(position: int) -> int:
        for _ in range(MAX_GIF_BLOCKS):
            size = data[position] if position < len(data) else 0
            position += 1 + size
            if not size:
                return position
        raise ImageError("This GIF picture consists of too many pieces.")

    def palette_size(flags: int) -> int:
        return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0

    position = 13 + palette_size(data[10] if len(data) > 10 else 0)
    kept = [data[:position]]
    for _ in range(MAX_GIF_EXTENSIONS):
        start, mark = position, data[position : position + 1]
        if mark == b"!":
            position = after_blocks(start + 2)
            if data[start + 1 : start + 2] == b"\xf9":
                kept.append(data[start:position])
        elif mark == b",":
            flags = data[start + 9] if len(data) > start + 9 else 0
            position = after_blocks(start + 10 + palette_size(flags) + 1)
            kept.append(data[start:position])
            break
        else:
            break
    else:
        raise ImageError("This GIF picture consists of too many pieces.")
    animated = data[position : position + 1] == b"," or data[position : position + 2] == b"!\xf9"
    return _Still(b"".join(kept), MAX_PIXELS["GIF"], animated=animated)


def _bmp(data: bytes) -> _Still:
    """Refuses run-length coding, which Pillow decodes in slow Python."""
    if data[14:18] != b"\x0c\0\0\0" and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0"):
        raise ImageError("This BMP picture is run-length coded, which is not accepted.")
    return _Still(data, MAX_PIXELS["BMP"])


def _webp(data: bytes) -> _Still:
    return _Still(data, MAX_PIXELS["WebP"])


STILLS = {"PNG": _png, "JPEG": _jpeg, "WebP": _webp, "GIF": _gif, "BMP": _bmp}


def _orientation(exif: bytes) -> int:
    """The orientation in an Exif block, 1 to 8; 1 where it is missing or makes no sense.

    Only the first directory is read, entry by entry. Pillow copies the content of every entry instead, and
    entries may overlap: a block of 64 kB then fills hundreds of megabytes.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for index in range(count):
            tag, kind = struct.unpack_from(order + "HH", tiff, start + 2 + 12 * index)
            if tag == 0x0112:
                code = order + ("I" if kind == 4 else "H")  # LONG or SHORT
                (value,) = struct.unpack_from(code, tiff, start + 10 + 12 * index)
                return value if 1 <= value <= 8 else 1
    except struct.error:  # the block ends too early
        pass
    return 1


def _with_exact_key(image: Image.Image, depth: int) -> Image.Image:
    """Scales the colour that a PNG declares transparent to 8 bits: Pillow scales the pixels only."""
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int):
        most = 2 ** min(depth, 8) - 1
        image.info["transparency"] = (key & most) * 255 // most
    elif image.mode == "RGB" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 if depth == 16 else value & 255 for value in key)
    return image


def _to_small_rgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """RGB of at most `KEPT_SIDE` on the longer side, and whether anything was transparent.

    Works in strips of about a million pixels: a picture of 25 megapixels is never held twice.
    """
    width, height = image.size
    factor = max(1, max(width, height) // KEPT_SIDE)
    rows = factor * max(1, 2**20 // (width * factor))
    canvas = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    transparent = False
    for top in range(0, height, rows):
        strip, see_through = _on_white(image.crop((0, top, width, min(top + rows, height))))
        canvas.paste(strip.reduce(factor), (0, top // factor))
        transparent = transparent or see_through
    shrink = KEPT_SIDE / max(canvas.size)
    if shrink < 1:
        canvas = canvas.resize(tuple(max(1, round(side * shrink)) for side in canvas.size))
    return canvas, transparent


def _on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """RGB with transparent areas on white, and whether there were any."""
    if image.mode.startswith("I"):  # 16-bit grey
        values = np.asarray(image).astype(np.int32)
        clear = values == image.info.get("transparency", -1)
        grey = np.where(clear, 255, (values + 128) // 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB"), bool(clear.any())
    if not image.has_transparency_data:
        return image.convert("RGB"), False
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    see_through = image.getchannel("A").getextrema()[0] < 255
    return Image.alpha_composite(white, image).convert("RGB"), see_through
