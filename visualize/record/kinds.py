"""What each recorded tensor is on the page: its kind, its scale, its block, and whether it travels whole."""

import math
import re

from models.recording import dims_of

from ..inspection.network import Map

MAX_QUERIES = 64  # 8x8
MAX_VALUES = 16_384
MAX_PICTURES = 4_096  # of a map that is one picture for each channel: there are many of those

# What the page draws, by axes; the kinds are those of the sections in display.json.
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

ENDS = {(0, 1): "0-1", (1, 2): "1-2"}  # of gates that have two


def stays(shown: Map) -> bool:
    """Whether a map is too large for the record, so that `affinity_row` gives it out."""
    axes, kind = shown.axes.split(), kind_of(shown)
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


def kind_of(shown: Map) -> str:
    """What the page draws of a map; a fixed k x k is a filter, any other relates k things to each other.

    Raises:
        ValueError: axes that nobody has said how to draw.
    """
    if shown.axes not in KINDS:
        raise ValueError(f"There is no kind of map with the axes {shown.axes!r}: give them one in KINDS.")
    return "filters" if shown.static and shown.axes == "k k" else KINDS[shown.axes]


def scale_of(shown: Map) -> str:
    """How the page scales a map, which follows from what the mechanism said of it, never from its values.

    "uniform=1" is for shares, in multiples of an equal one; "signed" for what has no two ends.
    """
    kind = kind_of(shown)
    if kind == "cam":
        return "relative"
    if shown.over:
        return "0-1" if kind in ("branch", "vector") else "uniform=1"
    return ENDS.get(shown.bounds, "signed") if shown.role == "gate" else "signed"


def sharers(shown: Map) -> int:
    """How many numbers of a map share out one: each gets 1 / `sharers` when all get the same.

    On a cross the cell itself stands twice and is counted once.
    """
    count = math.prod(shown.values.shape[axis] for axis in dims_of(shown.axes, shown.over))
    return count - 1 if kind_of(shown) == "cross" else count
