"""What each recorded tensor is on the page: its kind, its scale, its block, and whether it travels whole."""

import re

import numpy as np

from ..inspection.network import Map

MAX_QUERIES = 64  # 8x8
MAX_VALUES = 16_384
MAX_PICTURES = 4_096  # of a map that is one picture for each channel: there are many of those

# What the page draws, by axes; the kinds are those of the sections in texts/words.json.
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
