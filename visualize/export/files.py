"""What a visitor takes along: a figure (PNG, PDF), the numbers (NPZ), or a report on them (JSON).

    view = view_of({"block": "layer3.1", "query": [16, 16]})     # as the page shows the maps
    file = export("pdf", picture, ["plain", "se"], "predicted", "GradCAM", view, folder)

Everything is computed again from the picture, so a file holds what the networks recorded, to the last bit,
and not what went through a browser.
"""

import hashlib
import json
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import Image

from models import CLASSES, CheckpointError

from ..inspection.engine import Question
from ..inspection.network import Map, NotFiniteError
from ..inspection.replaced import Replacement
from ..record.kinds import kind_of
from ..record.requests import RequestError, check_choice, check_request
from ..record.view import View
from .column import Column, all_maps, inspect_column

FORMS = ("png", "pdf", "npz", "json")
MOST_IN_FIGURE = 24  # networks: three bands of eight; more would be too small to read
PACKAGES = ("torch", "torchvision", "numpy", "gradio", "grad-cam", "matplotlib")


def export(
    form: str,
    picture: Image.Image,
    mechanisms: list[str],
    target: str,
    cam: str,
    view: View,
    folder: Path,
    random_weights: bool = False,
    replacement: Replacement | None = None,
) -> Path:
    """Writes one file about some networks on one picture, and returns its path.

    Args:
        form: one of `FORMS`.
        mechanisms: ids in `CATALOGUE` that make networks.
        picture, target, cam, random_weights, replacement: see `Question`.
        view: how the page shows it. NPZ and JSON hold all maps of all blocks whatever the view.
        folder: of this request alone: the names of two visitors' files may be the same.

    Raises:
        RequestError: any other argument, or none of the networks can be shown.
        ReplacementError: the replacement does not fit into one of the networks.
    """
    check_file(form, picture, mechanisms, target, cam)
    asked = Question(picture, target, cam, random_weights, replacement)
    return write(form, asked, {name: column_or_reason(name, asked) for name in mechanisms}, view, folder)


def check_file(form: str, picture: Image.Image, mechanisms: list[str], target: str, cam: str) -> None:
    """What a file is asked for.

    Raises:
        RequestError: one of the arguments makes no sense.
    """
    check_choice(form, FORMS, "form of a file")
    check_request(picture, mechanisms, target, cam)
    if form in ("png", "pdf") and len(mechanisms) > MOST_IN_FIGURE:
        raise RequestError(f"A figure has room for {MOST_IN_FIGURE} networks: choose fewer of them.")


def column_or_reason(name: str, asked: Question) -> Column | str:
    """One network on the picture, or a sentence that says why it cannot be shown."""
    try:
        return inspect_column(name, asked)
    except (CheckpointError, NotFiniteError) as error:
        return str(error)


def write(form: str, asked: Question, found: dict[str, Column | str], view: View, folder: Path) -> Path:
    """The file about what was found: name -> `column_or_reason`. The other arguments are those of `export`.

    Raises:
        RequestError: none of the networks can be shown.
    """
    columns = [column for column in found.values() if isinstance(column, Column)]
    missing = {name: reason for name, reason in found.items() if isinstance(reason, str)}
    if not columns:
        raise RequestError(
            " ".join(["None of these networks can be shown.", *dict.fromkeys(missing.values())])
        )

    names = "-".join(found) if len(found) <= 3 else f"{len(found)}-networks"
    file = Path(folder) / f"attnscope-{names}-{view.block}.{form}"
    if form == "npz":
        np.savez_compressed(file, **arrays(columns, asked))
    elif form == "json":
        content = report(columns, missing, asked, view)
        file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    else:
        from .figure import figure, save  # matplotlib takes a second, so not before the first figure

        save(figure(columns, view, asked, missing), file)
    return file


def arrays(columns: list[Column], asked: Question) -> dict[str, np.ndarray]:
    """name -> array as recorded: `pixels`, `classes`, and of each network `se/probabilities`, `se/<path>`.

    CAMs are stretched to 0..1; `se/<block>.cam_range` says from where.
    `target`, `cam`: which class is explained, by which method; `se/random_weights`: where it is not trained.
    With replaced attention also `replaced`, which says by what, `se/before`, the answer as trained, and where
    nothing was replaced `se/replace_note`, which says why.
    """
    found = {"pixels": columns[0].inspection.pixels, "classes": np.array(CLASSES)}
    found |= {"target": np.array(asked.target), "cam": np.array(asked.cam)}
    if asked.replacement:
        found["replaced"] = np.array(asked.replacement.words)
    for column in columns:
        found[f"{column.key}/probabilities"] = column.inspection.probabilities
        if column.random:
            found[f"{column.key}/random_weights"] = np.array(True)
        if column.inspection.before is not None:
            found[f"{column.key}/before"] = column.inspection.before
        if column.inspection.replace_note:
            found[f"{column.key}/replace_note"] = np.array(column.inspection.replace_note)
        found |= {f"{column.key}/{path}": shown.values for path, shown in all_maps(column.inspection).items()}
        for block, ends in column.inspection.cam_ranges.items():
            found[f"{column.key}/{block}.cam_range"] = np.array(ends, np.float32)
    return found


def report(columns: list[Column], missing: dict[str, str], asked: Question, view: View) -> dict:
    """What was shown to which networks, what they answered, and where each map is strongest."""
    digest = hashlib.sha256(asked.picture.tobytes()).hexdigest()
    return {
        "attnscope": "report",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "picture": {"size": [32, 32], "mode": "RGB", "sha256": digest},
        "settings": {
            "target": asked.target,
            "cam": asked.cam,
            "replace": asked.replacement.whole if asked.replacement else None,
            **asdict(view),
        },
        "versions": versions(),
        "classes": list(CLASSES),
        "networks": [network(column) for column in columns],
        "unavailable": missing,
    }


def network(column: Column) -> dict:
    """A network's part of the report.

    Where attention was to be replaced also `before`, `replaced` (which maps were), `replace_note` (why none).
    """
    seen, maps, replaced = column.inspection, [], {}
    if seen.before is not None:
        replaced = {"before": by_class(seen.before), "replaced": [*seen.replaced]}
        replaced["replace_note"] = seen.replace_note
    for path, shown in all_maps(seen).items():
        entry = {"tensor": path, "kind": kind_of(shown), "role": shown.role, **summary(shown)}
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
        "probabilities": by_class(seen.probabilities),
        **replaced,
        "predicted": CLASSES[int(seen.probabilities.argmax())],
        "target": CLASSES[seen.target],
        "strength": {stage: float(share) for stage, share in seen.strength.items()},
        "maps": maps,
    }


def by_class(probabilities: np.ndarray) -> dict[str, float]:
    return dict(zip(CLASSES, map(float, probabilities)))


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
