"""How a map is drawn: as a picture, as tiles, a matrix, a curve, areas, bars, or lines.

Each function draws one panel with its top left corner at (x, y), in inches, and returns where it ends.
`MODES` says which function draws what record/display.json asks for; the page does the same in
page/maps/draw.js.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize, to_rgba
from matplotlib.patches import PathPatch, Rectangle

from ..record.display import description, number
from .panels import Panel, query_of, tiles
from .sheet import ACCENT, GREY, INK, INKS, NUMBERS, PATH, TINY, Sheet, fitting, text_width, wrapped

TALL, STRIP = 0.5, 0.08  # of a side: the height of curves, areas and bars; of the strip below a curve
TILE_GAP, TILE_NAME, RAMP = 0.06, 0.2, 0.2  # in inches


def draw(sheet: Sheet, panel: Panel, x: float, y: float) -> float:
    """A map, its colours, its numbers, and the name of its tensor; returns where all of it ends."""
    y = MODES[panel.drawn](sheet, panel, x, y)
    if panel.drawn in ("places", "tiles", "matrix"):
        y = ramp(sheet, panel, x, y)
    y = sheet.write(x, y + 0.03, "\n".join(panel.brief), NUMBERS, sheet.lane) if panel.brief else y + 0.03
    return sheet.write(x, y, panel.tensor, PATH, sheet.lane)


def height_of(panel: Panel, side: float, lane: float) -> float:
    """How high all of it will be, for maps of `side` inches with words as wide as `lane`."""
    shown = min(len(tiles(panel)), description()["tiles"]["figure"]) if panel.drawn == "tiles" else 1
    across = min(2, shown)
    tile = (side - (across - 1) * TILE_GAP) / across + TILE_NAME
    heights = {"places": side, "grid": side, "matrix": side / 3 if panel.kind == "table" else side}
    heights |= {"bars": TALL * side, "tiles": -(-shown // across) * tile}
    height = heights.get(panel.drawn, (TALL + STRIP) * side + 0.03)
    height += RAMP * (panel.drawn in ("places", "tiles", "matrix")) + 0.03
    said = sum(len(wrapped(line, lane, NUMBERS)) for line in panel.brief)
    return height + said * NUMBERS.leading + len(wrapped(panel.tensor, lane, PATH)) * PATH.leading


def ramp(sheet: Sheet, panel: Panel, x: float, y: float) -> float:
    """The colours from end to end; a line under them is the range of the map, a dot its mean."""
    low, high = panel.end_words
    sheet.write(x, y + 0.015, low, TINY)
    sheet.write(x + sheet.wide, y + 0.015, high, TINY, align="right")
    left, right = text_width(low, TINY) + 0.07, text_width(high, TINY) + 0.07
    axes = sheet.axes(x + left, y + 0.08, sheet.wide - left - right, 0.07)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=sheet.colours, extent=(0, 1, 0, 1), aspect="auto")
    values, position = panel.values[np.isfinite(panel.values)], norm(panel)
    least, most, mean = (float(position(value)) for value in (values.min(), values.max(), values.mean()))
    axes.plot([least, most], [-0.55, -0.55], color=INK, linewidth=1.0, clip_on=False, solid_capstyle="butt")
    axes.plot([mean], [-0.55], marker="o", markersize=2.6, color=INK, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return y + RAMP


def norm(panel: Panel) -> Normalize:
    """From values to colours; equal factors of a share are equal steps."""
    return (LogNorm if panel.scale == "uniform=1" else Normalize)(*panel.ends, clip=True)


# ---- pictures


def draw_places(sheet: Sheet, panel: Panel, x: float, y: float) -> float:
    axes = sheet.axes(x, y, sheet.side, sheet.side, panel.name)
    paint(sheet, axes, panel, panel.values, over_picture=True)
    if description()["kinds"][panel.kind].get("marked"):
        mark(axes, *query_of(panel.map, sheet.view))
    return y + sheet.side


def paint(sheet: Sheet, axes: Axes, panel: Panel, values: np.ndarray, over_picture: bool) -> None:
    """Values (h, w) in their own colours, so that the legend holds; over them the picture as lines."""
    extent, smooth = ((0, 32, 32, 0) if over_picture else None), False
    if over_picture and not sheet.view.overlay:
        axes.imshow(sheet.pixels, extent=extent, interpolation="nearest")
        return
    if over_picture:
        smooth = sheet.view.cells == "smooth" and not np.isnan(values).any()
    if panel.flat:  # one colour
        values = np.where(np.isnan(values), np.nan, np.nanmean(panel.values))
    colours = sheet.colours.with_extremes(bad=(0, 0, 0, 0))
    image = axes.imshow(values, cmap=colours, norm=norm(panel), extent=extent, aspect="auto")
    image.set_interpolation("bilinear" if smooth else "nearest")
    image.set_interpolation_stage("rgba")  # the colours are blended, as on the page
    if over_picture:
        rules = description()["contours"]
        size = 72 * sheet.boxes[axes][2] / 32  # points for a pixel of the picture
        for colour, width in ((rules["dark"], size / 3), (rules["light"], size / 7)):
            line = {"linewidth": width, "alpha": rules["strongest"] * (1 - sheet.view.overlay)}
            axes.add_patch(PathPatch(sheet.contours, fill=False, edgecolor=colour, **line))


def mark(axes: Axes, x: int, y: int, side: int) -> None:
    """The cell of the marked place: black under white, seen on every colour."""
    cell = 32 / side
    for colour, thick in (("black", 3.2), ("white", 1.5)):
        frame = Rectangle((x * cell, y * cell), cell, cell, fill=False, edgecolor=colour, linewidth=thick)
        axes.add_patch(frame).set_clip_on(False)


def draw_tiles(sheet: Sheet, panel: Panel, x: float, y: float) -> float:
    """The first few of several pictures, each with its name below."""
    pictures = tiles(panel)[: description()["tiles"]["figure"]]
    over = description()["kinds"][panel.kind].get("over", False)
    across = min(2, len(pictures))
    side = (sheet.side - (across - 1) * TILE_GAP) / across
    for start in range(0, len(pictures), across):
        for i, (name, values) in enumerate(pictures[start : start + across]):
            left = x + i * (side + TILE_GAP)
            axes = sheet.axes(left, y, side, side, f"{panel.name} {name}")
            paint(sheet, axes, panel, values, over_picture=over)
            sheet.write(left, y + side - 0.01, name, fitting(TINY, name, side))
        y += side + TILE_NAME
    return y


def draw_matrix(sheet: Sheet, panel: Panel, x: float, y: float) -> float:
    """With its numbers where there are few."""
    height = sheet.side / 3 if panel.kind == "table" else sheet.side
    axes = sheet.axes(x, y, sheet.side, height, panel.name)
    paint(sheet, axes, panel, panel.values, over_picture=False)
    few, size = description()["numbers_in_cells"], min(NUMBERS.size, 17 * sheet.side / panel.values.shape[1])
    for (row, at), value in np.ndenumerate(panel.values) if panel.values.size <= few else ():
        light = sum(sheet.colours(float(norm(panel)(value)))[:3]) > 1.5
        colour = "black" if light else "white"
        axes.text(at, row, number(value), color=colour, fontsize=size, ha="center", va="center")
    return y + height


def draw_grid(sheet: Sheet, panel: Panel, x: float, y: float) -> float:
    """The picture from -1 to 1, and some lines of the places at which it is sampled."""
    axes = sheet.axes(x, y, sheet.side, sheet.side, panel.name)
    axes.imshow(sheet.pixels, extent=(-1, 1, 1, -1), interpolation="nearest")
    step = description()["grid_step"]
    rows, columns = (sorted({*range(0, size, step), size - 1}) for size in panel.values.shape[:2])
    lines = [panel.values[row] for row in rows] + [panel.values[:, at] for at in columns]
    for colour, thick in (("black", 2.2), (description()["inks"]["lines"], 1.0)):
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=thick))
    axes.set(xlim=(-1.6, 1.6), ylim=(1.6, -1.6))
    return y + sheet.side


# ---- curves, areas and bars


def plot(sheet: Sheet, panel: Panel, x: float, y: float, right: float) -> Axes:
    """Axes from 0 to `right`, with the two ends of the scale beside them."""
    height = TALL * sheet.side
    width = sheet.wide - max(text_width(end, TINY) for end in panel.end_words) - 0.07
    axes = sheet.axes(x, y, width, height, panel.name)
    axes.set_yscale("log" if panel.scale == "uniform=1" else "linear")
    axes.set(xlim=(0, right), ylim=panel.ends)
    axes.axhspan(*panel.ends, color=INKS["ground"], zorder=0)
    for end, top in zip(panel.end_words, (height - 0.15, -0.04)):
        sheet.write(x + sheet.wide, y + top, end, TINY, align="right")
    return axes


def strip(sheet: Sheet, panel: Panel, values: np.ndarray, plotted: Axes) -> float:
    """The values again, as colours in the network's own order, below a curve; returns where it ends."""
    x, y, width, height = sheet.boxes[plotted]
    axes = sheet.axes(x, y + height + 0.03, width, STRIP * sheet.side, f"{panel.name} strip")
    axes.imshow(
        values.reshape(1, -1), cmap=sheet.colours, norm=norm(panel), aspect="auto", interpolation="nearest"
    )
    return y + height + 0.03 + STRIP * sheet.side


def draw_curve(sheet: Sheet, panel: Panel, x: float, y: float) -> float:
    """Sorted; in grey the same of the other networks."""
    axes = plot(sheet, panel, x, y, right=1)
    for values in (*panel.others, panel.values):
        colour, width = (ACCENT, 1.8) if values is panel.values else (INKS["other"], 0.9)
        axes.plot(
            np.linspace(0, 1, values.size), np.sort(values, axis=None)[::-1], color=colour, linewidth=width
        )
    return strip(sheet, panel, panel.values, axes)


def draw_areas(sheet: Sheet, panel: Panel, x: float, y: float) -> float:
    """Shares (branch, c, 1, 1) on top of each other, the last branch at the bottom and largest first."""
    shares = panel.values.reshape(len(panel.values), -1)[::-1]
    shares = shares[:, np.argsort(-shares[0], kind="stable")]
    colours = [to_rgba(ACCENT, strength) for strength in np.linspace(1, 0.25, len(shares))]
    axes = plot(sheet, panel, x, y, right=1)
    axes.stackplot(np.linspace(0, 1, shares.shape[1]), shares, colors=colours)
    return strip(sheet, panel, panel.values[-1], axes)


def draw_bars(sheet: Sheet, panel: Panel, x: float, y: float) -> float:
    """From zero, or from an equal share."""
    edges, heights = np.arange(panel.values.size + 1), np.clip(panel.values, *panel.ends)
    axes = plot(sheet, panel, x, y, right=panel.values.size)
    axes.stairs(heights, edges, baseline=panel.base, fill=True, color=ACCENT)
    axes.axhline(panel.base, color=GREY, linewidth=0.8)
    return y + TALL * sheet.side


MODES = {
    "places": draw_places,
    "tiles": draw_tiles,
    "matrix": draw_matrix,
    "grid": draw_grid,
    "curve": draw_curve,
    "areas": draw_areas,
    "bars": draw_bars,
}
