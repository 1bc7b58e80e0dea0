"""How a map is drawn: as a picture over the photograph, as tiles, a matrix, a curve, areas, bars, or lines.

Each function draws one map with its top left corner at (x, y), in inches, and returns where it ends. `MODES`
says which function draws which kind; the page does the same in page/draw.js.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize, to_rgba
from matplotlib.patches import Rectangle

from .panels import Shown, number, query_of, tiles
from .sheet import ACCENT, GREY, INK, NUMBERS, PATH, TINY, Sheet, text_width

SIDE, FLAT_HEIGHT = 1.75, 1.0  # of a picture; of curves, areas and bars
TILE_GAP, TILE_NAME = 0.08, 0.17
OVER_PHOTO = ("maps", "volume", "profile", "views")  # tiles that are pictures of the same places


def draw(sheet: Sheet, shown: Shown, x: float, y: float) -> tuple[float, float]:
    """A map, its colours, its numbers, and the path of its tensor: where the map ends, and where all ends."""
    window = shown.kind == "filters" and shown.values.ndim == 2
    mode = draw_matrix if window else MODES.get(shown.kind, draw_places)
    drawn = y = mode(sheet, shown, x, y)
    if mode in (draw_places, draw_tiles, draw_matrix):
        y = ramp(sheet, shown, x, y)
    y = sheet.write(x, y + 0.05, "\n".join(shown.said), NUMBERS, SIDE) if shown.said else y + 0.05
    path = shown.path + (" (same for all pictures)" if shown.map.static else "")
    return drawn, sheet.write(x, y, path, PATH, SIDE)


def ramp(sheet: Sheet, shown: Shown, x: float, y: float) -> float:
    """The colours from end to end; a line under them is the range of the map, a dot its mean."""
    low, high = shown.end_words
    sheet.write(x, y + 0.015, low, TINY)
    sheet.write(x + SIDE, y + 0.015, high, TINY, align="right")
    left, right = text_width(low, TINY) + 0.07, text_width(high, TINY) + 0.07
    axes = sheet.axes(x + left, y + 0.06, SIDE - left - right, 0.07)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=sheet.colours, extent=(0, 1, 0, 1), aspect="auto")
    values, position = shown.values[np.isfinite(shown.values)], norm(shown)
    least, most, mean = (float(position(value)) for value in (values.min(), values.max(), values.mean()))
    axes.plot([least, most], [-0.55, -0.55], color=INK, linewidth=1.0, clip_on=False, solid_capstyle="butt")
    axes.plot([mean], [-0.55], marker="o", markersize=2.6, color=INK, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return y + 0.16


def norm(shown: Shown) -> Normalize:
    """From values to colours; equal factors of a share are equal steps."""
    return (LogNorm if shown.scale == "uniform=1" else Normalize)(*shown.ends, clip=True)


# ---- pictures


def draw_places(sheet: Sheet, shown: Shown, x: float, y: float) -> float:
    axes = sheet.axes(x, y, SIDE, SIDE, shown.name)
    paint(sheet, axes, shown, shown.values, over_photo=True)
    if shown.kind in ("pairwise", "cross"):
        mark(axes, *query_of(shown.map, sheet.view))
    return y + SIDE


def paint(sheet: Sheet, axes: Axes, shown: Shown, values: np.ndarray, over_photo: bool) -> None:
    """Values (h, w), alone or over the grey picture, which is in colour where nothing covers it."""
    smooth, colours = False, sheet.colours
    if over_photo:
        pixels, opacity = shown.column.seen.pixels, sheet.view.overlay
        if opacity:
            pixels = np.repeat((pixels @ [0.299, 0.587, 0.114])[..., None], 3, 2).round().astype(np.uint8)
        axes.imshow(pixels, extent=(0, 32, 32, 0), interpolation="nearest")
        smooth = sheet.view.cells == "smooth" and not np.isnan(values).any()
        # The colours carry the opacity, for the PDF backend applies that of an image twice.
        colours = colours.with_alpha(opacity).with_extremes(bad=(0, 0, 0, 0))
    extent = (0, 32, 32, 0) if over_photo else None
    image = axes.imshow(values, cmap=colours, norm=norm(shown), extent=extent, aspect="auto")
    image.set_interpolation("bilinear" if smooth else "nearest")


def mark(axes: Axes, x: int, y: int, side: int) -> None:
    """The cell of the marked place: black under white, seen on every colour."""
    cell = 32 / side
    for colour, thick in (("black", 3.2), ("white", 1.5)):
        frame = Rectangle((x * cell, y * cell), cell, cell, fill=False, edgecolor=colour, linewidth=thick)
        axes.add_patch(frame).set_clip_on(False)


def draw_tiles(sheet: Sheet, shown: Shown, x: float, y: float) -> float:
    """Several pictures, each with its name below."""
    pictures = tiles(shown)
    across = 1 if len(pictures) == 1 else 2 if len(pictures) <= 4 else 3
    side = (SIDE - (across - 1) * TILE_GAP) / across
    for start in range(0, len(pictures), across):
        for i, (name, values) in enumerate(pictures[start : start + across]):
            left = x + i * (side + TILE_GAP)
            axes = sheet.axes(left, y, side, side, f"{shown.name} {name}")
            paint(sheet, axes, shown, values, over_photo=shown.kind in OVER_PHOTO)
            sheet.write(left, y + side - 0.01, name, TINY._replace(size=7.0))
        y += side + TILE_NAME
    return y


def draw_matrix(sheet: Sheet, shown: Shown, x: float, y: float) -> float:
    """With its numbers where there are few."""
    axes = sheet.axes(x, y, SIDE, SIDE, shown.name)
    paint(sheet, axes, shown, shown.values, over_photo=False)
    size = min(9.5, 30 / shown.values.shape[1])
    for (row, at), value in np.ndenumerate(shown.values) if shown.values.size <= 36 else ():
        light = sum(sheet.colours(float(norm(shown)(value)))[:3]) > 1.5
        colour = "black" if light else "white"
        axes.text(at, row, number(value), color=colour, fontsize=size, ha="center", va="center")
    return y + SIDE


def draw_grid(sheet: Sheet, shown: Shown, x: float, y: float) -> float:
    """The picture from -1 to 1, and every fourth line of the places at which it is sampled."""
    axes = sheet.axes(x, y, SIDE, SIDE, shown.name)
    axes.imshow(shown.column.seen.pixels, extent=(-1, 1, 1, -1), interpolation="nearest")
    rows, columns = (sorted({*range(0, size, 4), size - 1}) for size in shown.values.shape[:2])
    lines = [shown.values[row] for row in rows] + [shown.values[:, at] for at in columns]
    for colour, thick in (("black", 2.2), ("#fde725", 1.0)):
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=thick))
    axes.set(xlim=(-1.6, 1.6), ylim=(1.6, -1.6))
    return y + SIDE


# ---- curves, areas and bars


def plot(sheet: Sheet, shown: Shown, x: float, y: float, right: float) -> Axes:
    """Axes from 0 to `right`, with the two ends of the scale beside them."""
    width = SIDE - max(text_width(end, TINY) for end in shown.end_words) - 0.07
    axes = sheet.axes(x, y, width, FLAT_HEIGHT, shown.name)
    axes.set_yscale("log" if shown.scale == "uniform=1" else "linear")
    axes.set(xlim=(0, right), ylim=shown.ends)
    axes.axhspan(*shown.ends, color="#f3f4f6", zorder=0)
    for end, top in zip(shown.end_words, (FLAT_HEIGHT - 0.12, -0.03)):
        sheet.write(x + SIDE, y + top, end, TINY, align="right")
    return axes


def draw_curve(sheet: Sheet, shown: Shown, x: float, y: float) -> float:
    """Sorted; in grey the same of the other networks."""
    axes = plot(sheet, shown, x, y, right=1)
    for values in (*shown.others, shown.values):
        colour, width = (ACCENT, 1.8) if values is shown.values else ("#c4c8d0", 0.9)
        axes.plot(
            np.linspace(0, 1, values.size), np.sort(values, axis=None)[::-1], color=colour, linewidth=width
        )
    return y + FLAT_HEIGHT


def draw_areas(sheet: Sheet, shown: Shown, x: float, y: float) -> float:
    """Shares (branch, c, 1, 1) on top of each other, the last branch at the bottom and largest first."""
    shares = shown.values.reshape(len(shown.values), -1)[::-1]
    shares = shares[:, np.argsort(-shares[0], kind="stable")]
    colours = [to_rgba(ACCENT, strength) for strength in np.linspace(1, 0.25, len(shares))]
    axes = plot(sheet, shown, x, y, right=1)
    axes.stackplot(np.linspace(0, 1, shares.shape[1]), shares, colors=colours)
    return y + FLAT_HEIGHT


def draw_bars(sheet: Sheet, shown: Shown, x: float, y: float) -> float:
    """From zero, or from an equal share."""
    base = max(shown.ends[0], 1.0 if shown.scale == "uniform=1" else 0.0)
    edges, heights = np.arange(shown.values.size + 1), np.clip(shown.values, *shown.ends)
    axes = plot(sheet, shown, x, y, right=shown.values.size)
    axes.stairs(heights, edges, baseline=base, fill=True, color=ACCENT)
    axes.axhline(base, color=GREY, linewidth=0.8)
    return y + FLAT_HEIGHT


MODES = {
    "channel": draw_curve,
    "branch": draw_areas,
    "vector": draw_bars,
    "keys": draw_bars,
    "grid": draw_grid,
}
MODES |= dict.fromkeys(("matrix", "table", "affine"), draw_matrix)
MODES |= dict.fromkeys(("maps", "volume", "profile", "views", "footprint", "filters"), draw_tiles)
