"""What is said about the maps in a figure: under each map, in place of one, and below all of them."""

import re

import numpy as np

from models import CLASSES

from ..record.kinds import block_of, kind_of
from ..record.view import View
from ..texts import words
from .column import Column
from .panels import FLAT, Section, Shown, branch_names, number, times


def lines_about(shown: Shown, view: View, cam: str) -> list[str]:
    """The range of a map, and what else is to be said about it."""
    seen, kind = shown.column.seen, shown.kind
    said = [] if kind == "grid" else [range_of(shown)]
    if kind == "cam" and cam != "EigenCAM":  # which knows no class
        said.append(f"for {CLASSES[seen.target]}, {percent(seen.probabilities[seen.target])}")
    if kind in ("channel", "branch"):
        said.append(f"{shown.map.values.shape[1 if kind == 'branch' else 0]} channels")
    if kind == "branch":
        said.append(f"below: {branch_names(shown)[-1]}")
    if shown.map.axes.startswith("head q"):
        heads = len(shown.map.values)
        which = "mean" if view.head == "mean" else f"head {min(view.head, heads - 1) + 1}"
        said.append(f"{which} of {heads}" + (" heads" if which == "mean" else ""))
    strength = seen.strength.get(shown.path.split(".")[0])
    if kind in ("pairwise", "cross", "footprint", "keys") and strength is not None:
        said.append(f"changes features by {percent(strength)}")
    return said


def range_of(shown: Shown) -> str:
    """The range of a map; of branches, of the last one's share."""
    values = shown.values[-1] if shown.kind == "branch" else shown.values
    least, most, mean = (float(of(values)) for of in (np.nanmin, np.nanmax, np.nanmean))
    if shown.kind == "cam":
        return f"relative, mean {number(mean)}" if most > 0 else "flat: none stands out"
    if most - least < FLAT * max(1e-9, abs(most)):
        return f"flat: {times(shown, mean)} everywhere"
    return f"{number(least)} to {times(shown, most)}, mean {times(shown, mean)}"


def percent(share: float) -> str:
    if 0.9995 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.{1 if share < 0.0995 or 0.995 < share < 1 else 0}f} %"


def cam_name(cam: str) -> str:
    return re.sub("^GradCAM", "Grad-CAM", cam)


def where(path: str) -> str:
    """Where in the network a map is, as a phrase."""
    if path.startswith("stage"):
        return f"after layer{path[5]}"
    return f"in the {path.split('.')[0]}" if re.match("head|input", path) else f"at {block_of(path)}"


def why_none(column: Column, section: Section) -> str:
    """Why there is no map of a section."""
    there = [where(path) for path, found in column.seen.maps.items() if kind_of(found) in section.kinds]
    what = section.title[0].lower() + section.title[1:]
    return f"no {what} here, but {there[-1]}" if there else f"no {what}"


def caption(
    columns: list[Column], view: View, site: str | None, target: str, cam: str, missing: dict[str, str]
) -> str:
    """What a reader needs who sees the figure alone."""
    seen = columns[0].seen
    said = ["One picture of 32 × 32 pixels, as the networks see it."]
    if cam != "EigenCAM":
        own = "each network's own answer" if len(columns) > 1 else "the network's own answer"
        said.append(f"Class explained: {own if target == 'predicted' else target}.")
    cells = len(seen.cams[view.block])
    said.append(f"Method: {cam_name(cam)}. Block: {view.block}, {cells} × {cells} cells.")
    if site:
        maps = {path: found for column in columns for path, found in column.seen.maps.items()}
        between = [path for path in maps if block_of(path) == site and not path.startswith("layer")]
        x, y = (at * len(seen.cams[site]) // 32 + 1 for at in view.query)
        heads = ""
        if any(found.axes.startswith("head q") for found in maps.values()):
            heads = "; the mean of the heads" if view.head == "mean" else f"; head {view.head + 1}"
        place = where(between[0]) if between else f"at {site}"
        said.append(f"Attention and channel matrices {place}, marked place in row {y}, column {x}{heads}.")
    said.append(f"Scales: {words()['scales'][view.scale]}.")
    if view.cells == "smooth":
        said.append("Smoothed between the cells.")
    measured = [
        f"{column.title} {known['value']:.1f} % ({known['low']:.1f} to {known['high']:.1f}; "
        f"recipe {known['recipe']})"
        for column in columns
        if (known := column.accuracy)["value"] is not None
    ]
    interval = "; ".join(measured) or "not measured"
    said.append(f"Test accuracy on CIFAR-10, with its 95 % interval: {interval}.")
    if random := [column.title for column in columns if column.random]:
        said.append(f"Random weights, not trained: {', '.join(random)}; what they show means nothing.")
    said += missing.values()
    said += ["An attention map shows where a factor is large, not why the network decides.", "AttnScope."]
    return " ".join(said).replace(" %", "\N{NO-BREAK SPACE}%")
