"""What happens when a visitor does something: the page's events, and the two functions of the public API.

A view is what a visitor looks at, {"file", "target", "cam", "crop"}; the choice of mechanisms comes as a list
for each group of boxes. What an event carries may come from anybody and is checked here or by what it calls.
"""

import filecmp
import logging
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import BoundedSemaphore

import gradio as gr

from models import CATALOGUE, CLASSES, CheckpointError

from .cards import card, measured, mechanisms_table
from .export import export, look_of
from .images import ImageError, load_image, load_with_notes, thumbnail, to_network
from .inspection import NotFiniteError
from .placement import placement
from .record import (
    RequestError,
    affinity_row,
    check_mechanisms,
    compare_record,
    picture_of,
    stream_record,
)
from .serving import refusal, uploaded

log = logging.getLogger("attnscope")
ASSETS = Path(__file__).parent / "assets"
EXAMPLES = {name: str(ASSETS / "examples" / f"{name}.png") for name in CLASSES}
FIRST_VIEW = {"file": EXAMPLES["cat"], "target": "predicted", "cam": "GradCAM", "crop": "centre"}
MOST_UPDATES = 12  # of the grid in one comparison
rows_at_once = BoundedSemaphore(2)  # a row may cost a forward pass, and Gradio does not queue these requests
GROUPS = {  # family: what its mechanisms weigh
    "module": "Control and modules",
    "channel": "Channels",
    "spatial": "Places",
    "pairwise": "Pairs of places",
    "hybrid": "Channels and places",
    "kernel": "Windows",
}


def compare(image: dict, mechanisms: list[str], target: str = "predicted", cam: str = "GradCAM") -> dict:
    """Shows one picture to several networks and returns everything that the page draws of it.

    Python's gradio_client needs `download_files=False`, or it takes the path of a tensor for a file.

    Args:
        image: an uploaded file: PNG, JPEG, WebP, GIF or BMP, at most 20 MB.
        mechanisms: ids of networks, such as ["plain", "se"]; `/mechanisms` lists them.
        target: the class to explain, or "predicted" for each network's own answer.
        cam: GradCAM, GradCAM++, HiResCAM, LayerCAM, XGradCAM or EigenCAM.
    """
    try:
        return compare_record(to_network(load_image(uploaded(image))), mechanisms, target, cam)
    except (ImageError, RequestError, CheckpointError) as error:
        raise refusal(error) from None


def mechanisms() -> list[dict]:
    """Lists the networks: key, name, family, parameters, accuracy, recipe, trained, available, reason."""
    return mechanisms_table()


def look(view: dict, *groups: list[str] | None, random_weights: bool = True) -> Iterator[tuple[dict, dict]]:
    """The page's own comparison: the record grows column by column, `pending` holds the networks to come.

    Untrained networks are shown with random weights; their groups are empty until the visitor asks for them.
    """
    try:
        picture, notes = load_with_notes(view["file"])
        whole = thumbnail(picture)
        names = [name for group in groups for name in group or ()]
        picture = to_network(picture, view["crop"])
        columns = stream_record(picture, names, view["target"], view["cam"], random_weights)
        example = next((name for name, file in EXAMPLES.items() if file == view["file"]), None)
        step = math.ceil(len(names) / MOST_UPDATES)  # each update sends all columns again
        for done, record in enumerate(columns, start=1):
            if done % step == 0 or done == len(names):
                more = {"notes": notes, "example": example, "source": whole, "crop": view["crop"]}
                yield view, record | more | {"pending": names[done:]}
    except (ImageError, RequestError, CheckpointError) as error:
        raise refusal(error) from None


def look_at_upload(image: dict | None, view: dict, *groups: list[str]) -> Iterator[tuple]:
    """Another picture is in the box: uploaded, pasted, from the camera, or put there by the page itself."""
    file = uploaded(image)
    both_there = file is not None and os.path.exists(file) and os.path.exists(view["file"])
    if file is not None and not (both_there and filecmp.cmp(file, view["file"], shallow=False)):
        yield from look(with_file(view, file), *groups)
    yield gr.skip(), gr.skip()  # a generator that yields nothing would empty the grid


def look_at_example(event: gr.EventData, view: dict, *groups: list[str]) -> Iterator[tuple]:
    view = with_file(view, EXAMPLES.get(str(event._data.get("name")), view["file"]))
    yield view, gr.skip(), view["file"]
    for _, record in look(view, *groups):
        yield view, record, gr.skip()


def with_file(view: dict, file: str) -> dict:
    """A view of another picture, on which a square that was dragged over the last one means nothing."""
    crop = view["crop"] if isinstance(view["crop"], str) else FIRST_VIEW["crop"]
    return view | {"file": file, "crop": crop}


def look_again(event: gr.EventData, view: dict, *groups: list[str]) -> Iterator[tuple]:
    """Another class, CAM method or crop was chosen inside the grid."""
    yield from look(view | {key: event._data.get(key) for key in ("target", "cam", "crop")}, *groups)


def restore(event: gr.EventData) -> Iterator[tuple]:
    """A link was opened: its picture, mechanisms, class, method and crop; the browser restores the rest."""
    try:
        asked = {key: str(value) for key, value in event._data.items() if value is not None}
        names = asked.get("mechanisms", "").split(",")
        check_mechanisms(names)
        view = FIRST_VIEW | {key: asked[key] for key in ("target", "cam", "crop") if key in asked}
        if "," in view["crop"]:
            view["crop"] = [float(part) for part in view["crop"].split(",")]
        view["file"] = EXAMPLES.get(asked.get("picture")) or linked_picture(asked.get("picture", ""))
        shown = asked.get("detail") if asked.get("detail") in CATALOGUE else None
    except (AttributeError, ValueError) as error:
        known = isinstance(error, RequestError)
        raise refusal(error if known else RequestError("This link is damaged: it names no view.")) from None
    groups, random_groups = grouped(mechanisms_table())
    chosen = [[key for _, key in choices if key in names] for _, choices in groups + random_groups]
    random = any(chosen[len(groups) :])
    boxes = [gr.update(value=keys) for keys in chosen[: len(groups)]]
    boxes += [gr.update(value=keys, interactive=random) for keys in chosen[len(groups) :]]
    detail = [gr.update(open=True), shown, *show_card(shown)] if shown else [gr.skip()] * 5
    records = look(view, names)
    _, record = next(records)  # before anything is kept of a link that cannot be shown
    yield view, record, view["file"], random, *detail, *boxes
    for _, record in records:
        yield gr.skip(), record, *[gr.skip()] * (7 + len(boxes))


def linked_picture(text: str) -> str:
    """The file of a picture that came inside a link, as base64 for URLs."""
    picture = picture_of({"image": text.translate(str.maketrans("-_", "+/"))})
    with tempfile.NamedTemporaryFile(dir=os.environ["GRADIO_TEMP_DIR"], suffix=".png", delete=False) as file:
        picture.save(file)
    return file.name


def take(event: gr.EventData) -> str:
    """A file to take along was asked for: what the grid shows, as a figure, as numbers or as a report."""
    try:
        wanted = event._data
        picture = picture_of(wanted)
        columns = [wanted.get(key) for key in ("mechanisms", "target", "cam")]
        folder = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"]))
        seen = look_of(wanted.get("look"))
        return str(export(wanted.get("form"), picture, *columns, seen, folder, random_weights=True))
    except (RequestError, CheckpointError, NotFiniteError) as error:
        raise refusal(error) from None


def look_if_shut(shown: bool, view: dict, *groups: list[str]) -> Iterator[tuple]:
    if not shown:
        yield from look(view, *groups)
    yield gr.skip(), gr.skip()


def show_untrained(shown: bool, *groups: list[str]) -> list[dict]:
    """Opens the groups of untrained networks, or empties and locks them."""
    return [gr.update(interactive=shown, **({} if shown else {"value": []})) for _ in groups]


def show_card(name: str) -> tuple[str, str, str]:
    """A mechanism in words, the drawing of its place, and what was measured."""
    try:
        return card(name), placement(name), measured(name)
    except (KeyError, TypeError):
        raise refusal(RequestError("There is no such mechanism.")) from None


def open_card(event: gr.EventData) -> tuple[dict, str, str, str, str]:
    """The name of a mechanism was chosen inside the grid."""
    name = event._data.get("name")
    return gr.update(open=True), name, *show_card(name)


def map_row(request: dict) -> dict | None:
    """Server function of the grid: a part of a map that is too large to travel with the record."""
    try:
        picture = picture_of(request)
        with rows_at_once:
            return affinity_row(picture, request.get("mechanism"), request.get("path"), request.get("query"))
    except (RequestError, CheckpointError) as error:
        log.warning("refused: %s", error)
        return None


def grouped(table: list[dict]) -> tuple[list, list]:
    """The networks by family, as (label, [(title, id)]): those with a sound checkpoint, those without any."""

    def families(rows: list[dict]) -> list[tuple[str, list]]:
        found = [(label, [row for row in rows if row["family"] == key]) for key, label in GROUPS.items()]
        return [
            (label, [(row["name"], row["key"]) for row in members]) for label, members in found if members
        ]

    trained = families([row for row in table if row["available"]])
    return trained, families([row for row in table if not row["trained"]])
