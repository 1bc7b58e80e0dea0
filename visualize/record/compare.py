"""The page's record: everything that one comparison shows, as one dictionary that JSON can hold.

    asked = Question(picture, target="predicted", cam="GradCAM")
    record = record_of(asked, [answer(name, asked) for name in ("plain", "se")])
    decode(record["mechanisms"][1]["maps"][0])               # the numbers again

    {"version": 1, "classes": [10 names], "image": base64 of 32x32 RGB, "target": "predicted" or a class,
     "cam": method, "replace": {"name", "scope", "strength"} of what replaces attention, or None,
     "mechanisms": [{"key", "name", "family", "probabilities": [10], "parameters",
                     "accuracy": {"value", "low", "high", "recipe"}, "random": untrained, a stand-in,
                     "strength": {"stage2" or "layer2.1.refine": |y - x| / |x|}, "note": a sentence or None,
                     "unusual": finds less in the picture than in most test images, None if nobody measured,
                     "before": [10], "replace_note": a sentence or None, "replaced": [tensor],
                     "maps": [{"tensor", "block", "kind", "role", "axes", "shape", "data", "lo", "hi",
                               "scale", "static"}]}],
     "unavailable": [{"key", "name", "reason"}],
     "unlike": a sentence where most networks find the picture unusual, else None}

Where its attention is replaced, and only there, a column has `before`, the probabilities as trained, and
`replace_note`, which says why nothing was replaced in this network: its answer is the one as trained; else
`replaced` names the maps that were.
A map's `tensor` is the dotted path under which the network recorded it (gradio_client takes every key `path`
for a file), its `role` one of `models.recording.ROLES`; CAMs count as features. Its `data` is base64 of
little-endian uint16, 0 for `lo` and 65535 for `hi`. Large maps stay on the server, with `data` "", and
`affinity_row` gives them out: maps of more than 64 queries, one query at a time, windows and branches,
pictures of more than 4,096 values, and other maps of more than 16,384. CAMs also have `raw`, their range
before they were stretched to 0..1.
"""

import base64

import numpy as np
import torch
from PIL import Image

from models import CATALOGUE, CLASSES, CheckpointError
from models.metadata import accuracy, parameters

from ..inspection.cache import Cache
from ..inspection.engine import Question, inspect_by_name, records_of
from ..inspection.network import Inspection, Map, NotFiniteError
from ..inspection.replaced import Replacement
from ..inspection.unfamiliar import is_unusual, sentence
from .display import description
from .encoding import pack, pack_cam, pack_map, picture_of
from .kinds import block_of, stays
from .requests import RequestError, check_image, check_mechanisms

ENDS = 4  # channels, of the most and of the least open ones


def record_of(asked: Question, answers: list[dict]) -> dict:
    """The record of what some networks answered (`answer`)."""
    columns = [found for found in answers if "maps" in found]
    return {
        "version": 1,
        "classes": list(CLASSES),
        "image": base64.b64encode(asked.picture.tobytes()).decode(),
        "target": asked.target,
        "cam": asked.cam,
        "replace": asked.replacement.facts if asked.replacement else None,
        "mechanisms": columns,
        "unavailable": [found for found in answers if "maps" not in found],
        "unlike": sentence([shown["unusual"] for shown in columns]),
    }


def answer(name: str, asked: Question, on_gpu: bool = True) -> dict:
    """The network's `column`, or {"key", "name", "reason"} where it cannot be shown."""
    try:
        return column(name, asked, on_gpu)
    except (CheckpointError, NotFiniteError) as error:
        return {"key": name, "name": CATALOGUE[name].title, "reason": str(error)}


def column(name: str, asked: Question, on_gpu: bool = True) -> dict:
    """What the record says of one network; `random` says that nobody trained it.

    Raises:
        CheckpointError, ReplacementError, NotFiniteError: as for `inspect_by_name`.
    """
    seen, facts, note = inspect_by_name(name, asked, on_gpu=on_gpu)
    hold(seen, name, asked.replacement)
    what_if = {}
    if seen.before is not None:
        what_if = {
            "before": rounded(seen.before),
            "replace_note": seen.replace_note,
            "replaced": [*seen.replaced],
        }
    return {
        "key": name,
        "name": CATALOGUE[name].title,
        "family": CATALOGUE[name].family,
        "probabilities": rounded(seen.probabilities),
        "random": not facts,
        "accuracy": accuracy(facts),
        "parameters": parameters(name),
        "strength": {stage: round(value, 5) for stage, value in seen.strength.items()},
        "note": note,
        "unusual": is_unusual(seen.evidence, facts),
        **what_if,
        "maps": [
            *(pack_cam(block, values, seen.cam_ranges[block]) for block, values in seen.cams.items()),
            *(pack_map(path, shown) for path, shown in seen.maps.items()),
        ],
    }


def rounded(probabilities: np.ndarray) -> list[float]:
    return [round(float(share), 6) for share in probabilities]


def affinity_row(
    image: Image.Image,
    name: str,
    path: str,
    query: int | str | None = None,
    replacement: Replacement | None = None,
) -> dict:
    """A part of a map that stayed on the server: {"data", "lo", "hi", "shape"}, as `decode` reads it.

    Args:
        image: the picture, 32x32, RGB (`picture_of(record)`).
        name: id of the mechanism.
        path: of a map of this record whose `data` is "".
        query: index on the axis `q`, of a place (row by row) where windows lie, or of the row of a channel
            matrix; "mean" for the mean size of what each branch gives; None for a whole map without queries.
        replacement: as for the record.

    Returns:
        the map without that axis: `q h w` gives (h, w), `head q h w` gives (head, h, w), `c c` gives (c,),
        `g k h w` gives (g, k); "mean" of `branch c h w` gives (branch, h, w).
        The values are as recorded: softmax rows sum to one.

    Raises:
        RequestError: no such picture, mechanism, map or query.
        CheckpointError, ReplacementError, NotFiniteError: as for a column.
    """
    check_image(image)
    check_mechanisms([name])
    maps = _held.get(key_of(image.tobytes(), name, replacement))
    if maps is None:
        asked = Question(image, random_weights=True, replacement=replacement)
        seen, *_ = inspect_by_name(name, asked, stage="layer4.1")
        maps = hold(seen, name, replacement)
    if not isinstance(path, str) or path not in maps:
        raise RequestError("The server holds no such map of this mechanism.")
    axes, values = maps[path].axes.split(), maps[path].values
    if query is None and "q" not in axes:
        return pack(values)
    if query == "mean" and axes[0] == "branch":
        return pack(np.abs(values).mean(1))
    if axes == ["g", "k", "h", "w"]:
        axes, values = ["g", "k", "q"], values.reshape(*values.shape[:2], -1)
    axis = axes.index("q") if "q" in axes else 0
    if isinstance(query, bool) or not isinstance(query, int) or not 0 <= query < values.shape[axis]:
        raise RequestError(f"The query must be a whole number from 0 to {values.shape[axis] - 1}.")
    return pack(values.take(query, axis))


_held = Cache()  # the maps that stayed here, of the networks and pictures used last


def hold(seen: Inspection, name: str, replacement: Replacement | None) -> dict[str, Map]:
    """Keeps the maps that stay on the server, and returns them."""
    key = key_of(seen.pixels.tobytes(), name, replacement)
    maps = {path: shown for path, shown in seen.maps.items() if stays(shown)}
    _held.put(key, maps, len(key) + sum(shown.values.nbytes for shown in maps.values()))
    return maps


def key_of(pixels: bytes, name: str, replacement: Replacement | None) -> bytes:
    """What the maps depend on; its length is what it takes, however much was changed by hand."""
    return pixels + repr((name, replacement)).encode()


def channel_features(image: Image.Image, name: str, path: object) -> dict:
    """The feature maps, behind the block, of the channels that a gate opens most, then least.

    Args:
        path: of a gate (b c 1 1) of the block's own channels, in the slot `refine`.

    Returns:
        `channels`, their numbers; `gates`; and their maps (8, h, w) as `decode` reads them.

    Raises:
        RequestError: no such picture, mechanism or gate.
        CheckpointError, NotFiniteError: as for a column.
    """
    check_image(image)
    check_mechanisms([name])
    records = records_of(name, image)
    gate = records.get(path) if isinstance(path, str) and ".refine." in path else None
    output = records[f"{block_of(path)}.output"].tensor[0] if gate else None
    if gate is None or gate.role != "gate" or gate.tensor.shape[1:] != (len(output), 1, 1):
        raise RequestError("This mechanism has no such gate for each channel of its block.")
    gates = gate.tensor.flatten()
    order = gates.argsort(descending=True, stable=True)
    chosen = torch.cat([order[:ENDS], order[-ENDS:]])
    return {"channels": chosen.tolist(), "gates": gates[chosen].tolist(), **pack(output[chosen].numpy())}


def first_rows(record: dict) -> dict[str, dict]:
    """The parts of large maps that the page shows of a record at first: "network tensor query" -> part."""
    rows, picture = {}, picture_of(record)
    for column in record["mechanisms"]:
        for entry in column["maps"]:
            if not entry["data"] and (query := first_query(entry)) is not None:
                key = f"{column['key']} {entry['tensor']} {query}"
                rows[key] = affinity_row(picture, column["key"], entry["tensor"], query)
    return rows


def first_query(entry: dict) -> int | str | None:
    """What the page asks of a large map for the place that it marks at first; None: the whole of it."""
    part = description()["kinds"][entry["kind"]].get("part")
    if part != "row":
        return "mean" if part == "sizes" else None
    axes, shape = entry["axes"].split(), entry["shape"]
    side = round(shape[axes.index("q")] ** 0.5) if "q" in axes else shape[axes.index("h")]
    x, y = (at * side // 32 for at in description()["view"]["query"])
    return y * side + x
