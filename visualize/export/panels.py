"""What a comparison shows at a block or a site: which maps, which part of each, and on which scale.

A map may hold far more than a picture can show, such as what each place reads from all others. `maps_of`
takes the part that is drawn, with shares as multiples of an equal one, and `scale` sets the values at the two
ends of its colours. Nothing here draws. The page does the same in page/record.js and page/draw.js.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from models.catalogue import BLOCKS

from ..inspection.network import Map
from ..record.kinds import block_of, kind_of, scale_of, sharers
from ..record.view import View
from ..texts import words
from .column import Column, all_maps

FIXED = {  # scale -> the values at its ends, and what is written beside them
    "0-1": ((0.0, 1.0), ("0", "1")),
    "1-2": ((1.0, 2.0), ("1", "2")),
    "relative": ((0.0, 1.0), ("least", "most")),
    "uniform=1": ((1 / 16, 16.0), ("¹⁄₁₆×", "16×")),
}
ALWAYS_FIXED = ("branch", "vector", "keys")  # kinds that are read from a base line
LEAST_SHARE = 1 / 256  # of an equal share: where logarithmic scales begin at the latest
FLAT = 1e-4  # a map that varies by less than this part of its most is the same everywhere
TILES = 6  # shown of a map that is several pictures; of more pictures, the strongest four


class Section(NamedTuple):
    """A row of the figure: the kinds of its maps, as in record/kinds.py; `sited`: read at the view's site."""

    kinds: tuple[str, ...]
    title: str
    text: str
    sited: bool


@dataclass(eq=False)
class Shown:
    """A map as a comparison shows it.

    Args:
        values: what is drawn: of a pairwise map what the marked place reads; NaN where there is no number.
        scale: as `kinds.scale_of` says.
        ends, end_words: of the colours, or of a curve's axis.
        others: the same of other networks on the same scale, to be drawn behind a curve.
        said: lines of words to stand below.
    """

    column: Column
    path: str
    map: Map
    section: Section
    kind: str
    values: np.ndarray
    scale: str
    ends: tuple[float, float] = (0.0, 1.0)
    end_words: tuple[str, ...] = ("", "")
    others: list[np.ndarray] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.column.key}/{self.path}"


def sections(cam: str = "") -> list[Section]:
    """In the order of the page; the section of the CAMs has the method's name."""
    return [
        Section(tuple(entry["kinds"]), said["title"].format(cam=cam), said["text"], entry.get("sites", False))
        for entry in words()["sections"]
        if (said := entry.get("figure"))
    ]


# ---- which maps, and which part of them


def maps_of(column: Column, section: Section, place: str | None, view: View) -> list[Shown]:
    """The maps of a section at a block, and those that exist only once, such as a map of the head."""
    maps = {path: found for path, found in all_maps(column.seen).items() if kind_of(found) in section.kinds}
    same, shown = Counter(map(local, maps)), []
    for path, found in maps.items():
        if same[local(path)] == 1 or block_of(path) == place:
            kind, scale = kind_of(found), scale_of(found)
            values = part_of(found, kind, view)
            if scale == "uniform=1":
                values = values * sharers(found)
            shown.append(Shown(column, path, found, section, kind, values, scale))
    return shown


def local(path: str) -> str:
    """The same for a mechanism's map in every block: `refine.gate`, `affinity`."""
    found = re.match(r"(layer\d\.\d|stage\d|head|input)\.(.*)", path)
    return found[2] if found else f"stem.{path}"


def part_of(found: Map, kind: str, view: View) -> np.ndarray:
    """The part of a map that is drawn, all of it for most kinds."""
    axes, values = found.axes.split(), found.values
    if kind == "spatial":  # (h, w)
        return values[0]
    if kind == "views":  # (branch, h, w)
        return np.abs(values).mean(1)
    if kind not in ("pairwise", "keys", "cross", "footprint"):
        return values
    x, y, side = query_of(found, view)
    if kind == "footprint":  # (g, k)
        return values[:, :, y, x]
    if kind == "cross":  # a query's record is its column, then its row: (h, w), NaN off the cross
        read, values = values[y, x], np.full((side, side), np.nan, np.float32)
        values[:, x], values[y, :] = read[:side], read[side:]
        return values
    values = values.take(y * side + x, axes.index("q"))
    if axes[0] == "head":  # (head, h, w)
        values = values.mean(0) if view.head == "mean" else values[min(view.head, len(values) - 1)]
    return values


def query_of(found: Map, view: View) -> tuple[int, int, int]:
    """Column and row of the marked place among the queries, and how many of them there are to a side."""
    axes, shape = found.axes.split(), found.values.shape
    side = round(shape[axes.index("q")] ** 0.5) if "q" in axes else shape[axes.index("h")]
    x, y = (at * side // 32 for at in view.query)
    return x, y, side


def site_of(columns: list[Column], view: View) -> str | None:
    """The view's site if some network has a pairwise map or a channel matrix there, else the deepest one."""
    kinds = [kind for section in sections() if section.sited for kind in section.kinds]
    maps = [item for column in columns for item in column.seen.maps.items()]
    blocks = {block_of(path) for path, found in maps if kind_of(found) in kinds}
    return view.site if view.site in blocks else max(blocks, key=BLOCKS.index, default=None)


def tiles(shown: Shown) -> list[tuple[str, np.ndarray]]:
    """The pictures (h, w) that are shown of a map that is several, each with its name."""
    values, axes = shown.values, shown.map.axes
    if axes in ("c k", "g k h w"):
        side = round(values.shape[1] ** 0.5)
        values = values.reshape(-1, side, side)
    elif axes == "1 c w":
        values = values.transpose(1, 0, 2)
    elif axes == "1 h c":
        values = values.transpose(2, 1, 0)
    order = np.argsort(-np.abs(values).sum((1, 2)), kind="stable")  # the strongest first
    if shown.kind in ("volume", "profile"):
        return [("mean", values.mean(0)), *((f"channel {i}", values[i]) for i in order[:3])]
    what = "map" if axes[0] == "k" else "group"
    names = branch_names(shown) if shown.kind == "views" else [f"{what} {i + 1}" for i in range(len(values))]
    return [(names[i], values[i]) for i in (range(len(values)) if len(values) <= TILES else order[:4])]


def branch_names(shown: Shown) -> list[str]:
    numbered = [f"branch {i + 1}" for i in range(len(shown.values))]
    return words()["branches"].get(shown.column.key, numbered)


# ---- scales


def scale(section: list[Shown], view: View) -> None:
    """Sets the ends of the colours of all maps of a section, and the curves behind the curves."""
    for shown in section:
        mode = "fixed" if shown.kind in ALWAYS_FIXED or shown.scale == "relative" else view.scale
        if mode == "fixed" and shown.scale in FIXED:
            shown.ends, shown.end_words = FIXED[shown.scale]
        else:
            alike = [other for other in section if other.scale == shown.scale]
            shown.ends = ends_of(alike if mode == "shared" else [shown], shown)
            shown.end_words = tuple(times(shown, end) for end in shown.ends)
    for shown in section:
        alike = [other for other in section if (other.scale, other.ends) == (shown.scale, shown.ends)]
        shown.others = [other.values for other in alike if other is not shown]


def ends_of(maps: list[Shown], shown: Shown) -> tuple[float, float]:
    """The least and the most of some maps; with a sign as far below zero as above, for zero has a colour."""
    low = min(float(np.nanmin(other.values)) for other in maps)
    high = max(float(np.nanmax(other.values)) for other in maps)
    if shown.scale == "signed":
        high = max(-low, high) or 1.0
        return (0.0 if shown.kind == "views" else -high), high  # views are sizes
    if shown.scale == "uniform=1":
        low = max(low, LEAST_SHARE)
    if high - low <= FLAT * max(1e-9, high):  # or rounding would look like structure
        around = 0.05 * max(1e-9, high)
        low, high = low - around, high + around
    return low, high


def times(shown: Shown, x: float) -> str:
    return number(x) + ("×" if shown.scale == "uniform=1" else "")


def number(x: float) -> str:
    size = abs(x)
    if size >= 0.095 or size == 0:
        text = f"{x:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
    else:
        text = f"{x:.3f}" if size >= 0.00095 else re.sub(r"e-0?", "e-", f"{x:.0e}")
    return text.replace("-", "−")
