"""The page: python app.py

Components and what they cause, nothing else: visualize/events.py answers, visualize/record computes, and
the scripts in visualize/page draw. Host and port come from Gradio's own environment variables,
GRADIO_SERVER_NAME and GRADIO_SERVER_PORT.
"""

import base64
import logging
from pathlib import Path

import gradio as gr

from models import CATALOGUE
from models.metadata import mechanisms_table
from models.results.table import results
from visualize import events
from visualize.record.display import description
from visualize.serving import MIDDLEWARE, leave, refuse_urls, temporary_folder, wait_until_stopped

ASSETS = events.ASSETS
TEXTS = ASSETS.parent / "texts"
SCRIPTS = ("grid_record", "grid_draw", "tools", "grid")  # one script in four parts
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
    with gr.Blocks(
        title="AttnScope", fill_width=True, analytics_enabled=False, delete_cache=(600, 1800)
    ) as page:
        view = gr.State(events.View())
        gr.HTML(asset("header.html"), elem_id="header")
        with gr.Row(elem_id="inputs"):
            image = gr.Image(
                events.View.file,
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
            events.first_record(first_networks(table)),
            SCRIPTS,
            server_functions=[events.map_row],
            words=description(),
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
        with gr.Accordion("How well they do", open=False, elem_id="table"):
            component("results", {"blocks": results()})
        with gr.Accordion("How to read this", open=False, elem_id="reading"):
            gr.Markdown((TEXTS / "reading.md").read_text(encoding="utf-8"))
        file = gr.File(visible="hidden")

        model = {"concurrency_id": "model", "concurrency_limit": 2}
        job = model | {"preprocess": False}  # or Gradio opens the file before our guard does
        job |= {"show_progress": "minimal", "show_progress_on": run, "api_visibility": "private"}
        job |= {"trigger_mode": "multiple"}  # the newest wish stops the older ones
        light = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        light |= {"trigger_mode": "multiple"}
        groups += random_groups
        asked, detail = [view, *groups], [cards, which, words, place, numbers]
        run.click(events.look, asked, grid, **job)
        gr.on([group.input for group in groups], events.look_at_choice, asked, grid, **job)
        example = examples.choose(events.look_at_example, asked, [grid, image], **job)
        upload = image.input(events.look_at_upload, [image, *asked], grid, **job)
        upload.failure(lambda view: view.file, view, image, api_visibility="private")  # the last good one
        again = grid.ask(events.look_again, asked, grid, **job)
        linked = grid.restore(events.restore, view, [grid, image, switch, *detail, *groups], **job)
        taken = grid.take(events.take, None, file, **job)
        taken.success(None, file, js=DOWNLOAD)
        for failed in (example, again, linked, taken):
            failed.failure(None, js=REFUSED)
        which.input(events.show_card, which, [words, place, numbers], **light)
        grid.card(events.open_card, None, detail, **light)
        shut = switch.input(events.show_untrained, [switch, *random_groups], random_groups, **light)
        shut.success(events.look_if_shut, [switch, *asked], grid, **job)
        gr.api(events.compare, api_name="compare", **model)
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


def first_networks(table: list[dict]) -> list[str]:
    """Those of the first screen that are trained, broken ones too: the page says what is wrong with them."""
    first = [row["key"] for row in table if row["key"] in FIRST_MECHANISMS]
    return [row["key"] for row in table if row["key"] in first and row["trained"]] or first


def example_pictures() -> dict[str, str]:
    """The PNG files themselves, so that the strip of examples is there without a request."""
    return {
        name: base64.b64encode(Path(file).read_bytes()).decode() for name, file in events.EXAMPLES.items()
    }


def main() -> None:
    logging.basicConfig(format="%(message)s")
    theme = gr.themes.Default(
        primary_hue="indigo", neutral_hue="zinc", font="system-ui", font_mono="monospace"
    )
    theme.set(
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        color_accent="*primary_600",  # dark enough for white letters on it
        button_primary_background_fill="*primary_600",
    )
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
