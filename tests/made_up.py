"""Evidence that nobody measured, for tests of what shows it: every kind of figure is there."""

from collections.abc import Collection
from pathlib import Path

import torch

import models
from models.checkpoint import CHECKPOINTS, read_facts, write_facts
from models.replacements import attention_of
from models.results import averages, evidence, maps

FULL = dict(zip(("test", "block", "training", "map", "twin"), (10_000, 2000, 5000, 500, 100)))


def write_evidence(
    name: str,
    folder: Path = CHECKPOINTS,
    used: bool = True,
    seed: int = 0,
    spared: Collection[str] = (),
) -> dict:
    """Puts random evidence beside a network's checkpoint, and the averages file.

    Args:
        used: whether replacements cost points; else none makes a measurable difference.
        spared: replacements that make none all the same.

    Returns:
        what stands in the JSON under `evidence`.
    """
    generator = torch.Generator().manual_seed(seed)

    def number(low: float, high: float) -> float:
        return round(low + (high - low) * float(torch.rand((), generator=generator)), 4)

    def summary(images: int, sign: int = 1) -> dict:
        middle = sign * number(0.1, 0.8)
        return {"mean": middle, "low": middle - 0.03, "high": middle + 0.03, "images": images}

    facts, attention = read_facts(name, folder), attention_of(models.build(name).eval())
    by_class, tensors = {}, {}
    for path, each in attention.items():
        tally = averages.Tally(each, 10, torch.device("cpu"))
        t = torch.rand(20, *each.shape, generator=generator)
        if each.role == "share":
            t = t / t.sum(each.over_dims, keepdim=True)
        tally.add(t, torch.arange(20) % 10)
        by_class[path], tensors[path] = tally.by_class.half(), tally.facts()
    tensors[next(iter(tensors))]["badges"] = ["constant"]
    average = {path: torch.rand(each.shape, generator=generator).half() for path, each in attention.items()}
    best = {path: 1 - t for path, t in average.items()}
    made = averages.Averages(FULL["training"], average, by_class, best)
    averages.write(name, made, facts["sha256"], folder)

    found = {"sha256": facts["sha256"], "tensors": tensors, "averaged_over": {}}
    found |= {f"{kind}_images": count for kind, count in FULL.items()}
    rows = evidence.plan(attention, found)
    for row in rows:
        share = number(0.01, 0.08) if used and row["replacement"] not in spared else 0.01
        row["right_only_intact"] = int(row["images"] * share)
        row["right_only_replaced"] = int(row["images"] * 0.01)
        lost = row["right_only_intact"] - row["right_only_replaced"]
        row["right"], row["changed"] = int(0.92 * row["images"]) - lost, 2 * row["right_only_intact"]
    evidence.judge(rows)
    found["replacements"] = rows
    shown = maps.maps_of(attention)
    found["faithfulness"] = {
        path: {kind: summary(FULL["map"]) for kind in ("road", "deletion", "insertion")} for path in shown
    }
    found["twin"] = {path: summary(FULL["twin"]) for path in attention}
    found["agreement"] = {path: summary(FULL["twin"], -1) for path in shown if path in attention}
    write_facts(name, facts | {"evidence": found}, folder)
    return found
