"""What a row says, how a network is held against it, and short forms of the places where records stand."""

import re
from dataclasses import dataclass, field

import torch
from conftest import pictures
from torch import nn

from models.catalogue import BLOCKS, Entry, Site
from models.networks import shapes_only
from models.recording import dims_of, recording
from models.resnet import SIZES, WIDTHS
from tests.forms import count

OUTPUTS = {f"{block}.output": "b c h w" for block in BLOCKS}


@dataclass(frozen=True)
class Row:
    """What an entry must be.

    Args:
        total: parameters of the whole network with ten classes.
        module: parameters of one module at 64 channels.
        records: path -> axes of what the mechanism records; the outputs of the eight blocks come on top.
    """

    total: int
    module: int | None = None
    records: dict[str, str] = field(default_factory=dict)


def in_blocks(**axes: str) -> dict[str, str]:
    return {f"{block}.{name.replace('__', '.')}": axes[name] for block in BLOCKS for name in axes}


def after_stages(**axes: str) -> dict[str, str]:
    """At the two places after stage 2 and 3, with the output that the network itself records there."""
    axes = {**axes, "output": "b c h w"}
    return {f"stage{stage}.{name}": axes[name] for stage in (2, 3) for name in axes}


def check_parameters(row: Row, entry: Entry, network: nn.Module) -> None:
    """The network, and one module of the entry alone, have as many parameters as the row says."""
    assert count(network) == row.total
    if row.module is not None:
        with shapes_only():
            assert count(entry.build(Site(64, 64, 32, stage=1))) == row.module


def check_records(row: Row, network: nn.Module) -> None:
    """The network records what the row says, and every tensor is what is said of it.

    Axes are true, shares sum to one, and gates stay within their bounds.
    """
    with torch.inference_mode(), recording(network) as records:
        assert network(pictures(3)).shape == (3, 10)
    assert {path: entry.axes for path, entry in records.items()} == OUTPUTS | row.records
    for path, entry in records.items():
        letters, shape = entry.axes.split(), entry.tensor.shape
        assert len(letters) == len(shape), path
        sizes = dict(zip(letters, shape))
        assert [sizes[letter] for letter in letters] == list(shape), f"{path}: a letter has two sizes"
        assert all(sizes.get(digit, int(digit)) == int(digit) for digit in "123"), path
        assert sizes["b"] == 3 if "b" in sizes else entry.static, path
        if entry.over:
            sums = entry.tensor.sum(dims_of(entry.axes, entry.over))
            assert entry.tensor.min() >= 0 and (sums - 1).abs().max() < 1e-3, path
        if entry.role == "gate":
            low, high = entry.bounds
            assert low <= entry.tensor.min() and entry.tensor.max() <= high, path
        if "q" in sizes and "h" in sizes:
            assert sizes["q"] == sizes["h"] * sizes["w"], path
        if place := re.match(r"(layer|stage)(\d)", path):
            stage = int(place[2])
            assert sizes.get("h", SIZES[stage - 1]) == SIZES[stage - 1], path
            assert sizes.get("c", WIDTHS[stage - 1]) == WIDTHS[stage - 1], path
