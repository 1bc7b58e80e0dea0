"""The page's maps as one figure for a slide or a paper: below each network's answer, what it looks at.

    drawn = figure(columns, view, target="predicted", cam="GradCAM")
    save(drawn, Path("figure.pdf"))

panels.py says what is to be seen, drawing.py draws each map, and here they find their places on a sheet. Only
matplotlib's objects are used, never pyplot, so threads may draw at the same time.
"""

from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from models import CLASSES

from ..record.display import percent
from ..record.view import View
from .captions import caption, subtitle, title
from .column import Column
from .drawing import draw, height_of, mark
from .panels import Absent, Panel, Row, panels
from .sheet import (
    ACCENT,
    BODY,
    CAPTION,
    HEADING,
    INK,
    NAME,
    NOTE,
    SUBTITLE,
    TITLE,
    Sheet,
    wrapped,
)

WIDTH, HEIGHT = 14.4, 8.1  # in inches: a slide
EDGE, GAP = 0.35, 0.2  # around everything, between columns
PHOTO, UNDER_TITLE, UNDER_HEADER, UNDER_MAP, UNDER_BAND = 0.95, 0.16, 0.14, 0.14, 0.3
ANSWERS, ANSWER = 2, 0.26  # how many are shown; a line of one and its bar
WINNER, UNTRAINED = BODY._replace(colour=INK), NOTE._replace(colour="#b45309")
ABSENT = NOTE._replace(colour="#7d8590")
BAND = 8  # networks side by side at most; more go on in a second band below
MOST_LANES = 12  # maps side by side; more would be too small to read
SIDES = np.arange(2.4, 0.79, -0.05)  # of a map, in inches, the largest that fits


class Block(NamedTuple):
    """A network's part of the figure: its maps in lanes of two, and what it does not have."""

    column: Column
    lanes: list[list[Panel]]
    absent: list[str]


def figure(
    columns: list[Column],
    view: View,
    target: str = "predicted",
    cam: str = "GradCAM",
    missing: dict[str, str] | None = None,
) -> Figure:
    """Draws what the page shows of some networks.

    Each network has its CAM, below it and beside it its own maps, and a sentence for each kind of map that
    others have and it has not. Up to eight networks make a sheet of 16:9; more are wrapped into bands, one
    below the other.

    Args:
        columns: one per network, all of the same picture.
        view: how the maps are drawn.
        target, cam: what was asked for.
        missing: id -> why a network that was asked for is not here.
    """
    rows, count = panels(columns, view, target, cam), -(-len(columns) // -(-len(columns) // BAND))
    bands = [blocks(columns[start : start + count], rows) for start in range(0, len(columns), count)]
    said = caption(columns, view, rows, target, cam, missing or {})
    below = EDGE + len(wrapped(said, WIDTH - 2 * EDGE, CAPTION)) * CAPTION.leading
    top = EDGE + PHOTO + UNDER_TITLE
    side = next((side for side in SIDES if fits(bands, side, top, below)), SIDES[-1])

    sheet = Sheet(WIDTH, view, side, columns[0].inspection.pixels)
    photo(sheet, columns[0], rows)
    x = EDGE + PHOTO + GAP
    y = sheet.write(x, EDGE, title(columns), TITLE)
    sheet.write(x, y + 0.05, subtitle(columns, view, rows, target, cam), SUBTITLE, WIDTH - x - EDGE)
    y = top
    for band in bands:
        y = draw_band(sheet, band, y) + UNDER_BAND
    height = max(HEIGHT, y - UNDER_BAND + below)
    sheet.write(EDGE, height - below, said, CAPTION, WIDTH - 2 * EDGE)
    return sheet.cut(height)


def save(drawn: Figure, file: Path) -> None:
    """Writes a figure as PNG or PDF, by the file's ending, and empties it. No date, no user, no path."""
    matplotlib.rcParams["pdf.fonttype"] = 42  # TrueType; the process is ours, every thread sets the same
    pdf = {"Creator": "AttnScope", "Producer": None, "CreationDate": None}
    metadata = pdf if file.suffix == ".pdf" else {"Software": "AttnScope"}
    compress = {} if file.suffix == ".pdf" else {"pil_kwargs": {"compress_level": 3}}
    drawn.savefig(file, dpi=drawn.dpi, metadata=metadata, **compress)
    drawn.clear()


# ---- what goes where


def blocks(columns: list[Column], rows: list[Row]) -> list[Block]:
    """The networks of a band. Where their maps are too many, the networks with most of them show fewer."""
    shown = {column.key: [] for column in columns}
    absent = {column.key: [] for column in columns}
    for row in rows:
        held = any(isinstance(row.cells[key], list) for key in shown)
        for key in shown:
            if isinstance(row.cells[key], list):
                shown[key] += row.cells[key]
            elif held:
                absent[key].append(said_of(row.cells[key]))
    lanes = {key: -(-len(maps) // 2) for key, maps in shown.items()}
    while sum(lanes.values()) > MOST_LANES:
        richest = max(lanes, key=lanes.get)
        lanes[richest] -= 1
    found = []
    for column in columns:
        maps, room = shown[column.key], 2 * lanes[column.key]
        if more := len(maps) - room if len(maps) > room else 0:
            absent[column.key].insert(0, f"and {more} more map{'s' if more > 1 else ''} of its own")
        maps = maps[:room]
        found.append(Block(column, [maps[i : i + 2] for i in range(0, len(maps), 2)], absent[column.key]))
    return found


def said_of(cell: Absent) -> str:
    return cell.none[0].upper() + cell.none[1:] + "."


def fits(bands: list[list[Block]], side: float, top: float, below: float) -> bool:
    """Whether maps of so many inches leave room for everything on a slide."""
    height = top + below + sum(band_height(band, side) + UNDER_BAND for band in bands) - UNDER_BAND
    widest = max(sum(len(block.lanes) for block in band) for band in bands)
    return widest * (side + GAP) - GAP <= WIDTH - 2 * EDGE and (height <= HEIGHT or len(bands) > 1)


def band_height(band: list[Block], side: float) -> float:
    return header_height(band, side) + sum(row_heights(band, side))


def row_heights(band: list[Block], side: float) -> list[float]:
    """Of the two rows of maps in a band."""
    heights = [0.0, 0.0]
    for block in band:
        for lane in block.lanes:
            for i, panel in enumerate(lane):
                heights[i] = max(heights[i], heading_height(panel, side) + height_of(panel, side) + UNDER_MAP)
        text = sum(len(wrapped(line, side, ABSENT)) for line in block.absent) * ABSENT.leading
        if len(block.lanes[-1]) == 1:  # the second place is free
            heights[1] = max(heights[1], min(text, 1.4 * side))
    return heights


def heading_height(panel: Panel, side: float) -> float:
    return len(wrapped(panel.section.title, side, HEADING)) * HEADING.leading + 0.04


# ---- placing


def photo(sheet: Sheet, column: Column, rows: list[Row]) -> None:
    """The picture, with the mark where some network has attention."""
    axes = sheet.axes(EDGE, EDGE, PHOTO, PHOTO, "picture")
    axes.imshow(column.inspection.pixels, extent=(0, 32, 32, 0), interpolation="nearest")
    if block := next((row.block for row in rows if row.section.pairwise), None):
        cells = len(column.inspection.cams[block])
        mark(axes, *(at * cells // 32 for at in sheet.view.query), cells)


def draw_band(sheet: Sheet, band: list[Block], y: float) -> float:
    """Networks side by side, over the whole width."""
    lanes, x = sum(len(block.lanes) for block in band), EDGE
    step = min((sheet.width - 2 * EDGE + GAP) / lanes, 1.5 * (sheet.side + GAP))
    first = y + header_height(band, sheet.side)
    heights = row_heights(band, sheet.side)
    for block in band:
        header(sheet, block.column, x, y, first - UNDER_HEADER, (len(block.lanes) - 1) * step + sheet.side)
        for i, lane in enumerate(block.lanes):
            top = first
            for panel, height in zip(lane, heights):
                under = sheet.write(x + i * step, top, panel.section.title, HEADING, sheet.side) + 0.04
                draw(sheet, panel, x + i * step, under)
                top += height
        if len(block.lanes[-1]) == 1:  # the second place is free
            room, left = first + sum(heights), x + (len(block.lanes) - 1) * step
            for line in block.absent:
                if top + len(wrapped(line, sheet.side, ABSENT)) * ABSENT.leading <= room + 1e-6:
                    top = sheet.write(left, top, line, ABSENT, sheet.side) + 0.06
        x += len(block.lanes) * step
    return first + sum(heights)


def header_height(band: list[Block], side: float) -> float:
    names = max(len(wrapped(block.column.title, name_width(block, side), NAME)) for block in band)
    return names * NAME.leading + NOTE.leading * 2 + 0.06 + ANSWERS * ANSWER + UNDER_HEADER


def name_width(block: Block, side: float) -> float:
    return len(block.lanes) * (side + GAP) - GAP


def header(sheet: Sheet, column: Column, x: float, top: float, bottom: float, width: float) -> None:
    """Name, accuracy, and the most probable classes of a network; the answers end at `bottom`."""
    sheet.write(x, top, column.title, NAME, width)
    value = column.accuracy["value"]
    known = "not measured" if value is None else f"{value:.1f} % right in the test"
    words, style = ("random weights, not trained", UNTRAINED) if column.random else (known, NOTE)
    y = bottom - ANSWERS * ANSWER
    sheet.write(x, y - 0.06 - len(wrapped(words, width, style)) * style.leading, words, style, width)
    ranked = np.argsort(-column.inspection.probabilities, kind="stable")[:ANSWERS]
    styles = ((HEADING._replace(size=BODY.size), WINNER, ACCENT), (BODY, BODY, "#9ca3af"))
    for index, (name, number, colour) in zip(ranked, styles):
        share = float(column.inspection.probabilities[index])
        sheet.write(x, y, CLASSES[index], name)
        sheet.write(x + sheet.side, y, percent(share), number, align="right")
        sheet.bar(x, y + ANSWER - 0.045, sheet.side, "#e5e7eb")
        sheet.bar(x, y + ANSWER - 0.045, sheet.side * share, colour)
        y += ANSWER
