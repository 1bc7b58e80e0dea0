"""What happens when a visitor does something: the page's events, and the two functions of the public API.

The choice of mechanisms comes as a list for each group of boxes. What an event carries may come from anybody
and is checked here or by what it calls.
"""

import filecmp
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import BoundedSemaphore

import gradio as gr
from PIL import Image

from models import CATALOGUE, CLASSES, CheckpointError
from models.metadata import mechanisms_table

from .export.files import export
from .inspection.network import NotFiniteError
from .picture import SIDE, ImageError, load_image, load_with_notes, thumbnail, to_network
from .record.compare import affinity_row, compare_record, stream_record
from .record.encoding import picture_of
from .record.requests import RequestError, check_mechanisms
from .record.view import view_of
from .serving import check_room, refusal, uploaded
from .texts.cards import card, measured
from .texts.placement import placement

log = logging.getLogger("attnscope")
ASSETS = Path(__file__).parent / "page"
EXAMPLES = {name: str(ASSETS / "examples" / f"{name}.png") for name in CLASSES}
MOST_UPDATES = 12  # of the grid in one comparison
BAD_LINK = "This link could not be opened, for it is damaged or too old: the cat is shown instead."
ROWS_AT_ONCE = BoundedSemaphore(2)  # a row may cost a forward pass, and Gradio does not queue these requests
ROWS_WAITING = BoundedSemaphore(8)  # the others are refused: threads that wait here serve nothing else
GROUPS = {  # family: what its mechanisms weigh
    "module": "Control and modules",
    "channel": "Channels",
    "spatial": "Places",
    "pairwise": "Pairs of places",
    "hybrid": "Channels and places",
    "kernel": "Windows",
}


@dataclass
class View:
    """What a visitor looks at: picture, class to explain, CAM method, crop; and how often that has changed.

    There is one for each visit. It is changed in place, for a visitor does not wait until the last wish is
    fulfilled: a comparison that is not the newest any more stops at its next column.
    """

    file: str = EXAMPLES["cat"]
    target: str = "predicted"
    cam: str = "GradCAM"
    crop: str | list[float] = "centre"
    turn: int = 0


def compare(image: dict, mechanisms: list[str], target: str = "predicted", cam: str = "GradCAM") -> dict:
    """Shows one picture to several networks and returns everything that the page draws of it.

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


def look(view: View, *groups: list[str] | None, **changes) -> Iterator[dict]:
    """The page's own comparison: the record grows column by column, `pending` holds the networks to come.

    Untrained networks are shown with random weights; their groups are empty until the visitor asks for them.

    Args:
        changes: fields of `view` that get new values, if nothing is wrong with them.
    """
    names = chosen(groups)
    wanted = replace(view, **changes)
    try:
        whole, notes = load_with_notes(wanted.file)
        picture = to_network(whole, wanted.crop)
        if min(whole.size) < SIDE:
            notes.append(f"It was enlarged, for it has fewer than {SIDE} x {SIDE} pixels.")
        columns = stream_record(picture, names, wanted.target, wanted.cam, random_weights=True)
        for key, value in changes.items():
            setattr(view, key, value)
        mine = view.turn = view.turn + 1
        more = about(replace(wanted, turn=mine), whole, notes)
        step = math.ceil(len(names) / MOST_UPDATES)  # each update sends all columns again
        for done, record in enumerate(columns, start=1):
            if view.turn != mine:
                break
            if done % step == 0 or done == len(names):
                pending = [{"key": name, "name": CATALOGUE[name].title} for name in names[done:]]
                yield record | more | {"pending": pending}
        yield gr.skip()  # a generator that yields nothing would empty the grid
    except (ImageError, RequestError, CheckpointError) as error:
        raise refusal(error) from None


def first_record(names: list[str]) -> dict:
    """What is in the page before any request: the first picture, and what these networks make of it."""
    whole = load_image(View.file)
    *_, record = stream_record(to_network(whole, View.crop), names, View.target, View.cam, on_gpu=False)
    return record | about(View(), whole, []) | {"pending": []}


def about(view: View, whole: Image.Image, notes: list[str]) -> dict:
    """What the page's own record says of the picture, beside what every record says."""
    example = next((name for name, file in EXAMPLES.items() if file == view.file), None)
    source = thumbnail(whole)
    return {"notes": notes, "example": example, "source": source, "crop": view.crop, "turn": view.turn}


def chosen(groups: tuple) -> list[str]:
    """The ids of all groups of boxes, in their order."""
    if not all(group is None or isinstance(group, list) for group in groups):
        raise refusal(RequestError("The mechanisms must be lists of ids, such as plain and se."))
    return [name for group in groups for name in group or ()]


def data_of(event: gr.EventData) -> dict:
    """What the browser sent along with an event."""
    if not isinstance(event._data, dict):
        raise refusal(RequestError("This event says nothing."))
    return event._data


def look_at_choice(view: View, *groups: list[str]) -> Iterator[dict]:
    """Other mechanisms are ticked; without any, the last comparison stays."""
    if chosen(groups):
        yield from look(view, *groups)
    else:
        yield gr.skip()


def look_at_upload(image: dict | None, view: View, *groups: list[str]) -> Iterator[dict]:
    """Another picture is in the box: uploaded, pasted or from the camera; or the box was emptied.

    Gradio says that a box was emptied by sending its last picture once more.
    """
    file = uploaded(image)
    there = file is not None and os.path.exists(file) and os.path.exists(view.file)
    if file is None or (there and filecmp.cmp(file, view.file, shallow=False)):
        yield gr.skip()
    else:
        yield from look(view, *groups, file=file, crop=crop_for_another(view))


def look_at_example(event: gr.EventData, view: View, *groups: list[str]) -> Iterator[tuple]:
    file = EXAMPLES.get(str(data_of(event).get("name")), view.file)
    for record in look(view, *groups, file=file, crop=crop_for_another(view)):
        yield record, gr.skip() if view.file != file else file


def crop_for_another(view: View) -> str:
    """A square that was dragged over one picture means nothing on another one."""
    return view.crop if isinstance(view.crop, str) else View.crop


def look_again(event: gr.EventData, view: View, *groups: list[str]) -> Iterator[dict]:
    """Another class, CAM method or crop was chosen inside the grid."""
    asked = data_of(event)
    changes = {key: asked[key] for key in ("target", "cam", "crop") if key in asked}
    yield from look(view, *groups, **changes)


def restore(event: gr.EventData, view: View) -> Iterator[tuple]:
    """A link was opened: its picture, mechanisms, class, method and crop; the browser restores the rest."""
    asked = {key: str(value) for key, value in data_of(event).items() if value is not None}
    names = asked.get("mechanisms", "").split(",")
    changes = {key: asked[key] for key in ("target", "cam", "crop") if key in asked}
    try:
        check_mechanisms(names)
        if "," in changes.get("crop", ""):
            changes["crop"] = [float(part) for part in changes["crop"].split(",")]
        file = EXAMPLES.get(asked.get("picture")) or linked_picture(asked.get("picture", ""))
    except ValueError:
        raise refusal(RequestError(BAD_LINK)) from None
    records = look(view, names, file=file, **changes)
    first = next(records)  # before anything else is changed for a link that cannot be shown
    shown = asked.get("detail") if asked.get("detail") in CATALOGUE else None
    detail = [gr.update(open=True), shown, *show_card(shown)] if shown else [gr.skip()] * 5
    trained, untrained = grouped(mechanisms_table())
    boxes = [[key for _, key in choices if key in names] for _, choices in trained + untrained]
    random = any(boxes[len(trained) :])
    updates = [gr.update(value=keys) for keys in boxes[: len(trained)]]
    updates += [gr.update(value=keys, interactive=random) for keys in boxes[len(trained) :]]
    yield first, file, random, *detail, *updates
    for record in records:
        yield record, *[gr.skip()] * (7 + len(updates))


def linked_picture(text: str) -> str:
    """The file of a picture that came inside a link, as base64 for URLs."""
    picture = picture_of({"image": text.translate(str.maketrans("-_", "+/"))})
    with tempfile.NamedTemporaryFile(dir=os.environ["GRADIO_TEMP_DIR"], suffix=".png", delete=False) as file:
        picture.save(file)
    return file.name


def take(event: gr.EventData) -> str:
    """A file to take along was asked for: what the grid shows, as a figure, as numbers or as a report."""
    wanted = data_of(event)
    folder = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"]))
    columns = [wanted.get(key) for key in ("mechanisms", "target", "cam")]
    try:
        check_room()
        picture, seen = picture_of(wanted), view_of(wanted.get("look"))
        return str(export(wanted.get("form"), picture, *columns, seen, folder, random_weights=True))
    except (RequestError, CheckpointError, NotFiniteError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise refusal(error) from None


def look_if_shut(shown: bool, view: View, *groups: list[str]) -> Iterator[dict]:
    if shown:
        yield gr.skip()
    else:
        yield from look(view, *groups)


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
    name = data_of(event).get("name")
    return gr.update(open=True), name, *show_card(name)


def map_row(request: dict) -> dict | None:
    """Server function of the grid: a part of a map too large to travel with the record; None if refused."""
    if not ROWS_WAITING.acquire(blocking=False):
        return None
    try:
        picture = picture_of(request)
        with ROWS_AT_ONCE:
            return affinity_row(picture, request.get("mechanism"), request.get("path"), request.get("query"))
    except (RequestError, CheckpointError, NotFiniteError) as error:
        log.warning("refused: %s", error)
        return None
    finally:
        ROWS_WAITING.release()


def grouped(table: list[dict]) -> tuple[list, list]:
    """The networks by family, as (label, [(title, id)]): those with a sound checkpoint, those without any."""

    def families(rows: list[dict]) -> list[tuple[str, list]]:
        found = [(label, [row for row in rows if row["family"] == key]) for key, label in GROUPS.items()]
        return [
            (label, [(row["name"], row["key"]) for row in members]) for label, members in found if members
        ]

    trained = families([row for row in table if row["available"]])
    return trained, families([row for row in table if not row["trained"]])
