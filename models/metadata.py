"""What is known of the networks: which there are, which are trained, how large and how good they are."""

from functools import cache
from pathlib import Path

from .checkpoint import (
    CHECKPOINTS,
    CheckpointError,
    check_weights,
    facts_in_use,
    fault_when_loaded,
    loaded_facts,
)
from .networks import CATALOGUE, build, shapes_only
from .statistics import interval

TEST_IMAGES = 10_000  # where the facts do not say how many


def networks() -> list[str]:
    """Ids of the catalogue's entries that make a network, in its order."""
    return [name for name, entry in CATALOGUE.items() if entry.is_network]


def accuracy(facts: dict) -> dict:
    """Percent of the test images that the stored file gets right, its 95 % interval, and the recipe.

    Three numbers, None where nobody measured (see `statistics.interval`).
    """
    measured = interval(facts.get("accuracy"), facts.get("test_images") or TEST_IMAGES)
    return (measured or dict.fromkeys(("value", "low", "high"))) | {"recipe": facts.get("recipe")}


@cache  # bounded by the catalogue
def parameters(name: str) -> int:
    with shapes_only():
        return sum(parameter.numel() for parameter in build(name).parameters())


def mechanisms_table(folder: Path = CHECKPOINTS) -> list[dict]:
    """One row per network: key, name, family, parameters, accuracy, recipe, trained, available, reason.

    `accuracy` is {"value", "low", "high"} in percent; `trained` says that there is a checkpoint, `available`
    that nothing is wrong with it as far as is known (see `fault`), and `reason`, None then, what is.
    """
    rows = []
    for name in networks():
        reason = fault(name, folder)
        measured = accuracy({} if reason else facts_in_use(name, folder))
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
    return loaded_facts(name, folder) is not None or (folder / f"{name}.json").exists()


def fault(name: str, folder: Path) -> str | None:
    """Why a checkpoint cannot be used, in one sentence; None if nothing is known against it.

    That is seen at a glance: the facts, and the size and the first bytes of the weights. To check the sums of
    forty files takes seconds, so that is done when a network is loaded: a loaded one is sound, and the fault
    of one that could not be loaded is known from then on.
    """
    try:
        facts_in_use(name, folder)
        if loaded_facts(name, folder) is not None:
            return None
        if found := fault_when_loaded(name, folder):
            return found
        check_weights(name, folder, parameters(name))
    except CheckpointError as error:
        return str(error)
    return None
