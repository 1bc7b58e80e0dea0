"""The catalogue: one entry per mechanism, filled by the files of `models/attention` and `models/modules`.

A mechanism is one file. Its decorator says where it belongs, its docstring is the text on the page:

    @mechanism("se", title="Squeeze-and-Excitation", family="channel", slot="refine", paper="Hu et al., ...")
    class SqueezeExcitation(nn.Module):
        '''...'''
        def __init__(self, channels: int, reduction: int = 16): ...

    python -m models      prints id, family, slot, parameters, FLOPs, checkpoint and paper of all
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

FAMILIES = ("channel", "spatial", "pairwise", "hybrid", "kernel", "module")
BLOCKS = tuple(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1))
STAGES = tuple(f"stage{stage}" for stage in (1, 2, 3, 4))
BLOCK_SLOTS = ("refine", "conv1", "conv2", "conv", "fuse", "block")
STRIDED_SLOTS = ("conv1", "conv", "block")  # what stands there may shrink the map and change its width
SLOTS = (*BLOCK_SLOTS, "stage", "cross", "input", "head", "act")


@dataclass(frozen=True)
class Site:
    """A place in the network where a mechanism can stand.

    Args:
        channels_in: channels of the tensor that comes in.
        channels: channels of the tensor that goes out.
        size: height and width of the map there for a 32x32 picture, in cells.
        stride: 2 where the map shrinks, else 1.
        stage: 1 to 4; 0 for the input and the head.
        block: 0 or 1 inside the stage.
        position: 1 or 2 for a block's first or second convolution, else 0.
        classes: how many the network tells apart, for mechanisms that stand between two stages.
    """

    channels_in: int
    channels: int
    size: int
    stride: int = 1
    stage: int = 0
    block: int = 0
    position: int = 0
    classes: int = 10


@dataclass(frozen=True)
class Entry:
    """What the catalogue knows of a mechanism.

    `sites` names blocks (`layer2.0`) or stages (`stage2`), `source` the file, from the root of the project.
    """

    name: str
    title: str
    family: str
    slot: str | None
    sites: tuple[str, ...]
    paper: str
    build: Callable[[Site], nn.Module] | None
    explanation: str
    source: str = ""

    @property
    def is_network(self) -> bool:
        """Whether `models.build` makes a network of it."""
        return self.slot is not None or self.name == "plain"


_entries: dict[str, Entry] = {}


def mechanism(
    name: str, *, title: str, family: str, slot: str | None, paper: str, sites: tuple[str, ...] = ()
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Class decorator that enters a mechanism into the catalogue.

    The class is built with `(channels)`, in a slot that may shrink the map with `(channels_in, channels,
    stride)`; one that must know more of its place has a class method `at(site)`.

    Args:
        name: the id, the field's abbreviation: `se`, `non_local`.
        title: the name people say.
        family: one of `FAMILIES`.
        slot: one of `SLOTS`, or None for a module that has no place in a classifier.
        paper: authors, title, venue and year, link.
        sites: the blocks (`layer3.1`) or stages (`stage3`) it fills; by default every block for a slot
            inside the block. The slots `input`, `head` and `act` need none.

    Raises:
        ValueError: on a name that is taken, an unknown family, slot or site, or a class without docstring.
    """
    if family not in FAMILIES:
        raise ValueError(f"{name}: unknown family {family!r}, expected one of {', '.join(FAMILIES)}")
    if slot is not None and slot not in SLOTS:
        raise ValueError(f"{name}: unknown slot {slot!r}, expected one of {', '.join(SLOTS)}")
    if slot in BLOCK_SLOTS and not sites:
        sites = BLOCKS
    if unknown := sorted(set(sites) - {*BLOCKS, *STAGES}):
        raise ValueError(f"{name}: there is no {', '.join(unknown)} in the network")

    def register(cls: type[nn.Module]) -> type[nn.Module]:
        if name in _entries:
            raise ValueError(f"two mechanisms are called {name!r}")
        if not cls.__doc__:
            raise ValueError(f"{name}: the class docstring is the page's text, and it is missing")

        def by_default(site: Site) -> nn.Module:
            if slot in STRIDED_SLOTS:
                return cls(site.channels_in, site.channels, site.stride)
            return cls(site.channels)

        build = getattr(cls, "at", by_default)
        source = cls.__module__.replace(".", "/") + ".py"
        _entries[name] = Entry(
            name, title, family, slot, sites, paper, build, inspect.cleandoc(cls.__doc__), source
        )
        return cls

    return register


def discover() -> dict[str, Entry]:
    """Imports every file of the two folders; returns all entries: `plain` first, then by family, by file."""
    for folder in ("attention", "modules"):
        for file in pkgutil.iter_modules([str(Path(__file__).parent / folder)]):
            importlib.import_module(f"models.{folder}.{file.name}")
    plain = Entry(
        "plain",
        "Plain ResNet18",
        "module",
        None,
        (),
        "He et al., Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385",
        None,
        PLAIN,
        "models/resnet.py",
    )
    ordered = sorted(_entries.values(), key=lambda entry: (FAMILIES.index(entry.family), entry.source))
    return {entry.name: entry for entry in (plain, *ordered)}


PLAIN = r"""The CIFAR ResNet18 without attention: the control for all the others.

$$y = \mathrm{relu}(x + F(x)), \quad
F = \mathrm{bn}_2 \circ \mathrm{conv}_2 \circ \mathrm{relu} \circ \mathrm{bn}_1 \circ \mathrm{conv}_1$$

Eight residual blocks in four stages look at the picture at 32, 16, 8 and 4 cells a side. Each block adds
a correction to what it was given; where the map shrinks, a 1x1 convolution with BatchNorm first fits x
to the new size. Nothing tells one place or one channel to count more for this picture: whatever Grad-CAM
shows here, the network does without attention.

**What to look for.** Compare its Grad-CAM with the others before you credit an attention mechanism.
"""
