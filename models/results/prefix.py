"""What a network computes before its first edit is the same with the edit and without: it is computed once.

with recording(model), outputs(model) as computed:         # the network as trained
    model(images)
with recording(model, edits), starting_from(model, computed, edits):
    model(images)                                          # the same images; begins where the first edit is
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from ..recording import Edit

PART = re.compile(r"layer\d\.\d|stage\d")  # what a network's forward calls, one after the other
BEFORE_REFINE = ("conv1", "bn1", "act1", "conv2", "bn2", "shortcut")  # parts of a block
KEPT = re.compile(rf"(?:{PART.pattern})(?:\.(?:bn2|shortcut))?")  # whose outputs are kept
HEAD = "head"  # what comes after all parts


@contextmanager
def outputs(model: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Collects what each part of a network gives out during one forward, in the order of computation, and
    what goes into the refinement and the sum of each block.

    Nothing of a network whose parts hand on more to each other than their outputs.
    """
    computed: dict[str, torch.Tensor] = {}

    def keep(path: str):
        return lambda module, given, output: computed.update({path: output})

    carries = any("carry" in getattr(module, "needs", ()) for module in model.modules())
    parts = {} if carries else {path: part for path, part in model.named_modules() if KEPT.fullmatch(path)}
    hooks = [part.register_forward_hook(keep(path)) for path, part in parts.items()]
    try:
        yield computed
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def starting_from(
    model: nn.Module, computed: Mapping[str, torch.Tensor], edits: Mapping[str, Edit]
) -> Iterator[None]:
    """Within it, the parts before the first edit give out what they gave out before, without computing it."""
    skipped = {model.get_submodule(path): output for path, output in before(computed, edits).items()}
    for part, output in skipped.items():
        part.forward = lambda *given, output=output: output  # hides the method of its class
    try:
        yield
    finally:
        for part in skipped:
            del part.forward


def before(computed: Mapping[str, torch.Tensor], edits: Mapping[str, Edit]) -> dict[str, torch.Tensor | None]:
    """The outputs of the parts before any edit; none where an edit is neither in a part nor after them.

    Where the first block with an edit has it in its refinement, what comes before that in the block is among
    them, with None for what nobody reads.
    """
    order = [*filter(PART.fullmatch, computed), HEAD]
    owners = {next((part for part in order if path.startswith(f"{part}.")), None) for path in edits}
    if not owners or None in owners:
        return {}
    first = min(order.index(owner) for owner in owners)
    found = {part: computed[part] for part in order[:first]}
    block, refine = order[first], f"{order[first]}.refine."
    if (
        all(path.startswith(refine) for path in edits if path.startswith(f"{block}."))
        and f"{block}.bn2" in computed
    ):
        found |= {path: computed.get(path) for path in (f"{block}.{name}" for name in BEFORE_REFINE)}
    return found
