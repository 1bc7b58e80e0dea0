"""Networks and a picture for tests that need no checkpoint."""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models import CATALOGUE, CheckpointError, build
from models.networks import Unfilled
from tests.conftest import pictures, randomise
from visualize.export.column import Column
from visualize.inspection import engine
from visualize.inspection.engine import Question
from visualize.inspection.network import inspect
from visualize.inspection.replaced import Replacement
from visualize.record.compare import answer, record_of
from visualize.record.requests import check_request

EVERY_KIND = (
    "ms_cam",
    "sge",
    "acblock",
    "coord_attention",
    "ccnet",
    "san_pairwise",
    "apnb",
    "condconv",
    "dgc",
)
EVERY_KIND += ("stn", "cbam", "sk", "danet", "doconv", "bam")  # and scale of map, between them
MEASURED = {"value": 93.0, "low": 92.48, "high": 93.48, "recipe": "cpu"}


def randomised(name: str) -> nn.Module:
    """An untrained network in which every part has an effect: eval, frozen."""
    with Unfilled():  # what it starts with is overwritten
        model = build(name)
    return settled(randomise(model))


def settled(model: nn.Module, count: int = 8) -> nn.Module:
    """The same network with statistics as if trained, those of a batch of `count` pictures: eval, frozen."""
    norms = [norm for norm in model.modules() if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # the statistics become those of the one batch below
    with torch.no_grad():
        model.train()(pictures(count))
    return model.eval().requires_grad_(False)


# Of these every file may take what it does not change. A network takes 45 MB: no more than eight are kept.
network = lru_cache(maxsize=8)(randomised)


def picture(seed: int = 0) -> Image.Image:
    """A 32x32 picture with large and small structure."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((32, 32), Image.BICUBIC)
    return Image.fromarray(np.uint8(0.8 * np.asarray(coarse) + 0.2 * rng.integers(0, 256, (32, 32, 3))))


def stand_in(
    monkeypatch: pytest.MonkeyPatch, network: Callable[[str], nn.Module], facts: Mapping[str, dict]
) -> list[str]:
    """Has the engine take the networks in `facts` for trained ones, and no others, and gives it these.

    Returns:
        the names of those that were loaded.
    """
    loaded = []

    def load_with_facts(name: str, device: str = "cpu") -> tuple[nn.Module, dict]:
        if name not in facts:
            raise CheckpointError(f"{name} is not trained yet.")
        loaded.append(name)
        return network(name), facts[name]

    monkeypatch.setattr(engine, "load_with_facts", load_with_facts)
    monkeypatch.setattr(engine, "is_trained", lambda name: name in facts)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return loaded


def compare_record(
    image: Image.Image,
    mechanisms: list[str],
    target: str = "predicted",
    cam: str = "GradCAM",
    random_weights: bool = False,
    replacement: Replacement | None = None,
) -> dict:
    """The record of some networks on one picture, as the server makes it."""
    check_request(image, mechanisms, target, cam)
    asked = Question(image, target, cam, random_weights, replacement)
    return record_of(asked, [answer(name, asked) for name in mechanisms])


@cache
def column(name: str) -> Column:
    """What an untrained network makes of the picture, as the figure takes it; two of them say so."""
    random = name in ("stn", "apnb")
    facts = dict.fromkeys(MEASURED) if random else MEASURED
    return Column(
        name, CATALOGUE[name].title, random, facts, 11_173_962, None, inspect(network(name), picture())
    )
