"""What is known of the networks: which there are, which are trained, how large and how good they are."""

from functools import cache, lru_cache
from pathlib import Path

import torch

from .checkpoint import CHECKPOINTS, CheckpointError, read_facts, restore
from .networks import CATALOGUE, build
from .statistics import wilson

TEST_IMAGES = 10_000


def networks() -> list[str]:
    """Ids of the catalogue's entries that make a network, in its order."""
    return [name for name, entry in CATALOGUE.items() if entry.is_network]


def accuracy(facts: dict) -> dict:
    """Percent of the test images that the stored file gets right, its 95 % interval, and the recipe.

    The interval (Wilson's) is about chance in the choice of test images, not about another seed. The three
    numbers are None where nobody measured.
    """
    value = facts.get("accuracy")
    low = high = None
    if value is not None:
        low, high = (round(percent, 2) for percent in wilson(value, TEST_IMAGES))
        value = round(value, 2)
    return {"value": value, "low": low, "high": high, "recipe": facts.get("recipe")}


@cache  # bounded by the catalogue
def parameters(name: str) -> int:
    with torch.device("meta"):  # shapes only
        return sum(parameter.numel() for parameter in build(name).parameters())


def mechanisms_table(folder: Path = CHECKPOINTS) -> list[dict]:
    """One row per network: key, name, family, parameters, accuracy, recipe, trained, available, reason.

    `accuracy` is {"value", "low", "high"} in percent; `trained` says that there is a checkpoint, `available`
    that it is sound, and `reason`, None then, why not.
    """
    rows = []
    for name in networks():
        reason = fault(name, folder)
        measured = accuracy({} if reason else read_facts(name, folder))
        recipe = measured.pop("recipe")
        entry = CATALOGUE[name]
        rows.append(
            {
                "key": name,
                "name": entry.title,
                "family": entry.family,
                "parameters": parameters(name),
                "accuracy": measured,
                "recipe": recipe,
                "trained": is_trained(name, folder),
                "available": reason is None,
                "reason": reason,
            }
        )
    return rows


def is_trained(name: str, folder: Path = CHECKPOINTS) -> bool:
    """Whether there is a checkpoint, sound or not."""
    return (folder / f"{name}.json").is_file()


def fault(name: str, folder: Path = CHECKPOINTS) -> str | None:
    """Why a checkpoint cannot be used, in one sentence; None if it can. Unchanged files are read once."""
    stamps = []
    for file in (folder / f"{name}.json", folder / f"{name}.safetensors"):
        try:
            stamps.append((file.stat().st_mtime_ns, file.stat().st_size))
        except OSError:
            stamps.append(None)
    return _fault(name, folder, tuple(stamps))


@lru_cache(maxsize=512)
def _fault(name: str, folder: Path, stamps: tuple) -> str | None:
    try:
        restore(name, folder)
    except CheckpointError as error:
        return str(error)
    return None
