"""The page's record: everything that one comparison shows, as one dictionary that JSON can hold.

    record = compare_record(picture, ["plain", "se"], target="predicted", cam="GradCAM")
    decode(record["mechanisms"][1]["maps"][0])               # the numbers again

    {"version": 1, "classes": [10 names], "image": base64 of 32x32 RGB, "target": "predicted" or a class,
     "cam": method,
     "mechanisms": [{"key", "name", "family", "probabilities": [10], "parameters",
                     "accuracy": {"value", "low", "high", "recipe"}, "random": untrained, a stand-in,
                     "strength": {"stage2": |y - x| / |x|}, "note": a sentence or None,
                     "unusual": finds less in the picture than in most test images, None if nobody measured,
                     "maps": [{"path", "block", "kind", "axes", "shape", "data", "lo", "hi", "scale",
                               "static"}]}],
     "unavailable": [{"key", "name", "reason"}],
     "unlike": a sentence where most networks find the picture unusual, else None}

A map's `data` is base64 of little-endian uint16, 0 for `lo` and 65535 for `hi`. Large maps stay on the
server, with `data` "", and `affinity_row` gives them out: maps of more than 64 queries, one query at a time,
windows and branches, pictures of more than 4,096 values, and other maps of more than 16,384. CAMs also have
`raw`, their range before they were stretched to 0..1.
"""

import base64
import binascii
import math
import re
from collections import OrderedDict
from collections.abc import Iterator
from difflib import get_close_matches
from threading import Lock

import numpy as np
import torch
from PIL import Image

from models import CATALOGUE, CLASSES, CheckpointError, load
from models.checkpoint import read_facts

from .cam import METHODS
from .cards import accuracy, is_trained, networks, parameters
from .inspection import Inspection, Map, NotFiniteError, inspect
from .typical import is_unusual, sentence
from .untrained import untrained

try:
    from spaces import GPU  # a Space that lends its GPU for one call at a time
except ImportError:

    def GPU(function):
        return function


LEVELS = 65535
MAX_QUERIES = 64  # 8x8
MAX_VALUES = 16_384
MAX_PICTURES = 4_096  # of a map that is one picture for each channel: there are many of those
CACHE_BYTES = 64 * 2**20

# What the page draws, by axes; the kinds are those of the sections in assets/words.json.
KINDS = {
    "h w": "cam",
    "1 h w": "spatial",  # one picture
    "c h w": "volume",  # the mean picture, and one for each channel
    "c k": "volume",  # the same: k counts the cells of a small square, row by row
    "k h w": "maps",  # one picture for each map
    "g h w": "maps",
    "branch c h w": "views",  # one picture for each branch
    "branch k h w": "views",
    "c h 1": "profile",  # bands across the picture
    "c 1 w": "profile",
    "1 c w": "profile",
    "1 h c": "profile",
    "q h w": "pairwise",  # a picture for the marked place
    "head q h w": "pairwise",
    "h w cross": "cross",
    "g k h w": "footprint",
    "q k": "keys",  # bars for the marked place
    "c 1 1": "channel",  # a sorted curve
    "k 1 1": "channel",
    "c": "channel",
    "branch c 1 1": "branch",
    "k": "vector",  # bars
    "c c": "matrix",
    "k k": "matrix",
    "head k": "table",
    "g k k": "filters",
    "2 3": "affine",
    "h w 2": "grid",  # lines over the picture
}
PICTURES = ("volume", "maps", "filters")
BY_PART = ("views", "footprint")  # only parts of them are drawn

# Softmax weights by local name. They sum to one over a map's cells or the last axis, those of OVER_K over k.
SHARES = re.compile(
    "affinity.*|position|channel|edges|context_mask|subspace_map|regions|gather|key_maps"
    "|distribute|query_weights|pixel_region|weights"
)
OVER_K = ("distribute", "query_weights", "pixel_region")
GATES = re.compile(r".*(gate\d?|mask)|parts")
OPEN_GATES = re.compile(r".*\brendering\..*\.gate")  # a ReLU, which may happen to stay below one


class RequestError(ValueError):
    """The request makes no sense; the message is one sentence for whoever sent it."""


def compare_record(
    image: Image.Image,
    mechanisms: list[str],
    target: str = "predicted",
    cam: str = "GradCAM",
    random_weights: bool = False,
) -> dict:
    """The record of some networks on one picture.

    Args:
        image: 32x32, RGB.
        mechanisms: ids in `CATALOGUE` that make networks; the columns keep their order.
        target: `"predicted"`, for each network's own first choice, or one of `CLASSES`.
        cam: one of `cam.METHODS`.
        random_weights: whether a network without a checkpoint is shown as it starts, and labelled so, or left
            out as unavailable.

    Raises:
        RequestError: any other argument.
    """
    *_, record = stream_record(image, mechanisms, target, cam, random_weights)
    return record


def stream_record(
    image: Image.Image,
    mechanisms: list[str],
    target: str = "predicted",
    cam: str = "GradCAM",
    random_weights: bool = False,
    on_gpu: bool = True,
) -> Iterator[dict]:
    """Like `compare_record`, as it grows: one record per mechanism, each with one more column than the last.

    The arguments are checked at once, before the first record is asked for. `on_gpu`: use a GPU if there is.
    """
    check_request(image, mechanisms, target, cam)
    return _stream(image, mechanisms, target, cam, random_weights, on_gpu)


def _stream(
    image: Image.Image, mechanisms: list[str], target: str, cam: str, random_weights: bool, on_gpu: bool
) -> Iterator[dict]:
    columns, unavailable = [], []
    start = {
        "version": 1,
        "classes": list(CLASSES),
        "image": base64.b64encode(image.tobytes()).decode(),
        "target": target,
        "cam": cam,
    }
    for done, name in enumerate(mechanisms, start=1):
        try:
            columns.append(column(name, image, target, cam, random_weights, on_gpu))
        except (CheckpointError, NotFiniteError) as error:
            unavailable.append({"key": name, "name": CATALOGUE[name].title, "reason": str(error)})
        unlike = sentence([shown["unusual"] for shown in columns], pending=len(mechanisms) - done)
        grown = {"mechanisms": list(columns), "unavailable": list(unavailable), "unlike": unlike}
        yield start | grown


def column(
    name: str,
    image: Image.Image,
    target: str = "predicted",
    cam: str = "GradCAM",
    random_weights: bool = False,
    on_gpu: bool = True,
) -> dict:
    """What the record says of one network; `random` says that nobody trained it.

    Raises:
        CheckpointError, NotFiniteError: as for `look`.
    """
    seen, facts, note = look(name, image, target, cam, random_weights=random_weights, on_gpu=on_gpu)
    _held.put((image.tobytes(), name), {path: shown for path, shown in seen.maps.items() if stays(shown)})
    return {
        "key": name,
        "name": CATALOGUE[name].title,
        "family": CATALOGUE[name].family,
        "probabilities": [round(float(share), 6) for share in seen.probabilities],
        "random": not facts,
        "accuracy": accuracy(facts),
        "parameters": parameters(name),
        "strength": {stage: round(value, 5) for stage, value in seen.strength.items()},
        "note": note,
        "unusual": is_unusual(seen.evidence, facts.get("sha256"), name),
        "maps": [
            *(pack_cam(block, values, seen.cam_ranges[block]) for block, values in seen.cams.items()),
            *(pack_map(path, shown) for path, shown in seen.maps.items()),
        ],
    }


def look(
    name: str,
    image: Image.Image,
    target: str = "predicted",
    cam: str = "GradCAM",
    stage: str = "layer1.0",
    random_weights: bool = False,
    on_gpu: bool = True,
) -> tuple[Inspection, dict, str | None]:
    """Inspects a network on the GPU if there is one, and else, or when its memory is full, on the CPU.

    Returns:
        the inspection; the facts of the checkpoint, {} for a network without one, which has random weights
        and stays on the CPU; and a sentence for the visitor where there is something to say.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        NotFiniteError: the network gives no finite numbers.
    """
    index, seen, note = None if target == "predicted" else CLASSES.index(target), None, None
    try:
        facts = read_facts(name)
    except CheckpointError:
        if not random_weights or is_trained(name):  # a broken checkpoint is no reason for random weights
            raise
        facts = {}
    if facts and on_gpu and torch.cuda.is_available():
        try:
            seen = inspect_on_gpu(name, image, index, cam, stage)
        except torch.cuda.OutOfMemoryError:
            note = "The GPU's memory was full, so this one was computed on the CPU."
    if seen is None:
        seen = inspect(load(name, "cpu") if facts else untrained(name), image, index, cam, stage)
    if len(seen.probabilities) != len(CLASSES):
        raise CheckpointError(f"The weights of {name} were trained for other classes.")
    return seen, facts, note


@GPU
def inspect_on_gpu(name: str, image: Image.Image, target: int | None, cam: str, stage: str) -> Inspection:
    return inspect(load(name, "cuda"), image, target, cam, stage)


def affinity_row(image: Image.Image, name: str, path: str, query: int | str | None = None) -> dict:
    """A part of a map that stayed on the server: {"data", "lo", "hi", "shape"}, as `decode` reads it.

    Args:
        image: the picture, 32x32, RGB (`picture_of(record)`).
        name: id of the mechanism.
        path: of a map of this record whose `data` is "".
        query: index on the axis `q`, of a place (row by row) where windows lie, or of the row of a channel
            matrix; "mean" for the mean size of what each branch gives; None for a whole map without queries.

    Returns:
        the map without that axis: `q h w` gives (h, w), `head q h w` gives (head, h, w), `c c` gives (c,),
        `g k h w` gives (g, k); "mean" of `branch c h w` gives (branch, h, w).
        The values are as recorded: softmax rows sum to one.

    Raises:
        RequestError: no such picture, mechanism, map or query.
        CheckpointError, NotFiniteError: as for a column.
    """
    check_image(image)
    check_mechanisms([name])
    maps = _held.get((image.tobytes(), name))
    if maps is None:
        seen, *_ = look(name, image, stage="layer4.1", random_weights=True)
        maps = {path: shown for path, shown in seen.maps.items() if stays(shown)}
        _held.put((image.tobytes(), name), maps)
    if not isinstance(path, str) or path not in maps:
        raise RequestError("The server holds no such map of this mechanism.")
    axes, values = maps[path].axes.split(), maps[path].values
    if query is None and "q" not in axes:
        return pack(values)
    if query == "mean" and axes[0] == "branch":
        return pack(np.abs(values).mean(1))
    if axes == ["g", "k", "h", "w"]:
        axes, values = ["g", "k", "q"], values.reshape(*values.shape[:2], -1)
    axis = axes.index("q") if "q" in axes else 0
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
        "kind": kind_of(shown.axes, shown.static),
        "axes": shown.axes,
        **packed,
        "scale": scale_of(path, shown.axes, shown.values),
        "static": shown.static,
    }


def stays(shown: Map) -> bool:
    """Whether a map is too large for the record, so that `affinity_row` gives it out."""
    axes, kind = shown.axes.split(), kind_of(shown.axes, shown.static)
    queries = shown.values.shape[axes.index("q")] if "q" in axes else 0
    most = MAX_PICTURES if kind in PICTURES else MAX_VALUES
    return kind in BY_PART or queries > MAX_QUERIES or shown.values.size > most


def block_of(path: str) -> str:
    """The block that a map belongs to; for a module between stages the one whose output it follows."""
    if found := re.match(r"layer\d\.\d", path):
        return found[0]
    if found := re.match(r"stage(\d)", path):
        return f"layer{found[1]}.1"
    return "layer4.1" if path.startswith("head") else "layer1.0"  # the input and the stem come before it


def kind_of(axes: str, static: bool) -> str:
    """What the page draws of a map; a fixed k x k is a filter, any other relates k things to each other."""
    return "filters" if static and axes == "k k" else KINDS.get(axes, "other")


def scale_of(path: str, axes: str, values: np.ndarray) -> str:
    """How the page scales a map of this name: the same kind alike, whatever the mechanism.

    "uniform=1" is for weights that do sum to one, as not every affinity does; "signed" for what has no end.
    """
    name, low, high = path.rsplit(".", 1)[-1], values.min(), values.max()
    if axes == "h w":
        return "relative"
    if name == "weights" and axes in ("branch c 1 1", "k"):
        return "0-1"
    if SHARES.fullmatch(name) and low >= 0 and np.allclose(shares(name, axes, values), 1, atol=1e-3):
        return "uniform=1"
    if GATES.fullmatch(name) and not OPEN_GATES.fullmatch(path) and low >= 0 and high <= 2:
        return "0-1" if high <= 1 else "1-2" if low >= 1 else "signed"
    return "signed"


def shares(name: str, axes: str, values: np.ndarray) -> np.ndarray:
    """The sums that are all one where a map holds shares: one for each query, map, place or channel."""
    letters = axes.split()
    if name in OVER_K or axes in ("q k", "g k h w"):
        return values.sum(letters.index("k"))
    return values.sum((-2, -1) if letters[-2:] == ["h", "w"] else -1)


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


def check_request(image: object, mechanisms: object, target: object, cam: object) -> None:
    """What a comparison is asked for.

    Raises:
        RequestError: one of the arguments makes no sense.
    """
    check_image(image)
    check_mechanisms(mechanisms)
    check_choice(target, ("predicted", *CLASSES), "class to explain")
    check_choice(cam, METHODS, "CAM method")


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
            near = get_close_matches(str(name)[:40], known) or ["plain", "se"]
            raise RequestError(f"There is no mechanism {shown_safely(name)}: try {' or '.join(near)}.")
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
