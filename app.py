"""The page: python app.py

Components and what they cause, nothing else: visualize/events.py answers, visualize/record.py computes, and
the scripts in visualize/assets draw. Host and port come from Gradio's own environment variables,
GRADIO_SERVER_NAME and GRADIO_SERVER_PORT.
"""

import base64
import json
import logging
from pathlib import Path

import gradio as gr

from models import CATALOGUE
from visualize import events
from visualize.cards import mechanisms_table
from visualize.serving import MIDDLEWARE, leave, refuse_urls, temporary_folder, wait_until_stopped

try:
    from spaces import GPU  # a Space that lends its GPU for one call at a time
except ImportError:

    def GPU(function):
        return function


ASSETS = events.ASSETS
SCRIPTS = ("record", "draw", "tools", "grid")  # one script in four parts
FIRST_MECHANISMS = ("plain", "se", "non_local", "self_attention", "cbam", "danet", "sk")
FIRST_CARD = "se"
REFUSED = "() => document.dispatchEvent(new Event('refused'))"
DOWNLOAD = """(file) => {
    const link = Object.assign(document.createElement("a"), {href: file.url, download: file.orig_name});
    link.click();
    document.dispatchEvent(new Event("taken"));
}"""


def build_page() -> gr.Blocks:
    table = mechanisms_table()
    with gr.Blocks(title="AttnScope", analytics_enabled=False, delete_cache=(600, 1800)) as page:
        view = gr.State(events.FIRST_VIEW)
        gr.HTML(asset("header.html"), elem_id="header")
        with gr.Row(elem_id="inputs"):
            image = gr.Image(
                events.FIRST_VIEW["file"],
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
        grid = component(
            "grid",
            first_record(table),
            SCRIPTS,
            server_functions=[events.map_row],
            words=json.loads(asset("words.json")),
        )
        with gr.Accordion("What each mechanism does", open=False, elem_id="cards") as cards:
            titles = [(entry.title, name) for name, entry in CATALOGUE.items()]
            titles.sort(key=lambda choice: choice[0].lower())
            which = gr.Dropdown(titles, value=FIRST_CARD, label="Mechanism", show_label=False)
            dollars = [{"left": mark, "right": mark, "display": mark == "$$"} for mark in ("$$", "$")]
            words, place, numbers = events.show_card(FIRST_CARD)
            with gr.Row(elem_id="card"):
                with gr.Column():
                    words = gr.Markdown(words, latex_delimiters=dollars)
                with gr.Column():
                    place = gr.HTML(place, elem_id="placement")
                    numbers = gr.Markdown(numbers)
        with gr.Accordion("How to read this", open=False, elem_id="reading"):
            gr.Markdown(asset("reading.md"))
        file = gr.File(visible="hidden")

        model = {"concurrency_id": "model", "concurrency_limit": 2}
        job = model | {"preprocess": False}  # or Gradio opens the file before our guard does
        job |= {"show_progress": "minimal", "show_progress_on": run, "api_visibility": "private"}
        light = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        groups += random_groups
        asked, shown, detail = [view, *groups], [view, grid], [cards, which, words, place, numbers]
        run.click(GPU(events.look), asked, shown, **job)
        job["trigger_mode"] = "always_last"  # of quick clicks, the last one counts
        gr.on([group.input for group in groups], GPU(events.look), asked, shown, **job)
        examples.choose(GPU(events.look_at_example), asked, [*shown, image], **job)
        upload = image.change(GPU(events.look_at_upload), [image, *asked], shown, **job)
        upload.failure(lambda view: view["file"], view, image, api_visibility="private")  # the last good one
        again = grid.ask(GPU(events.look_again), asked, shown, **job)
        linked = grid.restore(GPU(events.restore), None, [*shown, image, switch, *detail, *groups], **job)
        taken = grid.take(GPU(events.take), None, file, **job)
        taken.success(None, file, js=DOWNLOAD)
        for failed in (again, linked, taken):
            failed.failure(None, js=REFUSED)
        which.input(events.show_card, which, [words, place, numbers], **light)
        grid.card(events.open_card, None, detail, **light)
        shut = switch.input(events.show_untrained, [switch, *random_groups], random_groups, **light)
        shut.success(GPU(events.look_if_shut), [switch, *asked], shown, **job)
        gr.api(GPU(events.compare), api_name="compare", **model)
        gr.api(events.mechanisms, api_name="mechanisms")
    refuse_urls(page)
    return page


def component(name: str, value: object, scripts: tuple[str, ...] = (), **settings) -> gr.HTML:
    """A part of the page that we draw ourselves, from its value, by the files of its name in `ASSETS`."""
    made = gr.HTML(
        value,
        html_template=asset(f"{name}.html"),
        css_template=asset(f"{name}.css"),
        js_on_load="\n".join(asset(f"{script}.js") for script in scripts or (name,)),
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
    trained, untrained = events.grouped(table)
    groups = check_boxes(trained, "families", FIRST_MECHANISMS)
    if faults := [row["reason"] for row in table if row["trained"] and not row["available"]]:
        gr.Markdown(" ".join(faults))
    count = sum(len(choices) for _, choices in untrained)
    gr.Markdown(f"**Not trained yet** ({count}). Their maps mean nothing yet.", visible=count > 0)
    label = "Show untrained networks with random weights"
    switch = gr.Checkbox(False, label=label, container=False, elem_id="random", visible=count > 0)
    return groups, switch, check_boxes(untrained, "families untrained", interactive=False)


def check_boxes(
    families: list, css: str, chosen: tuple = (), interactive: bool = True
) -> list[gr.CheckboxGroup]:
    with gr.Row(elem_classes=css):
        return [
            gr.CheckboxGroup(
                choices,
                value=[key for _, key in choices if key in chosen],
                label=label,
                interactive=interactive,
            )
            for label, choices in families
        ]


def example_pictures() -> dict[str, str]:
    """The PNG files themselves, so that the strip of examples is there without a request."""
    return {
        name: base64.b64encode(Path(file).read_bytes()).decode() for name, file in events.EXAMPLES.items()
    }


def first_record(table: list[dict]) -> dict:
    """What is in the page before any request: the trained networks, and what is wrong with broken ones."""
    first = [row["key"] for row in table if row["key"] in FIRST_MECHANISMS]
    there = [row["key"] for row in table if row["key"] in first and row["trained"]]
    *_, (_, record) = events.look(events.FIRST_VIEW, there or first, random_weights=False)
    return record


def main() -> None:
    logging.basicConfig(format="%(message)s")
    theme = gr.themes.Default(
        primary_hue="indigo", neutral_hue="zinc", font="system-ui", font_mono="monospace"
    ).set(body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400")
    with temporary_folder() as folder:
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
