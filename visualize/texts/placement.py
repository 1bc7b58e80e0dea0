"""A drawing of where a mechanism stands: the whole network as a strip, and below it the place enlarged.

    placement("se")    # inline SVG for the page, whose colours are the page's own CSS variables

It is 360 units wide and made for a phone, where a unit is a pixel. Every place in the network has its name in
`data-site`; what belongs to the mechanism has the class `mine`.
"""

from functools import cache
from html import escape

import torch
from torch import nn

from models import CATALOGUE, Entry, build
from models.catalogue import BLOCK_SLOTS
from models.networks import shapes_only
from models.resnet import SIZES, WIDTHS, BasicBlock

from .cards import place

WIDTH = 360
TEXT, FAINT = "var(--text)", "var(--note)"
FILL, ACCENT = "var(--panel)", "var(--accent)"

AXIS = 54  # of the strip, from the top
BOTTOM = 130  # of the strip
HEIGHTS = (68, 50, 35, 23)  # of a block in the strip, for maps of 32, 16, 8 and 4 cells
LEFT, MIDDLE, RIGHT = 22, 149, 276  # of the boxes in the enlarged part
BOX, GAP, NOTED_GAP = 26, 12, 26  # height of a box there, and of a gap, also of one with words in it

Picture = tuple[list[str], float]  # pieces of SVG, and where they end


@cache  # bounded by the catalogue
def placement(name: str) -> str:
    """Inline SVG, with a title in words.

    Raises:
        KeyError: no such entry.
    """
    entry = CATALOGUE[name]
    parts, height = strip(entry), BOTTOM
    if entry.is_network:
        with shapes_only():
            network = build(name).eval()
        inside = entry.slot in (None, "act", *BLOCK_SLOTS)
        enlarged, height = block_picture(entry, network) if inside else path_picture(entry, network)
        parts += enlarged
    else:
        parts.append(text(2, BOTTOM + 22, "It has no place in this network.", anchor="start", weight="600"))
        height += 30
    title = f"Where {entry.title} stands. {place(name)}".replace("`", "")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="placement" role="img" width="100%" '
        f'style="max-width: 26rem" viewBox="0 0 {WIDTH} {height:g}" font-size="12" fill="{TEXT}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def strip(entry: Entry) -> list[str]:
    """The whole network from left to right: the lower a bar, the fewer cells. The entry's sites stand out."""
    used = {"input": ("input",), "head": ("head",)}.get(entry.slot, entry.sites)
    everywhere = entry.slot == "act"
    parts = [arrow((3, AXIS), (WIDTH - 4, AXIS))]

    def bar(site: str, x: float, width: float, height: float, mine: bool) -> None:
        parts.append(box(x, AXIS - height / 2, width, height, mine, site))

    bar("picture", 3, 22, HEIGHTS[0], False)
    if "input" in used:
        bar("input", 30, 9, HEIGHTS[0], True)
    bar("stem", 46, 11, HEIGHTS[0], everywhere)
    parts += [text(2, 12, "input", anchor="start"), text(52, 12, "stem")]
    parts += [text(2, 108, "32×32", FAINT, "start"), text(14, 123, "3", FAINT)]
    for stage, (width, size, height) in enumerate(zip(WIDTHS, SIZES, HEIGHTS), start=1):
        x = 14 + 57 * stage
        for block in (0, 1):
            site = f"layer{stage}.{block}"
            bar(site, x + 20 * block, 17, height, everywhere or site in used)
        if f"stage{stage}" in used:
            bar(f"stage{stage}", x + 42.5, 9, height, True)
        labels = (12, f"layer{stage}", TEXT), (108, f"{size}×{size}", FAINT), (123, str(width), FAINT)
        parts += [text(x + 18.5, y, words, colour) for y, words, colour in labels]
    pool = "head" if "head" in used else "pool"
    bar(pool, 299, 12, HEIGHTS[3], pool == "head")
    bar("fc", 327, 12, HEIGHTS[3], False)
    parts += [text(305, 12, pool), text(333, 12, "fc")]
    return parts + [
        text(WIDTH - 2, y, words, FAINT, "end") for y, words in ((108, "cells"), (123, "channels"))
    ]


def block_picture(entry: Entry, network: nn.Module) -> Picture:
    """A residual block from top to bottom, with the shortcut beside it."""
    site, slot, title = (entry.sites or ("layer4.1",))[-1], entry.slot, entry.title
    block = network.get_submodule(site)
    heading = "Inside every block" if len(entry.sites) in (0, 8) else "Inside each of these blocks"
    if not isinstance(block, BasicBlock):
        return column([title], [title], heading, "x, the block's input", "the block's output")[:2]

    boxes = []
    for number in (1, 2):
        mine = slot in (f"conv{number}", "conv")
        boxes.append(title if mine else f"conv{number}: 3×3 convolution")
        if isinstance(block.get_submodule(f"bn{number}"), nn.BatchNorm2d):  # else the mechanism has its own
            boxes.append(f"bn{number}: BatchNorm")
        if number == 1:
            boxes.append(title if slot == "act" else "ReLU")
    if slot == "refine":
        boxes.append(title)
    boxes += [title if slot == "fuse" else "+", title if slot == "act" else "ReLU"]
    parts, bottom, tops = column(boxes, [title], heading, "x, the block's input", "the block's output")

    fork, sum_y, side = tops[0] - 8, tops[-2] + BOX / 2, RIGHT + 12
    end = RIGHT if slot == "fuse" else MIDDLE + BOX / 2
    parts.append(arrow((MIDDLE, fork), (side, fork), (side, sum_y), (end, sum_y)))
    parts.append(text(side + 6, (fork + sum_y) / 2 + 4, "shortcut", FAINT, "start"))
    refine_y, needs = tops[-3] + BOX / 2, getattr(block.refine, "needs", ())
    if "block_input" in needs:
        parts.append(arrow((MIDDLE, fork), (10, fork), (10, refine_y), (LEFT, refine_y), mine=True))
    if "carry" in needs:  # along the mechanisms of all blocks
        parts.append(arrow((10, fork), (10, refine_y - 5), (LEFT, refine_y - 5), mine=True))
        parts.append(arrow((LEFT, refine_y + 5), (10, refine_y + 5), (10, bottom - 22), mine=True))
        parts.append(text(2, fork - 5, "block before", FAINT, "start"))
        parts.append(text(2, bottom - 8, "next block", FAINT, "start"))
    return parts, bottom


def path_picture(entry: Entry, network: nn.Module) -> Picture:
    """What stands before and after a mechanism outside the blocks, with the sizes of what goes between."""
    sizes = [f"{width} channels, {size}×{size} cells" for width, size in zip(WIDTHS, SIZES)]
    layers, title = [f"layer{stage}: two blocks" for stage in (1, 2, 3, 4)], entry.title
    if entry.slot == "input":
        notes = ["3 channels, 32×32 pixels", "the same size"]
        return column(["the picture", title, "stem"], [title], "Before the first layer", notes=notes)[:2]
    if entry.slot == "head":
        read = stages_read(network.head)
        boxes = [*layers[read[0] - 1 :], title, "fc: one number per class"]
        notes = [*sizes[read[0] - 1 :], f"{network.fc.in_features} features"]
        heading, taps = "In place of the average pool", [stage - read[0] for stage in read if stage < 4]
    else:
        stage = int(entry.sites[0][-1])
        first = stage - 1 if entry.slot == "cross" else stage
        after = layers[stage] if stage < 4 else "average pool"
        boxes, notes = (
            [*layers[first - 1 : stage], title, after],
            [*sizes[first - 1 : stage], "the same size"],
        )
        heading = "Between two layers" if len(entry.sites) == 1 else "The first of these places"
        taps = [0] if entry.slot == "cross" else []
    parts, bottom, tops = column(boxes, [title], heading, notes=notes)
    mine = tops[boxes.index(title)] + BOX / 2
    for tap in taps:  # an earlier output goes there, too
        fork = tops[tap] + BOX + 9
        parts.append(arrow((MIDDLE, fork), (10, fork), (10, mine), (LEFT, mine), mine=True))
    return parts, bottom


def stages_read(head: nn.Module) -> list[int]:
    """The stages whose outputs a head uses, of the four that it is offered."""
    with torch.inference_mode(False), torch.enable_grad():
        stages = [
            torch.zeros(1, width, size, size, device="meta", requires_grad=True)
            for width, size in zip(WIDTHS, SIZES)
        ]
        gradients = torch.autograd.grad(head(stages).sum(), stages, allow_unused=True)
    return [stage for stage, gradient in enumerate(gradients, start=1) if gradient is not None]


def column(
    boxes: list[str], mine: list[str], heading: str, first: str = "", last: str = "", notes: list[str] = ()
) -> tuple[list[str], float, list[float]]:
    """Boxes from top to bottom, with arrows between them and words beside the arrows.

    Returns:
        pieces of SVG, where they end, and the top of each box.
    """
    start, gap = BOTTOM + 30 + (38 if first else 0), NOTED_GAP if notes else GAP
    tops = [start + (BOX + gap) * index for index in range(len(boxes))]
    parts = [text(LEFT, BOTTOM + 22, heading, anchor="start", weight="600")]
    if first:
        parts += [
            text(MIDDLE, start - 24, first, FAINT),
            arrow((MIDDLE, start - 18), (MIDDLE, start)),
        ]
    for index, (words, top) in enumerate(zip(boxes, tops)):
        if words == "+":
            centre = f'cx="{MIDDLE}" cy="{top + BOX / 2:g}"'
            parts.append(f'<circle {centre} r="{BOX / 2:g}" fill="{FILL}" stroke="{FAINT}"/>')
        else:
            parts.append(box(LEFT, top, RIGHT - LEFT, BOX, words in mine))
        parts.append(text(MIDDLE, top + BOX / 2 + 4, words, weight="600" if words in mine else "400"))
        if index + 1 < len(boxes):
            parts.append(arrow((MIDDLE, top + BOX), (MIDDLE, top + BOX + gap)))
        if index < len(notes):
            parts.append(text(MIDDLE + 10, top + BOX + gap / 2 + 4, notes[index], FAINT, "start"))
    bottom = tops[-1] + BOX
    if last:
        parts += [
            arrow((MIDDLE, bottom), (MIDDLE, bottom + 18)),
            text(MIDDLE, bottom + 32, last, FAINT),
        ]
        bottom += 36
    return parts, bottom + 4, tops


def box(x: float, y: float, width: float, height: float, mine: bool, site: str = "") -> str:
    look = f'fill="{FILL}" stroke="{FAINT}"'
    if mine:
        look = f'fill="color-mix(in srgb, {ACCENT} 20%, {FILL})" stroke="{ACCENT}" stroke-width="2"'
    names = (' class="mine"' if mine else "") + (f' data-site="{site}"' if site else "")
    return f'<rect{names} x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" {look}/>'


def arrow(*points: tuple[float, float], mine: bool = False) -> str:
    """An arrow through points; its head is at the last one."""
    colour = ACCENT if mine else FAINT
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    (x0, y0), (x, y) = points[-2:]
    along = ((x > x0) - (x < x0), (y > y0) - (y < y0))  # every line is level or upright
    wings = [(x - 6 * along[0] + side * along[1], y - 6 * along[1] + side * along[0]) for side in (-3.5, 3.5)]
    head = " ".join(f"{a:g},{b:g}" for a, b in [(x, y), *wings])
    return f'<path d="{path}" fill="none" stroke="{colour}"/><polygon points="{head}" fill="{colour}"/>'


def text(
    x: float, y: float, words: str, colour: str = TEXT, anchor: str = "middle", weight: str = "400"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )
