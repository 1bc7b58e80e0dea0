"""A white sheet that is filled from top to bottom, in inches from its top left corner.

What is put on it says where it ends: there the next thing starts; `cut` gives the sheet its height.
"""

import re
from functools import cached_property, lru_cache
from math import inf
from typing import NamedTuple

import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D, ScaledTranslation

from ..record.display import description
from ..record.view import View

DPI, MOST_PIXELS = 160, 24e6
INKS = description()["inks"]["light"]
INK, GREY, ACCENT = INKS["text"], INKS["note"], INKS["accent"]


class Style(NamedTuple):
    """Of type: its size in points, its colour, and one of the typefaces that come with matplotlib."""

    size: float
    colour: str = INK
    bold: bool = False
    mono: bool = False

    @property
    def leading(self) -> float:
        """Inches from line to line."""
        return 1.3 * self.size / 72


SLIDE = 13.333  # inches: the width of a 16:9 slide, on which the sizes below are meant
TITLE, SUBTITLE = Style(22.0, bold=True), Style(13.0, GREY)
NAME, HEADING, BODY = Style(12.0, bold=True), Style(11.5, bold=True), Style(11.5, GREY)
NOTE, NUMBERS, TINY = Style(11.0, GREY), Style(11.0), Style(11.0, GREY)  # read at the back of a room
PATH, CAPTION = Style(6.5, GREY, mono=True), Style(7.0, GREY)  # fine print: for who has the file


def font(style: Style) -> FontProperties:
    family = "DejaVu Sans Mono" if style.mono else "DejaVu Sans"
    return FontProperties(family=family, size=style.size, weight="bold" if style.bold else "normal")


@lru_cache(maxsize=8192)
def text_width(text: str, style: Style) -> float:
    return text_to_path.get_text_width_height_descent(text, font(style), ismath=False)[0] / 72


def fitting(style: Style, text: str, width: float) -> Style:
    """The style, or a smaller one of its kind in which the text fits into one line of a width."""
    return style._replace(size=style.size * min(1.0, width / text_width(text, style)))


@lru_cache(maxsize=8192)
def wrapped(text: str, width: float, style: Style) -> tuple[str, ...]:
    """Lines that fit a width, broken at spaces; titles also at hyphens, paths at dots and underscores."""
    lines, breaks = [], r"(?<=[._ ])" if style.mono else r"(?<=[ -])" if style.bold else r"(?<= )"
    for line in text.replace(" %", "\N{NO-BREAK SPACE}%").split("\n"):
        lines.append("")
        taken = 0.0  # of the width; the pieces are measured one by one, for most of them come again
        for piece in re.split(breaks, line):
            if lines[-1] and taken + text_width(piece.rstrip(), style) > width:
                lines.append("")
                taken = 0.0
            lines[-1] += piece
            taken += text_width(piece, style)
    return tuple(line.rstrip() for line in lines)


class Sheet:
    """A figure of some width, for maps of `side` inches with words `lane` inches wide below them.

    Curves, and colours with words at their ends, are `wide`: on narrow maps the words would leave no room.
    """

    def __init__(self, width: float, view: View, side: float, lane: float, pixels: np.ndarray):
        self.width, self.view, self.side, self.lane, self.pixels = width, view, side, lane, pixels
        self.wide = max(side, min(lane, 1.7))
        anchors = [f"#{colour}" for colour in description()["colours"][view.colours].split()]
        self.colours = LinearSegmentedColormap.from_list(view.colours, anchors)
        self.figure = Figure(figsize=(width, 1), facecolor="white")
        top = ScaledTranslation(0, 1, self.figure.transFigure)  # wherever that will be
        self.inches = Affine2D().scale(1, -1) + self.figure.dpi_scale_trans + top
        self.boxes: dict[Axes, tuple[float, float, float, float]] = {}

    @cached_property
    def contours(self) -> Path:
        """Lines along which the picture is equally bright, in its pixels; the page draws the same."""
        brightness, centres = self.pixels @ [0.299, 0.587, 0.114], np.arange(32) + 0.5
        lines, ordered = contour_generator(centres, centres, brightness), np.sort(brightness, axis=None)
        levels = [ordered[int(share * 1023)] + 0.01 for share in description()["contours"]["levels"]]
        return Path.make_compound_path(*(Path(line) for level in levels for line in lines.lines(level)))

    def axes(self, x: float, y: float, width: float, height: float, label: str = "") -> Axes:
        """Axes without a frame."""
        made = self.figure.add_axes((0, 0, 1, 1), label=label)
        made.set_axis_off()
        self.boxes[made] = x, y, width, height
        return made

    def bar(self, x: float, y: float, width: float, colour: str) -> None:
        self.figure.add_artist(Rectangle((x, y), width, 0.035, color=colour, lw=0, transform=self.inches))

    def write(
        self, x: float, y: float, text: str, style: Style, width: float = inf, align: str = "left"
    ) -> float:
        """Lines below y, as wide as `width` allows; returns where they end."""
        for line in wrapped(text, width, style):
            y += style.leading
            base = y - 0.28 * style.size / 72
            written = self.figure.text(x, base, line, transform=self.inches, color=style.colour, ha=align)
            written.set(fontproperties=font(style), parse_math=False)
        return y

    def cut(self, height: float) -> Figure:
        """The finished figure: its height is known now."""
        self.figure.set_size_inches(self.width, height)
        self.figure.set_dpi(min(DPI, (MOST_PIXELS / (self.width * height)) ** 0.5))
        for axes, (x, y, wide, high) in self.boxes.items():
            at = x / self.width, 1 - (y + high) / height
            axes.set_position((*at, wide / self.width, high / height))
        return self.figure
