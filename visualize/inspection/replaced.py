"""What if: a network on a picture with something else in the place of its own attention.

    seen = inspect_replaced(*load_with_facts("se"), "se", picture, Replacement("average", "layer2.1"))
    seen.before                                   # (10,), what it answers as trained
    seen.probabilities                            # (10,), what it answers so

What can be put there, and what that asks, is said in `models.replacements`.
"""

import dataclasses
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from models import CATALOGUE, CheckpointError
from models.preprocessing import normalise
from models.recording import Edit, recording
from models.replacements import Attention, applies, attention_in, in_scope, replace
from models.results import averages

from .network import Inspection, NotFiniteError, inspect, to_numpy


class ReplacementError(ValueError):
    """What is to be put into a network does not fit into it; the message is one sentence for the user."""


@dataclass(frozen=True)
class Replacement:
    """What a visitor puts in the place of attention.

    Args:
        name: one of `models.replacements.REPLACEMENTS`, but for "as trained", which is None instead of this.
        scope: "all", a block or a tensor's path.
        strength: of "strength", from 0 to 2.
        other: of "another picture's" the pixels, 32 x 32 x 3 bytes.
        by_hand: of "by hand", path -> pairs of an index (flat, without batch) and the value there.
    """

    name: str
    scope: str = "all"
    strength: float = 1.0
    other: bytes | None = None
    by_hand: tuple[tuple[str, tuple[tuple[int, float], ...]], ...] = ()


def inspect_replaced(
    model: nn.Module,
    facts: dict,
    name: str,
    image: Image.Image,
    replacement: Replacement,
    target: int | None = None,
    cam: str = "GradCAM",
    stage: str = "layer1.0",
) -> Inspection:
    """Inspects a network with replaced attention; the answer as trained is in `before`.

    Where the replacement has no meaning for the network, it answers as trained, and `replace_note` says why.

    Args:
        facts: of the checkpoint, {} for none; name: of the entry. The others are those of `inspect`.

    Raises:
        ReplacementError: a value by hand has no place in its tensor.
        ValueError, NotFiniteError: as for `inspect`.
    """
    before, attention, others = as_trained(model, image, replacement.other)
    found = None
    if facts:
        with suppress(CheckpointError):  # they are not measured for every network
            found = averages.read(name, facts["sha256"])
    note = why_not(CATALOGUE[name].title, attention, found, replacement)
    edits = None if note else edits_of(attention, found, others, replacement)
    seen = inspect(model, image, target, cam, stage, edits)
    return dataclasses.replace(seen, before=before, replace_note=note)


def as_trained(
    model: nn.Module, image: Image.Image, other: bytes | None
) -> tuple[np.ndarray, dict[str, Attention], dict[str, torch.Tensor]]:
    """One pass: the answer (classes,), what attention there is, and what it is on another picture."""
    pictures = [np.array(image), *([np.frombuffer(other, np.uint8).reshape(32, 32, 3)] if other else [])]
    device = next(model.parameters()).device
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device)
    with torch.no_grad(), recording(model) as records:  # no inference mode: gradients pass by what it gives
        logits = model(normalise(images))
    if not logits.isfinite().all():
        raise NotFiniteError("The network gives no finite numbers for this picture.")
    attention = attention_in(records)
    return to_numpy(logits[0].softmax(0)), attention, {path: records[path].tensor[-1:] for path in attention}


def why_not(
    title: str, attention: dict[str, Attention], found: averages.Averages | None, wanted: Replacement
) -> str | None:
    """Why a replacement has no meaning for a network, as a sentence; None where it has."""
    if not attention:
        return f"{title} has no attention that could be replaced: it answers as trained."
    try:
        chosen = in_scope(wanted.scope, attention)
    except ValueError:
        return f"{title} has no attention there: it answers as trained."
    paths = dict(wanted.by_hand)
    if wanted.name == "by hand" and not any(each.path in paths for each in chosen):
        return f"{title} has nothing that was changed by hand: it answers as trained."
    if not any(applies(wanted.name, each) for each in chosen):
        return (
            f"{title} has no attention there for which this replacement has a meaning: it answers as trained."
        )
    needed = {"average": "average", "strength": "average", "level": "average", "best constant": "best"}
    if wanted.name in needed and not (found and getattr(found, needed[wanted.name])):
        return f"The average attention of {title} is not measured yet: it answers as trained."
    return None


def edits_of(
    attention: dict[str, Attention],
    found: averages.Averages | None,
    others: dict[str, torch.Tensor],
    wanted: Replacement,
) -> dict[str, Edit]:
    """The edits of a replacement that has a meaning (see `why_not`)."""
    painted = {}
    for path, values in wanted.by_hand:
        if path not in attention:
            continue  # of another network
        tensor = torch.full(attention[path].shape, float("nan"))
        places, numbers = zip(*values)
        if max(places) >= tensor.numel():
            raise ReplacementError(f"{path} has {tensor.numel():,} values, and one beyond them was changed.")
        tensor.view(-1)[list(places)] = torch.tensor(numbers, dtype=torch.float32)
        painted[path] = tensor
    return replace(
        wanted.name,
        wanted.scope,
        attention,
        averages=found and found.average,
        others=others if wanted.other else None,
        constants=found and found.best,
        by_hand=painted,
        strength=wanted.strength,
    )
