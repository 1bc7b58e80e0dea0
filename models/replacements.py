"""What a network gets in place of its own attention.

    attention = attention_of(model)                         # path -> gate or share, from one forward
    edits = replace("average", "layer2.1", attention, averages)
    with recording(model, edits):
        logits = model(images)                              # what it would have answered

t is the tensor as the network computes it, m its average over training pictures, element by element. Gates
keep to their bounds and shares sum to one, whatever replaces them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from .recording import Edit, Record, dims_of, recording

REPLACEMENTS = {  # name -> the question that it answers
    "as trained": "What does the network answer?",
    "average": "Does it matter that the attention follows this picture?",
    "another picture's": "Does it matter that the attention is this picture's own and not another's?",
    "strength": "What would more of it do, or less of it?",
    "level": "Does the pattern over channels or places matter at all?",
    "shuffled": "Does it matter which channel or place is which?",
    "query ignored": "Does it matter who asks?",
    "best constant": "Would fixed numbers, the same for every picture, do as well?",
    "by hand": "What if it were like this?",
    # Many gates centre on one half, and 1 then doubles every residual: a loss says little about attention.
    "factor 1": "A warning: what if every gate were 1, a size that the network hardly ever met?",
}
EVERYWHERE = "all"  # the scope of all blocks
NEEDS = {  # name -> the argument of `replace` that it cannot do without
    "average": "averages",
    "strength": "averages",
    "level": "averages",
    "another picture's": "others",
    "best constant": "constants",
    "by hand": "by_hand",
}


@dataclass(frozen=True)
class Attention:
    """A recorded tensor of role gate or share, as every picture has it (see `models.recording`).

    Args:
        shape: without the batch.
    """

    path: str
    axes: str
    role: str
    over: str
    bounds: tuple[float, float]
    shape: tuple[int, ...]

    @property
    def block(self) -> str:
        """Where it stands: `layer3.1`, `stage2`, `head`, ..."""
        first, *rest = self.path.split(".")
        return f"{first}.{rest[0]}" if first.startswith("layer") else first

    @property
    def over_dims(self) -> tuple[int, ...]:
        """The axes along which a share sums to one, counted from the end."""
        return dims_of(self.axes, self.over)

    @property
    def choices(self) -> int:
        """Among how many a share is dealt out; 1 for a gate."""
        return math.prod(self.shape[dim] for dim in self.over_dims)

    @property
    def query_dims(self) -> tuple[int, ...]:
        """The axes of those who ask, where each place or channel that asks has shares of its own; else ()."""
        letters = self.axes.split()
        if self.role != "share":
            return ()
        if "q" in letters:
            return (letters.index("q") - len(letters),)
        if letters.count(self.over) == 2:  # "c c": the first c asks the second
            return (letters.index(self.over) - len(letters),)
        places = [at - len(letters) for at, letter in enumerate(letters) if letter in ("h", "w")]
        return tuple(places) if len(places) == 2 and not set(places) & set(self.over_dims) else ()

    @property
    def long_dims(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes with more than one number, counted from the end, and those of them that are places."""
        letters = self.axes.split()
        long = tuple(at - len(letters) for at in range(1, len(letters)) if self.shape[at - 1] > 1)
        return long, tuple(dim for dim in long if letters[dim] in ("h", "w"))

    @property
    def shuffled_dims(self) -> list[tuple[int, ...]]:
        """Groups of axes that are shuffled each as one: of shares what they are dealt out to.

        Places are shuffled as places, not rows and columns apart. Two branches could only change places;
        channels that each have shares of branches exchange those.
        """
        if self.role == "share":
            return [dims_of(self.axes, "c") if self.over == "branch" else self.over_dims]
        long, places = self.long_dims
        return [*((dim,) for dim in long if dim not in places), *([places] if places else [])]

    def fit(self, values: torch.Tensor) -> torch.Tensor:
        """The nearest gates within the bounds; shares that sum to one, equal ones where nothing is left."""
        if self.role == "gate":
            return values.clamp(*map(float, self.bounds))
        values = values.clamp(0.0, torch.finfo(values.dtype).max / self.choices)  # whose sum is finite
        total = values.sum(self.over_dims, keepdim=True)
        return torch.where(total > 0, values / total, torch.full_like(values, 1 / self.choices))


def attention_of(model: nn.Module) -> dict[str, Attention]:
    """What can be replaced in a network, by path, in the order of computation; {} for one without attention.

    Raises:
        ValueError: the network is in training mode.
    """
    if model.training:
        raise ValueError("The network is in training mode: call its eval() first.")
    device = next((parameter.device for parameter in model.parameters()), "cpu")
    with torch.inference_mode(), recording(model) as records:
        model(torch.zeros(1, 3, 32, 32, device=device))  # any picture will do
    return attention_in(records)


def attention_in(records: Mapping[str, Record]) -> dict[str, Attention]:
    """The same of what a network recorded in a pass."""
    return {
        path: Attention(path, r.axes, r.role, r.over, r.bounds, tuple(r.tensor.shape[1:]))
        for path, r in records.items()
        if r.role in ("gate", "share")
    }


def in_scope(scope: str, attention: Mapping[str, Attention]) -> list[Attention]:
    """The tensors of a scope: `"all"`, a block such as `"layer2.1"`, or the path of one tensor.

    Raises:
        ValueError: there is no such scope, or what it names is neither gate nor share.
    """
    if not attention:
        raise ValueError("This network has no attention that could be replaced.")
    found = [each for each in attention.values() if scope in (EVERYWHERE, each.block, each.path)]
    if not found:
        blocks = dict.fromkeys(each.block for each in attention.values())
        raise ValueError(
            f"{scope!r} is no gate, no share and no block with attention in this network: "
            f"choose {EVERYWHERE}, {', '.join(blocks)} or a tensor there."
        )
    return found


def applies(replacement: str, each: Attention) -> bool:
    """Whether a replacement has a meaning for a tensor."""
    if replacement == "query ignored":
        return bool(each.query_dims)
    if replacement == "factor 1":
        return each.role == "gate"
    if replacement == "shuffled":
        return any(size > 1 for size in each.shape)
    return True


def replace(
    replacement: str,
    scope: str,
    attention: Mapping[str, Attention],
    averages: Mapping[str, torch.Tensor] | None = None,
    others: Mapping[str, torch.Tensor] | None = None,
    constants: Mapping[str, torch.Tensor] | None = None,
    by_hand: Mapping[str, torch.Tensor] | None = None,
    strength: float = 1.0,
) -> dict[str, Edit]:
    """The edits that put a replacement in the place of attention, for `models.recording.recording`.

    Args:
        replacement: one of `REPLACEMENTS`, which say what each one asks.
        scope: see `in_scope`. Within it, tensors for which the replacement has no meaning stay as they are.
        attention: of the network, from `attention_of`.
        averages: path -> m, without batch; axes of length one stand for all along them.
        others: path -> tensors that other pictures got from the network as trained, (B, ...) or (1, ...).
        constants: path -> values without batch, fitted to lose least.
        by_hand: path -> values without batch; NaN leaves an element as the network computed it.
        strength: k of `"strength"`, m + k (t - m), from 0 (the average) to 2; 1 changes no bit.

    Returns:
        path -> function from tensor to tensor; {} for `"as trained"`.

    Raises:
        ValueError: no such replacement, scope or strength, one that has no meaning there, or what it needs is
            not given.
    """
    if replacement not in REPLACEMENTS:
        raise ValueError(f"There is no replacement {replacement!r}: choose one of {', '.join(REPLACEMENTS)}.")
    if not 0 <= strength <= 2:
        raise ValueError(f"The strength goes from 0 to 2, and {strength} lies outside.")
    if replacement == "as trained":
        return {}
    chosen = [each for each in in_scope(scope, attention) if applies(replacement, each)]
    if not chosen:
        raise ValueError(f"{replacement!r} has no meaning for the attention in {scope!r}.")
    arguments = {"averages": averages, "others": others, "constants": constants, "by_hand": by_hand}
    given = arguments.get(NEEDS.get(replacement))
    if replacement == "by hand":
        chosen = [each for each in chosen if each.path in (given or {})]
    if replacement in NEEDS and (not chosen or any(each.path not in (given or {}) for each in chosen)):
        raise ValueError(f"{replacement!r} needs {NEEDS[replacement]} for the attention in {scope!r}.")
    return {
        each.path: _edit(replacement, each, None if given is None else given[each.path], strength)
        for each in chosen
    }


def _edit(replacement: str, each: Attention, given: torch.Tensor | None, strength: float) -> Edit:
    """One tensor's edit; `given` is m, another picture's tensor, a constant or painted values."""

    def average(t: torch.Tensor) -> torch.Tensor:
        return each.fit(given.to(t).expand_as(t))  # shares in half precision are made shares again

    def stronger(t: torch.Tensor) -> torch.Tensor:
        mixed = torch.lerp(average(t), t, strength)  # exact at 0 and 1
        return mixed if strength <= 1 else each.fit(mixed)  # what lies between two shares is a share

    def level(t: torch.Tensor) -> torch.Tensor:
        return torch.full_like(t, 1 / each.choices if each.role == "share" else float(given.float().mean()))

    def shuffled(t: torch.Tensor) -> torch.Tensor:
        for dims in each.shuffled_dims:
            t = _permute(t, dims)
        return t

    def query_ignored(t: torch.Tensor) -> torch.Tensor:
        return t.mean(each.query_dims, keepdim=True).expand_as(t)

    def by_hand(t: torch.Tensor) -> torch.Tensor:
        painted = given.to(t).expand_as(t)
        return each.fit(torch.where(painted.isnan(), t, painted))

    edits: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "average": average,
        "another picture's": lambda t: given.to(t).expand_as(t),
        "strength": stronger,
        "level": level,
        "shuffled": shuffled,
        "query ignored": query_ignored,
        "best constant": average,
        "by hand": by_hand,
        "factor 1": torch.ones_like,
    }
    return edits[replacement]


@cache  # an export draws it before it traces what a network does
def derangement(count: int) -> torch.Tensor:
    """An order (count,) in which nothing keeps its place, the same every time: a single cycle through all.

    Source: Sattolo, An algorithm to generate a random cyclic permutation, 1986.

    Raises:
        ValueError: one alone has nobody to change places with.
    """
    if count < 2:
        raise ValueError("One picture alone has no other picture: give two or more.")
    with torch.inference_mode(False):  # it is kept, and the next one may need gradients
        cycle = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        order = torch.empty_like(cycle)
        order[cycle] = cycle.roll(1)
    return order


def _permute(t: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    """Shuffles the cells of some axes, counted from the end and taken as one, alike for all other axes."""
    last = tuple(range(-len(dims), 0))
    moved = t.movedim(dims, last)
    cells = moved.flatten(-len(dims))
    if cells.shape[-1] > 1:
        cells = cells[..., derangement(cells.shape[-1]).to(t.device)]
    return cells.unflatten(-1, moved.shape[-len(dims) :]).movedim(last, dims)
