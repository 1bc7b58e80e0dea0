"""What was measured of a network's attention, as its single view shows it."""

from pathlib import Path

import torch

from models import CATALOGUE, CheckpointError
from models.checkpoint import CHECKPOINTS, facts_in_use
from models.recording import Record
from models.results import averages, maps
from models.results.evidence import evidence_of, shown

from ..inspection.network import Map
from ..record.encoding import pack
from ..record.kinds import block_of, scale_of, sharers
from .cards import recorded

BADGES = {  # what each one says
    "constant": "nearly the same for every picture",
    "saturated": "nearly every value at an end",
    "uniform": "on average nearly equal shares",
}


def evidence(name: str, folder: Path = CHECKPOINTS) -> dict | None:
    """What stands in `<name>.json` under `evidence`, as far as the page shows it, and the class profiles.

    Returns:
        `rows`, all its replacements, strengths and scopes (see `models.results.evidence.shown`); `images`, of
        each kind; `tensors`, a list with `tensor`, `block`, what
        `averages.Tally.facts` says of it, `badges` in words, and `twin` and `agreement`, each {"mean", "low",
        "high"} or None; `faithfulness`, a list with `map`, `control` and `road`, `deletion` and `insertion`
        in the same form; `profiles`, see `profile`. None where nothing was measured of these weights.

    Raises:
        KeyError: no such entry.
    """
    if not CATALOGUE[name].is_network:
        return None
    try:
        facts = facts_in_use(name, folder)
    except CheckpointError:
        return None
    if (found := evidence_of(facts)) is None:
        return None
    measured = averages.read(name, facts["sha256"], folder)
    by_class = measured.by_class if measured else {}
    kinds = ("test", "training", "map", "twin")
    return {
        "rows": [shown(row) for row in found["replacements"]],
        "images": {kind: found[f"{kind}_images"] for kind in kinds},
        "tensors": [tensor_of(path, known, found) for path, known in found["tensors"].items()],
        "faithfulness": [
            {"map": path, "control": path in maps.CONTROLS, **scores}
            for path, scores in found["faithfulness"].items()
            if {*maps.CONTROLS} <= {*found["faithfulness"]}  # a map alone says nothing
        ],
        "profiles": [
            profile(path, values, record)
            for path, record in recorded(name).items()
            if (values := by_class.get(path)) is not None
        ],
    }


def tensor_of(path: str, known: dict, found: dict) -> dict:
    """One line about a tensor."""
    both = {kind: found.get(kind, {}).get(path) for kind in ("twin", "agreement")}
    words = [f"{badge}: {BADGES[badge]}" for badge in known.get("badges", []) if badge in [*BADGES]]
    return {"tensor": path, "block": block_of(path), **known, **both, "badges": words}


def profile(path: str, values: torch.Tensor, record: Record) -> dict:
    """The average tensor of each class, reduced to what can be drawn.

    Args:
        values: (classes, ...), with axes of length one where it was averaged.

    Returns:
        `tensor`, `block`, `drawn` ("places" or "lines"), `scale` (see `record.kinds.scale_of`), `mean_over`
        (the letters of axes that were averaged for this), `spread` (the standard deviation between classes,
        averaged over elements), and `shape`, `data`, `lo`, `hi` of (classes, h, w) or (classes, elements).
        Shares are multiples of an equal one where the page shows them so.
    """
    letters = record.axes.split()
    values = values.float()
    shown_as = Map(" ".join(letters[1:]), record.tensor[0], record.role, record.over, record.bounds)
    scale = scale_of(shown_as)
    if scale == "uniform=1":
        values = values * sharers(shown_as)
    long = [at for at in range(1, len(letters)) if values.shape[at] > 1]
    averaged = [at for at in range(1, len(letters)) if values.shape[at] < record.tensor.shape[at]]
    places = [at for at in long if letters[at] in ("h", "w")]
    if len(places) == 2:
        others = [at for at in long if at not in places]
        averaged += others
        values = values.mean(others) if others else values
        values = values.reshape(len(values), *(record.tensor.shape[at] for at in places))
    elif letters[1] == "branch" and len(long) == 2:
        values = values[:, -1].flatten(1)  # as in the picture of the branches, the last one
    else:
        values = values.flatten(1)
    return {
        "tensor": path,
        "block": block_of(path),
        "drawn": "places" if len(places) == 2 else "lines",
        "scale": scale,
        "mean_over": " ".join(letters[at] for at in sorted(averaged)),
        "spread": round(float(values.std(0, correction=0).mean()), 4),
        **pack(values.numpy()),
    }
