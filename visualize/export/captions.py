"""What is said about a whole figure: its title, and the caption for a reader who sees it alone."""

from models import CLASSES

from ..inspection.engine import Question
from ..record.display import description
from ..record.view import View
from .column import Column
from .panels import Row, panels_in, place, query_of, read_from_the_mark

COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def title(columns: list[Column]) -> str:
    """What is compared; the picture stands beside it."""
    count = len(columns)
    many = f"How {COUNTS[count] if count < len(COUNTS) else count} networks look at this picture"
    return f"How {columns[0].title} looks at this picture" if count == 1 else many


def subtitle(columns: list[Column], view: View, rows: list[Row], asked: Question) -> str:
    """Which class, which method, which block, on which scales, and what replaces attention."""
    method = description()["methods"][asked.cam]["name"]
    if asked.cam != "EigenCAM":  # which knows no class
        answers = {CLASSES[column.inspection.target] for column in columns}
        own = "its own answer" if len(columns) == 1 else "each network's own answer"
        own += f", {answers.pop()}" if len(answers) == 1 else ""
        method += f" for {own if asked.target == 'predicted' else asked.target}"
    said = [f"attention replaced: {asked.replacement.words}"] if asked.replacement else []
    said += [method, f"block {view.block}"]
    between = next((row.block for row in rows if row.section.pairwise), None)
    if between and between != view.block:
        said.append(f"attention {place_of(rows)}")
    said.append(f"scales {description()['scale_texts'][view.scale].split(',')[0]}")
    return " · ".join(said)


def place_of(rows: list[Row]) -> str:
    """Where in the network the pairwise maps are, as a phrase; networks may have them in several places."""
    return " and ".join(
        dict.fromkeys(place(panel.tensor) for panel in panels_in(rows) if panel.section.pairwise)
    )


def marked(rows: list[Row], view: View) -> str:
    """Where the marked place is among those that ask, on each grid that is shown; "" where none asks."""
    places = dict.fromkeys(query_of(found, view) for found in read_from_the_mark(rows))  # of each grid once
    said = [f"row {y + 1}, column {x + 1} of {side} × {side}" for x, y, side in places]
    return f", marked place in {' and '.join(said)}" if said else ""


def caption(
    columns: list[Column],
    view: View,
    rows: list[Row],
    asked: Question,
    missing: dict[str, str],
    left: list[str],
) -> str:
    """What a reader needs who has the figure and nothing else; `left`: networks, and how many of their maps
    found no room."""
    seen, words = columns[0].inspection, description()
    said = ["One picture of 32 × 32 pixels, as the networks see it."]
    if asked.replacement:
        said.append(f"Attention is replaced ({asked.replacement.words}); lines through the bars: as trained.")
        said += [column.inspection.replace_note for column in columns if column.inspection.replace_note]
    if asked.cam != "EigenCAM":
        own = "each network's own answer" if len(columns) > 1 else "the network's own answer"
        said.append(f"Class explained: {own if asked.target == 'predicted' else asked.target}.")
    cells = len(seen.cams[view.block])
    said.append(
        f"Method: {words['methods'][asked.cam]['name']}. Block: {view.block}, {cells} × {cells} cells."
    )
    if where := place_of(rows):
        heads = ""
        if any(
            found.axes.startswith("head q") for column in columns for found in column.inspection.maps.values()
        ):
            heads = "; the mean of the heads" if view.head == "mean" else "; the chosen head"
        said.append(f"Attention and channel matrices {where}{marked(rows, view)}{heads}.")
    signed = any(panel.scale == "signed" for panel in panels_in(rows))
    own = "; with a sign, for each map" if signed and view.scale != "shared" else ""
    said.append(f"Scales: {words['scale_texts'][view.scale]}{own}.")
    if view.overlay == 0:
        said.append("Cells are left out: the picture shows in their place.")
    elif view.overlay < 1:
        said.append("Lines over the maps: the outlines of the picture.")
    if view.cells == "smooth" and view.overlay:
        said.append("Smoothed between the cells.")
    said += [f"{row.section.title}: {row.section.text}" for row in rows]
    measured = [
        f"{column.title} {known['value']:.1f} % ({known['low']:.1f} to {known['high']:.1f}; "
        f"recipe {known['recipe']})"
        for column in columns
        if (known := column.accuracy)["value"] is not None
    ]
    interval = "; ".join(measured) or "not measured"
    trained = " as trained" if asked.replacement else ""
    said.append(f"Test accuracy on CIFAR-10{trained}, with its 95 % interval: {interval}.")
    if random := [column.title for column in columns if column.random]:
        said.append(f"Random weights, not trained: {', '.join(random)}; what they show means nothing.")
    if left:
        said.append(f"Maps that found no room: {', '.join(left)}.")
    said += missing.values()
    said += ["An attention map shows where a factor is large, not why the network decides.", "AttnScope."]
    return " ".join(said)
