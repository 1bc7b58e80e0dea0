"""The page's maps as one figure for a slide or a paper: a column per network, a row per kind of map.

    drawn = figure(columns, look, target="predicted", cam="GradCAM")
    save(drawn, Path("figure.pdf"))

Only matplotlib's objects are used, never pyplot, and no setting of matplotlib is changed, so threads may draw
at the same time. Lengths are in inches from the top left corner, sizes of type in points.
"""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LogNorm, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from models import CLASSES
from models.catalogue import BLOCKS

from . import record
from .export import Column, Look, all_maps
from .inspection import Map

SIDE, GAP, LEFT, EDGE = 1.75, 0.3, 1.75, 0.3  # a map, between columns, the column of row titles, the margin
FLAT_HEIGHT = 1.0  # of curves, areas and bars
RAMP, UNDER_MAP, UNDER_ROW, UNDER_HEADER = 0.16, 0.05, 0.26, 0.24
ANSWER = 0.25  # a line of an answer and its bar
TILE_GAP, TILE_NAME = 0.08, 0.17
MIN_WIDTH = 6.3
BAND = 12  # columns at most; more networks go on in a second band below
MOST_SECTIONS = 3  # in one row
PER_LINE = 4  # maps in a line, where there is one network alone
MOST_MAPS = 4  # of one kind and one network
TILES = 6  # shown of a map that is several pictures; of more pictures, the strongest four
DPI, MOST_PIXELS = 200, 24e6

TINY, SMALL, NORMAL, LARGE = 7.5, 8.5, 9.5, 11.0  # type
LEADING = 1.3 / 72  # inches from line to line, for each point of type
INK, GREY, FAINT, ACCENT, WARNING = "#1f2328", "#6b7280", "#8b929e", "#4f46e5", "#b45309"

ENDS = {"0-1": (0.0, 1.0), "1-2": (1.0, 2.0), "relative": (0.0, 1.0), "uniform=1": (1 / 16, 16.0)}
LEAST_SHARE = 2.0**-8  # of an equal share: where the shared and own scales of shares begin at the latest
FLAT = 1e-4  # a map that varies by less than this part of its most is the same everywhere


class Section(NamedTuple):
    """A row's kinds of maps, as in record.py; `sited`: read at the look's site, not its block."""

    kinds: tuple[str, ...]
    title: str
    text: str
    sited: bool = False


SECTIONS = (  # in the order of the page
    Section(
        ("cam",), "{cam}", "Where the evidence for the class lies. Each map from its own least to its most."
    ),
    Section(
        ("pairwise", "cross", "footprint", "keys"),
        "Attention",
        "Where the marked place reads from. 1× is an equal share for each place.",
        sited=True,
    ),
    Section(("spatial",), "Spatial maps", "How much each place passes, in all channels."),
    Section(("grid", "affine"), "Sampling", "Where the picture is sampled."),
    Section(("maps",), "Groups and parts", "One picture each; of many, the strongest."),
    Section(("volume",), "Places and channels", "The mean over all channels, then the strongest channels."),
    Section(
        ("profile",), "Rows and columns", "One number per channel and row or column: mean, then strongest."
    ),
    Section(("views",), "Branches", "Mean size of what each branch gives out."),
    Section(
        ("matrix",), "Channel matrix", "Row: the channel that gathers. Column: the one it reads.", sited=True
    ),
    Section(("channel",), "Channel weights", "One number per channel, the largest first."),
    Section(("branch",), "Branch weights", "Shares of the branches in each channel."),
    Section(("vector", "table"), "Mixture weights", "One number per kernel or input."),
    Section(("filters",), "Filters", "Weights of small windows that were learnt."),
)
BRANCHES = {  # as in assets/grid.js
    "sk": ("3 × 3 window", "5 × 5 window"),
    "spconv": ("3 × 3 window", "1 × 1 window"),
    "acblock": ("3 × 3", "3 × 1", "1 × 3"),
    "psconv": ("spread 1", "spread 2", "spread 4"),
    "aspp": ("1 × 1", "rate 1", "rate 2", "rate 4", "whole"),
    "ssh_context": ("5 × 5", "7 × 7"),
    "rfb": ("narrow", "middle", "wide"),
    "mixed_pooling": ("3 × 3", "3 × 3 fields", "2 × 2 fields", "columns", "rows"),
}
OVER_PHOTO = ("maps", "volume", "profile", "views")  # tiles that are pictures of the same places
WORDS = {"c": "channel", "k": "map", "g": "group", "branch": "branch"}  # one tile, by its axis


@dataclass(eq=False)
class Shown:
    """A map as it stands in a cell of the figure.

    Args:
        values: what is drawn: of a pairwise map what the marked place reads, shares as multiples of an equal
            one, NaN where there is no number.
        scale: as `record.scale_of` says.
        ends: values at the two ends of the colours.
        others: weights of other networks on the same scale, drawn in grey behind a curve.
    """

    column: Column
    path: str
    map: Map
    kind: str
    values: np.ndarray
    scale: str
    ends: tuple[float, float] = (0.0, 1.0)
    others: tuple[np.ndarray, ...] = ()


class Line(NamedTuple):
    """Of type, under a map."""

    text: str
    size: float
    colour: str
    mono: bool = False


class Cell(NamedTuple):
    """A map, and the lines of type under it."""

    title: str
    shown: Shown
    lines: list[Line]


class Row(NamedTuple):
    """Maps of one or more kinds: column -> cell; and for the columns without, why there is none."""

    sections: list[Section]
    cells: dict[int, Cell]
    absent: dict[int, list[str]]


# ---- what is shown


def figure(
    columns: list[Column],
    look: Look,
    target: str = "predicted",
    cam: str = "GradCAM",
    missing: dict[str, str] | None = None,
) -> Figure:
    """Draws what the page shows of some networks.

    Up to 12 networks stand side by side; more are wrapped into bands of equally many columns, one band below
    the other. Kinds of maps that no two networks have in common share a row. The maps of a single network
    stand side by side, four in a line.

    Args:
        columns: one per network, all of the same picture.
        look: how the maps are drawn.
        target, cam: what was asked for, for the caption.
        missing: id -> why a network that was asked for is not here.
    """
    site = site_of(columns, look)
    table = rows(columns, look, site, cam)
    if alone := len(columns) == 1:
        cells = [row.cells[0] for row in table]
        across = min(PER_LINE, len(cells))
        lines = [dict(enumerate(cells[start : start + across])) for start in range(0, len(cells), across)]
        bands = [(columns, [Row([], line, {}) for line in lines])]
    else:
        across = -(-len(columns) // -(-len(columns) // BAND))  # bands of nearly the same width
        bands = [band(columns, table, start, across) for start in range(0, len(columns), across)]

    width = max(MIN_WIDTH, left_of(across) - GAP + EDGE)
    legend = wrapped(caption(columns, look, site, target, cam, missing or {}), width - 2 * EDGE, NORMAL)
    heights = [header_height(part, alone) + sum(map(row_height, lines)) for part, lines in bands]
    if alone:
        heights = [max(heights[0], LEFT + UNDER_HEADER + header_height(columns))]
    sheet = Sheet(width, EDGE + sum(heights) + len(legend) * NORMAL * LEADING + EDGE)

    top = EDGE
    side = LEFT if alone else header_height(bands[0][0]) - UNDER_HEADER
    photo(sheet, columns[0], look, site, EDGE, top, side)
    for (part, lines), height in zip(bands, heights):
        if alone:
            header(sheet, columns[0], EDGE, top + LEFT + UNDER_HEADER, LEFT, columns)
        else:
            for i, column in enumerate(part):
                header(sheet, column, left_of(i), top, SIDE, part)
        y = top + header_height(part, alone)
        for row in lines:
            draw_row(sheet, row, y, look)
            y += row_height(row)
        top += height
    sheet.lines(EDGE, top, legend, NORMAL, GREY)
    return sheet.figure


def band(columns: list[Column], table: list[Row], start: int, across: int) -> tuple[list[Column], list[Row]]:
    """Some columns and their rows, packed; a row without a map in any of them is left out."""
    stop = start + across

    def part(held: dict) -> dict:
        return {i - start: content for i, content in held.items() if start <= i < stop}

    cut = [Row(row.sections, part(row.cells), part(row.absent)) for row in table]
    return columns[start:stop], packed([row for row in cut if row.cells])


def packed(table: list[Row]) -> list[Row]:
    """Rows whose maps stand in different columns become one."""
    found: list[Row] = []
    for row in table:
        for i, other in enumerate(found):
            if not other.cells.keys() & row.cells.keys() and len(other.sections) < MOST_SECTIONS:
                cells = other.cells | row.cells
                absent = {
                    at: other.absent.get(at, []) + row.absent.get(at, [])
                    for at in (other.absent | row.absent).keys() - cells.keys()
                }
                found[i] = Row(other.sections + row.sections, cells, absent)
                break
        else:
            found.append(row)
    return found


def rows(columns: list[Column], look: Look, site: str | None, cam: str) -> list[Row]:
    """One row for each kind of map, and one more for a network's second map of the kind, and so on."""
    found = []
    for section in SECTIONS:
        section = section._replace(title=section.title.format(cam=cam_name(cam)))
        place = site if section.sited else look.block
        each = [list(present(column, section, place, look)) for column in columns]
        scale([shown for part in each for shown in part], look)
        absent = {i: [nothing(columns[i], section, place)] for i, part in enumerate(each) if not part}
        for line in range(min(MOST_MAPS, max(map(len, each)))):
            cells = {}
            for i, part in enumerate(each):
                if line < len(part):
                    more = len(part) - MOST_MAPS if line == MOST_MAPS - 1 else 0
                    words = [f"and {more} more of this kind"] if more > 0 else []
                    cells[i] = Cell(section.title, part[line], lines_under(part[line], look, cam, words))
            found.append(Row([section] if line == 0 else [], cells, {} if line else absent))
    return found


def present(column: Column, section: Section, place: str | None, look: Look) -> Iterator[Shown]:
    """The maps of a section at a block, and those that exist only once, such as a map of the head."""
    maps = {
        path: shown
        for path, shown in all_maps(column.seen).items()
        if record.kind_of(shown.axes, shown.static) in section.kinds
    }
    by_name: dict[str, list[str]] = {}
    for path in maps:
        by_name.setdefault(local(path), []).append(path)
    for paths in by_name.values():
        here = paths if len(paths) == 1 else [path for path in paths if record.block_of(path) == place]
        for path in here[:1]:
            kind = record.kind_of(maps[path].axes, maps[path].static)
            kind_of_scale = record.scale_of(path, maps[path].axes, maps[path].values)
            values = part_of(maps[path], kind, look)
            if kind_of_scale == "uniform=1":  # as each row of shares sums to one, the mean is the equal share
                values = values * (maps[path].values.shape[2] if kind == "cross" else 1 / values.mean())
            yield Shown(column, path, maps[path], kind, values, kind_of_scale)


def local(path: str) -> str:
    """The same for a mechanism's map in every block: `refine.gate`, `affinity`."""
    found = re.match(r"(layer\d\.\d|stage\d|head|input)\.(.*)", path)
    return found[2] if found else f"stem.{path}"


def part_of(shown: Map, kind: str, look: Look) -> np.ndarray:
    """The part of a map that is drawn, all of it for most kinds."""
    axes, values = shown.axes.split(), shown.values
    if kind in ("pairwise", "keys"):
        axis = axes.index("q")
        values = values.take(query_index(shown, look), axis)
        if axis == 1:  # (head, h, w)
            values = values.mean(0) if look.head == "mean" else values[min(look.head, len(values) - 1)]
    elif kind == "cross":  # a query's record is its column, then its row: (h, w), NaN off the cross
        height, width, _ = values.shape
        y, x = divmod(query_index(shown, look), width)
        row, values = values[y, x], np.full((height, width), np.nan, np.float32)
        values[:, x] = row[:height]
        values[y, :] = row[height:]
    elif kind == "footprint":  # (g, k)
        values = values.reshape(*values.shape[:2], -1)[..., query_index(shown, look)]
    elif kind == "views":  # (branch, h, w)
        values = np.abs(values).mean(1)
    return values


def query_index(shown: Map, look: Look) -> int:
    """The marked place in the flattened grid of the queries."""
    height, width = query_grid(shown)
    return look.query[1] * height // 32 * width + look.query[0] * width // 32


def query_grid(shown: Map) -> tuple[int, int]:
    axes, shape = shown.axes.split(), shown.values.shape
    if "q" in axes:
        return (round(shape[axes.index("q")] ** 0.5),) * 2
    return shape[axes.index("h")], shape[axes.index("w")]


def site_of(columns: list[Column], look: Look) -> str | None:
    """The look's site if some network has a pairwise map or a channel matrix there, else the deepest one."""
    kinds = [kind for section in SECTIONS if section.sited for kind in section.kinds]
    blocks = {
        record.block_of(path)
        for column in columns
        for path, shown in column.seen.maps.items()
        if record.kind_of(shown.axes, shown.static) in kinds
    }
    return look.site if look.site in blocks else max(blocks, key=BLOCKS.index, default=None)


def scale(section: list[Shown], look: Look) -> None:
    """Sets the ends of the colours of all maps of a section, and the curves behind the curves."""
    for shown in section:
        alike = [other for other in section if other.scale == shown.scale]
        if (
            look.scale == "fixed" or shown.scale == "relative" or shown.kind == "branch"
        ):  # those add up to one
            shown.ends = fixed_ends(shown)
        else:
            shown.ends = data_ends(alike if look.scale == "shared" else [shown], shown.scale)
        if shown.kind == "channel" and shown.scale != "signed" and look.scale != "own":
            shown.others = tuple(other.values for other in alike if other is not shown)


def fixed_ends(shown: Shown) -> tuple[float, float]:
    """Of the kind of map; what has no end is symmetric about zero, but for sizes, which have no sign."""
    if shown.scale in ENDS:
        return ENDS[shown.scale]
    end = float(np.nanmax(np.abs(shown.values))) or 1.0
    return (0.0 if shown.kind == "views" else -end), end


def data_ends(maps: list[Shown], kind: str) -> tuple[float, float]:
    """The least and the most of some maps; a little around it where they are the same."""
    low = min(float(np.nanmin(shown.values)) for shown in maps)
    high = max(float(np.nanmax(shown.values)) for shown in maps)
    if kind == "uniform=1":
        low = max(low, LEAST_SHARE)
    if high - low <= FLAT * max(1e-9, abs(high)):
        around = 0.05 * max(1e-9, abs(high))
        low, high = low - around, high + around
    return low, high


def norm(shown: Shown) -> Normalize:
    """From values to colours; equal factors of a share are equal steps."""
    kind = LogNorm if shown.scale == "uniform=1" else Normalize
    return kind(*shown.ends, clip=True)


def planes(shown: Shown) -> tuple[list[np.ndarray], list[int]]:
    """The pictures (h, w) of a map that is several, and which of them are shown; -1 is the mean, the last."""
    values, axes = shown.values, shown.map.axes
    if axes in ("c k", "g k h w"):
        side = round(values.shape[1] ** 0.5)
        values = values.reshape(len(values), side, side)
    elif axes == "1 c w":
        values = values[0][:, None, :]
    elif axes == "1 h c":
        values = values[0].T[:, :, None]
    pictures, strongest = list(values), np.argsort(-np.abs(values).sum((1, 2)), kind="stable").tolist()
    if shown.kind in ("volume", "profile"):
        return [*pictures, values.mean(0)], [-1, *strongest[:3]]
    return pictures, list(range(len(pictures))) if len(pictures) <= TILES else strongest[:4]


# ---- words and numbers


def number(x: float) -> str:
    size = abs(x)
    if size >= 0.095 or size == 0:
        text = f"{x:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
    else:
        text = f"{x:.3f}" if size >= 0.00095 else re.sub(r"e-0?", "e-", f"{x:.0e}")
    return text.replace("-", "−")


def percent(share: float) -> str:
    if 0.9995 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.{1 if share < 0.0995 or 0.995 < share < 1 else 0}f} %"


def cam_name(cam: str) -> str:
    return re.sub("^GradCAM", "Grad-CAM", cam)


def position(path: str) -> str:
    """Where in the network a map is, as a phrase."""
    if path.startswith("stage"):
        return f"after layer{path[5]}"
    return f"in the {path.split('.')[0]}" if re.match("head|input", path) else f"at {record.block_of(path)}"


def nothing(column: Column, section: Section, place: str | None) -> str:
    """Why there is no map of a kind."""
    there = [
        position(path)
        for path, shown in column.seen.maps.items()
        if record.kind_of(shown.axes, shown.static) in section.kinds
    ]
    what = section.title[0].lower() + section.title[1:]
    return f"no {what} here, but {there[-1]}" if there else f"no {what}"


def end_words(shown: Shown) -> tuple[str, str]:
    """What stands beside the two ends of the colours."""
    if shown.scale == "relative":
        return "least", "most"
    if shown.scale == "uniform=1" and shown.ends == ENDS["uniform=1"]:
        return "¹⁄₁₆×", "16×"
    if shown.ends in ((0.0, 1.0), (1.0, 2.0)):
        return f"{shown.ends[0]:.0f}", f"{shown.ends[1]:.0f}"
    low, high = (number(end) + ("×" if shown.scale == "uniform=1" else "") for end in shown.ends)
    return low, high


def numbers(shown: Shown) -> str:
    """The range of a map; of branches, of the last one's share."""
    values = shown.values[-1] if shown.kind == "branch" else shown.values
    least, most, mean = float(np.nanmin(values)), float(np.nanmax(values)), float(np.nanmean(values))
    times = "×" if shown.scale == "uniform=1" else ""
    if shown.kind == "cam":
        return f"relative, mean {number(mean)}" if most > 0 else "flat: none stands out"
    if most - least < FLAT * max(1e-9, abs(most)):
        return f"flat: {number(mean)}{times} everywhere"
    return f"{number(least)} to {number(most)}{times}, mean {number(mean)}{times}"


def lines_under(shown: Shown, look: Look, cam: str, words: list[str]) -> list[Line]:
    """The range of a map, what else is to be said about it, and the path of its tensor."""
    column, kind = shown.column, shown.kind
    said = [] if kind == "grid" else [numbers(shown)]
    if kind == "cam" and cam != "EigenCAM":
        share = column.seen.probabilities[column.seen.target]
        said.append(f"for {CLASSES[column.seen.target]}, {percent(share)}")
    if kind in ("channel", "branch"):
        said.append(f"{shown.values[-1].size if kind == 'branch' else shown.values.size} channels")
    if kind == "branch":
        said.append(f"below: {branch_name(shown, -1)}")
    if shown.map.axes.startswith("head q"):
        heads = len(shown.map.values)
        one = look.head != "mean" and min(look.head, heads - 1) + 1
        said.append(f"head {one} of {heads}" if one else f"mean of {heads} heads")
    strength = column.seen.strength.get(shown.path.split(".")[0])
    if kind in ("pairwise", "cross", "footprint", "keys") and strength is not None:
        said.append(f"changes features by {percent(strength)}")
    path = shown.path + (" (same for all pictures)" if shown.map.static else "")
    lines = [Line(line, SMALL, INK) for text in said + words for line in wrapped(text, SIDE, SMALL)]
    return lines + [Line(line, TINY, GREY, True) for line in wrapped(path, SIDE, TINY, mono=True)]


def branch_name(shown: Shown, branch: int) -> str:
    count = len(shown.values)
    return BRANCHES.get(shown.column.key, [f"branch {i + 1}" for i in range(count)])[branch]


def tile_name(shown: Shown, index: int) -> str:
    if index == -1:
        return "mean"
    if shown.kind == "views":
        return branch_name(shown, index)
    axis = next(letter for letter in shown.map.axes.split() if letter not in "1h")
    return f"{WORDS.get(axis, axis)} {index if axis == 'c' else index + 1}"


def accuracy_words(column: Column) -> str:
    if column.random:
        return "random weights, not trained"
    value = column.accuracy["value"]
    return "not measured" if value is None else f"{value:.1f} % right in the test"


def caption(
    columns: list[Column], look: Look, site: str | None, target: str, cam: str, missing: dict[str, str]
) -> str:
    """What a reader needs who sees the figure alone."""
    side = columns[0].seen.cams[look.block].shape[0]
    whose = "each network's own answer" if len(columns) > 1 else "the network's own answer"
    explained = whose if target == "predicted" else target
    said = [
        "One picture of 32 × 32 pixels, as the networks see it.",
        f"Class explained: {explained}." if cam != "EigenCAM" else "",
        f"Method: {cam_name(cam)}. Block: {look.block}, {side} × {side} cells.",
    ]
    marked = [path for column in columns for path in column.seen.maps if record.block_of(path) == site]
    if site and marked:
        cells = 32 // columns[0].seen.cams[site].shape[0]
        x, y = (at // cells + 1 for at in look.query)
        where = next((position(path) for path in marked if not path.startswith("layer")), f"at {site}")
        heads = "the mean of the heads" if look.head == "mean" else f"head {look.head + 1}"
        said.append(f"Attention and channel matrices {where}, marked place in row {y}, column {x}")
        said[-1] += f"; {heads}." if any(map(has_heads, columns)) else "."
    said.append(
        {
            "fixed": "Scales: fixed for each kind of map.",
            "shared": "Scales: from the least to the most of the maps of a kind.",
            "own": "Scales: each map from its own least to its own most, so colours do not compare.",
        }[look.scale]
    )
    if look.cells == "smooth":
        said.append("Smoothed between the cells.")
    said.append("Test accuracy on CIFAR-10, with its 95 % interval: " + "; ".join(measured(columns)) + ".")
    if random := [column.title for column in columns if column.random]:
        said.append(f"Random weights, not trained: {', '.join(random)}; what they show means nothing.")
    said += missing.values()
    said += ["An attention map shows where a factor is large, not why the network decides.", "AttnScope."]
    return " ".join(part for part in said if part).replace(" %", "\N{NO-BREAK SPACE}%")


def has_heads(column: Column) -> bool:
    return any(shown.axes.startswith("head q") for shown in column.seen.maps.values())


def measured(columns: list[Column]) -> Iterator[str]:
    trained = [column for column in columns if column.accuracy["value"] is not None]
    for column in trained:
        facts = column.accuracy
        interval = f"{facts['low']:.1f} to {facts['high']:.1f}"
        yield f"{column.title} {facts['value']:.1f} % ({interval}; recipe {facts['recipe']})"
    if not trained:
        yield "not measured"


# ---- type


@cache
def font(size: float, bold: bool, mono: bool) -> FontProperties:
    """One of the typefaces that come with matplotlib, so that figures are the same everywhere."""
    family = "DejaVu Sans Mono" if mono else "DejaVu Sans"
    return FontProperties(family=family, size=size, weight="bold" if bold else "normal")


@lru_cache(maxsize=8192)
def text_width(text: str, size: float, bold: bool = False, mono: bool = False) -> float:
    return text_to_path.get_text_width_height_descent(text, font(size, bold, mono), ismath=False)[0] / 72


def wrapped(text: str, width: float, size: float, bold: bool = False, mono: bool = False) -> list[str]:
    """Lines that fit a width, broken at spaces; titles also at hyphens, paths at dots and underscores."""
    lines, breaks = [], r"(?<=[._ ])" if mono else r"(?<=[ -])" if bold else r"(?<= )"
    for paragraph in text.split("\n"):
        line = ""
        for piece in re.split(breaks, paragraph):
            if line and text_width((line + piece).rstrip(), size, bold, mono) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
        lines.append(line.rstrip())
    return lines


class Sheet:
    """A white figure with a way to place things on it in inches."""

    def __init__(self, width: float, height: float):
        dpi = min(DPI, (MOST_PIXELS / (width * height)) ** 0.5)
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")

    def place(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Left, bottom, width and height in shares of the figure."""
        return x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height

    def axes(self, x: float, y: float, width: float, height: float, label: str = "") -> Axes:
        """Axes without a frame."""
        made = self.figure.add_axes(self.place(x, y, width, height), label=label)
        made.set_axis_off()
        return made

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        left, bottom, *size = self.place(x, y, width, height)
        self.figure.add_artist(Rectangle((left, bottom), *size, color=colour, linewidth=0))

    def lines(
        self,
        x: float,
        y: float,
        lines: list[str],
        size: float,
        colour: str = INK,
        bold: bool = False,
        mono: bool = False,
        align: str = "left",
    ) -> float:
        """Lines of type below y; returns where they end."""
        for line in lines:
            y += size * LEADING
            self.figure.text(
                x / self.width,
                1 - (y - 0.28 * size / 72) / self.height,
                line,
                color=colour,
                horizontalalignment=align,
                verticalalignment="baseline",
                fontproperties=font(size, bold, mono),
                parse_math=False,
            )
        return y


# ---- drawing


def left_of(index: int) -> float:
    return EDGE + LEFT + GAP + index * (SIDE + GAP)


def photo(
    sheet: Sheet, column: Column, look: Look, site: str | None, x: float, y: float, side: float
) -> None:
    """The picture, with the mark where some network has attention."""
    axes = sheet.axes(x, y, side, side, "picture")
    axes.imshow(column.seen.pixels, extent=(0, 32, 32, 0), interpolation="nearest")
    if site is not None:
        mark(axes, look, *column.seen.cams[site].shape)


def mark(axes: Axes, look: Look, height: int, width: int) -> None:
    """The cell of the marked place: black under white, seen on every colour."""
    x, y = look.query[0] * width // 32, look.query[1] * height // 32
    corner, size = (x * 32 / width, y * 32 / height), (32 / width, 32 / height)
    for colour, thick in (("black", 3.2), ("white", 1.5)):
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=thick, clip_on=False))


def title_lines(column: Column) -> list[str]:
    return wrapped(column.title, SIDE, LARGE, bold=True)


def header_height(columns: list[Column], outside: bool = False) -> float:
    """With the space below; nothing if the header stands elsewhere, outside the columns."""
    if outside:
        return 0.0
    deep = max(len(title_lines(column)) for column in columns)
    return deep * LARGE * LEADING + SMALL * LEADING + 0.06 + 3 * ANSWER + UNDER_HEADER


def header(sheet: Sheet, column: Column, x: float, y: float, width: float, beside: list[Column]) -> None:
    """Name, accuracy, and the three most probable classes of a network."""
    deep, titles = max(len(title_lines(other)) for other in beside), title_lines(column)
    y += (deep - len(titles)) * LARGE * LEADING  # names side by side end on one line
    y = sheet.lines(x, y, titles, LARGE, bold=True)
    y = sheet.lines(x, y, [accuracy_words(column)], SMALL, WARNING if column.random else GREY) + 0.06
    ranked = np.argsort(-column.seen.probabilities, kind="stable")[:3]
    for place, index in enumerate(ranked):
        share, first = float(column.seen.probabilities[index]), place == 0
        sheet.lines(x, y, [CLASSES[index]], NORMAL, INK if first else GREY, bold=first)
        sheet.lines(x + width, y, [percent(share)], NORMAL, INK if first else GREY, align="right")
        sheet.box(x, y + ANSWER - 0.065, width, 0.035, "#e5e7eb")
        sheet.box(x, y + ANSWER - 0.065, width * share, 0.035, ACCENT if first else "#9ca3af")
        y += ANSWER


def drawing_height(shown: Shown) -> float:
    mode = mode_of(shown)
    if mode is draw_tiles:
        across, down, side = tile_layout(len(planes(shown)[1]))
        return down * (side + TILE_NAME)
    return FLAT_HEIGHT if mode in PLOTS else SIDE


def has_ramp(shown: Shown) -> bool:
    return mode_of(shown) not in (*PLOTS, draw_grid)


def cell_height(cell: Cell) -> float:
    under = UNDER_MAP + (RAMP if has_ramp(cell.shown) else 0)
    return drawing_height(cell.shown) + under + sum(line.size for line in cell.lines) * LEADING


def heading_height(row: Row) -> float:
    """Above the maps, where they are of several kinds."""
    return (
        NORMAL * LEADING + 0.06
        if len({cell.title for cell in row.cells.values()}) > 1 or not row.sections
        else 0
    )


def row_height(row: Row) -> float:
    label = sum(label_height(section) for section in row.sections)
    return max(label, heading_height(row) + max(map(cell_height, row.cells.values()))) + UNDER_ROW


def label_height(section: Section) -> float:
    titles, words = label_lines(section)
    return len(titles) * LARGE * LEADING + len(words) * SMALL * LEADING + 0.1


def label_lines(section: Section) -> tuple[list[str], list[str]]:
    return wrapped(section.title, LEFT, LARGE, bold=True), wrapped(section.text, LEFT, SMALL)


def draw_row(sheet: Sheet, row: Row, y: float, look: Look) -> None:
    label = y
    for section in row.sections:
        titles, words = label_lines(section)
        sheet.lines(EDGE, sheet.lines(EDGE, label, titles, LARGE, bold=True), words, SMALL, GREY)
        label += label_height(section)
    heading = heading_height(row)
    for i, cell in row.cells.items():
        if heading:
            sheet.lines(left_of(i), y, [cell.title], NORMAL, bold=True)
        draw_cell(sheet, cell, left_of(i), y + heading, look)
    middle = y + heading + max(drawing_height(cell.shown) for cell in row.cells.values()) / 2
    for i, words in row.absent.items():
        lines = [line for text in words for line in wrapped(text, SIDE, SMALL)]
        top = middle - len(lines) * SMALL * LEADING / 2
        sheet.lines(left_of(i) + SIDE / 2, top, lines, SMALL, FAINT, align="center")


def draw_cell(sheet: Sheet, cell: Cell, x: float, y: float, look: Look) -> None:
    """A map, its colours, its numbers, and the path of its tensor."""
    shown, colours = cell.shown, colormaps["gray" if look.colours == "grey" else look.colours]
    mode_of(shown)(sheet, shown, x, y, look, colours)
    y += drawing_height(shown)
    if has_ramp(shown):
        ramp(sheet, shown, x, y + 0.06, colours)
        y += RAMP
    y += UNDER_MAP
    for line in cell.lines:
        y = sheet.lines(x, y, [line.text], line.size, line.colour, mono=line.mono)


def ramp(sheet: Sheet, shown: Shown, x: float, y: float, colours: Colormap) -> None:
    """The colours from end to end; a line under them is the range of the map, a dot its mean."""
    low, high = end_words(shown)
    left, right = (text_width(words, TINY) + 0.07 for words in (low, high))
    sheet.lines(x, y - 0.045, [low], TINY, GREY)
    sheet.lines(x + SIDE, y - 0.045, [high], TINY, GREY, align="right")
    axes = sheet.axes(x + left, y, SIDE - left - right, 0.07)
    axes.imshow(
        np.linspace(0, 1, 256)[None], cmap=colours, extent=(0, 1, 0, 1), aspect="auto", vmin=0, vmax=1
    )
    values, position = shown.values[np.isfinite(shown.values)], norm(shown)
    least, most, mean = (float(position(value)) for value in (values.min(), values.max(), values.mean()))
    axes.plot([least, most], [-0.55, -0.55], color=INK, linewidth=1.0, clip_on=False, solid_capstyle="butt")
    axes.plot([mean], [-0.55], marker="o", markersize=2.6, color=INK, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1))


def over_photo(axes: Axes, shown: Shown, values: np.ndarray, look: Look, colours: Colormap) -> None:
    """Values (h, w) over the grey picture; the picture in colour where nothing covers it."""
    pixels = shown.column.seen.pixels
    if look.overlay:
        pixels = np.repeat((pixels @ [0.299, 0.587, 0.114])[..., None], 3, 2).round().astype(np.uint8)
    axes.imshow(pixels, extent=(0, 32, 32, 0), interpolation="nearest")
    smooth = look.cells == "smooth" and not np.isnan(values).any()
    # The colours carry the opacity, for the PDF backend applies that of an image twice.
    veil = colours.with_alpha(look.overlay).with_extremes(bad=(0, 0, 0, 0))
    draw_image(axes, shown, values, veil, (0, 32, 32, 0), "bilinear" if smooth else "nearest")


def draw_image(
    axes: Axes,
    shown: Shown,
    values: np.ndarray,
    colours: Colormap,
    extent: tuple[float, float, float, float] | None = None,
    interpolation: str = "nearest",
) -> None:
    scaled = norm(shown)
    axes.imshow(values, cmap=colours, norm=scaled, extent=extent, interpolation=interpolation, aspect="auto")


def name_of(shown: Shown) -> str:
    return f"{shown.column.key}/{shown.path}"


def draw_places(sheet: Sheet, shown: Shown, x: float, y: float, look: Look, colours: Colormap) -> None:
    axes = sheet.axes(x, y, SIDE, SIDE, name_of(shown))
    values = shown.values[0] if shown.map.axes == "1 h w" else shown.values
    over_photo(axes, shown, values, look, colours)
    if shown.kind in ("pairwise", "cross"):  # the queries may lie closer than the keys
        mark(axes, look, *query_grid(shown.map))


def draw_tiles(sheet: Sheet, shown: Shown, x: float, y: float, look: Look, colours: Colormap) -> None:
    """Several pictures, each with its name below."""
    pictures, which = planes(shown)
    across, _, side = tile_layout(len(which))
    for place, index in enumerate(which):
        left, top = x + place % across * (side + TILE_GAP), y + place // across * (side + TILE_NAME)
        axes = sheet.axes(left, top, side, side, f"{name_of(shown)} {tile_name(shown, index)}")
        if shown.kind in OVER_PHOTO:
            over_photo(axes, shown, pictures[index], look, colours)
        else:
            draw_image(axes, shown, pictures[index], colours)
        sheet.lines(left, top + side - 0.01, [tile_name(shown, index)], TINY - 0.5, GREY)


def tile_layout(count: int) -> tuple[int, int, float]:
    """Columns, rows, and the side of a tile."""
    across = 1 if count == 1 else 2 if count <= 4 else 3
    return across, -(-count // across), (SIDE - (across - 1) * TILE_GAP) / across


def draw_matrix(sheet: Sheet, shown: Shown, x: float, y: float, look: Look, colours: Colormap) -> None:
    """With its numbers where there are few."""
    axes = sheet.axes(x, y, SIDE, SIDE, name_of(shown))
    draw_image(axes, shown, shown.values, colours)
    if shown.values.size > 36:
        return
    position = norm(shown)
    for (row, at), value in np.ndenumerate(shown.values):
        colour = "black" if sum(colours(float(position(value)))[:3]) > 1.5 else "white"
        size = min(NORMAL, 60 / shown.values.shape[1] / 2)
        axes.text(at, row, number(value), color=colour, fontsize=size, ha="center", va="center")


def draw_grid(sheet: Sheet, shown: Shown, x: float, y: float, look: Look, colours: Colormap) -> None:
    """The picture from -1 to 1, and every fourth line of the places at which it is sampled."""
    axes = sheet.axes(x, y, SIDE, SIDE, name_of(shown))
    axes.imshow(shown.column.seen.pixels, extent=(-1, 1, 1, -1), interpolation="nearest")
    rows, columns = (sorted({*range(0, size, 4), size - 1}) for size in shown.values.shape[:2])
    lines = [shown.values[row] for row in rows] + [shown.values[:, at] for at in columns]
    for colour, thick in (("black", 2.2), ("#fde725", 1.0)):
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=thick))
    axes.set(xlim=(-1.6, 1.6), ylim=(1.6, -1.6))


def plot(sheet: Sheet, shown: Shown, x: float, y: float) -> Axes:
    """Axes for curves, with the two ends of the scale beside them."""
    words = end_words(shown)
    beside = max(text_width(word, TINY) for word in words) + 0.07
    axes = sheet.axes(x, y, SIDE - beside, FLAT_HEIGHT, name_of(shown))
    if shown.scale == "uniform=1":
        axes.set_yscale("log", base=2)
    axes.set(ylim=shown.ends)
    axes.axhspan(*shown.ends, color="#f3f4f6", zorder=0)
    for word, top in zip(words, (FLAT_HEIGHT - 0.12, -0.03)):
        sheet.lines(x + SIDE, y + top, [word], TINY, GREY, align="right")
    return axes


def draw_curve(sheet: Sheet, shown: Shown, x: float, y: float, look: Look, colours: Colormap) -> None:
    """Sorted; in grey the same of the other networks."""
    axes = plot(sheet, shown, x, y)
    for values in (*shown.others, shown.values):
        ranked, mine = np.sort(values, axis=None)[::-1], values is shown.values
        place = np.linspace(0, 1, len(ranked))
        axes.plot(place, ranked, color=ACCENT if mine else "#c4c8d0", linewidth=1.8 if mine else 0.9)
    axes.set(xlim=(0, 1))


def draw_areas(sheet: Sheet, shown: Shown, x: float, y: float, look: Look, colours: Colormap) -> None:
    """Shares (branch, c, 1, 1) on top of each other, the last branch at the bottom and largest first."""
    axes = plot(sheet, shown, x, y)
    shares = shown.values.reshape(len(shown.values), -1)[::-1]
    shares = shares[:, np.argsort(-shares[0], kind="stable")]
    colours = [to_rgba(ACCENT, strength) for strength in np.linspace(1, 0.25, len(shares))]
    axes.stackplot(np.linspace(0, 1, shares.shape[1]), shares, colors=colours)
    axes.set(xlim=(0, 1))


def draw_bars(sheet: Sheet, shown: Shown, x: float, y: float, look: Look, colours: Colormap) -> None:
    """From zero, or from an equal share."""
    axes = plot(sheet, shown, x, y)
    low, high = shown.ends
    base = min(high, max(low, 1.0 if shown.scale == "uniform=1" else 0.0))
    edges = np.arange(shown.values.size + 1)
    axes.stairs(np.clip(shown.values, low, high), edges, baseline=base, fill=True, color=ACCENT)
    axes.axhline(base, color=GREY, linewidth=0.8)
    axes.set(xlim=(0, shown.values.size))


PLOTS = (draw_curve, draw_areas, draw_bars)
MODES = {  # the others are one picture over the photograph
    "maps": draw_tiles,
    "volume": draw_tiles,
    "profile": draw_tiles,
    "views": draw_tiles,
    "footprint": draw_tiles,
    "filters": draw_tiles,
    "matrix": draw_matrix,
    "table": draw_matrix,
    "affine": draw_matrix,
    "channel": draw_curve,
    "branch": draw_areas,
    "vector": draw_bars,
    "keys": draw_bars,
    "grid": draw_grid,
}


def mode_of(shown: Shown) -> Callable:
    if shown.kind == "filters" and shown.values.ndim == 2:
        return draw_matrix
    return MODES.get(shown.kind, draw_places)


# ---- files


def save(drawn: Figure, file: Path) -> None:
    """Writes a figure as PNG or PDF, by the file's ending, and empties it. No date, no user, no path."""
    if file.suffix == ".pdf":
        nothing_personal = {"Creator": "AttnScope", "Producer": None, "CreationDate": None}
        pdf_backend().FigureCanvasPdf(drawn).print_figure(file, metadata=nothing_personal, dpi=drawn.dpi)
    else:
        FigureCanvasAgg(drawn).print_figure(file, metadata={"Software": "AttnScope"}, dpi=drawn.dpi)
    drawn.clear()


@cache
def pdf_backend() -> ModuleType:
    """matplotlib's PDF backend with settings of its own, for TrueType fonts.

    The backend takes the type of the fonts from `matplotlib.rcParams` while it draws, and from nowhere else.
    Those belong to the whole process, `rc_context` included: other threads would see them change. So this is
    a second copy of the module, which reads a copy of them.
    """
    original = find_spec("matplotlib.backends.backend_pdf")
    spec = spec_from_file_location("matplotlib.backends.attnscope_pdf", original.origin)
    backend = sys.modules[spec.name] = module_from_spec(spec)  # where its classes look for their module
    spec.loader.exec_module(backend)
    settings = {**matplotlib.rcParams, "pdf.fonttype": 42}
    backend.mpl = SimpleNamespace(rcParams=settings, __version__=matplotlib.__version__)
    return backend
