"""The page's record: everything that one comparison shows, as one dictionary that JSON can hold.

    record = compare_record(picture, ["plain", "se"], target="predicted", cam="GradCAM")
    decode(record["mechanisms"][1]["maps"][0])               # the numbers again

    {"version": 1, "classes": [10 names], "image": base64 of 32x32 RGB, "target": "predicted" or a class,
     "cam": method,
     "mechanisms": [{"key", "name", "family", "probabilities": [10], "parameters",
                     "accuracy": {"value", "low", "high", "recipe"}, "strength": {"stage2": |y - x| / |x|},
                     "note": a sentence or None,
                     "maps": [{"path", "block", "kind", "axes", "shape", "data", "lo", "hi", "scale",
                               "static"}]}],
     "unavailable": [{"key", "name", "reason"}]}

A map's `data` is base64 of little-endian uint16, 0 for `lo` and 65535 for `hi`. Two kinds of maps stay on the
server, with `data` "", and `affinity_row` gives them out: maps of more than 64 queries, one query at a time,
and maps of more than 16,384 values. CAMs also have `raw`, their range before they were stretched to 0..1.
"""

import base64
import binascii
import math
import re
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

import numpy as np
import torch
from PIL import Image

from models import CATALOGUE, CLASSES, CheckpointError, load
from models.checkpoint import read_facts

from .cam import METHODS
from .cards import accuracy, networks, parameters
from .inspection import Inspection, Map, NotFiniteError, inspect

LEVELS = 65535
MAX_QUERIES = 64  # 8x8
MAX_VALUES = 16_384
CACHE_BYTES = 64 * 2**20

# What the page draws, by axes: a picture, bars, a matrix, or a picture for the clicked place.
KINDS = {
    "h w": "cam",
    "1 h w": "spatial",
    "c h w": "volume",
    "k h w": "maps",
    "g h w": "maps",
    "c 1 1": "channel",
    "c": "channel",
    "k": "vector",
    "branch c 1 1": "branch",
    "q h w": "pairwise",
    "head q h w": "pairwise",
    "g k h w": "footprint",
    "h w cross": "cross",
    "q k": "matrix",
    "head q k": "matrix",
    "c c": "matrix",
    "c h 1": "profile",
    "c 1 w": "profile",
    "c w": "profile",
    "h c": "profile",
    "1 c w": "profile",
    "1 h c": "profile",
    "2 3": "affine",
}


class RequestError(ValueError):
    """The request makes no sense; the message is one sentence for whoever sent it."""


def compare_record(
    image: Image.Image, mechanisms: list[str], target: str = "predicted", cam: str = "GradCAM"
) -> dict:
    """The record of some networks on one picture.

    Args:
        image: 32x32, RGB.
        mechanisms: ids in `CATALOGUE` that make networks; the columns keep their order.
        target: `"predicted"`, for each network's own first choice, or one of `CLASSES`.
        cam: one of `cam.METHODS`.

    Raises:
        RequestError: any other argument.
    """
    *_, record = stream_record(image, mechanisms, target, cam)
    return record


def stream_record(
    image: Image.Image, mechanisms: list[str], target: str = "predicted", cam: str = "GradCAM"
) -> Iterator[dict]:
    """Like `compare_record`, as it grows: one record per mechanism, each with one more column than the last.

    The arguments are checked at once, before the first record is asked for.
    """
    check_image(image)
    check_mechanisms(mechanisms)
    check_choice(target, ("predicted", *CLASSES), "class to explain")
    check_choice(cam, METHODS, "CAM method")
    return _stream(image, mechanisms, target, cam)


def _stream(image: Image.Image, mechanisms: list[str], target: str, cam: str) -> Iterator[dict]:
    columns, unavailable = [], []
    start = {
        "version": 1,
        "classes": list(CLASSES),
        "image": base64.b64encode(image.tobytes()).decode(),
        "target": target,
        "cam": cam,
    }
    for name in mechanisms:
        try:
            columns.append(column(name, image, target, cam))
        except (CheckpointError, NotFiniteError) as error:
            unavailable.append({"key": name, "name": CATALOGUE[name].title, "reason": str(error)})
        yield {**start, "mechanisms": list(columns), "unavailable": list(unavailable)}


def column(name: str, image: Image.Image, target: str = "predicted", cam: str = "GradCAM") -> dict:
    """What the record says of one network.

    Raises:
        CheckpointError: its checkpoint cannot be used.
        NotFiniteError: it gives no finite numbers.
    """
    facts = read_facts(name)
    seen, note = look(name, image, None if target == "predicted" else CLASSES.index(target), cam)
    if len(seen.probabilities) != len(CLASSES):
        raise CheckpointError(f"The weights of {name} were trained for other classes.")
    _held.put((image.tobytes(), name), {path: shown for path, shown in seen.maps.items() if stays(shown)})
    return {
        "key": name,
        "name": CATALOGUE[name].title,
        "family": CATALOGUE[name].family,
        "probabilities": [round(float(share), 6) for share in seen.probabilities],
        "accuracy": accuracy(facts),
        "parameters": parameters(name),
        "strength": {stage: round(value, 5) for stage, value in seen.strength.items()},
        "note": note,
        "maps": [
            *(pack_cam(block, values, seen.cam_ranges[block]) for block, values in seen.cams.items()),
            *(pack_map(path, shown) for path, shown in seen.maps.items()),
        ],
    }


def look(
    name: str, image: Image.Image, target: int | None, cam: str = "GradCAM", stage: str = "layer1.0"
) -> tuple[Inspection, str | None]:
    """Inspects a stored network on the GPU if there is one, and else, or when its memory is full, on the CPU.

    Returns:
        the inspection, and a sentence for the visitor where there is something to say.
    """
    if torch.cuda.is_available():
        try:
            return inspect(load(name, "cuda"), image, target, cam, stage), None
        except torch.cuda.OutOfMemoryError:
            note = "The GPU's memory was full, so this one was computed on the CPU."
            return inspect(load(name, "cpu"), image, target, cam, stage), note
    return inspect(load(name, "cpu"), image, target, cam, stage), None


def affinity_row(image: Image.Image, name: str, path: str, query: int | None = None) -> dict:
    """A part of a map that stayed on the server: {"data", "lo", "hi", "shape"}, as `decode` reads it.

    Args:
        image: the picture, 32x32, RGB (`picture_of(record)`).
        name: id of the mechanism.
        path: of a map of this record whose `data` is "".
        query: index on the axis `q`, or the row of a channel matrix; None for the whole map where it has no
            queries.

    Returns:
        the map without that axis: `q h w` gives (h, w), `head q h w` gives (head, h, w), `c c` gives (c,).
        The values are as recorded: softmax rows sum to one.

    Raises:
        RequestError: no such picture, mechanism, map or query.
        CheckpointError, NotFiniteError: as for a column.
    """
    check_image(image)
    check_mechanisms([name])
    maps = _held.get((image.tobytes(), name))
    if maps is None:
        seen, _ = look(name, image, None, stage="layer4.1")
        maps = {path: shown for path, shown in seen.maps.items() if stays(shown)}
        _held.put((image.tobytes(), name), maps)
    if not isinstance(path, str) or path not in maps:
        raise RequestError("The server holds no such map of this mechanism.")
    axes, values = maps[path].axes.split(), maps[path].values
    axis = axes.index("q") if "q" in axes else 0
    if query is None and "q" not in axes:
        return pack(values)
    if isinstance(query, bool) or not isinstance(query, int) or not 0 <= query < values.shape[axis]:
        raise RequestError(f"The query must be a whole number from 0 to {values.shape[axis] - 1}.")
    return pack(values.take(query, axis))


def pack_cam(block: str, values: np.ndarray, raw: tuple[float, float]) -> dict:
    return pack_map(f"{block}.cam", Map("h w", values, static=False)) | {"raw": list(raw)}


def pack_map(path: str, shown: Map) -> dict:
    """One entry of a column's `maps`."""
    packed = pack(shown.values, empty=stays(shown))
    return {
        "path": path,
        "block": block_of(path),
        "kind": KINDS.get(shown.axes, "other"),
        "axes": shown.axes,
        **packed,
        "scale": scale_of(path, shown.axes, packed["lo"], packed["hi"]),
        "static": shown.static,
    }


def stays(shown: Map) -> bool:
    """Whether a map is too large for the record, so that `affinity_row` gives it out."""
    axes = shown.axes.split()
    queries = shown.values.shape[axes.index("q")] if "q" in axes else 0
    return queries > MAX_QUERIES or shown.values.size > MAX_VALUES


def block_of(path: str) -> str:
    """The block that a map belongs to; for a module between stages the one whose output it follows."""
    if found := re.match(r"layer\d\.\d", path):
        return found[0]
    if found := re.match(r"stage(\d)", path):
        return f"layer{found[1]}.1"
    return "layer4.1" if path.startswith("head") else "layer1.0"  # the input and the stem come before it


def scale_of(path: str, axes: str, low: float, high: float) -> str:
    """How the page scales a map of this name and range: the same kind alike, whatever the mechanism."""
    name = path.rsplit(".", 1)[-1]
    if axes == "h w":
        return "relative"
    if name.startswith(("affinity", "position")) or axes == "c c":
        return "uniform=1" if low >= 0 else "signed"  # an affinity without softmax has both signs
    if name.endswith(("gate", "mask")) and low >= 0 and high <= 1:
        return "0-1"
    if name.endswith("gate") and low >= 1 and high <= 2:
        return "1-2"
    if name == "weights" and axes in ("branch c 1 1", "k"):
        return "0-1"
    return "signed"


def pack(values: np.ndarray, empty: bool = False) -> dict:
    """An array in 65,536 steps between its lowest and its highest value; `empty`: shape and range alone.

    Raises:
        NotFiniteError: NaN or infinity in it.
    """
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):
        raise NotFiniteError("The network gives no finite numbers for this picture.")
    data = ""
    if not empty:
        steps = (values.astype(np.float64) - low) / ((high - low) or 1.0) * LEVELS
        data = base64.b64encode(steps.round().astype("<u2").tobytes()).decode()
    return {"shape": list(values.shape), "data": data, "lo": low, "hi": high}


def decode(packed: dict) -> np.ndarray:
    """float32 values of a map of the record, or of what `affinity_row` returned.

    Raises:
        ValueError: the map stayed on the server.
    """
    if not packed["data"]:
        raise ValueError(f"{packed.get('path', 'this map')} stayed on the server: ask affinity_row for it")
    steps = np.frombuffer(base64.b64decode(packed["data"]), "<u2").reshape(packed["shape"])
    return (packed["lo"] + steps / LEVELS * (packed["hi"] - packed["lo"])).astype(np.float32)


def picture_of(record: dict) -> Image.Image:
    """The picture of a record, which may come back from anybody's browser.

    Raises:
        RequestError: it holds no picture.
    """
    text = record.get("image") if isinstance(record, dict) else None
    try:
        if isinstance(text, str) and len(text) == 4096:  # base64 of 3,072 bytes
            return Image.frombytes("RGB", (32, 32), base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):  # not base64, not ASCII, or padded to fewer bytes
        pass
    raise RequestError("The record holds no picture of 32 x 32 pixels.")


def check_image(image: object) -> None:
    if not isinstance(image, Image.Image) or image.size != (32, 32) or image.mode != "RGB":
        raise RequestError("Choose a picture first: the networks look at 32 x 32 pixels in RGB.")


def check_mechanisms(names: object) -> None:
    """A list of ids of networks, without repeats.

    Raises:
        RequestError: anything else.
    """
    known = networks()
    if not isinstance(names, list | tuple):
        raise RequestError("The mechanisms must be a list of ids, such as plain and se.")
    if not names:
        raise RequestError("Choose at least one mechanism.")
    if len(names) > len(known):
        raise RequestError(f"Choose at most {len(known)} mechanisms, each once.")
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise RequestError(f"There is no mechanism {shown_safely(name)}: choose from {', '.join(known)}.")
    if len(set(names)) < len(names):
        raise RequestError("Each mechanism may be chosen once.")


def check_choice(value: object, choices: tuple[str, ...], what: str) -> None:
    if not isinstance(value, str) or value not in choices:
        raise RequestError(f"There is no {what} {shown_safely(value)}: choose from {', '.join(choices)}.")


def shown_safely(value: object) -> str:
    """A request's value as a page may print it: short plain words in quotes, anything else described."""
    if isinstance(value, str) and re.fullmatch(r"[\w .+-]{1,40}", value, re.ASCII):
        return f'"{value}"'
    return "of this kind"


class _Cache:
    """The maps that stayed on the server, of the networks and pictures used last, within so many bytes."""

    def __init__(self, most: int):
        self.most, self.size = most, 0
        self.entries: OrderedDict[tuple[bytes, str], dict[str, Map]] = OrderedDict()
        self.lock = Lock()

    def get(self, key: tuple[bytes, str]) -> dict[str, Map] | None:
        with self.lock:
            if key in self.entries:
                self.entries.move_to_end(key)
            return self.entries.get(key)

    def put(self, key: tuple[bytes, str], maps: dict[str, Map]) -> None:
        with self.lock:
            if key in self.entries:
                return
            self.entries[key] = maps
            self.size += weight(key, maps)
            while self.size > self.most:
                self.size -= weight(*self.entries.popitem(last=False))


def weight(key: tuple[bytes, str], maps: dict[str, Map]) -> int:
    """Bytes that an entry of the cache takes, about."""
    return len(key[0]) + sum(shown.values.nbytes for shown in maps.values())


_held = _Cache(CACHE_BYTES)
