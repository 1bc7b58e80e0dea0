"""One forward and one backward of one network on one picture; NumPy out.

    seen = inspect(models.load("se"), picture)
    seen.probabilities                            # (10,)
    seen.cams["layer4.1"]                         # (4, 4), from 0 to 1
    seen.maps["layer3.1.refine.gate"].values      # (256, 1, 1)

Threads may share a network: no hook is set, no `.grad` is filled, no lock is taken.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from models.catalogue import BLOCKS
from models.preprocessing import normalise
from models.recording import Edit, Record, recording

from .cam import METHODS, class_map, relative


class NotFiniteError(ValueError):
    """The network computes NaN or infinity for this picture; the message is one sentence for the user."""


@dataclass(frozen=True, eq=False)
class Map:
    """A tensor that the network recorded, without its batch axis.

    Args:
        axes: a letter or `1` per axis, such as `"c 1 1"`; `models.recording.record` explains them.
        values: float32, one axis per letter.
        role, over, bounds: what the values are to the network, explained there too.
    """

    axes: str
    values: np.ndarray
    role: str = "features"
    over: str = ""
    bounds: tuple[float, float] = (0, 1)

    @property
    def static(self) -> bool:
        """Whether it is the same for every picture."""
        return self.role == "static"


@dataclass(frozen=True, eq=False)
class Observation:
    """One pass through a network, from which every CAM method can be computed.

    `activations` and `gradients`, both (C, h, w), are by block, from the asked block to the last one.
    """

    pixels: np.ndarray
    probabilities: np.ndarray
    evidence: float
    target: int
    activations: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    maps: dict[str, Map]
    strength: dict[str, float]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a network made of one picture.

    Args:
        pixels: (32, 32, 3) uint8, the picture.
        probabilities: (classes,) float32.
        evidence: logsumexp of the logits: how much speaks for any class at all (see `unfamiliar`).
        target: index of the class that the CAMs explain.
        cams: block -> (h, w) from 0 to 1, relative to the block's own range (see `cam.relative`).
        cam_ranges: block -> lowest and highest value before that, in the CAM method's own unit.
        maps: path -> everything the mechanism recorded, in the order of computation.
        strength: `stage2`, or `layer2.1.refine` -> |y - x| / |x| of a module there that adds to what it is
            given: how much it changes it.
        before: (classes,) what it answers as trained, where attention was to be replaced (see `replaced`).
        replace_note: a sentence, where nothing was replaced.
        replaced: paths of the maps that were.
    """

    pixels: np.ndarray
    probabilities: np.ndarray
    evidence: float
    target: int
    cams: dict[str, np.ndarray]
    cam_ranges: dict[str, tuple[float, float]]
    maps: dict[str, Map]
    strength: dict[str, float]
    before: np.ndarray | None = None
    replace_note: str | None = None
    replaced: tuple[str, ...] = ()


def inspect(
    model: nn.Module,
    image: Image.Image,
    target: int | None = None,
    cam: str = "GradCAM",
    stage: str = "layer1.0",
    edits: Mapping[str, Edit] | None = None,
) -> Inspection:
    """Looks into a network while it looks at a picture.

    Args:
        model: a network of `models`, in eval mode, on any device, also within torch.compile or DataParallel.
        image: 32x32, RGB.
        target: index of the class to explain; by default the predicted one.
        cam: one of `cam.METHODS`.
        stage: how far down the backward pass goes, and with it the CAMs: `"layer4.1"` gives that one, almost
            for free; the default, `"layer1.0"`, gives all eight.
        edits: path -> function from tensor to tensor: what-if, see `models.recording.recording`.

    Raises:
        ValueError: another kind of picture, a class, method or block that does not exist, training mode, a
            network that records no blocks, an edit of a tensor that is the same for every picture.
        NotFiniteError: (a ValueError) NaN or infinity in the network.
        KeyError: an edit names a path that the network does not record.
    """
    if cam not in METHODS:  # before the work
        raise ValueError(f"There is no CAM method {cam!r}: choose one of {', '.join(METHODS)}.")
    return explain(observe(model, image, target, stage, edits), cam)


def observe(
    model: nn.Module,
    image: Image.Image,
    target: int | None = None,
    stage: str = "layer1.0",
    edits: Mapping[str, Edit] | None = None,
) -> Observation:
    """The pass behind `inspect`: for several CAM methods, observe once and `explain` often."""
    if not isinstance(image, Image.Image) or image.size != (32, 32) or image.mode != "RGB":
        raise ValueError("The picture must be an RGB image of 32 x 32 pixels.")
    if stage not in BLOCKS:
        raise ValueError(f"There is no block {stage!r}: choose one of {', '.join(BLOCKS)}.")
    if target is not None and (isinstance(target, bool) or not isinstance(target, int | np.integer)):
        raise ValueError("The target must be the index of a class, or None for the predicted one.")
    model = unwrapped(model)
    if model.training:
        raise ValueError("The network is in training mode: call its eval() first.")

    pixels = np.array(image)  # (32, 32, 3)
    weight = next(model.parameters())
    blocks = BLOCKS[BLOCKS.index(stage) :]
    with torch.inference_mode(False), torch.enable_grad():  # the caller may have switched gradients off
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(weight.device)
        images = normalise(images).to(weight.dtype).requires_grad_()  # the weights are frozen
        with recording(model, edits) as records:
            logits = model(images)[0]  # (classes,)
        if not logits.isfinite().all():
            raise NotFiniteError("The network gives no finite numbers for this picture.")
        if target is None:
            target = int(to_numpy(logits).argmax())  # the first of equals, on every device
        if not 0 <= target < len(logits):
            raise ValueError(f"There is no class {target}: the classes are 0 to {len(logits) - 1}.")
        if f"{stage}.output" not in records:
            raise ValueError("The network records no blocks: it is compiled in place, or none of `models`.")
        outputs = [records[f"{block}.output"].tensor for block in blocks]
        gradients = torch.autograd.grad(logits[target], outputs)

    return Observation(
        pixels,
        to_numpy(logits.softmax(0)),
        float(logits.detach().logsumexp(0)),
        int(target),
        {block: to_numpy(output[0]) for block, output in zip(blocks, outputs)},
        {block: to_numpy(gradient[0]) for block, gradient in zip(blocks, gradients)},
        {path: without_batch(record) for path, record in records.items() if not path.endswith(".output")},
        strengths(records),
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The network that `torch.compile` or a parallel wrapper holds: compiled code records nothing."""
    if hasattr(model, "_orig_mod"):  # an import of the compiler, to ask for its class, would take seconds
        return unwrapped(model._orig_mod)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    return model


def explain(seen: Observation, cam: str = "GradCAM") -> Inspection:
    """The class activation maps of an observation, by one of `cam.METHODS`."""
    raw = {block: class_map(cam, seen.activations[block], seen.gradients[block]) for block in seen.gradients}
    if not all(np.isfinite(values).all() for values in raw.values()):
        raise NotFiniteError(f"{cam} gives no finite numbers for this picture.")
    return Inspection(
        seen.pixels,
        seen.probabilities,
        seen.evidence,
        seen.target,
        {block: relative(values) for block, values in raw.items()},
        {block: (float(values.min()), float(values.max())) for block, values in raw.items()},
        seen.maps,
        seen.strength,
    )


def strengths(records: Mapping[str, Record]) -> dict[str, float]:
    """How much each module after a stage, or one in a block that adds, changes its input: |y - x| / |x|."""
    found = {}
    for module in (*(f"stage{stage}" for stage in (1, 2, 3, 4)), *(f"{block}.refine" for block in BLOCKS)):
        after, before = around(module)
        if after in records:
            x, y = records[before].tensor.detach(), records[after].tensor.detach()
            found[module] = float((y - x).norm() / x.norm().clamp(min=1e-12))
    return found


def around(module: str) -> tuple[str, str]:
    """Under which paths stand what such a module returned, and what it was given."""
    stage = re.fullmatch(r"stage(\d)", module)
    before = f"layer{stage[1]}.1.output" if stage else module.replace("refine", "bn2.output")
    return f"{module}.output", before


def without_batch(record: Record, which: int = 0) -> Map:
    """The record of one picture of a batch."""
    axes, tensor = record.axes.split(), record.tensor
    if axes[0] == "b":
        axes, tensor = axes[1:], tensor[which]
    return Map(" ".join(axes), to_numpy(tensor), record.role, record.over, record.bounds)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A float32 copy, so that nobody who writes to it writes to a network's weights."""
    return tensor.detach().float().cpu().numpy().copy()
