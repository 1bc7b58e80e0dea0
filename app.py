"""The page: python app.py

Components and events, nothing else: visualize/record.py computes, visualize/assets/grid.js draws. Host and
port come from Gradio's own environment variables, GRADIO_SERVER_NAME and GRADIO_SERVER_PORT.
"""

import base64
import filecmp
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from models import CATALOGUE, CLASSES, CheckpointError
from visualize.cards import card, mechanisms_table
from visualize.images import ImageError, load_image, load_with_notes, to_network
from visualize.record import RequestError, affinity_row, compare_record, picture_of, stream_record
from visualize.serving import (
    MIDDLEWARE,
    leave,
    refusal,
    refuse_urls,
    temporary_folder,
    uploaded,
    wait_until_stopped,
)

try:
    from spaces import GPU  # a Space that lends its GPU for one call at a time
except ImportError:

    def GPU(function):
        return function


log = logging.getLogger("attnscope")
ASSETS = Path(__file__).parent / "visualize" / "assets"
EXAMPLES = {name: str(ASSETS / "examples" / f"{name}.png") for name in CLASSES}
FIRST_VIEW = {"file": EXAMPLES["cat"], "target": "predicted", "cam": "GradCAM", "crop": "centre"}
FIRST_MECHANISMS = ("plain", "se", "non_local", "self_attention", "cbam", "danet", "sk")
FIRST_CARD = "se"
MOST_UPDATES = 12  # of the grid in one comparison
GROUPS = {  # family: what its mechanisms weigh
    "module": "Control and modules",
    "channel": "Channels",
    "spatial": "Places",
    "pairwise": "Pairs of places",
    "hybrid": "Channels and places",
    "kernel": "Windows",
}


@GPU
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
        names = [name for group in groups for name in group or ()]
        picture = to_network(picture, view["crop"])
        columns = stream_record(picture, names, view["target"], view["cam"], random_weights)
        example = next((name for name, file in EXAMPLES.items() if file == view["file"]), None)
        step = math.ceil(len(names) / MOST_UPDATES)  # each update sends all columns again
        for done, record in enumerate(columns, start=1):
            if done % step == 0 or done == len(names):
                yield view, record | {"notes": notes, "example": example, "pending": names[done:]}
    except (ImageError, RequestError, CheckpointError) as error:
        raise refusal(error) from None


def look_at_upload(image: dict | None, view: dict, *groups: list[str]) -> Iterator[tuple]:
    """Another picture is in the box: uploaded, pasted, from the camera, or put there by the page itself."""
    file = uploaded(image)
    both_there = file is not None and os.path.exists(file) and os.path.exists(view["file"])
    if file is not None and not (both_there and filecmp.cmp(file, view["file"], shallow=False)):
        yield from look(view | {"file": file}, *groups)
    yield gr.skip(), gr.skip()  # a generator that yields nothing would empty the grid


def look_at_example(event: gr.EventData, view: dict, *groups: list[str]) -> Iterator[tuple]:
    view = view | {"file": EXAMPLES.get(str(event._data.get("name")), view["file"])}
    yield view, gr.skip(), view["file"]
    for _, record in look(view, *groups):
        yield view, record, gr.skip()


def look_again(event: gr.EventData, view: dict, *groups: list[str]) -> Iterator[tuple]:
    """Another class, CAM method or crop was chosen inside the grid."""
    yield from look(view | {key: event._data.get(key) for key in ("target", "cam", "crop")}, *groups)


def look_if_shut(shown: bool, view: dict, *groups: list[str]) -> Iterator[tuple]:
    if not shown:
        yield from look(view, *groups)
    yield gr.skip(), gr.skip()


def show_untrained(shown: bool, *groups: list[str]) -> list[dict]:
    """Opens the groups of untrained networks, or empties and locks them."""
    return [gr.update(interactive=shown, **({} if shown else {"value": []})) for _ in groups]


def show_card(name: str) -> str:
    try:
        return card(name)
    except (KeyError, TypeError):
        raise refusal(RequestError("There is no such mechanism.")) from None


def open_card(event: gr.EventData) -> tuple[dict, str, str]:
    """The name of a mechanism was chosen inside the grid."""
    name = event._data.get("name")
    return gr.update(open=True), name, show_card(name)


def map_row(request: dict) -> dict | None:
    """Server function of the grid: a part of a map that is too large to travel with the record."""
    try:
        picture = picture_of(request)
        return affinity_row(picture, request.get("mechanism"), request.get("path"), request.get("query"))
    except (RequestError, CheckpointError) as error:
        log.warning("refused: %s", error)
        return None


def build_page() -> gr.Blocks:
    table = mechanisms_table()
    with gr.Blocks(title="AttnScope", analytics_enabled=False, delete_cache=(600, 1800)) as page:
        view = gr.State(FIRST_VIEW)
        gr.HTML(asset("header.html"), elem_id="header")
        with gr.Row(elem_id="inputs"):
            image = gr.Image(
                FIRST_VIEW["file"],
                type="filepath",
                sources=["upload", "clipboard", "webcam"],
                show_label=False,
                alt_text="Your picture",
                buttons=[],
                height=172,
                min_width=120,
                elem_id="picture",
            )
            with gr.Column(scale=4, min_width=160, elem_id="choices"):
                examples = component("examples", example_pictures())
                with gr.Row(elem_id="run"):
                    with gr.Accordion("Mechanisms", open=False, elem_id="mechanisms"):
                        groups, switch, random_groups = chooser(table)
                    run = gr.Button("Compare", variant="primary", elem_id="compare")
        grid = component("grid", first_record(table), server_functions=[map_row])
        with gr.Accordion("How to read this", open=False):
            gr.Markdown(asset("reading.md"))
        with gr.Accordion("What each mechanism does", open=False, elem_id="cards") as cards:
            titles = [(entry.title, name) for name, entry in CATALOGUE.items()]
            titles.sort(key=lambda choice: choice[0].lower())
            which = gr.Dropdown(titles, value=FIRST_CARD, label="Mechanism", show_label=False)
            dollars = [{"left": mark, "right": mark, "display": mark == "$$"} for mark in ("$$", "$")]
            text = gr.Markdown(card(FIRST_CARD), latex_delimiters=dollars)

        model = {"concurrency_id": "model", "concurrency_limit": 2}
        job = model | {"preprocess": False}  # or Gradio opens the file before our guard does
        job |= {"show_progress": "minimal", "show_progress_on": run, "api_visibility": "private"}
        groups += random_groups
        run.click(GPU(look), [view, *groups], [view, grid], **job)
        job["trigger_mode"] = "always_last"  # of quick clicks, the last one counts
        gr.on([group.input for group in groups], GPU(look), [view, *groups], [view, grid], **job)
        examples.choose(GPU(look_at_example), [view, *groups], [view, grid, image], **job)
        upload = image.change(GPU(look_at_upload), [image, view, *groups], [view, grid], **job)
        upload.failure(lambda view: view["file"], view, image, api_visibility="private")  # the last good one
        again = grid.ask(GPU(look_again), [view, *groups], [view, grid], **job)
        again.failure(None, js="() => document.dispatchEvent(new Event('refused'))")
        light = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        which.input(show_card, which, text, **light)
        opened = grid.card(open_card, None, [cards, which, text], **light)
        opened.success(None, js="() => document.querySelector('#cards').scrollIntoView({behavior: 'smooth'})")
        shut = switch.input(show_untrained, [switch, *random_groups], random_groups, **light)
        shut.success(GPU(look_if_shut), [switch, view, *groups], [view, grid], **job)
        gr.api(compare, api_name="compare", **model)
        gr.api(mechanisms, api_name="mechanisms")
    refuse_urls(page)
    return page


def component(name: str, value: object = None, **settings) -> gr.HTML:
    """A part of the page that we draw ourselves, from its value, by the files of its name in `ASSETS`."""
    made = gr.HTML(
        value,
        html_template=asset(f"{name}.html"),
        css_template=asset(f"{name}.css"),
        js_on_load=asset(f"{name}.js"),
        apply_default_css=False,
        elem_id=name,
        **settings,
    )
    made.api_info = lambda: {"type": "object"}
    return made


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def chooser(table: list[dict]) -> tuple[list[gr.CheckboxGroup], gr.Checkbox, list[gr.CheckboxGroup]]:
    """The networks that can be shown; a switch; the networks without a checkpoint, greyed until it is on."""
    trained = family_groups([row for row in table if row["available"]], "families")
    if faults := [row["reason"] for row in table if row["trained"] and not row["available"]]:
        gr.Markdown(" ".join(faults))
    rows = [row for row in table if not row["trained"]]
    gr.Markdown(f"**Not trained yet** ({len(rows)}). Their maps mean nothing yet.", visible=bool(rows))
    label = "Show untrained networks with random weights"
    switch = gr.Checkbox(False, label=label, container=False, elem_id="random", visible=bool(rows))
    return trained, switch, family_groups(rows, "families untrained", interactive=False)


def family_groups(rows: list[dict], classes: str, interactive: bool = True) -> list[gr.CheckboxGroup]:
    groups = []
    with gr.Row(elem_classes=classes):
        for family, label in GROUPS.items():
            choices = [(row["name"], row["key"]) for row in rows if row["family"] == family]
            chosen = [key for _, key in choices if interactive and key in FIRST_MECHANISMS]
            if choices:
                groups.append(gr.CheckboxGroup(choices, value=chosen, label=label, interactive=interactive))
    return groups


def example_pictures() -> dict[str, str]:
    """The PNG files themselves, so that the strip of examples is there without a request."""
    return {name: base64.b64encode(Path(file).read_bytes()).decode() for name, file in EXAMPLES.items()}


def first_record(table: list[dict]) -> dict:
    """What is in the page before any request: the trained networks, and what is wrong with broken ones."""
    first = [row["key"] for row in table if row["key"] in FIRST_MECHANISMS]
    there = [row["key"] for row in table if row["key"] in first and row["trained"]]
    *_, (_, record) = look(FIRST_VIEW, there or first, random_weights=False)
    return record


def main() -> None:
    logging.basicConfig(format="%(message)s")
    with temporary_folder() as folder:
        theme = gr.themes.Default(
            primary_hue="indigo", neutral_hue="zinc", font="system-ui", font_mono="monospace"
        )
        theme.set(body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400")
        page = build_page().queue(max_size=20, api_open=False)
        page.launch(
            theme=theme,
            css_paths=ASSETS / "page.css",
            allowed_paths=[str(ASSETS / "examples")],
            max_file_size="20mb",
            footer_links=["api", "settings"],
            show_error=False,
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            strict_cors=True,
            pwa=False,
            prevent_thread_lock=True,
            app_kwargs={"middleware": MIDDLEWARE},
        )
        wait_until_stopped(page, folder)
    leave()


if __name__ == "__main__":
    main()
