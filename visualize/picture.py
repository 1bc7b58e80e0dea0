"""A visitor's file becomes a small RGB picture, or one plain sentence that says why not.

    image = load_image("holiday.jpg")       # RGB, upright, at most 1024 pixels on its longer side
    small = to_network(image, "centre")     # the 32x32 picture that the networks see

Whatever a file claims, its cost stays bounded. Before a decoder sees it, it is rewritten to hold only what
draws its first picture: text, Exif, thumbnails and later frames, where most traps hide, are left out. The
decoder of its format is then called directly, so that no other one can be reached, and the size in its header
is checked before any pixel is decoded. Our limits are narrower than Pillow's own. A colour profile is read
apart, once the picture is small.
"""

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import AvifImagePlugin, Image, ImageChops, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

SIDE = 32  # of the picture that the networks see, in pixels
KEPT_SIDE = 1024  # longest side of a loaded picture, in pixels
MAX_BYTES = 20 * 2**20  # of a file
MAX_SIDE = 65_535  # in pixels, as in JPEG and GIF: Pillow keeps a pointer for each row

# What follows keeps every file below one second of computing and 200 MB, as measured format by format. Of a
# PNG, the pixels and the bytes of its rows count: 35 megapixels in RGB, as a page scanned at 600 dpi, but 12
# with alpha and 16 bits a sample. A JPEG is decoded at up to 1/8 of its size, but one with several scans is
# held whole first, two bytes a coefficient. libwebp holds a picture four times. The bytes of an AVIF take
# more time than those of the others.
MAX_PIXELS = {"PNG": 36e6, "WebP": 12.6e6, "AVIF": 12.6e6, "GIF": 25e6, "BMP": 25e6}
MAX_PNG_ROWS = 106e6  # in bytes
MAX_JPEG_PIXELS = 110e6
MAX_COEFFICIENTS = 75e6  # of a JPEG with several scans: 50 megapixels where colour has half the resolution
MAX_AVIF_BYTES = 8 * 2**20
MAX_PROFILE = 3 * 2**20  # bytes; those of printing presses have up to 2.5 MB

# A file of 20 MB with more parts than this was made to keep a parser busy.
MAX_PNG_CHUNKS = 20_000
MAX_JPEG_SEGMENTS = 2_000
MAX_JPEG_SCANS = 32
MAX_GIF_EXTENSIONS = 50
MAX_GIF_BLOCKS = 100_000
MAX_AVIF_BOXES = 2_000
MAX_AVIF_PICTURES = 200  # tiles, alpha, thumbnails
MAX_AV1_UNITS = 500  # of one of them

DECODERS = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
}
SIGNATURES = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "AVIF": re.compile(rb"....ftyp(avi[fs]|(mif1|msf1|miaf)....(....){0,9}?avi[fs])", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "BMP": re.compile(rb"BM"),
}
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # every further one holds parts of the picture again

# What people send in good faith, and what they can do about it.
NO_PICTURE = "This file is not a picture in PNG, JPEG, WebP, AVIF, GIF or BMP format."
OTHER_FORMATS = {
    rb"....ftyp(he[iv]|m[is]f1)": "a HEIC photograph: export it as JPEG or set the camera to Most Compatible",
    rb"....ftypcrx |FUJIFILMCCD-RAW|II(RO|RS|U\0)|II\*\0....CR": "a raw file of a camera: export it as JPEG",
    rb"....ftyp": "a video: take a screenshot of one of its pictures",
    rb"II\*\0|MM\0\*|II\+\0|MM\0\+": "a TIFF picture: export it as PNG or JPEG",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "a JPEG XL picture: export it as JPEG or PNG",
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51": "a JPEG 2000 picture: export it as JPEG or PNG",
    rb"\s*<(?=.{0,1000}?<svg|svg)": "an SVG drawing: export it as PNG",
    rb"\s*<(!doctype )?html": "a web page: save the picture itself",
    rb"%PDF-|%!PS": "a document: export its page as PNG or JPEG",
    rb"8BPS": "a Photoshop file: export it as PNG or JPEG",
    rb"\0\0[\1\2]\0[^\0]\0": "an icon: export it as PNG",
    rb"P[1-7]\s": "a PNM picture: export it as PNG",
    rb"PK\x03\x04": "an archive: unpack it and send the picture inside",
}
# What colour spaces a profile may describe, as Pillow calls them.
SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}

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

    `exif` and `profile` are the blocks as stored, perhaps empty; `depth` the bits per sample of a PNG.
    """

    data: bytes
    max_pixels: float
    exif: bytes = b""
    profile: bytes = b""
    animated: bool = False
    depth: int = 8


def load_image(file: str | os.PathLike) -> Image.Image:
    """Reads a picture that anybody may have made: PNG, JPEG, WebP, AVIF, GIF or BMP.

    Args:
        file: path of a regular file. Whether its place may be read is for the caller to decide.

    Returns:
        RGB in the colours of sRGB, without metadata, upright as its Exif says, the first frame, transparent
        areas on white, at most `KEPT_SIDE` pixels on its longer side.

    Raises:
        ImageError: for every file that is no such picture, is damaged, or would cost too much.
    """
    return load_with_notes(file)[0]


def load_with_notes(file: str | os.PathLike) -> tuple[Image.Image, list[str]]:
    """Like `load_image`, with a sentence for each thing that a visitor may wonder about."""
    data = _read(file)
    kind = next((kind for kind, signature in SIGNATURES.items() if signature.match(data)), None)
    if kind is None:
        for pattern, name_and_help in OTHER_FORMATS.items():
            if re.match(pattern, data, re.DOTALL | re.IGNORECASE):
                raise ImageError(f"This is {name_and_help}.")
        raise ImageError(NO_PICTURE)
    damaged = f"This {kind} picture is damaged or incomplete and cannot be read."
    still = STILLS[kind](data)
    del data  # a decoder needs the memory
    try:
        image = DECODERS[kind](io.BytesIO(still.data))
    except Image.DecompressionBombError as error:
        raise ImageError("This picture has too many pixels.") from error
    except Exception as error:  # the decoders raise nearly everything
        raise ImageError(damaged) from error
    _check_size(image.size, still.max_pixels, kind)

    animated = still.animated or (kind == "WebP" and image.is_animated)
    orientation = _orientation(still.exif or image.info.get("exif", b""))
    profile = still.profile or image.info.get("icc_profile", b"")
    try:
        if kind == "JPEG":
            shrink = min(1, KEPT_SIDE / max(image.size))
            image.draft(None, tuple(max(1, int(side * shrink)) for side in image.size))
        image = _first_frame(image) if kind in ("WebP", "AVIF") else image
        image.load()
    except Exception as error:
        raise ImageError(damaged) from error
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    image, transparent = _to_small(_with_exact_key(image, still.depth))

    notes = []
    if animated:
        notes.append("This is an animation: its first frame is shown.")
    if profile:
        image, note = _to_srgb(image.getchannel(0) if grey and profile[16:20] == b"GRAY" else image, profile)
        notes += note
    image = image.convert("RGB")
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
            f"files of its kind may have at most {int(max_pixels / 1e6)}."
        )


def _png(data: bytes) -> _Still:
    """Keeps header, palette, transparency and pixels; of an animation, its still picture."""
    kept, exif, profile, animated, keyed, position = [data[:8]], b"", b"", False, False, 8
    for _ in range(MAX_PNG_CHUNKS):
        length, name = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        chunk = data[position : position + length + 12]  # length, name, content, checksum
        if (name == b"IHDR") != (position == 8):  # of two headers Pillow would take the last one
            raise ImageError("This PNG picture is damaged or incomplete and cannot be read.")
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND") or (name == b"tRNS" and length <= 256):
            kept.append(chunk)
            keyed = keyed or name == b"tRNS"
        elif name == b"eXIf":
            exif = chunk[8:-4]
        elif name == b"iCCP":
            profile = profile or _inflated(chunk[8:-4].partition(b"\0")[2][1:])
        elif name == b"acTL":
            animated = struct.unpack(">I", chunk[8:12].ljust(4, b"\0"))[0] > 1
        position += length + 12
        if name == b"IEND" or position >= len(data):
            depth, colours = data[24:26] if len(data) > 25 else (8, 2)
            samples = {2: 3, 4: 2, 6: 4.2}.get(colours, 1)  # alpha takes time to go on white
            bytes_each = (4.2 if keyed and colours == 2 else samples) * max(1, depth // 8)
            max_pixels = min(MAX_PIXELS["PNG"], MAX_PNG_ROWS / bytes_each)
            return _Still(b"".join(kept), max_pixels, exif, profile, animated, depth)
    raise ImageError("This PNG picture consists of too many pieces.")


def _inflated(compressed: bytes) -> bytes:
    """The colour profile of a PNG; what is too long or damaged stays incomplete and is not used later."""
    try:
        return zlib.decompressobj().decompress(compressed, MAX_PROFILE + 1) or b"?"
    except zlib.error:
        return b"?"


# A marker is 0xff and a code. In coded pixels, 0xff 0x00 is a value, 0xd0 to 0xd7 are restarts, and what
# means nothing is damage: a decoder goes on behind it, at the next restart.
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
JPEG_SCAN_END = re.compile(rb"\xff[\xc0-\xcf\xd8-\xdd\xe0-\xef\xfe]")


def _jpeg(data: bytes) -> _Still:
    """Keeps tables, frame header and scans of the first picture, and two markers that tell its colours."""
    kept, exif, pieces, scans, position = [data[:2]], b"", {}, 0, 2
    frame, components, components_at_once, samples = 0, 3, 0, 3.0
    for _ in range(MAX_JPEG_SEGMENTS):
        in_scan = kept[-1][:2] == b"\xff\xda"  # coded pixels follow the header of their scan
        found = (JPEG_SCAN_END if in_scan else JPEG_MARKER).search(data, position)
        end = found.start() if found else len(data)
        if in_scan:
            kept.append(data[position:end])
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
        elif marker == 0xE2 and content[:12] == b"ICC_PROFILE\0" and len(content) > 14:
            pieces.setdefault(content[12], content[14:])  # number and count of the piece precede it
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, components = marker, max(1, content[5])
            factors = [(code >> 4, code & 15) for code in content[7 : 7 + 3 * components : 3]]
            most = max((across for across, _ in factors), default=1) * max(
                (down for _, down in factors), default=1
            )
            samples = sum(across * down for across, down in factors) / max(1, most)  # of a pixel
        elif marker == 0xDA:
            scans += 1
            components_at_once = components_at_once or content[0]
    if marker != 0xD9 or scans > MAX_JPEG_SCANS:
        raise ImageError("This JPEG picture consists of too many pieces.")
    single_pass = frame in (0xC0, 0xC1) and components_at_once == components
    max_pixels = MAX_JPEG_PIXELS if single_pass else MAX_COEFFICIENTS / max(1, samples)
    ending = b"\xff\xd9" if found else b""  # a file that breaks off stays one
    profile = b"".join(pieces[number] for number in sorted(pieces))
    return _Still(b"".join(kept) + ending, max_pixels, exif, profile)


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


def _first_frame(image: WebPImageFile | AvifImagePlugin.AvifImageFile) -> Image.Image:
    """The bytes that libwebp or libavif drew, as a picture: Pillow would hold them three times."""
    if image.format == "WEBP":
        (data, _), mode = image._decoder.get_next(), image.rawmode
    else:
        (data, *_), mode = image._decoder.get_frame(0), image.mode
    image._decoder = None  # with its canvases
    return Image.frombuffer(mode, image.size, data, "raw", mode, 0, 1)


def _avif(data: bytes) -> _Still:
    """Keeps the still picture alone, and counts what its coded frames cost.

    The container may say that a picture is small while its AV1 data holds a huge one, or thousands of hidden
    ones, so that their own headers are read. Boxes keep their places, for others point at them: what is left
    out gets another name. Layout: ISO/IEC 14496-12 and 23008-12.
    """
    if len(data) > MAX_AVIF_BYTES:
        raise ImageError(
            f"This file is larger than {MAX_AVIF_BYTES // 2**20} MB, the most for an AVIF picture."
        )
    file, animated = bytearray(data), False
    try:
        coded = 0
        for name, at, start, end in _boxes(data, 0, len(data), once=(b"meta",)):
            if name == b"ftyp":
                file[start:end] = b"avif" + data[start + 4 : end].replace(b"avis", b"avif")
            elif name == b"moov":  # the frames of an animation
                file[at : at + 4], animated = b"free", True
            elif name == b"meta":
                coded += _avif_items(data, file, start + 4, end)
    except (IndexError, struct.error) as error:
        raise ImageError("This AVIF picture is damaged or incomplete and cannot be read.") from error
    # A second picture of the same size may hold the alpha.
    if coded > 2 * MAX_PIXELS["AVIF"]:
        raise ImageError(
            f"The frames of this AVIF picture have {coded / 1e6:.1f} megapixels: "
            f"they may have at most {int(2 * MAX_PIXELS['AVIF'] / 1e6)}."
        )
    return _Still(bytes(file), MAX_PIXELS["AVIF"], animated=animated)


def _avif_items(data: bytes, file: bytearray, start: int, end: int) -> int:
    """How many pixels the pictures that a meta box lists have together; takes Exif out of `file`."""
    pictures, places, inside = set(), {}, 0
    for name, _, content, stop in _boxes(data, start, end, once=(b"iinf", b"iloc")):
        if name == b"idat":
            inside = content
        elif name == b"iinf":
            skipped = 6 if data[content] == 0 else 8
            for entry, _, at, _ in _boxes(data, content + skipped, stop):
                wide = data[at] > 2
                (number,) = struct.unpack_from(">I" if wide else ">H", data, at + 4)
                kind = at + (10 if wide else 8)
                if entry == b"infe" and data[kind : kind + 4] == b"av01":
                    pictures.add(number)
                elif entry == b"infe" and data[kind : kind + 4] == b"Exif":
                    file[kind : kind + 4] = b"free"  # Pillow would read all of it, see _orientation
        elif name == b"iloc":
            places = _avif_places(data[content:stop])
    streams = [
        [(inside * within + at, size) for within, at, size in places.get(item, ())] for item in pictures
    ]
    pieces = [piece for stream in streams for piece in stream]
    if any(at + size > len(data) for at, size in pieces):
        raise IndexError
    if len(streams) > MAX_AVIF_PICTURES or sum(size for _, size in pieces) > len(data):
        raise ImageError("This AVIF picture consists of too many pieces.")
    return sum(_av1_pixels(b"".join(data[at : at + size] for at, size in pieces)) for pieces in streams)


def _avif_places(data: bytes) -> dict[int, list[tuple[bool, int, int]]]:
    """Item -> its pieces, from what an iloc box holds: whether they lie in the idat box, position and size in
    bytes."""
    position = 6

    def number(size: int) -> int:
        nonlocal position
        if position + size > len(data):
            raise IndexError
        position += size
        return int.from_bytes(data[position - size : position])

    version, sizes = data[0], data[4:6]
    long = 4 if version == 2 else 2
    places, pieces = {}, 0
    for _ in range(number(long)):
        item, within = number(long), version > 0 and number(2) & 15 == 1
        number(2)  # the file that holds it: this one
        base = number(sizes[1] >> 4)
        places[item] = []
        count = number(2)
        pieces += 1 + count  # an item without one costs time, too
        if pieces > MAX_AVIF_BOXES:
            raise ImageError("This AVIF picture consists of too many pieces.")
        for _ in range(count):
            number(sizes[1] & 15 if version else 0)
            places[item].append((within, base + number(sizes[0] >> 4), number(sizes[0] & 15)))
    return places


def _boxes(
    data: bytes, position: int, end: int, once: tuple[bytes, ...] = ()
) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, place of the name, start and end of the content of each box; those in `once`, each of which may
    cost as much as one may, come once."""
    seen = set()
    for _ in range(MAX_AVIF_BOXES):
        if position + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, position + 8), 16
        size = size or end - position  # 0: up to the end
        if size < head or position + size > end:
            raise IndexError
        if name in once and name in seen:
            break
        seen.add(name)
        yield name, position + 4, position + head, position + size
        position += size
    raise ImageError("This AVIF picture consists of too many pieces.")


def _av1_pixels(stream: bytes) -> int:
    """How many pixels the frames in AV1 data have together, hidden ones too (AV1 specification, 5.3)."""
    position = most = coded = 0
    for _ in range(MAX_AV1_UNITS):
        if position >= len(stream):
            return coded
        header = stream[position]
        position += 2 if header & 4 else 1
        size = len(stream) - position
        if header & 2:
            size = 0
            for index in range(8):
                size |= (stream[position] & 127) << 7 * index
                position += 1
                if stream[position - 1] < 128:
                    break
        kind = header >> 3 & 15
        if kind == 1:
            most = max(most, _av1_size(stream[position : position + min(size, 400)]))
        elif kind in (3, 6, 7):  # a frame or the header of one
            coded += most
        position += size
    raise ImageError("This AVIF picture consists of too many pieces.")


def _av1_size(header: bytes) -> int:
    """The most pixels that a frame may have, by the sequence header of AV1 data (5.5)."""
    bits, position = int.from_bytes(header), 8 * len(header)

    def number(width: int) -> int:
        nonlocal position
        position -= width
        if position < 0:
            raise IndexError
        return bits >> position & (1 << width) - 1

    number(4)  # profile, still picture
    reduced = number(1)
    if reduced:
        number(5)
    else:
        if number(1):  # times belong to a video
            raise ImageError("This AVIF picture is coded as a video, which is not accepted.")
        delays = number(1)
        for _ in range(number(5) + 1):
            number(12)
            if number(5) > 7:
                number(1)
            if delays and number(1):
                number(4)
    across, down = number(4) + 1, number(4) + 1
    width, height = number(across) + 1, number(down) + 1
    return width * height if reduced else 2 ** (across + down)  # each frame may state a size of its own


STILLS = {"PNG": _png, "JPEG": _jpeg, "WebP": _webp, "AVIF": _avif, "GIF": _gif, "BMP": _bmp}


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


def _to_small(image: Image.Image) -> tuple[Image.Image, bool]:
    """RGB or CMYK of at most `KEPT_SIDE` on the longer side, and whether anything was transparent.

    Works in strips of about a million pixels: a large picture is never held twice.
    """
    width, height = image.size
    factor = max(1, max(width, height) // KEPT_SIDE)
    rows = factor * max(1, 2**20 // (width * factor))
    canvas = Image.new("CMYK" if image.mode == "CMYK" else "RGB", (-(-width // factor), -(-height // factor)))
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
    """RGB with transparent areas on white, and whether there were any; CMYK as it is."""
    if image.mode == "CMYK":
        return image, False
    if image.mode.startswith("I"):  # 16-bit grey
        values = np.asarray(image).astype(np.int32)
        clear = values == image.info.get("transparency", -1)
        grey = np.where(clear, 255, (values + 128) // 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB"), bool(clear.any())
    if not image.has_transparency_data:
        return image.convert("RGB"), False
    image = image.convert("RGBA")
    alpha, white = image.getchannel("A"), Image.new("RGB", image.size, "white")
    white.paste(image.convert("RGB"), mask=alpha)
    return white, alpha.getextrema()[0] < 255


def _to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, list[str]]:
    """The picture in the colours of sRGB, and a note where that changes it or cannot be done.

    Args:
        image: small, in RGB, CMYK or grey.
        profile: ICC; it counts only if it describes this kind of picture. Multi-process elements, which may
            be as many as fit into the file, are not followed.
    """
    try:
        if not int.from_bytes(profile[:4]) <= len(profile) <= MAX_PROFILE or profile[36:40] != b"acsp":
            raise ValueError
        if SPACES.get(profile[16:20]) != image.mode:
            raise ValueError
        if b"mpet" in profile or profile[12:16] in (b"link", b"abst", b"nmcl"):
            raise ValueError
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        if image.mode == "L":  # so that dark grey is exact, too
            flags |= ImageCms.Flags.GRIDPOINTS(255)
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            image.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags,
        )
        converted = transform.apply(image)
        converted.info = {}
    except Exception:  # a profile may be anything
        return image, ["Its colour profile cannot be used, so the colours may look different."]
    if image.mode != "CMYK":
        change = ImageChops.difference(converted, image.convert("RGB")).getextrema()
        if max(most for _, most in change) <= 2:  # sRGB by another name
            return image, []
    return converted, ["The colours were converted to sRGB, as the colour profile of the picture says."]
