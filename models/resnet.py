"""The only backbone: ResNet18 for 32x32 pictures, with named slots that a mechanism may fill.

Source: He et al., Deep Residual Learning, CVPR 2016 (arXiv 1512.03385), with the usual CIFAR stem: one 3x3
convolution, no pooling. Without a mechanism it has 11,173,962 parameters. The network never asks which
mechanism it holds: an entry of the catalogue says which slot it fills, and at which blocks or stages.
"""

import torch
from torch import nn

from .catalogue import Entry, Site
from .recording import record

WIDTHS = (64, 128, 256, 512)  # channels of the four stages
SIZES = (32, 16, 8, 4)  # height and width of their maps, in cells


class BasicBlock(nn.Module):
    """relu(shortcut(x) + bn2(conv2(relu(bn1(conv1(x)))))): (B, C_in, H, W) -> (B, C, H/stride, W/stride).

    Slots: `conv1`, `conv2`, `conv` (both), `refine` (on the residual), `fuse` (in place of the sum), `act`.
    """

    def __init__(self, site: Site, entry: Entry | None):
        super().__init__()
        channels_in, channels, stride = site.channels_in, site.channels, site.stride
        first = Site(channels_in, channels, site.size, stride, site.stage, site.block, position=1)
        second = Site(channels, channels, site.size, 1, site.stage, site.block, position=2)
        inner = Site(channels, channels, site.size, 1, site.stage, site.block)

        self.conv1 = fill(entry, ("conv1", "conv"), first) or conv3x3(channels_in, channels, stride)
        self.bn1 = norm_after(self.conv1, channels)
        self.act1 = fill(entry, ("act",), inner) or nn.ReLU()
        self.conv2 = fill(entry, ("conv2", "conv"), second) or conv3x3(channels, channels)
        self.bn2 = norm_after(self.conv2, channels)
        self.refine = fill(entry, ("refine",), inner)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.fuse = fill(entry, ("fuse",), inner)
        self.act2 = fill(entry, ("act",), inner) or nn.ReLU()

    def forward(self, x: torch.Tensor, handed_on: dict | None = None) -> torch.Tensor:
        """`handed_on` is of one forward: a mechanism leaves there what the next block's needs to know."""
        handed_on = {} if handed_on is None else handed_on
        residual = self.act1(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        if self.refine is not None:
            needs = getattr(self.refine, "needs", ())
            offers = {"block_input": x, "carry": handed_on.get("carry")}
            adds = getattr(self.refine, "adds", False)  # y = x + ...: how much is a question of its own
            if adds:
                residual = record(self, "bn2.output", residual, "b c h w", role="features")
            residual = self.refine(residual, **{need: offers[need] for need in needs})
            if adds:
                residual = record(self, "refine.output", residual, "b c h w", role="features")
            if "carry" in needs:
                residual, handed_on["carry"] = residual
        identity = self.shortcut(x)
        x = identity + residual if self.fuse is None else self.fuse(identity, residual)
        return record(self, "output", self.act2(x), "b c h w", role="features")


class ForeignBlock(nn.Module):
    """A block that a mechanism provides whole (slot `block`), recorded like the others."""

    def __init__(self, site: Site, entry: Entry):
        super().__init__()
        self.block = entry.build(site)

    def forward(self, x: torch.Tensor, handed_on: dict | None = None) -> torch.Tensor:
        return record(self, "output", self.block(x), "b c h w", role="features")


class ResNet18(nn.Module):
    """(B, 3, 32, 32) normalised floats -> (B, num_classes) logits.

    Args:
        num_classes: width of the classifier.
        entry: the mechanism that fills one slot, or None for the plain network.
    """

    def __init__(self, num_classes: int = 10, entry: Entry | None = None):
        super().__init__()
        whole = Site(3, 3, 32)
        self.input = fill(entry, ("input",), whole)
        self.conv1 = conv3x3(3, WIDTHS[0])
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.act1 = fill(entry, ("act",), Site(64, 64, 32)) or nn.ReLU()
        channels = WIDTHS[0]
        for stage, (width, size) in enumerate(zip(WIDTHS, SIZES), start=1):
            layer = nn.ModuleList()
            for block in (0, 1):
                stride = 2 if stage > 1 and block == 0 else 1
                site = Site(channels, width, size, stride, stage, block)
                own = entry is not None and entry.slot == "block" and f"layer{stage}.{block}" in entry.sites
                layer.append(ForeignBlock(site, entry) if own else BasicBlock(site, entry))
                channels = width
            self.add_module(f"layer{stage}", layer)
            after = Site(width, width, size, 1, stage, classes=num_classes)
            self.add_module(f"stage{stage}", fill(entry, ("stage", "cross"), after))
        self.crosses = entry is not None and entry.slot == "cross"
        self.head = fill(entry, ("head",), Site(WIDTHS[-1], WIDTHS[-1], SIZES[-1]))
        features = getattr(self.head, "channels_out", WIDTHS[-1])  # how many the head returns
        self.fc = nn.Linear(features, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.input is not None:
            images = self.input(images)
        x = self.act1(self.bn1(self.conv1(images)))  # (B, 64, 32, 32)
        handed_on, stages = {}, []
        for stage in (1, 2, 3, 4):
            for block in getattr(self, f"layer{stage}"):
                x = block(x, handed_on)
            after = getattr(self, f"stage{stage}")
            if after is not None:
                x = after(x, stages[-1]) if self.crosses else after(x)
                x = record(self, f"stage{stage}.output", x, "b c h w", role="features")
            stages.append(x)  # (B, 64, 32, 32), (B, 128, 16, 16), (B, 256, 8, 8), (B, 512, 4, 4)
        features = x.mean((2, 3)) if self.head is None else self.head(stages)
        return self.fc(features)


def fill(entry: Entry | None, slots: tuple[str, ...], site: Site) -> nn.Module | None:
    """The entry's module where it fills one of these slots at this site, else None."""
    if entry is None or entry.slot not in slots:
        return None
    here = f"stage{site.stage}" if entry.slot in ("stage", "cross") else f"layer{site.stage}.{site.block}"
    if entry.slot in ("input", "head", "act") or here in entry.sites:
        return entry.build(site)
    return None


def norm_after(conv: nn.Module, channels: int) -> nn.Module:
    """The BatchNorm behind a convolution, left out where a mechanism brings its own."""
    return nn.Identity() if getattr(conv, "has_norm", False) else nn.BatchNorm2d(channels)


def conv3x3(channels_in: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
