"""What a visitor takes along: a figure (PNG, PDF), the numbers (NPZ), or a report on them (JSON).

    look = look_of({"block": "layer3.1", "query": [16, 16]})     # as the page shows the maps
    file = export("pdf", picture, ["plain", "se"], "predicted", "GradCAM", look, folder)

Everything is computed again from the picture, so a file holds what the networks recorded, to the last bit,
and not what went through a browser.
"""

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import Image

from models import CATALOGUE, CLASSES, CheckpointError
from models.catalogue import BLOCKS

from . import record
from .cards import accuracy, parameters
from .inspection import Inspection, Map, NotFiniteError
from .record import RequestError

FORMS = ("png", "pdf", "npz", "json")
COLOURS = ("viridis", "cividis", "magma", "grey")
CELLS = ("true", "smooth")
SCALES = ("fixed", "shared", "own")
MOST_HEADS = 64
MOST_IN_FIGURE = 24  # networks: two bands of twelve columns; more would be too small to read
PACKAGES = ("torch", "torchvision", "numpy", "gradio", "grad-cam", "matplotlib")


@dataclass(frozen=True)
class Look:
    """How the page shows a record.

    Args:
        block: where the maps are read, `"layer1.0"` to `"layer4.1"`.
        site: where pairwise maps and channel matrices are read; None for the deepest there is.
        query: the marked place (x, y), in pixels of the 32x32 picture.
        head: of a pairwise map, from 0, or `"mean"`.
        overlay: opacity of the maps over the grey picture, 0 to 1.
        colours: one of `COLOURS`.
        cells: `"true"` for one square per number, `"smooth"` for interpolation between them.
        scale: `"fixed"` for each kind of map, `"shared"` by the maps of a row, or each map's `"own"`.
    """

    block: str = "layer3.1"
    site: str | None = None
    query: tuple[int, int] = (16, 16)
    head: str | int = "mean"
    overlay: float = 0.6
    colours: str = "viridis"
    cells: str = "true"
    scale: str = "fixed"


@dataclass(frozen=True, eq=False)
class Column:
    """One network on one picture. `random`: nobody trained it; `sha256`: of its checkpoint's weights."""

    key: str
    title: str
    random: bool
    accuracy: dict
    parameters: int
    sha256: str | None
    seen: Inspection


def look_of(request: object) -> Look:
    """The look in a request, which may come from anybody: what is missing or None takes its default.

    Places, heads and opacity beyond their ends are moved to them.

    Raises:
        RequestError: no dictionary, or something in it is of another kind than it should be.
    """
    if not isinstance(request, Mapping):
        raise RequestError("The look must be a dictionary, such as one with a block.")
    given = {key: request.get(key) for key in Look.__dataclass_fields__ if request.get(key) is not None}
    choices = {"block": BLOCKS, "site": BLOCKS, "colours": COLOURS, "cells": CELLS, "scale": SCALES}
    for key, allowed in choices.items():
        if key in given:
            record.check_choice(given[key], allowed, key)
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
    return Look(**given)


def bounded(value: object, most: int, what: str) -> int | float:
    """A number moved into 0..most.

    Raises:
        RequestError: it is no number, or not a finite one.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value != value
        or abs(value) == math.inf
    ):
        raise RequestError(f"{what} must be given by numbers from 0 to {most}.")
    return max(0, min(most, value))


def export(
    form: str,
    picture: Image.Image,
    mechanisms: list[str],
    target: str,
    cam: str,
    look: Look,
    folder: Path,
    random_weights: bool = False,
) -> Path:
    """Writes one file about some networks on one picture, and returns its path.

    Args:
        form: one of `FORMS`.
        picture, mechanisms, target, cam, random_weights: as for `record.compare_record`.
        look: how the page shows it. NPZ and JSON hold all maps of all blocks whatever the look.
        folder: of this request alone: the names of two visitors' files may be the same.

    Raises:
        RequestError: any other argument, or none of the networks can be shown.
    """
    record.check_choice(form, FORMS, "form of a file")
    record.check_request(picture, mechanisms, target, cam)
    if form in ("png", "pdf") and len(mechanisms) > MOST_IN_FIGURE:
        raise RequestError(f"A figure has room for {MOST_IN_FIGURE} networks: choose fewer of them.")

    columns, missing = [], {}
    for name in mechanisms:
        try:
            columns.append(column(name, picture, target, cam, random_weights))
        except (CheckpointError, NotFiniteError) as error:
            missing[name] = str(error)
    if not columns:
        raise RequestError("None of these networks can be shown: train them, or allow random weights.")

    names = "-".join(mechanisms) if len(mechanisms) <= 3 else f"{len(mechanisms)}-networks"
    file = Path(folder) / f"attnscope-{names}-{look.block}.{form}"
    if form == "npz":
        np.savez_compressed(file, **arrays(columns))
    elif form == "json":
        found = report(columns, missing, picture, target, cam, look)
        file.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    else:
        from .figure import figure, save  # matplotlib takes a second, so not before the first figure

        save(figure(columns, look, target, cam, missing), file)
    return file


def column(name: str, picture: Image.Image, target: str, cam: str, random_weights: bool) -> Column:
    """Looks at the picture with one network.

    Raises:
        CheckpointError, NotFiniteError: as for `record.look`.
    """
    seen, facts, _ = record.look(name, picture, target, cam, random_weights=random_weights)
    title, digest = CATALOGUE[name].title, facts.get("sha256")
    return Column(name, title, not facts, accuracy(facts), parameters(name), digest, seen)


def all_maps(seen: Inspection) -> dict[str, Map]:
    """The CAMs of all blocks, as `layer4.1.cam`, then what the mechanism recorded."""
    cams = {f"{block}.cam": Map("h w", values, static=False) for block, values in seen.cams.items()}
    return cams | seen.maps


def arrays(columns: list[Column]) -> dict[str, np.ndarray]:
    """name -> array as recorded: `pixels`, `classes`, and of each network `se/probabilities`, `se/<path>`."""
    found = {"pixels": columns[0].seen.pixels, "classes": np.array(CLASSES)}
    for column in columns:
        found[f"{column.key}/probabilities"] = column.seen.probabilities
        found |= {f"{column.key}/{path}": shown.values for path, shown in all_maps(column.seen).items()}
    return found


def report(
    columns: list[Column],
    missing: dict[str, str],
    picture: Image.Image,
    target: str,
    cam: str,
    look: Look,
) -> dict:
    """What was shown to which networks, what they answered, and where each map is strongest."""
    return {
        "attnscope": "report",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "picture": {"size": [32, 32], "mode": "RGB", "sha256": hashlib.sha256(picture.tobytes()).hexdigest()},
        "settings": {"target": target, "cam": cam, **asdict(look)},
        "versions": versions(),
        "classes": list(CLASSES),
        "networks": [network(column) for column in columns],
        "unavailable": missing,
    }


def network(column: Column) -> dict:
    """A network's part of the report."""
    seen, maps = column.seen, []
    for path, shown in all_maps(seen).items():
        entry = {"path": path, "kind": record.kind_of(shown.axes, shown.static), **summary(shown)}
        if path.endswith(".cam"):
            entry["range_before_stretching"] = list(seen.cam_ranges[path.removesuffix(".cam")])
        maps.append(entry)
    return {
        "id": column.key,
        "title": column.title,
        "random_weights": column.random,
        "checkpoint_sha256": column.sha256,
        "accuracy": column.accuracy,
        "parameters": column.parameters,
        "probabilities": dict(zip(CLASSES, map(float, seen.probabilities))),
        "predicted": CLASSES[int(seen.probabilities.argmax())],
        "target": CLASSES[seen.target],
        "strength": {stage: float(share) for stage, share in seen.strength.items()},
        "maps": maps,
    }


def summary(shown: Map) -> dict:
    """A map in a few numbers; `strongest` is the index of the largest value, one number per axis."""
    values = shown.values
    return {
        "axes": shown.axes,
        "shape": list(values.shape),
        "static": shown.static,
        "least": float(values.min()),
        "most": float(values.max()),
        "mean": float(values.mean(dtype=np.float64)),
        "strongest": [int(index) for index in np.unravel_index(values.argmax(), values.shape)],
    }


@cache
def versions() -> dict[str, str | None]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
