"""How a network shows its inner tensors: one line in a mechanism, one context manager around a forward.

    gate = record(self, "gate", gate, "b c 1 1", role="gate")        # in a mechanism's forward

    with recording(model) as records:                                # in a viewer
        logits = model(images)
    records["layer3.1.refine.gate"].tensor                           # (B, C, 1, 1), with its graph

What a tensor is to the network is said here too, by the one who makes it. Its role is one of `ROLES`:

    gate        a factor, within its bounds: 0 to 1 for a sigmoid
    share       weights that sum to one along the axes in `over`
    features    anything else that depends on the picture, such as scores before their sigmoid
    static      the same for every picture: filters, bases, fusion weights

Outside `recording` the line costs nothing. Nothing is stored on the module and no hook is set: the open
recording lives in a context variable, so threads that share one network do not see each other's tensors.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

ROLES = ("gate", "share", "features", "static")
Edit = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Record:
    """One recorded tensor, still attached to its graph, and what `record` was told of it.

    Raises:
        ValueError: no such role, or `over` does not go with the role or the axes.
    """

    tensor: torch.Tensor
    axes: str
    role: str
    over: str = ""
    bounds: tuple[float, float] = (0, 1)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"there is no role {self.role!r}: choose one of {', '.join(ROLES)}")
        if self.role == "share" and not self.over:
            raise ValueError("a share must say over which axes it sums to one")
        if self.role in ("gate", "features") and self.over:
            raise ValueError(f"{self.role} do not sum to one: only shares say over which axes")
        if self.role != "gate" and self.bounds != (0, 1):
            raise ValueError(f"bounds are for gates, not for {self.role}")
        dims_of(self.axes, self.over)

    @property
    def static(self) -> bool:
        return self.role == "static"


@dataclass(frozen=True)
class _Observer:
    paths: dict[int, str]  # id of a module -> its dotted path in the observed model
    edits: Mapping[str, Edit]
    records: dict[str, Record]


_observer: ContextVar[_Observer | None] = ContextVar("observer", default=None)


def record(
    module: nn.Module,
    name: str,
    tensor: torch.Tensor,
    axes: str,
    role: str,
    over: str = "",
    bounds: tuple[float, float] = (0, 1),
) -> torch.Tensor:
    """Shows `tensor` to whoever is recording, and returns the tensor that the forward must go on with.

    Args:
        module: the caller, `self`; its dotted path becomes the first part of the record's path.
        name: local name of the tensor, such as `gate`.
        axes: one letter per axis, batch first, `1` for an axis of one: `"b c 1 1"`, `"b head q k"`.
        role: one of `ROLES`.
        over: the axes along which a share sums to one, `"h w"`; of a letter that stands twice, the last.
            What is static may be shared out too.
        bounds: the ends that a gate keeps to on every picture: (1, 2) for 1 + sigmoid, (0, inf) for a ReLU.

    Returns:
        `tensor` itself, or what an edit made of it. In compiled code always `tensor`, without a trace.

    Raises:
        ValueError: the path has been recorded already, an edit of what is static, or as for `Record`.
    """
    if torch.compiler.is_compiling():
        return tensor
    observer = _observer.get()
    if observer is None or id(module) not in observer.paths:
        return tensor
    path = f"{observer.paths[id(module)]}.{name}".lstrip(".")
    if path in observer.records:
        raise ValueError(f"{path} was recorded twice: one recording holds one forward")
    if path in observer.edits:
        if role == "static":  # the forward may have used it before, so an edit might do nothing
            raise ValueError(f"{path} is the same for every picture and cannot be edited.")
        tensor = observer.edits[path](tensor)
    observer.records[path] = Record(tensor, axes, role, over, bounds)
    return tensor


def dims_of(axes: str, over: str) -> tuple[int, ...]:
    """Where the letters of `over` stand in `axes`, counted from the end: `"q h w"`, `"h w"` -> (-2, -1).

    Raises:
        ValueError: a letter that is not there.
    """
    backwards = axes.split()[::-1]
    if strange := set(over.split()) - set(backwards):
        raise ValueError(f"{axes!r} has no axis {', '.join(sorted(strange))}")
    return tuple(-1 - backwards.index(letter) for letter in over.split())


def is_recording() -> bool:
    """Whether somebody is looking: pairwise mechanisms then form the weights that a lean kernel hides."""
    return not torch.compiler.is_compiling() and _observer.get() is not None


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    size: tuple[int, int] | None = None,
    scale: float | None = None,
    name: str = "affinity",
) -> torch.Tensor:
    """Each query reads the values, in shares by how well it matches each key: softmax(scale Q K^T) V.

    Nobody looking, a lean kernel does it; else the shares are formed and recorded, with the same result.

    Args:
        module: the caller, as for `record`.
        query, key, value: (B, N, d), (B, S, d), (B, S, e), or with a second axis for the heads.
        size: height and width of the map that the keys stand for, row by row; None if they are no map.
        scale: by default 1 / sqrt(d).
        name: local name of the shares.

    Returns:
        (B, N, e), or (B, heads, N, e).
    """
    if not is_recording():
        if query.ndim == 4:
            return F.scaled_dot_product_attention(query, key, value, scale=scale)
        heads = (t.unsqueeze(1) for t in (query, key, value))  # without, the kernel would not be lean
        return F.scaled_dot_product_attention(*heads, scale=scale).squeeze(1)
    if scale is None:
        scale = query.shape[-1] ** -0.5
    affinity = (query @ key.transpose(-2, -1) * scale).softmax(-1)  # (B, N, S)
    axes = "b head q" if query.ndim == 4 else "b q"
    if size is None:
        affinity = record(module, name, affinity, f"{axes} k", role="share", over="k")
    else:
        affinity = affinity.unflatten(-1, size)
        affinity = record(module, name, affinity, f"{axes} h w", role="share", over="h w").flatten(-2)
    return affinity @ value


@contextmanager
def recording(model: nn.Module, edits: Mapping[str, Edit] | None = None) -> Iterator[dict[str, Record]]:
    """Collects what `model` records during one forward, by dotted path, in the order of computation.

    Args:
        model: the network; tensors that other modules record in the meantime are left alone.
        edits: path -> function from tensor to tensor, applied before the network goes on:
            `{"layer3.1.refine.gate": torch.ones_like}` switches one gate off.

    Raises:
        ValueError: during the forward, for an edit of what is the same for every picture.
        KeyError: at the end, when an edit named a path that the forward never recorded.
    """
    edits = edits or {}
    paths = {id(module): path for path, module in model.named_modules()}
    observer = _Observer(paths, edits, {})
    token = _observer.set(observer)
    try:
        yield observer.records
    finally:
        _observer.reset(token)
    if missing := sorted(set(edits) - set(observer.records)):
        raise KeyError(f"no such record to edit: {', '.join(missing)}")
