"""What a visitor chose to see of a comparison: the block, the marked place, colours and scales."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from models.catalogue import BLOCKS

from .display import description
from .requests import RequestError, check_choice, is_number

DEFAULT = description()["view"]
COLOURS = tuple(description()["colours"])
CELLS, SCALES = (tuple(description()["choices"][key]) for key in ("cells", "scale"))
MOST_HEADS = 64


@dataclass(frozen=True)
class View:
    """How the page shows a record.

    Args:
        block: where the maps are read, `"layer1.0"` to `"layer4.1"`.
        pairwise_block: where pairwise maps and channel matrices are read; None for the nearest to `block`.
        query: the marked place (x, y), in pixels of the 32x32 picture.
        head: of a pairwise map, from 0, or `"mean"`.
        overlay: 0 for the picture alone; from there to 1 its contour lines over the maps grow fainter.
        colours: one of `COLOURS`.
        cells: `"true"` for one square per number, `"smooth"` for interpolation between them.
        scale: `"fixed"` for each kind of map, `"shared"` by the maps of a row, or each map's `"own"`.
    """

    block: str = DEFAULT["block"]
    pairwise_block: str | None = DEFAULT["pairwise_block"]
    query: tuple[int, int] = tuple(DEFAULT["query"])
    head: str | int = DEFAULT["head"]
    overlay: float = DEFAULT["overlay"]
    colours: str = DEFAULT["colours"]
    cells: str = DEFAULT["cells"]
    scale: str = DEFAULT["scale"]


def view_of(request: object) -> View:
    """The view in a request, which may come from anybody: what is missing or None takes its default.

    Places, heads and overlay beyond their ends are moved to them.

    Raises:
        RequestError: no dictionary, or something in it is of another kind than it should be.
    """
    if not isinstance(request, Mapping):
        raise RequestError("The view must be a dictionary, such as one with a block.")
    given = {key: request.get(key) for key in View.__dataclass_fields__ if request.get(key) is not None}
    choices = {"block": BLOCKS, "pairwise_block": BLOCKS, "colours": COLOURS, "cells": CELLS, "scale": SCALES}
    for key, allowed in choices.items():
        if key in given:
            check_choice(given[key], allowed, key.replace("_", " "))
    if "query" in given:
        place = given["query"]
        if not isinstance(place, list | tuple) or len(place) != 2:
            raise RequestError("The marked place must be two numbers from 0 to 31.")
        given["query"] = tuple(int(bounded(at, 31, "The marked place")) for at in place)
    if "overlay" in given:
        given["overlay"] = float(bounded(given["overlay"], 1, "The overlay"))
    if given.get("head", "mean") != "mean":
        head = given["head"]  # a select box of the page gives its number as text
        if isinstance(head, str) and head.isascii() and head.isdigit() and len(head) < 9:
            head = int(head)
        given["head"] = int(bounded(head, MOST_HEADS - 1, "The head"))
    return View(**given)


def bounded(value: object, most: int, what: str) -> int | float:
    """A number moved into 0..most.

    Raises:
        RequestError: it is no number, or not a finite one.
    """
    if not is_number(value, -math.inf, math.inf) or abs(value) == math.inf:
        raise RequestError(f"{what} must be given by numbers from 0 to {most}.")
    return max(0, min(most, value))
