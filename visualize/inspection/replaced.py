"""What if: a network on a picture with something else in the place of its own attention.

    seen = inspect_replaced(*load_with_facts("se"), "se", picture, Replacement("average", "layer2.1"))
    seen.before                                   # (10,), what it answers as trained
    seen.probabilities                            # (10,), what it answers so

What can be put there, and what that asks, is said in `models.replacements`.
"""

import dataclasses
import hashlib
import re
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from models import CATALOGUE
from models.preprocessing import normalise
from models.recording import Edit, Record, recording
from models.replacements import EVERYWHERE, Attention, applies, in_scope, replace
from models.results import averages

from .cache import Cache
from .network import Inspection, Map, NotFiniteError, inspect, to_numpy, without_batch


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
        only: the one network that it is put into; None for all. Others are asked as trained.
    """

    name: str
    scope: str = EVERYWHERE
    strength: float = 1.0
    other: bytes | None = None
    by_hand: tuple[tuple[str, tuple[tuple[int, float], ...]], ...] = ()
    only: str | None = None

    @property
    def facts(self) -> dict:
        """What a record and a report hold of it."""
        return {"name": self.name, "scope": self.scope, "strength": self.strength}

    @property
    def words(self) -> str:
        """Such as "average, everywhere", "strength 1.5, in layer2.1" or "by hand, in CBAM alone"."""
        how = f"strength {self.strength:g}" if self.name == "strength" else self.name
        at = f"after layer{self.scope[5]}" if re.fullmatch(r"stage\d", self.scope) else f"in {self.scope}"
        where = [] if self.scope == EVERYWHERE else [at]
        where += [f"in {CATALOGUE[self.only].title} alone"] if self.only else []
        return f"{how}, {' '.join(where) or 'everywhere'}"

    @property
    def whole(self) -> dict:
        """All of it, for a report: the other picture by its checksum."""
        other = self.other and hashlib.sha256(self.other).hexdigest()
        by_hand = {path: {str(at): value for at, value in pairs} for path, pairs in self.by_hand}
        return self.facts | {"only": self.only, "by_hand": by_hand or None, "other_sha256": other}


@dataclass(frozen=True, eq=False)
class Trained:
    """What a network makes of a picture as it was trained.

    Args:
        probabilities: (classes,); evidence: as of an `Inspection`.
        maps: path -> gate or share.
    """

    probabilities: np.ndarray
    evidence: float
    maps: dict[str, Map]

    @property
    def attention(self) -> dict[str, Attention]:
        return {
            path: Attention(path, f"b {t.axes}", t.role, t.over, t.bounds, t.values.shape)
            for path, t in self.maps.items()
        }

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """path -> (1, ...), which nobody may write to."""
        return {path: torch.from_numpy(t.values)[None] for path, t in self.maps.items()}


_trained = Cache()  # of pictures that were looked at: what is asked about them next is mostly "what if"


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
    `evidence`, too, is as trained: whether the picture is unusual has nothing to do with the replacement.

    Args:
        facts: of the checkpoint, {} for none; name: of the entry. The others are those of `inspect`.

    Raises:
        ReplacementError: a value by hand has no place in its tensor.
        ValueError, NotFiniteError: as for `inspect`.
    """
    own, *others = as_trained(model, facts, name, image.tobytes(), *filter(None, [replacement.other]))
    found = averages.load(name, facts["sha256"]) if facts else None
    if note := why_not(CATALOGUE[name].title, own.attention, found, replacement):
        seen = inspect(model, image, target, cam, stage)
        return dataclasses.replace(seen, before=seen.probabilities, replace_note=note)
    other = others[0].tensors if others else None
    edits = edits_of(own.attention, found, other, replacement)
    seen = inspect(model, image, target, cam, stage, edits)
    return dataclasses.replace(seen, before=own.probabilities, evidence=own.evidence, replaced=tuple(edits))


def as_trained(model: nn.Module, facts: dict, name: str, *pictures: bytes) -> list[Trained]:
    """What is known from a comparison before, and of all other pictures from one pass without gradients."""
    found = {pixels: _trained.get(key_of(facts, name, pixels)) for pixels in pictures}
    if missing := [pixels for pixels, known in found.items() if known is None]:
        images = torch.from_numpy(np.stack([np.frombuffer(pixels, np.uint8) for pixels in missing]))
        images = images.view(-1, 32, 32, 3).permute(0, 3, 1, 2).to(next(model.parameters()).device)
        with torch.no_grad(), recording(model) as records:
            logits = model(normalise(images))
        if not logits.isfinite().all():
            raise NotFiniteError("The network gives no finite numbers for this picture.")
        shares, evidence = to_numpy(logits.softmax(1)), logits.logsumexp(1).tolist()
        for i, pixels in enumerate(missing):
            maps = {
                path: without_batch(record, i) for path, record in records.items() if is_attention(record)
            }
            found[pixels] = keep(facts, name, pixels, Trained(shares[i], evidence[i], maps))
    return [found[pixels] for pixels in pictures]


def remember(seen: Inspection, facts: dict, name: str) -> None:
    """Spares `as_trained` its pass: a network was inspected as trained."""
    maps = {path: shown for path, shown in seen.maps.items() if is_attention(shown)}
    keep(facts, name, seen.pixels.tobytes(), Trained(seen.probabilities, seen.evidence, maps))


def keep(facts: dict, name: str, pixels: bytes, found: Trained) -> Trained:
    size = len(pixels) + found.probabilities.nbytes + sum(each.values.nbytes for each in found.maps.values())
    _trained.put(key_of(facts, name, pixels), found, size)
    return found


def key_of(facts: dict, name: str, pixels: bytes) -> tuple:
    """The very weights and the picture; random weights of a name are the same every time."""
    return name, facts.get("sha256"), pixels


def is_attention(shown: Map | Record) -> bool:
    return shown.role in ("gate", "share")


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
            f"This replacement does not apply to the attention that {title} has there: it answers as trained."
        )
    needed = {"average": "average", "strength": "average", "level": "average", "best constant": "best"}
    known = getattr(found, needed[wanted.name]) if found and wanted.name in needed else {}
    if wanted.name in needed and any(
        applies(wanted.name, each) and each.path not in known for each in chosen
    ):
        if wanted.name == "best constant":
            return f"The best constants of {title} are not measured yet: it answers as trained."
        return f"The average attention of {title} is not measured yet: it answers as trained."
    return None


def edits_of(
    attention: dict[str, Attention],
    found: averages.Averages | None,
    others: dict[str, torch.Tensor] | None,
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
            raise ReplacementError(
                f"The tensor {path} has {tensor.numel():,} values, and one beyond them was changed."
            )
        tensor.view(-1)[list(places)] = torch.tensor(numbers, dtype=torch.float32)
        painted[path] = tensor
    return replace(
        wanted.name,
        wanted.scope,
        attention,
        averages=found and found.average,
        others=others,
        constants=found and found.best,
        by_hand=painted,
        strength=wanted.strength,
    )
