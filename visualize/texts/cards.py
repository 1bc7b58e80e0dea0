"""What is said about a mechanism: its text, and the figures measured on the file that ships."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from models import CATALOGUE, CheckpointError, build
from models.checkpoint import CHECKPOINTS, facts_in_use
from models.metadata import TEST_IMAGES, accuracy, is_trained, networks, parameters
from models.networks import shapes_only
from models.recording import Record, recording
from models.results.table import beside_plain
from models.statistics import in_words

from ..inspection.untrained import untrained

FAMILIES = {  # family: what its mechanisms weigh
    "module": "Control and modules",
    "channel": "Channels",
    "spatial": "Places",
    "pairwise": "Pairs of places",
    "hybrid": "Channels and places",
    "kernel": "Windows",
}
PLACES = {  # what an entry fills, by its slot
    None: "",
    "refine": "at the end of the residual path, before the addition",
    "conv1": "in place of the first 3x3 convolution",
    "conv2": "in place of the second 3x3 convolution",
    "conv": "in place of both 3x3 convolutions",
    "fuse": "in place of the addition of shortcut and residual",
    "block": "in place of the whole block",
    "act": "in place of every activation",
    "stage": "between two stages, on everything that is passed on",
    "cross": "between two stages, also fed with the output of an earlier stage",
    "input": "on the picture, before the first layer",
    "head": "between the last stage and the classifier",
}


EXPLANATIONS = Path(__file__).parent / "explanations"  # a file for each language but English
SHAPES = {"en": "**Shapes.**", "zh": "**形状。**"}  # where the last part of an explanation begins


@cache
def explanations(language: str) -> dict[str, str]:
    """Explanations in another language, by entry: in its file a section for each, with the id as heading."""
    text = (EXPLANATIONS / f"{language}.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], map(str.strip, parts[1::2])))


def languages(name: str) -> list[str]:
    """Those in which a mechanism is explained."""
    others = sorted(file.stem for file in EXPLANATIONS.glob("*.md"))
    return ["en", *(language for language in others if name in explanations(language))]


def card(name: str, language: str = "en") -> str:
    """Markdown about one mechanism in words: explanation, place, paper, source, shapes.

    Args:
        language: of the explanation, one of `languages(name)`; the page puts the rest into its own language.

    Raises:
        KeyError: no such entry.
    """
    entry = CATALOGUE[name]
    whole = entry.explanation if language == "en" else explanations(language)[name]
    explanation, _, shapes = whole.partition(SHAPES[language])
    paper = re.sub(r"https?://[^\s,;]+", lambda link: f"<{link[0]}>", entry.paper)
    parts = [f"### {entry.title}", explanation.strip(), f"**Place.** {place(name)}", f"**Paper.** {paper}"]
    parts.append(f"**Source.** `{entry.source}`")
    if shapes:
        parts.append(f"{SHAPES[language]} {shapes.strip()}")
    return "\n\n".join(parts) + "\n"


def measured(name: str, folder: Path = CHECKPOINTS) -> str:
    """Markdown about one mechanism in numbers: the figures beside plain, and the limits of figures and maps.

    Raises:
        KeyError: no such entry.
    """
    parts = [figures(name, folder)]
    if found := limits(name, folder):
        parts.append("**Limits.**\n\n" + "\n".join(f"- {limit}" for limit in found))
    return "\n\n".join(parts) + "\n"


def place(name: str) -> str:
    """Family, slot and sites in one sentence."""
    entry = CATALOGUE[name]
    family = f"Family: {FAMILIES[entry.family]}"
    if name == "plain":
        return f"{family}; the network that all the others are built on."
    if entry.slot is None:
        return f"{family}; no place in a classifier."
    sites = ", ".join(site.replace("stage", "after layer") for site in entry.sites)
    where = f": {'all eight blocks' if len(entry.sites) == 8 else sites}" if sites else ""
    return f"{family}; slot `{entry.slot}`, {PLACES[entry.slot]}{where}."


def figures(name: str, folder: Path) -> str:
    """Markdown: a table of what was measured, beside plain, or what is known without a checkpoint."""
    if name not in networks():
        return "**Measured.** Nothing: it has no place in a classifier, so there is no network to measure."
    if not is_trained(name, folder):
        text = f"{parameters(name):,}"
        if name != "plain":
            text += f", {compared(parameters(name), parameters('plain'))} the plain network"
        return f"**Parameters.** {text}. It is not trained yet, so nothing else was measured."
    try:
        facts = facts_in_use(name, folder)
    except CheckpointError as error:
        return f"**Measured.** {error}"
    try:
        plain = facts_in_use("plain", folder) if name != "plain" else {}
    except CheckpointError:
        plain = {}
    columns = [{"parameters": parameters(name), **facts}]
    if name != "plain":
        columns.append({"parameters": parameters("plain"), **plain})
    rows = [(label, [show(column) for column in columns]) for label, show in ROWS.items()]
    head = ["**Measured**", CATALOGUE[name].title, "Plain"][: 1 + len(columns)]
    lines = [
        head,
        ["---", *["---:"] * len(columns)],
        *([label, *cells] for label, cells in rows if any(cells)),
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table, *filter(None, [beside(name, facts, plain, folder)])])


def share_right(facts: dict) -> str:
    found = accuracy(facts)
    if found["value"] is None:
        return ""
    return f"{found['value']:.2f} % ({found['low']:.2f} to {found['high']:.2f})"


def tested_on(facts: dict) -> str:
    return f"{facts.get('test_images') or TEST_IMAGES:,}" if share_right(facts) else ""


def training(facts: dict) -> str:
    words = [known(facts, "recipe", "`{}` recipe"), known(facts, "epochs", "{} epochs")]
    return ", ".join(filter(None, [*words, known(facts, "seed", "seed {}")]))


ROWS = {  # of the table of figures: label, and what stands in a network's cell
    "Accuracy (95 % interval)": share_right,
    "Test images": tested_on,
    "with mirror averaging": lambda facts: known(facts, "accuracy_mirror", "{:.2f} %"),
    "Parameters": lambda facts: known(facts, "parameters", "{:,}"),
    "MFLOPs per picture": lambda facts: known(facts, "flops", "{:,.1f}", 1e-6),
    "Time per picture, one CPU": lambda facts: known(facts, "latency_ms", "{:.1f} ms"),
    "Trained": training,
}


def known(facts: dict, key: str, form: str, factor: float | None = None) -> str:
    """A fact in words; "" where nobody measured it."""
    value = facts.get(key)
    return "" if value is None else form.format(value * factor if factor else value)


def compared(count: int, plain: int) -> str:
    """How many more or fewer parameters: "89,080 (0.8 %) more than"."""
    if count == plain:
        return "as many as"
    share = 100 * abs(count - plain) / plain
    size = f"{share:.1f} %" if share >= 0.05 else "less than 0.1 %"
    return f"{abs(count - plain):,} ({size}) {'more' if count > plain else 'fewer'} than"


def beside(name: str, facts: dict, plain: dict, folder: Path) -> str:
    """What the figures say about the difference from the plain network, which is often nothing."""
    parts, found = [], beside_plain(name, folder)
    if plain.get("parameters") and facts.get("parameters"):
        parts.append(f"Parameters: {compared(facts['parameters'], plain['parameters'])} plain.")
    if found and share_right(facts) and share_right(plain):
        counts = "" if found["better"] is None else f" (+{found['better']} -{found['worse']} test images)"
        parts.append(f"Accuracy: **{in_words(found)}**{counts}, for this one seed.")
        if facts.get("recipe") != plain.get("recipe"):
            parts.append("Plain was trained with another recipe.")
    return " ".join(parts)


def limits(name: str, folder: Path) -> list[str]:
    """What cannot be read from a mechanism's maps and figures, in sentences."""
    if not CATALOGUE[name].is_network:
        return []
    maps, found = [axes_shape_role(record) for record in recorded(name).values()], []
    moving = [axes for axes, _, role in maps if role != "static"]
    sides = [size[axes.index("h")] for axes, size, role in maps if role != "static" and {"h", "w"} <= {*axes}]
    places = {"h", "w", "q"}
    if not maps:
        found.append("It has no maps of its own: only its answers and its Grad-CAM can be compared.")
    elif moving and not any(places & {*axes} or axes == ["c", "k"] for axes in moving):
        found.append("Its numbers belong to no place: it never says where in the picture.")
    if any(role == "share" and places & {*axes} for axes, _, role in maps):
        found.append(
            "Weights that are shares (1×) add up to one, so some lie above an equal share unless all are "
            "equal, also where nothing matters."
        )
    if CATALOGUE[name].slot == "stage" and any({"q", "cross"} & {*axes} for axes, *_ in maps):
        found.append("A sharp map may do little: the line “changes the features by” below it says how much.")
    if sides:
        side = min(sides)
        found.append(
            f"Its coarsest map has {side} × {side} = {side * side} cells, each {32 // side} pixels wide. "
            "What a cell knows comes from a larger part of the picture."
        )
    if any(role == "static" for *_, role in maps):
        found.append(
            "What is labelled “the same for every picture” belongs to the network, not to the picture."
        )
    if is_trained(name, folder):
        found.append("One training run: the interval is about the test images alone, not about another seed.")
    return found


def axes_shape_role(record: Record) -> tuple[list[str], list[int], str]:
    """Of a recorded tensor, without its batch axis."""
    axes, shape = record.axes.split(), list(record.tensor.shape)
    start = int(axes[0] == "b")
    return axes[start:], shape[start:], record.role


@cache  # bounded by the catalogue
def recorded(name: str) -> dict[str, Record]:
    """What a mechanism records, by path; the tensors hold no numbers."""
    try:
        with shapes_only():
            records = records_of(build(name), torch.zeros(1, 3, 32, 32))
    except RuntimeError:  # some modules ask for autocast, which knows no such device
        records = records_of(untrained(name), torch.zeros(1, 3, 32, 32))
    return {
        path: replace(record, tensor=record.tensor.to("meta"))
        for path, record in records.items()
        if not path.endswith(".output")
    }


def records_of(network: nn.Module, images: torch.Tensor) -> dict[str, Record]:
    with torch.inference_mode(), recording(network.eval()) as records:
        network(images)
    return records
