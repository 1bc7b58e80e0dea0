"""What is said about a mechanism: its text, and the figures measured on the file that ships."""

import re
from functools import cache, lru_cache
from pathlib import Path

import torch

from models import CATALOGUE, CheckpointError, build
from models.checkpoint import CHECKPOINTS, read_facts, restore
from models.table import wilson

TEST_IMAGES = 10_000
MODELS = Path(__file__).parent.parent / "models"
PLACES = {  # what an entry fills, by its slot
    None: "",
    "refine": "at the end of the residual path, before the addition",
    "conv1": "in place of the first 3x3 convolution",
    "conv2": "in place of the second 3x3 convolution",
    "conv": "in place of both 3x3 convolutions",
    "fuse": "in place of the addition of shortcut and residual",
    "block": "in place of the whole block",
    "act": "in place of every activation",
    "stage": "between two stages, on all that goes on",
    "cross": "between two stages, with the output of an earlier one at hand",
    "input": "on the picture, before the first layer",
    "head": "between the last stage and the classifier",
}


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


def card(name: str, folder: Path = CHECKPOINTS) -> str:
    """Markdown about one mechanism: its explanation, the paper, its place, and the measured figures.

    Raises:
        KeyError: no such entry.
    """
    entry = CATALOGUE[name]
    paper = re.sub(r"https?://[^\s,;]+", lambda link: f"<{link[0]}>", entry.paper)
    parts = {
        "Paper": paper,
        "Place": place(name),
        "Source": f"`{sources()[name]}`",
        "Measured": figures(name, folder),
    }
    lines = "\n\n".join(f"**{title}.** {text}" for title, text in parts.items())
    return f"### {entry.title}\n\n{entry.explanation}\n\n{lines}\n"


def place(name: str) -> str:
    """Family, slot and sites in one sentence."""
    entry = CATALOGUE[name]
    family = f"Family {entry.family}"
    if name == "plain":
        return f"{family}; the network that all the others are built on."
    if entry.slot is None:
        return f"{family}; no place in a classifier."
    sites = ", ".join(entry.sites)
    where = f": {'all eight blocks' if len(entry.sites) == 8 else sites}" if sites else ""
    return f"{family}; slot `{entry.slot}`, {PLACES[entry.slot]}{where}."


@cache
def sources() -> dict[str, str]:
    """Where each entry is written: id -> path from the root of the project."""
    found = {"plain": "models/resnet.py"}
    for file in sorted(MODELS.glob("*/*.py")):
        for name in re.findall(r'^@mechanism\(\s*"(\w+)"', file.read_text(encoding="utf-8"), re.MULTILINE):
            found[name] = file.relative_to(MODELS.parent).as_posix()
    return found


def figures(name: str, folder: Path = CHECKPOINTS) -> str:
    """The measured figures in one sentence, or what can be said without a checkpoint."""
    if name not in networks():
        return "Nothing: it has no place in a classifier, so there is no network to measure."
    if not is_trained(name, folder):
        return f"{parameters(name):,} parameters; not trained yet."
    try:
        facts = read_facts(name, folder)
    except CheckpointError as error:
        return str(error)
    measured, parts = accuracy(facts), [f"{parameters(name):,} parameters"]
    if measured["value"] is not None:
        text = f"{measured['value']:.2f} % of {TEST_IMAGES:,} test images right"
        text += f" (95 % interval {measured['low']:.2f} to {measured['high']:.2f}"
        if facts.get("accuracy_mirror") is not None:
            text += f"; {facts['accuracy_mirror']:.2f} % with mirror averaging"
        parts.insert(0, text + ")")
    if facts.get("flops") is not None:
        parts.append(f"{facts['flops'] / 1e9:.2f} GFLOPs a picture")
    if facts.get("latency_ms") is not None:
        parts.append(f"{facts['latency_ms']:.0f} ms a picture on the CPU that measured it")
    trained = f"trained with the `{facts.get('recipe')}` recipe, {facts.get('epochs')} epochs"
    return "; ".join([*parts, f"{trained}, seed {facts.get('seed')}"]) + "."
