"""The page's maps as one figure for a slide or a paper: a column per network, a row per kind of map.

    drawn = figure(columns, view, target="predicted", cam="GradCAM")
    save(drawn, Path("figure.pdf"))

shown.py says what is to be seen, drawing.py draws each map, and here they find their places on a sheet. Only
matplotlib's objects are used, never pyplot, so threads may draw at the same time.
"""

from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from models import CLASSES

from ..record.view import View
from .captions import cam_name, caption, lines_about, percent, why_none
from .column import Column
from .drawing import SIDE, draw, mark
from .panels import Section, Shown, maps_of, scale, sections, site_of
from .sheet import ACCENT, BODY, HEADING, INK, NOTE, TITLE, Sheet, wrapped

EDGE, GAP = 0.3, 0.3  # in inches: around everything, between columns
UNDER_HEADER, UNDER_ROW = 0.24, 0.26
ANSWER = 0.25  # a line of an answer and its bar
WINNER, UNTRAINED = BODY._replace(colour=INK), NOTE._replace(colour="#b45309")
ABSENT = NOTE._replace(colour="#8b929e")
MIN_WIDTH = 6.3
BAND = 12  # networks side by side at most; more go on in a second band below
PER_LINE = 4  # maps side by side, where there is one network alone
MOST_SECTIONS = 3  # in one row
MOST_MAPS = 4  # of one kind and one network


class Row(NamedTuple):
    """Maps of one or more kinds: number of the column -> map."""

    sections: list[Section]
    cells: dict[int, Shown]


def figure(
    columns: list[Column],
    view: View,
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
        view: how the maps are drawn.
        target, cam: what was asked for, for the caption.
        missing: id -> why a network that was asked for is not here.
    """
    site, count = site_of(columns, view), len(columns)
    table = rows(columns, view, site, cam)
    across = min(PER_LINE, len(table)) if count == 1 else -(-count // -(-count // BAND))
    sheet = Sheet(max(MIN_WIDTH, left_of(across) + SIDE + EDGE), view)
    y = EDGE
    if count == 1:
        photo(sheet, columns[0], site, SIDE)
        below = headers(sheet, columns, EDGE, EDGE + SIDE + UNDER_HEADER)
        for start in range(0, len(table), across):
            line = [row.cells[0] for row in table[start : start + across]]
            y = draw_row(sheet, columns, Row([], dict(enumerate(line))), y)
        y = max(y, below)
    else:
        for start in range(0, count, across):
            part = columns[start : start + across]
            y = headers(sheet, part, left_of(1), y)
            if start == 0:
                photo(sheet, columns[0], site, y - UNDER_HEADER - EDGE)
            for row in band(table, start, start + across):
                y = draw_row(sheet, part, row, y)
    said = caption(columns, view, site, target, cam, missing or {})
    return sheet.cut(sheet.write(EDGE, y, said, BODY, sheet.width - 2 * EDGE) + EDGE)


def save(drawn: Figure, file: Path) -> None:
    """Writes a figure as PNG or PDF, by the file's ending, and empties it. No date, no user, no path."""
    matplotlib.rcParams["pdf.fonttype"] = 42  # TrueType; the process is ours, every thread sets the same
    pdf = {"Creator": "AttnScope", "Producer": None, "CreationDate": None}
    metadata = pdf if file.suffix == ".pdf" else {"Software": "AttnScope"}
    drawn.savefig(file, dpi=drawn.dpi, metadata=metadata)
    drawn.clear()


# ---- the table of maps


def rows(columns: list[Column], view: View, site: str | None, cam: str) -> list[Row]:
    """One row for each kind of map, and one more for a network's second map of the kind, and so on."""
    found = []
    for section in sections(cam_name(cam)):
        place = site if section.sited else view.block
        each = [maps_of(column, section, place, view) for column in columns]
        scale([shown for maps in each for shown in maps], view)
        for maps in each:
            for shown in maps:
                shown.said = lines_about(shown, view, cam)
            if len(maps) > MOST_MAPS:
                maps[MOST_MAPS - 1].said.append(f"and {len(maps) - MOST_MAPS} more of this kind")
        for line in range(min(MOST_MAPS, max(map(len, each)))):
            cells = {i: maps[line] for i, maps in enumerate(each) if line < len(maps)}
            found.append(Row([] if line else [section], cells))
    return found


def band(table: list[Row], start: int, stop: int) -> list[Row]:
    """The rows of some columns; those whose maps stand in different columns become one."""
    found: list[Row] = []
    for row in table:
        cells = {i - start: shown for i, shown in row.cells.items() if start <= i < stop}
        free = (other for other in found if not other.cells.keys() & cells.keys())
        shared = next((other for other in free if len(other.sections) < MOST_SECTIONS), None)
        if cells and shared:
            shared.sections.extend(row.sections)
            shared.cells.update(cells)
        elif cells:
            found.append(Row([*row.sections], cells))
    return found


# ---- placing


def left_of(column: int) -> float:
    """Of a network, from 1; 0 is the column of the row titles."""
    return EDGE + column * (SIDE + GAP)


def photo(sheet: Sheet, column: Column, site: str | None, side: float) -> None:
    """The picture, with the mark where some network has attention."""
    axes = sheet.axes(EDGE, EDGE, side, side, "picture")
    axes.imshow(column.seen.pixels, extent=(0, 32, 32, 0), interpolation="nearest")
    if site:
        cells = len(column.seen.cams[site])
        mark(axes, *(at * cells // 32 for at in sheet.view.query), cells)


def headers(sheet: Sheet, columns: list[Column], x: float, top: float) -> float:
    """Name, accuracy, and the three most probable classes of networks side by side."""
    titles = [len(wrapped(column.title, SIDE, TITLE)) for column in columns]
    for column, lines in zip(columns, titles):
        y = top + (max(titles) - lines) * TITLE.leading  # the names end on one line
        y = sheet.write(x, y, column.title, TITLE, SIDE)
        value = column.accuracy["value"]
        known = "not measured" if value is None else f"{value:.1f} % right in the test"
        words, style = ("random weights, not trained", UNTRAINED) if column.random else (known, NOTE)
        y = sheet.write(x, y, words, style) + 0.06
        ranked = np.argsort(-column.seen.probabilities, kind="stable")[:3]
        styles = ((HEADING, WINNER, ACCENT), (BODY, BODY, "#9ca3af"), (BODY, BODY, "#9ca3af"))
        for index, (name, number, colour) in zip(ranked, styles):
            share = float(column.seen.probabilities[index])
            sheet.write(x, y, CLASSES[index], name)
            sheet.write(x + SIDE, y, percent(share), number, align="right")
            sheet.bar(x, y + ANSWER - 0.065, SIDE, "#e5e7eb")
            sheet.bar(x, y + ANSWER - 0.065, SIDE * share, colour)
            y += ANSWER
        x += SIDE + GAP
    return y + UNDER_HEADER


def draw_row(sheet: Sheet, columns: list[Column], row: Row, y: float) -> float:
    """Titles on the left, the maps, and for the networks without a map why there is none."""
    label = y
    for section in row.sections:
        label = sheet.write(EDGE, label, section.title, TITLE, SIDE)
        label = sheet.write(EDGE, label, section.text, NOTE, SIDE) + 0.1
    if not row.sections or len({shown.section for shown in row.cells.values()}) > 1:
        for i, shown in row.cells.items():
            sheet.write(left_of(i + 1), y, shown.section.title, HEADING)
        y += HEADING.leading + 0.06
    ends = [draw(sheet, shown, left_of(i + 1), y) for i, shown in row.cells.items()]
    middle = (y + max(drawn for drawn, _ in ends)) / 2
    for i, column in enumerate(columns):
        if i not in row.cells and row.sections:
            words = "\n".join(why_none(column, section) for section in row.sections)
            top = middle - len(wrapped(words, SIDE, ABSENT)) * ABSENT.leading / 2
            sheet.write(left_of(i + 1) + SIDE / 2, top, words, ABSENT, SIDE, align="center")
    return max(label, *(end for _, end in ends)) + UNDER_ROW
