"""The page's maps as one figure for a slide or a paper: below each network's answer, what it looks at.

    drawn = figure(columns, view, Question(picture), missing={})
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

from ..inspection.engine import Question
from ..inspection.network import Inspection
from ..record.display import percent
from ..record.view import View
from .captions import caption, subtitle, title
from .column import Column
from .drawing import draw, height_of, mark
from .panels import Absent, Panel, Row, panels, query_of, read_from_the_mark
from .sheet import (
    ACCENT,
    BODY,
    CAPTION,
    HEADING,
    INK,
    NAME,
    NOTE,
    SLIDE,
    SUBTITLE,
    TITLE,
    Sheet,
    fitting,
    text_width,
    wrapped,
)

WIDTHS = np.arange(SLIDE, 48, 0.5).tolist()  # in inches: the smaller the sheet, the larger its letters
EDGE, GAP = 0.3, 0.2  # around everything, between columns
PHOTO = 0.8
UNDER_TITLE, UNDER_HEADER, UNDER_HEADING, UNDER_MAP, UNDER_BAND = 0.12, 0.1, 0.04, 0.1, 0.3
TOP = EDGE + PHOTO + UNDER_TITLE
ANSWERS, ANSWER = 2, 0.26  # how many are shown; a line of one and its bar
TICK = 0.02  # in a bar, where it ended as trained
WINNER, UNTRAINED = BODY._replace(colour=INK), NOTE._replace(colour="#b45309")
ABSENT = NOTE._replace(colour="#7d8590")
BAND = 8  # networks side by side at most; more go on in a second band below
FEW_MAPS = 6  # stand in one row, more in two
MOST_LANES = 7  # maps side by side, or as many as there are networks; with more, words would be too small
SIDES = np.arange(4.0, 0.84, -0.05).round(2).tolist()  # of a map, in inches, the largest that fits


class Block(NamedTuple):
    """A network's part of the figure: its maps in lanes of one or two, and what it does not have."""

    column: Column
    lanes: list[list[Panel]]
    absent: list[str]
    more: int  # maps of its own that found no room


def figure(columns: list[Column], view: View, asked: Question, missing: dict[str, str]) -> Figure:
    """Draws what the page shows of some networks.

    Each network has its CAM, below it and beside it its own maps, and a sentence for each kind of map that
    others have and it has not. The sheet is 16:9, as a slide; more than eight networks are wrapped into
    bands, one below the other.

    Args:
        columns: one per network, all of the same picture.
        view: how the maps are drawn.
        asked: what the networks were asked.
        missing: id -> why one of them is not here.
    """
    rows, count = panels(columns, view, asked.cam), -(-len(columns) // -(-len(columns) // BAND))
    bands = [blocks(columns[start : start + count], rows) for start in range(0, len(columns), count)]
    left = [f"{block.column.title} {block.more}" for band in bands for block in band if block.more]
    said = caption(columns, view, rows, asked, missing, left)
    width, lane, side = sizes(bands, said)
    below = EDGE + caption_height(said, width)

    sheet = Sheet(width, view, side, lane, columns[0].inspection.pixels)
    photo(sheet, columns[0], rows)
    x = EDGE + PHOTO + GAP
    y = sheet.write(x, EDGE, title(columns), TITLE)
    sheet.write(x, y + 0.05, subtitle(columns, view, rows, asked), SUBTITLE, width - x - EDGE)
    y = TOP
    for band in bands:
        y = draw_band(sheet, band, y) + UNDER_BAND
    height = max(width * 9 / 16, y - UNDER_BAND + below)  # as a slide, if the largest sheet has the room
    sheet.write(EDGE, height - below, said, CAPTION, caption_width(width))
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
    deep = 1 if sum(map(len, shown.values())) <= FEW_MAPS else 2
    lanes = {key: -(-len(maps) // deep) for key, maps in shown.items()}
    while sum(lanes.values()) > max(MOST_LANES, len(columns)):
        richest = max(lanes, key=lanes.get)
        lanes[richest] -= 1
    found = []
    for column in columns:
        maps, room = shown[column.key], deep * lanes[column.key]
        more = max(0, len(maps) - room)
        if more:
            absent[column.key].insert(0, f"and {more} more map{'s' if more > 1 else ''} of its own")
        maps = maps[:room]
        laned = [maps[i : i + deep] for i in range(0, len(maps), deep)]
        found.append(Block(column, laned, absent[column.key], more))
    return found


def said_of(cell: Absent) -> str:
    return cell.none[0].upper() + cell.none[1:] + "."


def sizes(bands: list[list[Block]], said: str) -> tuple[float, float, float]:
    """Of the smallest sheet on which all fits, its width, that of a lane and that of a map, in inches."""
    lanes = max(sum(len(block.lanes) for block in band) for band in bands)
    for width in WIDTHS:
        lane = (width - 2 * EDGE + GAP) / lanes - GAP
        room = width * 9 / 16 - TOP - EDGE - caption_height(said, width)
        sides = [side for side in SIDES if side <= lane]
        if sides and bands_height(bands, sides[-1], lane) <= room:  # at least the smallest
            return width, lane, next(side for side in sides if bands_height(bands, side, lane) <= room)
    return width, lane, SIDES[-1]


def caption_width(width: float) -> float:
    """Small letters are set on whole pixels, which makes their lines a little wider than they measure."""
    return 0.96 * (width - 2 * EDGE)


def caption_height(said: str, width: float) -> float:
    return len(wrapped(said, caption_width(width), CAPTION)) * CAPTION.leading


def bands_height(bands: list[list[Block]], side: float, lane: float) -> float:
    high = sum(header_height(band, lane) + sum(row_heights(band, side, lane)) for band in bands)
    return high + (len(bands) - 1) * UNDER_BAND


def row_heights(band: list[Block], side: float, lane: float) -> tuple[float, float]:
    """Of the two rows of maps in a band; in the second also room for what stands in a free place."""
    maps = [maps for block in band for maps in block.lanes]
    first, second = (
        [heights(lane_maps[row], side, lane) for lane_maps in maps if len(lane_maps) > row] for row in (0, 1)
    )
    return max(first), max(second, default=0.5)


def heights(panel: Panel, side: float, lane: float) -> float:
    """Of a map with its title."""
    title = len(wrapped(panel.section.title, lane, HEADING)) * HEADING.leading
    return title + UNDER_HEADING + height_of(panel, side, lane) + UNDER_MAP


# ---- placing


def photo(sheet: Sheet, column: Column, rows: list[Row]) -> None:
    """The picture, with the mark where some map says what a place reads."""
    axes = sheet.axes(EDGE, EDGE, PHOTO, PHOTO, "picture")
    axes.imshow(column.inspection.pixels, extent=(0, 32, 32, 0), interpolation="nearest")
    if maps := read_from_the_mark(rows):
        mark(axes, *query_of(maps[0], sheet.view))


def draw_band(sheet: Sheet, band: list[Block], y: float) -> float:
    """Networks side by side."""
    first, step, x = y + header_height(band, sheet.lane), sheet.lane + GAP, EDGE
    rows = row_heights(band, sheet.side, sheet.lane)
    for block in band:
        header(sheet, block, x, y, first - UNDER_HEADER)
        for lane in block.lanes:
            for row, panel in enumerate(lane):
                top = sheet.write(x, first + sum(rows[:row]), panel.section.title, HEADING, sheet.lane)
                end = draw(sheet, panel, x, top + UNDER_HEADING)
            x += step
        top = max(end + UNDER_MAP, first + rows[0]) if len(lane) == 1 else end + UNDER_MAP
        for line in block.absent:  # as far as there is room
            if top + len(wrapped(line, sheet.lane, ABSENT)) * ABSENT.leading <= first + sum(rows) - UNDER_MAP:
                top = sheet.write(x - step, top, line, ABSENT, sheet.lane) + 0.06
    return first + sum(rows)


def header_height(band: list[Block], lane: float) -> float:
    names = max(len(wrapped(block.column.title, width_of(block, lane), NAME)) for block in band)
    facts = max(len(wrapped(facts_of(block.column), width_of(block, lane), NOTE)) for block in band)
    return names * NAME.leading + facts * NOTE.leading + 0.06 + ANSWERS * ANSWER + UNDER_HEADER


def width_of(block: Block, lane: float) -> float:
    return len(block.lanes) * (lane + GAP) - GAP


def facts_of(column: Column) -> str:
    value, seen = column.accuracy["value"], column.inspection
    was = "as it starts" if column.random else "as trained"
    facts = "not measured" if value is None else f"{value:.1f} % in the test"
    if column.random:
        facts = "random weights, not trained"
    elif value is not None and seen.replaced:  # nobody has tested it so
        facts = f"{was} {facts}"
    if seen.before is None:
        return facts
    return f"{facts}\n{f'answers {was}' if seen.replace_note else change_of(seen, was)}"


def change_of(seen: Inspection, was: str = "as trained") -> str:
    """What replaced attention did to the answer: "cat 91 % (as trained 96 %)"."""
    now, before = seen.probabilities, seen.before
    first, old = int(now.argmax()), int(before.argmax())
    behind = "" if first == old else f", behind {CLASSES[old]} with {percent(before[old])}"
    return f"{CLASSES[first]} {percent(now[first])} ({was} {percent(before[first])}{behind})"


def header(sheet: Sheet, block: Block, x: float, top: float, bottom: float) -> None:
    """Name, accuracy, and the most probable classes of a network; the answers end at `bottom`."""
    column, width = block.column, width_of(block, sheet.lane)
    sheet.write(x, top, column.title, NAME, width)
    y, style = bottom - ANSWERS * ANSWER, UNTRAINED if column.random else NOTE
    facts = facts_of(column)
    sheet.write(x, y - 0.06 - len(wrapped(facts, width, style)) * style.leading, facts, style, width)
    ranked = np.argsort(-column.inspection.probabilities, kind="stable")[:ANSWERS]
    styles = ((HEADING._replace(size=BODY.size), WINNER, ACCENT), (BODY, BODY, "#9ca3af"))
    for index, (name, number, colour) in zip(ranked, styles):
        share = float(column.inspection.probabilities[index])
        room = width - text_width(f"  {percent(share)}", number)
        sheet.write(x, y, CLASSES[index], fitting(name, CLASSES[index], room))
        sheet.write(x + width, y, percent(share), number, align="right")
        sheet.bar(x, y + ANSWER - 0.045, width, "#e5e7eb")
        sheet.bar(x, y + ANSWER - 0.045, width * share, colour)
        if column.inspection.before is not None and not column.inspection.replace_note:
            before = float(column.inspection.before[index])
            sheet.bar(x + (width - TICK) * before, y + ANSWER - 0.045, TICK, INK)
        y += ANSWER
