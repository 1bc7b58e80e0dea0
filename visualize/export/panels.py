"""What a comparison shows at a block: which maps, which part of each, on which scale, and what is said.

    for row in panels(columns, View(block="layer2.1"), cam="GradCAM"):
        row.section.title                        # "Channel weights"
        row.cells["se"]                          # [Panel] or Absent: why there is none

A map may hold far more than a picture can show, such as what each place reads from all others: a panel holds
the part that is drawn, with shares as multiples of an equal one. How is said by record/display.json;
page/maps/record.js does the same in the browser, and tests/test_description.py draws every kind through both.
Nothing here draws.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from math import log
from typing import NamedTuple

import numpy as np

from models import CATALOGUE, CLASSES
from models.catalogue import BLOCKS

from ..inspection.network import Map
from ..record.display import description, number, percent
from ..record.kinds import block_of, kind_of, scale_of, sharers
from ..record.view import View
from .column import Column, all_maps


class Section(NamedTuple):
    """A row of the figure.

    Args:
        kind, kinds: its name, and the kinds of its maps, as in record/kinds.py.
        title, text: its words; those of the CAMs hold the method.
        absent, means: what is said under a network that has no such map.
        pairwise: read at the pairwise block, not at the block that was chosen.
    """

    kind: str
    kinds: tuple[str, ...]
    title: str
    text: str
    absent: str
    means: str
    pairwise: bool


class Absent(NamedTuple):
    """Why a network has no panel in a row, and the blocks at which it has one."""

    none: str
    at: list[str]


@dataclass(eq=False)
class Panel:
    """One map as a comparison shows it.

    Args:
        values: what is drawn: of a pairwise map what the marked place reads; NaN where there is no number.
        scale: as record/kinds.py says.
        ends, end_words: of the colours, or of a curve's axis.
        base: where bars begin: zero, or an equal share.
        flat: the whole map would have one colour, and gets exactly one.
        others: the values of other networks on the same scale, drawn in grey behind a curve.
        said: lines of words to stand below.
        brief: those of them that a slide needs, where colours and answers are seen beside them.
    """

    column: Column
    section: Section
    tensor: str
    map: Map
    kind: str
    scale: str
    values: np.ndarray
    ends: tuple[float, float] = (0.0, 1.0)
    end_words: tuple[str, str] = ("", "")
    base: float = 0.0
    flat: bool = False
    others: list[np.ndarray] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    brief: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.column.key}/{self.tensor}"

    @property
    def drawn(self) -> str:
        """`places`, `tiles`, `matrix`, `curve`, `areas`, `bars` or `grid`."""
        window = self.kind == "filters" and self.values.ndim == 2
        return "matrix" if window else description()["kinds"][self.kind]["drawn"]

    @property
    def judged(self) -> np.ndarray:
        """The numbers that a range is about: of branches, the last one's share."""
        return self.values[-1] if self.kind == "branch" else self.values


class Row(NamedTuple):
    """A section at a block: id of a network -> its panels, or why there is none."""

    section: Section
    block: str | None
    cells: dict[str, list[Panel] | Absent]


def sections(cam: str = "GradCAM") -> list[Section]:
    """In the order of the page."""
    method, found = description()["methods"][cam], []
    for entry in description()["sections"]:
        title, text = entry["title"].format(cam=method["name"]), entry["text"].format(method=method["text"])
        given = entry["kind"], tuple(entry["kinds"]), title, text, entry["absent"], entry["means"]
        found.append(Section(*given, entry.get("pairwise", False)))
    return found


def panels(columns: list[Column], view: View, cam: str = "GradCAM") -> list[Row]:
    """The sections that some network has, in order."""
    between, rows = pairwise_block(columns, view), []
    for section in sections(cam):
        maps = [maps_in(column, section) for column in columns]
        if not any(maps):
            continue
        block = between if section.pairwise else view.block
        cells = {
            column.key: panels_at(column, section, found, block, view) for column, found in zip(columns, maps)
        }
        shown = [panel for cell in cells.values() if isinstance(cell, list) for panel in cell]
        scale(shown, view)
        for panel in shown:
            panel.said, panel.brief = (lines_about(panel, view, cam, brief) for brief in (False, True))
        rows.append(Row(section, block, cells))
    return rows


# ---- which maps


def maps_in(column: Column, section: Section) -> dict[str, Map]:
    return {
        name: found for name, found in all_maps(column.inspection).items() if kind_of(found) in section.kinds
    }


def local_name(tensor: str) -> str:
    """The same for a mechanism's map in every block: `refine.gate`, `affinity`."""
    found = re.match(r"(layer\d\.\d|stage\d|head|input)\.(.*)", tensor)
    return found[2] if found else f"stem.{tensor}"


def place(tensor: str) -> str:
    """Where in the network a tensor is, as a phrase."""
    first = re.match("layer|stage|head|input", tensor)
    text = description()["places"][first[0] if first else "stem"]
    return text.format(block=block_of(tensor), layer=f"layer{tensor[5:6]}")


def pairwise_block(columns: list[Column], view: View) -> str | None:
    """Where pairwise maps and channel matrices are read: the view's choice, or the nearest to its block."""
    some = [section for section in sections() if section.pairwise]
    blocks = {block_of(name) for column in columns for part in some for name in maps_in(column, part)}
    if view.pairwise_block in blocks:
        return view.pairwise_block
    far = {block: abs(BLOCKS.index(block) - BLOCKS.index(view.block)) for block in BLOCKS if block in blocks}
    return min(reversed(far), key=far.get, default=None)  # of two, the deeper one


def panels_at(
    column: Column, section: Section, maps: dict[str, Map], block: str | None, view: View
) -> list[Panel] | Absent:
    """The maps at a block, and those that exist only once, such as a map of the head."""
    count = Counter(map(local_name, maps))
    here = [
        panel_of(column, section, name, found, view)
        for name, found in maps.items()
        if count[local_name(name)] == 1 or block_of(name) == block
    ]
    if here:
        return here
    said, blocks = description()["said"], list(dict.fromkeys(map(block_of, maps)))
    if maps:
        return Absent(said["elsewhere"].format(absent=section.absent, place=place([*maps][-1])), blocks)
    return Absent(said["none"].format(absent=section.absent, means=section.means), blocks)


# ---- which part of a map


def panel_of(column: Column, section: Section, tensor: str, found: Map, view: View) -> Panel:
    kind, scale = kind_of(found), scale_of(found)
    values = part_of(found, kind, view)
    if "unit" in description()["scales"][scale]:
        values = values * sharers(found)
    return Panel(column, section, tensor, found, kind, scale, values)


def part_of(found: Map, kind: str, view: View) -> np.ndarray:
    """The part of a map that is drawn, all of it for most kinds."""
    part, axes, values = description()["kinds"][kind].get("part"), found.axes.split(), found.values
    if kind == "spatial":  # (h, w)
        return values[0]
    if part == "sizes":  # (branch, h, w)
        return np.abs(values).mean(1)
    if part is None:
        return values
    x, y, side = query_of(found, view)
    if part == "cross":  # a query's record is its column, then its row: (h, w), NaN off the cross
        read, values = values[y, x], np.full((side, side), np.nan, np.float32)
        values[:, x], values[y, :] = read[:side], read[side:]
        return values
    if kind == "footprint":  # (g, k)
        return values[:, :, y, x]
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


def panels_in(rows: list[Row]) -> list[Panel]:
    return [panel for row in rows for cell in row.cells.values() if isinstance(cell, list) for panel in cell]


def read_from_the_mark(rows: list[Row]) -> list[Map]:
    """The maps that show what the marked place reads."""
    parts = {kind: drawn.get("part") for kind, drawn in description()["kinds"].items()}
    return [panel.map for panel in panels_in(rows) if parts[panel.kind] in ("row", "cross")]


def tiles(panel: Panel) -> list[tuple[str, np.ndarray]]:
    """The pictures (h, w) of a map that is several, each with its name, in the order of showing."""
    values, axes, rules = panel.values, panel.map.axes, description()["tiles"]
    if axes in ("c k", "g k h w"):
        side = round(values.shape[1] ** 0.5)
        values = values.reshape(-1, side, side)
    elif axes == "1 c w":
        values = values.transpose(1, 0, 2)
    elif axes == "1 h c":
        values = values.transpose(2, 1, 0)
    strongest = np.argsort(-np.abs(values).sum((1, 2), dtype=np.float64), kind="stable")
    names = tile_names(panel, len(values))
    if "mean" in description()["kinds"][panel.kind]:
        return [(rules["mean"], values.mean(0)), *((names[i], values[i]) for i in strongest)]
    shares = "unit" in description()["scales"][panel.scale]  # over the picture all have the same sum
    kept = shares or len(values) <= rules["unsorted"]
    return [(names[i], values[i]) for i in (range(len(values)) if kept else strongest)]


def tile_names(panel: Panel, count: int) -> list[str]:
    if panel.kind in ("views", "branch") and (known := description()["branches"].get(panel.column.key)):
        return known
    letter = next(letter for letter in panel.map.axes.split() if letter not in ("1", "h"))
    word, first = description()["tile_names"][letter]
    return [f"{word} {i + first}" for i in range(count)]


# ---- scales


def scale(shown: list[Panel], view: View) -> None:
    """Sets the ends of the colours of all maps of a section, what is flat, and the curves behind curves."""
    rules = description()
    for panel in shown:
        entry = rules["scales"][panel.scale]
        fixed = "fixed" in rules["kinds"][panel.kind] or "fixed" in entry
        mode = "fixed" if fixed else view.scale
        if mode == "fixed" and "ends" in entry:
            panel.ends, panel.end_words = tuple(entry["ends"]), tuple(entry["words"])
        else:
            alike = [other for other in shown if other.scale == panel.scale]
            panel.ends = ends_of(alike if mode == "shared" else [panel], panel)
            panel.end_words = tuple(times(panel, end) for end in panel.ends)
        panel.base = min(max(entry.get("base", 0.0), panel.ends[0]), panel.ends[1])
        panel.flat = is_flat(panel)
    for panel in shown:
        alike = [other for other in shown if (other.scale, other.ends) == (panel.scale, panel.ends)]
        panel.others = [other.values for other in alike if other is not panel]


def ends_of(some: list[Panel], panel: Panel) -> tuple[float, float]:
    """The least and the most of some maps; with a sign as far below zero as above, for zero has a colour."""
    entry, limits = description()["scales"][panel.scale], description()["thresholds"]
    low = min(float(np.nanmin(other.values)) for other in some)
    high = max(float(np.nanmax(other.values)) for other in some)
    if "symmetric" in entry:
        high = max(-low, high) or 1.0
        return (0.0 if panel.kind == "views" else -high), high  # views are sizes
    if "log" in entry:
        low, high = max(low, limits["least_share"]), max(high, limits["least_share"])
    if is_constant(low, high):  # or rounding would look like structure
        room = limits["around"] * max(1e-9, high)
        low, high = low - room, high + room
    return low, high


def is_constant(low: float, high: float) -> bool:
    return high - low <= description()["thresholds"]["constant"] * max(1e-9, abs(high), abs(low))


def is_flat(panel: Panel) -> bool:
    """Whether the whole map would have one colour."""
    least, most = (float(of(panel.judged)) for of in (np.nanmin, np.nanmax))
    span = min(1.0, position(panel, most)) - max(0.0, position(panel, least))
    return is_constant(least, most) or span < description()["thresholds"]["flat"]


def position(panel: Panel, x: float) -> float:
    """On the colours: 0 at one end, 1 at the other; equal factors of a share are equal steps."""
    low, high = panel.ends
    if "log" not in description()["scales"][panel.scale]:
        return (x - low) / ((high - low) or 1.0)
    return log(max(x, 1e-9) / low) / log(high / low)


# ---- words


def times(panel: Panel, x: float) -> str:
    return number(x) + description()["scales"][panel.scale].get("unit", "")


def range_of(panel: Panel, brief: bool) -> str:
    """The range of a map, in brief without its mean; of branches, of the last one's share."""
    said, judged = description()["said"], panel.judged
    least, most = float(np.nanmin(judged)), float(np.nanmax(judged))
    mean = float(np.nanmean(judged, dtype=np.float64))
    words = {"least": times(panel, least), "most": times(panel, most), "mean": times(panel, mean)}
    if panel.kind == "cam":
        return said["relative"].format(**words) if most > 0 else said["no_cam"]
    if is_constant(least, most):
        return said["constant"].format(**words)
    return said["flat" if panel.flat else "range_in_brief" if brief else "range"].format(**words)


def is_pairwise(name: str) -> bool:
    return name in CATALOGUE and CATALOGUE[name].family == "pairwise"


def lines_about(panel: Panel, view: View, cam: str, brief: bool) -> list[str]:
    """The range of a map, and what else is to be said about it.

    In brief nothing is said twice: the colours show the mean, and that a CAM is relative; the answers above
    show how probable the best class is.
    """
    seen, kind, values = panel.column.inspection, panel.kind, panel.map.values
    said, lines = description()["said"], []
    if kind == "branch":
        names = tile_names(panel, len(values))
        lines.append(said["range_of"].format(name=names[-1], range=range_of(panel, brief)))
    elif kind != "grid" and not (brief and kind == "cam" and values.max() > 0):
        lines.append(range_of(panel, brief))
    best = int(seen.probabilities.argmax())
    if kind == "cam" and cam != "EigenCAM" and not (brief and seen.target == best):  # Eigen-CAM: no class
        share = percent(float(seen.probabilities[seen.target]))
        lines.append(said["class"].format(**{"class": CLASSES[seen.target], "share": share}))
    if kind in ("channel", "branch"):
        lines.append(said["channels"].format(count=values.shape[1 if kind == "branch" else 0]))
    if kind == "branch":
        lines.append(said["branches"].format(names=", ".join(reversed(names))))
    if panel.map.axes.startswith("head q"):
        heads = len(values)
        if view.head == "mean" or heads == 1:
            lines += [said["mean_of_heads"].format(count=heads)] * (heads > 1)
        else:
            lines.append(said["one_head"].format(head=min(view.head, heads - 1) + 1, count=heads))
    for module, share in seen.strength.items():
        between, is_share = module.startswith("stage"), panel.map.role == "share"
        asks = panel.section.kind in ("pairwise", "matrix")
        asks |= is_share and (not between or is_pairwise(panel.column.key))
        if asks and panel.tensor.startswith(f"{module}."):
            lines.append(said["strength" if between else "strength_in_block"].format(share=percent(share)))
    if panel.map.static:
        lines.append(said["static"])
    if brief and panel.tensor in seen.replaced:  # the page frames it
        lines.append("replaced")
    most = description()["tiles"]["figure"]
    if brief and panel.drawn == "tiles" and (count := len(tiles(panel))) > most:
        lines.append(f"{most} of {count} shown")
    return lines
