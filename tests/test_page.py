"""The page in a real browser.

One server for all tests. Its networks are stand-ins with random weights: what they answer means nothing, but
every kind of map is there, one checkpoint is missing and one is broken.
"""

import base64
import io
import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from gradio_client import Client, handle_file
from matplotlib import colormaps
from PIL import Image
from playwright.sync_api import Browser, Page, Request, Route
from sklearn.datasets import load_sample_image

from models import CATALOGUE, CLASSES, CheckpointError
from models.catalogue import BLOCK_SLOTS
from models.metadata import mechanisms_table
from models.results.table import results
from tests.screenshots import AT_REST, OBSERVED, ROOT, draw_all, held, photograph, running_app
from tests.static import COMPUTED, TRAINED, build_site, given_out, stand_ins
from visualize import answers
from visualize.export.files import FORMS, MOST_IN_FIGURE
from visualize.inspection.unfamiliar import sentence
from visualize.picture import load_image, to_network
from visualize.record.encoding import decode
from visualize.record.kinds import KINDS

SHOWN = ("plain", "se", "non_local", "self_attention", "cbam", "danet")  # the same in the page's order
PAIRWISE = 3  # of them
MOST_REQUESTS, MOST_BYTES = 25, 300_000  # of a first visit
CAT, SHIP = (ROOT / "visualize" / "page" / "examples" / f"{name}.png" for name in ("cat", "ship"))


def link_to(*names: str) -> str:
    """The link to these networks' view of the first picture: where few do, the others need not be drawn.

    Of those on the first screen the answer is there already, and the server computes nothing.
    """
    return f"#view=2&picture=cat&networks={','.join(names)}&end"


FEW = link_to("plain", "cbam")
THREE = link_to("plain", "se", "cbam")  # between two their difference is drawn, too


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app, run from a tree that is this one but for the checkpoints."""
    tree = tmp_path_factory.mktemp("tree")
    stand_ins(tree)
    with running_app(tree, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="module")
def columns(server: str) -> dict[str, dict]:
    """network -> its column of the record of the first picture."""
    client = Client(server, verbose=False, analytics_enabled=False)
    record = client.predict(handle_file(CAT), [*SHOWN], api_name="/compare")
    return {column["key"]: column for column in record["mechanisms"]}


def values_in(column: dict, tensor: str) -> np.ndarray:
    return decode(next(found for found in column["maps"] if found["tensor"] == tensor))


class Visit:
    """A page, and what it asked for and complained about since."""

    def __init__(self, page: Page):
        self.page, self.requests, self.complaints = page, [], []
        self.rows = []  # names of the tensors that were fetched in parts
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("request", self.count_row)
        page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def rest(self) -> None:
        """Waits until everything that is under way is done and drawn."""
        self.page.wait_for_function(AT_REST, timeout=120_000)

    def asked(self, route: str = "look") -> int:
        """How often the page has asked the server for something."""
        return sum(url.split("?")[0].endswith(f"/{route}") for url in self.requests)

    def count_row(self, request: Request) -> None:
        if request.url.endswith("/row"):
            self.rows.append(request.post_data_json["tensor"])

    def canvases(self, kind: str) -> list[str]:
        """What the maps of a kind show, as one string each: the same for the same pixels."""
        return self.page.locator(f'#maps [data-kind="{kind}"] canvas').evaluate_all(PIXELS)

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()

    def block(self, name: str) -> None:
        self.page.locator(f'#bar input[value="{name}"]').check(force=True)
        self.rest()

    def set(self, key: str, value: str) -> None:
        control = self.page.locator(f'[data-view="{key}"]')
        control.fill(value) if key == "overlay" else control.select_option(value)
        self.rest()

    def pairwise(self, block: str) -> None:
        """Which pairwise maps are shown: those of a block, or "" for the nearest to the chosen one."""
        self.page.locator('#maps [data-section="pairwise"] select').first.select_option(block)
        self.rest()

    def choose_file(self, file: Path | dict) -> None:
        self.page.locator("#file").set_input_files(file)
        self.rest()

    def choose_square(self, folder: Path) -> None:
        """Chooses a photograph of 900 x 600 pixels, and a square of its own in the middle of it."""
        photograph(folder / "photograph.jpg")
        self.choose_file(folder / "photograph.jpg")
        self.page.locator("#crop-choice select").select_option("own")

    def choose(self, *names: str) -> None:
        """Opens the chooser and takes these networks alone."""
        self.page.locator("#open-chooser").click()
        self.page.locator("#chooser").get_by_role("button", name="None", exact=True).click()
        for name in names:
            self.page.locator(f'#chooser [data-key="{name}"]').check()
        self.page.locator("#chooser").get_by_role("button", name="Done").click()
        self.rest()

    def example(self, name: str) -> None:
        self.page.locator(f'#examples [data-name="{name}"]').click()
        self.rest()

    def pixel(self, x: int, y: int) -> list[int]:
        """RGB of a pixel of the picture as the networks see it."""
        return self.page.locator("#seen canvas").evaluate(PIXEL, [x, y])

    def diagonal(self) -> np.ndarray:
        """RGB of its 32 pixels from the upper left to the lower right, (32, 3)."""
        places = "(canvas) => Array.from({ length: 32 }, (_, i) => pixel(canvas, [i, i]))"
        return np.array(self.page.locator("#seen canvas").evaluate(places.replace("pixel(", f"({PIXEL})(")))


PIXELS = """(nodes) => nodes.map((canvas) => { // their sum
    const { width, height } = canvas;
    if (!width || !height) return "nothing";
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    let [a, b] = [1, 2];
    for (const pixel of new Uint32Array(data.buffer)) {
        a = Math.imul(a ^ pixel, 0x9e3779b1);
        b = Math.imul(b + pixel, 0x85ebca6b) ^ (a >>> 13);
    }
    return [width, height, a >>> 0, b >>> 0].join(" ");
})"""
PIXEL = """(canvas, [x, y]) =>
    [...canvas.getContext("2d").getImageData(8 * x + 4, 8 * y + 4, 1, 1).data].slice(0, 3)"""


@pytest.fixture(scope="module")
def static(site: Path) -> Iterator[str]:
    """The address of the static edition of the same networks; it computes two of them."""
    with given_out(site) as address:
        yield address


@pytest.fixture(scope="module")
def whole(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same, where it computes them all."""
    folder = tmp_path_factory.mktemp("whole") / "site"
    build_site(site.parent / "tree", folder, TRAINED)
    with given_out(folder) as address:
        yield address


@pytest.fixture
def edition(request: pytest.FixtureRequest) -> str:
    """The address of the page: of the server's, or of the edition that a test is parametrised with."""
    return request.getfixturevalue(getattr(request, "param", "server"))


both = pytest.mark.parametrize("edition", ["server", "static"], indirect=True)
LATER = pytest.param("whole", marks=pytest.mark.long)  # with `-m long`
both_at_length = pytest.mark.parametrize("edition", ["server", LATER], indirect=True)


@pytest.fixture
def visit(edition: str, browser: Browser) -> Iterator[callable]:
    """Opens the page in a window of some size; at the end nothing may have gone wrong in the browser."""
    visits = []

    def open_in(width: int = 1280, height: int = 900, link: str = "", script: str = "", **settings) -> Visit:
        opened = Visit(browser.new_page(viewport={"width": width, "height": height}, **settings))
        visits.append(opened)
        opened.page.add_init_script(script)
        opened.page.goto(edition + link)
        opened.rest()
        return opened

    yield open_in
    for opened in visits:
        opened.page.close()
    for opened in visits:
        assert opened.complaints == []
        assert [url for url in opened.requests if not url.startswith((edition, "data:", "blob:"))] == []


def assert_plain_sentence(message: str) -> None:
    """One sentence for a visitor: no path, no class name, no traceback."""
    assert re.fullmatch(r"[A-Z][^\n]{10,240}\.", message), message
    assert not re.search(r"Error|Exception|Traceback|<|/tmp|\.py\b|site-packages", message), message


def test_nobody_sees_random_weights_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without any checkpoint the first screen is empty, and says why."""

    def read(name: str, device: str) -> dict:
        raise CheckpointError(f"{name} is not trained yet.")

    monkeypatch.setattr("visualize.inspection.engine.load_with_facts", read)
    monkeypatch.setattr("visualize.inspection.engine.is_trained", lambda name: False)
    monkeypatch.setattr(answers, "mechanisms_table", lambda: mechanisms_table(tmp_path))
    record = answers.start_value()["record"]
    assert record["mechanisms"] == []
    assert {entry["key"] for entry in record["unavailable"]} == {*answers.FIRST_MECHANISMS}

    (tmp_path / "se.json").write_text("{}")  # broken, and the only one that there is
    record = answers.start_value()["record"]
    assert [entry["key"] for entry in record["unavailable"]] == ["se"]


# ---- the browser


@pytest.mark.browser
@both
def test_first_screen_is_there_without_a_computation(visit: callable, edition: str, server: str):
    seen = visit(1024, 768)
    assert seen.texts("#glance .row .name") == [CATALOGUE[name].title for name in SHOWN]
    assert seen.page.locator("#glance .row", has_text="Plain").locator("button.thumb").count() == 0
    assert seen.page.locator("#glance .row", has_text="CBAM").locator("button.thumb canvas").count() == 16
    top = seen.page.locator("#glance .row", has_text="CBAM").locator("canvas").first.bounding_box()
    assert top["y"] + top["height"] < 768  # attention on the first screen
    for kind, count in {"cam": 6, "spatial": 1, "pairwise": PAIRWISE, "channel": 2, "matrix": 1}.items():
        assert len(seen.texts(f'#maps [data-kind="{kind}"] .name')) == count, kind
    assert seen.texts('#maps [data-kind="cam"] .tensor')[0] == "layer2.1.cam"
    example = Image.open(CAT).convert("RGB")
    assert [seen.pixel(x, y) for x, y in ((0, 0), (31, 31))] == [
        list(example.getpixel(place)) for place in ((0, 0), (31, 31))
    ]
    assert "sk" in seen.texts("#status")[0]  # the broken checkpoint is named
    assert ("stays on this device" in seen.texts("#sent")[0]) == (edition != server)
    assert seen.asked() == seen.asked("row") == 0 and not any("-rows." in url for url in seen.requests)


@pytest.mark.browser
def test_a_first_visit_is_small(visit: callable):
    """Requests and bytes until everything is drawn, in a browser that has never seen the page."""
    sizes = visit().page.evaluate(
        """() => ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type))
            .map(({name, transferSize}) => [name, transferSize])"""
    )
    assert any(name.endswith("/page/page.js") and size for name, size in sizes)
    assert len(sizes) <= MOST_REQUESTS, [name for name, _ in sizes]
    assert sum(size for _, size in sizes) <= MOST_BYTES, sizes


@pytest.mark.browser
@both_at_length
def test_a_part_that_fails_does_not_stop_the_others(visit: callable):
    seen = visit()
    seen.page.evaluate(
        """async () => {
            const {later} = await import("/page/elements.js");
            later("broken", () => { throw new Error("broken on purpose"); });
            later("whole", () => { window.drawn = true; });
        }"""
    )
    seen.page.wait_for_function("window.drawn")
    seen.rest()
    assert len(seen.complaints) == 1 and "broken on purpose" in seen.complaints.pop()


@pytest.mark.browser
@both_at_length
def test_a_part_that_cannot_be_fetched_is_named(visit: callable):
    seen = visit(link=FEW)
    seen.page.route("**/gallery.js", lambda route: route.abort())
    seen.page.get_by_role("button", name="they differ").click()
    seen.rest()
    assert_plain_sentence(seen.texts("#status p")[0])
    seen.page.unroute("**/gallery.js")
    seen.page.locator("#status .again").click()
    seen.rest()
    assert "have answered" in seen.texts("#status p")[0]  # it is no longer so
    assert not seen.page.locator("#status .again").is_visible()
    seen.complaints.clear()


@pytest.mark.browser
def test_what_is_missing_can_be_asked_for_whatever_else_is_said(visit: callable):
    seen = visit(link=FEW, permissions=["clipboard-write"])
    seen.page.route("**/look*", lambda route: route.abort())
    seen.example("ship")
    again = seen.page.locator("#status .again")
    assert again.is_visible()
    seen.page.locator("#copy").click()
    seen.page.locator("#status p", has_text="The link is copied").wait_for()
    assert again.is_visible()
    seen.page.unroute("**/look*")
    again.click()
    seen.rest()
    assert seen.texts("#status p") == ["2 networks have answered."] and not again.is_visible()
    seen.complaints.clear()


@pytest.mark.browser
def test_shortcuts_of_the_browser_are_not_taken_for_keys_of_the_page(visit: callable, tmp_path: Path):
    seen = visit(link=FEW)
    focused, block = "document.activeElement.dataset.name", seen.page.locator("#bar [name=block]:checked")
    seen.page.locator('#examples [data-name="cat"]').focus()
    keys = """(key) => document.activeElement.dispatchEvent(
        new KeyboardEvent("keydown", { key, altKey: true, bubbles: true, cancelable: true }))"""
    assert seen.page.evaluate(keys, "ArrowRight")  # not prevented
    assert seen.page.evaluate(focused) == "cat"
    seen.page.keyboard.press("ArrowRight")
    assert seen.page.evaluate(focused) == "deer"
    seen.page.locator("#crop-choice select").select_option("own")
    seen.rest()
    size = seen.page.locator("#crop .square").get_attribute("aria-valuenow")
    assert seen.page.evaluate(keys, "-")
    assert seen.page.locator("#crop .square").get_attribute("aria-valuenow") == size
    seen.page.locator("#read").click()
    before = block.get_attribute("value")
    seen.page.evaluate("""() => { document.activeElement.blur();
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true })); }""")
    assert block.get_attribute("value") == before  # it lies behind a dialog


@pytest.mark.browser
def test_a_network_can_be_taken_away_where_none_is_chosen(visit: callable):
    """The page then keeps those that it has."""
    seen = visit(link=FEW)
    seen.choose()
    assert len(seen.texts("#glance .row .name")) == 2
    seen.page.locator('#glance [data-key="cbam"] .away').click()
    seen.rest()
    assert seen.texts("#glance .row .name") == [CATALOGUE["plain"].title]


@pytest.mark.browser
def test_where_a_file_may_be_dropped_is_said_as_long_as_one_is_over_the_page(visit: callable):
    seen = visit(link=FEW)
    assert seen.page.evaluate(DRAGGED) == [True, True]
    seen.page.locator("#drop").wait_for(state="hidden")  # no part of the page says that it is there


DRAGGED = """() => { // whether it is said; all at once, for after a moment without a sign it no longer is
    const data = new DataTransfer(), find = (place) => document.querySelector(place);
    data.items.add(new File(["x"], "x.png", { type: "image/png" }));
    const given = { dataTransfer: data, bubbles: true, cancelable: true };
    const drag = (type, place) => find(place).dispatchEvent(new DragEvent(type, given));
    drag("dragenter", "#glance .thumb");
    const entered = find("#drop").checkVisibility();
    drag("dragenter", "#glance .name"); // which is told before the other is left
    find("#glance .thumb").remove(); // as new answers do
    drag("dragleave", "#glance .name"); // into another part of the page
    return [entered, find("#drop").checkVisibility()];
}"""


@pytest.mark.browser
@both_at_length
def test_block_and_looks_need_no_computation(visit: callable):
    seen = visit(link=THREE)
    before = seen.canvases("cam")
    seen.block("layer1.0")
    assert seen.texts('#maps [data-kind="cam"] .tensor') == ["layer1.0.cam"] * 3
    coarse = seen.canvases("cam")
    assert all(old != new for old, new in zip(before, coarse))
    for key, value in {"colours": "magma", "cells": "smooth"}.items():
        seen.set(key, value)
        assert seen.canvases("cam") != coarse
        coarse = seen.canvases("cam")
    seen.set("overlay", "0")
    assert len(set(seen.canvases("cam"))) == 1  # without overlay, the picture alone
    assert seen.asked() == 0


@pytest.mark.browser
@both_at_length
def test_a_click_at_a_glance_opens_that_block(visit: callable):
    seen = visit(link=link_to("cbam", "danet"))
    seen.page.locator('#glance [data-key="cbam"] [data-block="layer3.1"]').click()
    seen.rest()
    assert seen.page.locator('#bar input[value="layer3.1"]').is_checked()
    assert seen.texts('#maps [data-kind="spatial"] .tensor') == ["layer3.1.refine.spatial_gate"]
    assert seen.texts('#maps [data-kind="pairwise"] .tensor')[0].startswith("stage3.")  # it follows the block
    pressed = seen.page.locator('#glance [aria-pressed="true"]')
    assert {*pressed.evaluate_all("(all) => all.map((one) => one.dataset.block)")} == {"layer3.1"}


@pytest.mark.browser
@both_at_length
def test_arrow_keys_walk_over_the_glance_as_it_looks(visit: callable):
    """Up and down go to what stands there, also where a row has pictures of two blocks only."""
    focus = "() => [document.activeElement.closest('.row').dataset.key, document.activeElement.dataset.block]"
    seen = visit()
    seen.page.locator('#glance [data-key="se"] [data-block="layer3.1"]').focus()
    walked = []
    for key in (
        "ArrowDown",
        "ArrowDown",
        "ArrowDown",
        "ArrowLeft",
        "ArrowUp",
        "ArrowUp",
        "ArrowUp",
        "Home",
        "End",
    ):
        seen.page.keyboard.press(key)
        walked.append(" ".join(seen.page.evaluate(focus)))
    assert walked == [
        *("non_local layer3.1", "self_attention layer3.1", "cbam layer3.1", "cbam layer3.0"),
        *("self_attention layer2.1", "non_local layer2.1", "se layer2.1", "se layer1.0", "danet layer3.1"),
    ]
    assert seen.page.locator('#glance .thumb[tabindex="0"]').count() == 1


@pytest.mark.browser
@both_at_length
def test_at_a_glance_shows_the_true_values(visit: callable, columns: dict[str, dict]):
    gate = values_in(columns["cbam"], "layer3.1.refine.spatial_gate")[0]
    seen = visit(link=link_to("cbam"))
    shown = seen.page.locator('#glance [data-key="cbam"] [data-block="layer3.1"] canvas').first.evaluate(
        "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    expected = 255 * colormaps["viridis"](gate)[..., :3]
    assert np.abs(np.array(shown).reshape(8, 8, 4)[..., :3] - expected).max() < 8


@pytest.mark.browser
@both_at_length
def test_click_moves_the_mark(visit: callable):
    seen = visit(link=link_to("non_local", "self_attention", "danet"))
    seen.pairwise("layer3.1")
    nearest = seen.page.locator('#maps [data-section="pairwise"] select option').first
    assert nearest.inner_text() == "nearest to the block: after layer2"
    before, answers = seen.canvases("pairwise"), seen.texts('#maps [data-kind="pairwise"] .range')
    map_ = seen.page.locator('#maps [data-kind="pairwise"] canvas').first
    map_.click(position={"x": 20, "y": 20})
    seen.page.mouse.move(0, 0)
    seen.rest()
    after = seen.canvases("pairwise")
    assert len(after) == PAIRWISE and all(old != new for old, new in zip(before, after))
    assert seen.texts('#maps [data-kind="pairwise"] .range') != answers  # not only another mark
    map_.focus()
    map_.press("ArrowRight")
    seen.rest()
    assert all(old != new for old, new in zip(after, seen.canvases("pairwise")))
    assert "stage3.affinity" not in seen.rows and "stage3.position" not in seen.rows  # 8 x 8: in the record

    seen.pairwise("")  # nearest to layer2.1: 16 x 16, a row for each of the mechanisms
    seen.page.wait_for_function("() => !document.querySelector('#maps .fetching')")
    assert seen.texts('#maps [data-kind="pairwise"] .tensor')[0].startswith("stage2.")
    before = seen.canvases("pairwise")
    map_.click(position={"x": 100, "y": 100})
    seen.page.wait_for_function("() => !document.querySelector('#maps .fetching')")
    seen.rest()
    assert all(old != new for old, new in zip(before, seen.canvases("pairwise")))


@pytest.mark.browser
@both_at_length
def test_large_map_is_fetched_once_and_old_pictures_stay(visit: callable, edition: str, server: str):
    seen = visit(link=link_to("danet"))
    matrix = seen.page.locator('#maps [data-kind="matrix"] canvas').first
    matrix.scroll_into_view_if_needed()
    seen.page.wait_for_function("() => !document.querySelector('#maps [data-kind=matrix].fetching')")
    seen.rest()
    drawn, asked = seen.canvases("matrix"), seen.asked("row")
    seen.page.evaluate("scrollTo(0, 0)")
    matrix.scroll_into_view_if_needed()
    seen.page.evaluate(OBSERVED)
    seen.rest()
    assert seen.canvases("matrix") == drawn and seen.asked("row") == asked  # kept
    old = matrix.element_handle()
    seen.page.evaluate("scrollTo(0, 0)")
    with held(seen.page, "**/row" if edition == server else "**/*-rows.*"):
        seen.page.locator('#examples [data-name="ship"]').click()
        seen.page.locator("#glance .thumb.fetching").first.wait_for()  # small pictures of a large map, too
    seen.rest()
    assert seen.page.locator("#glance .thumb.fetching").count() == 0
    assert old.evaluate("(canvas) => canvas.isConnected")  # the old picture stays until the new one is there
    matrix.scroll_into_view_if_needed()
    seen.page.wait_for_function("() => !document.querySelector('#maps [data-kind=matrix].fetching')")
    seen.rest()
    assert seen.canvases("matrix") != drawn


@pytest.mark.browser
@both_at_length
def test_colours_tell_the_true_values(visit: callable, columns: dict[str, dict]):
    """Gates on a fixed scale from 0 to 1, shares as multiples of an equal one from 1/16 to 16, in viridis."""
    query = 5 * 8 + 3  # where the mark stands at first
    gate = values_in(columns["cbam"], "layer3.1.refine.spatial_gate")[0]
    share = values_in(columns["danet"], "stage3.position")[query] * 64
    seen = visit(link=link_to("cbam", "danet"))
    seen.block("layer3.1")
    seen.set("overlay", "1")
    expected = {"cbam": ("spatial", gate), "danet": ("pairwise", (np.log2(share) + 4) / 8)}
    for name, (kind, position) in expected.items():
        map_ = seen.page.locator(f'#maps [data-mechanism="{name}"][data-kind="{kind}"] canvas')
        pixels = map_.evaluate(SAMPLED, 8)
        shown = np.array(pixels).reshape(8, 8, 3)
        colours = 255 * colormaps["viridis"](np.clip(position, 0, 1))[..., :3]
        assert np.abs(shown - colours).max() < 8, kind


SAMPLED = """(canvas, count) => { // the middle of each cell
    const context = canvas.getContext("2d"), cell = canvas.width / count, found = [];
    for (let y = 0; y < count; y++)
        for (let x = 0; x < count; x++)
            found.push(...context.getImageData((x + 0.5) * cell, (y + 0.5) * cell, 1, 1).data.slice(0, 3));
    return found;
}"""


@pytest.mark.browser
@both_at_length
def test_hover_reads_the_same_place_everywhere(visit: callable, server: str, columns: dict[str, dict]):
    seen = visit(1280, 1500)  # all kinds of maps are in view
    seen.block("layer3.1")
    cam = seen.page.locator('#maps [data-kind="cam"] canvas').nth(2)
    side = cam.bounding_box()["width"]
    cam.hover(position={"x": 0.15 * side, "y": 0.7 * side})  # of 8 x 8 cells the one in row 5, column 1
    seen.page.wait_for_function(
        """(count) => [...document.querySelectorAll("#maps .value")].filter((one) => one.textContent).length
            === count""",
        arg=len(TRAINED) + 1 + PAIRWISE,  # CAMs, the spatial gate, the pairwise maps
    )
    read = seen.page.locator("#maps .map").evaluate_all(
        """(all) => all.map((one) => [one.dataset.mechanism, one.dataset.kind,
            one.querySelector(".value").textContent]).filter(([, , text]) => text)"""
    )
    others = () if seen.page.url.startswith(server) else COMPUTED  # networks that the server has otherwise
    read, ours = [one for one in read if one[0] not in others], {}
    for name in {*SHOWN} - {*others}:
        for one in columns[name]["maps"]:
            if one["block"] == "layer3.1" and one["kind"] in ("cam", "spatial", "pairwise"):
                values = decode(one)
                if one["kind"] == "pairwise":
                    values = 64 * values[..., 5 * 8 + 3, :, :]  # of the marked place, in equal shares
                ours[name, one["kind"]] = values.reshape(-1, 8, 8).mean(0)
    assert {(key, kind) for key, kind, _ in read} == ours.keys() and len(read) == len(ours)
    for key, kind, text in read:
        found = float(text.removeprefix("< ").rstrip("×"))
        assert found == pytest.approx(ours[key, kind][5, 1], rel=0.02, abs=0.006), (key, kind)
    assert max(abs(values[5, 1] - values[1, 5]) for values in ours.values()) > 0.05
    assert seen.asked() == 0


@pytest.mark.browser
@both_at_length
def test_a_channel_has_a_meaning_in_its_own_network_only(visit: callable):
    seen = visit(link=link_to("se", "cbam"))
    curve = seen.page.locator('#maps [data-kind="channel"][data-mechanism="se"] canvas')
    curve.hover(position={"x": 60, "y": 30})
    seen.rest()
    read = [text for text in seen.texts("#maps .value") if text]
    assert len(read) == 1 and re.fullmatch(r"channel \d+: [\d.]+", read[0])


# ---- a picture


@pytest.mark.browser
def test_a_picture_is_made_small_as_pillow_does(blank: Page, tmp_path: Path):
    """The examples pixel by pixel, and two real photographs in odd sizes."""
    files = [CAT.parent / f"{name}.png" for name in CLASSES]
    for name in ("china.jpg", "flower.jpg"):
        whole = Image.fromarray(load_sample_image(name))  # 640 x 427
        for size in ((640, 427), (607, 395), (133, 426), (17, 40), (33, 31)):
            files.append(tmp_path / f"{name}-{size[0]}.png")
            whole.crop((0, 0, *size)).save(files[-1])
        files.append(tmp_path / f"{name}-large.png")
        whole.resize((1023, 683)).save(files[-1])
    crops = ["centre", "squeeze", [2, 7, 19]]
    for file in files:
        expected = [
            to_network(load_image(file), crop if isinstance(crop, str) else tuple(crop)) for crop in crops
        ]
        shown = blank.evaluate(MADE_SMALL, [base64.b64encode(file.read_bytes()).decode(), crops])
        for one, other in zip(shown, expected):
            pixels = np.frombuffer(base64.b64decode(one), np.uint8).reshape(32, 32, 3).astype(int)
            distance = pixels - np.asarray(other)
            assert np.abs(distance).max() <= 1, file.name


@pytest.mark.browser
def test_a_large_photograph_is_made_small_nearly_as_pillow_does(blank: Page, tmp_path: Path):
    """As a phone takes them: the browser halves it by its own means first, which no network minds."""
    noise = np.random.default_rng(0).normal(0, 12, (1709, 2560, 3))
    whole = np.asarray(Image.fromarray(load_sample_image("china.jpg")).resize((2560, 1709))) + noise
    file = tmp_path / "large.jpg"
    Image.fromarray(whole.clip(0, 255).astype(np.uint8)).save(file, quality=92)
    shown = blank.evaluate(MADE_SMALL, [base64.b64encode(file.read_bytes()).decode(), ["centre", "squeeze"]])
    for one, crop in zip(shown, ("centre", "squeeze"), strict=True):
        pixels = np.frombuffer(base64.b64decode(one), np.uint8).reshape(32, 32, 3).astype(int)
        distance = np.abs(pixels - np.asarray(to_network(load_image(file), crop)))
        assert distance.max() <= 6 and distance.mean() < 1


MADE_SMALL = """async ([bytes, crops]) => {
    const { open, fromBase64, toBase64, toNetwork, toLink, fromLink } = await import("./page/picture.js");
    const { picture } = await open(new Blob([fromBase64(bytes)])), made = [];
    for (const crop of crops) {
        const pixels = toNetwork(picture, crop), again = await fromLink(await toLink(pixels));
        if (again.join() !== pixels.join()) throw new Error("the link lost a pixel");
        made.push(toBase64(pixels));
    }
    return made;
}"""


@pytest.fixture
def blank(edition: str, browser: Browser) -> Iterator[Page]:
    """A page on which nothing happens: for trying modules."""
    page = browser.new_page()
    page.route("**/*", lambda route: route.fulfill(body="", content_type="text/html"), times=1)
    page.goto(edition)
    yield page
    page.close()


CHANGED = """(most) => {  // as browsers do that let no page know its visitor again
    const read = CanvasRenderingContext2D.prototype.getImageData;
    CanvasRenderingContext2D.prototype.getImageData = function (...place) {
        const found = read.apply(this, place);
        const other = (value) => value + Math.round(most * (2 * Math.random() - 1));
        found.data.forEach((value, i) => { found.data[i] = other(value); });
        return found;
    };
    window.honest = () => { CanvasRenderingContext2D.prototype.getImageData = read; };
}"""


@pytest.mark.browser
@both
def test_a_browser_that_hides_pixels(visit: callable):
    """The networks see no noise in place of a photograph, nor does it leave the device for that."""
    seen = visit(link=link_to("plain"))  # without a server it computes nothing
    cat = seen.diagonal()
    seen.page.evaluate(CHANGED, 128)
    seen.page.locator("#file").set_input_files(SHIP)
    seen.page.get_by_text("This browser hides the pixels of pictures from pages").wait_for()
    assert seen.asked("decode") == 0
    assert seen.page.locator('#examples [aria-pressed="true"]').get_attribute("data-name") == "cat"
    seen.example("ship")
    seen.example("cat")
    seen.page.evaluate("honest()")
    assert (seen.diagonal() == cat).all()

    seen.page.evaluate(CHANGED, 1)  # which is no harm
    seen.choose_file(SHIP)
    seen.page.evaluate("honest()")
    ship = np.asarray(Image.open(SHIP).convert("RGB")).astype(int)
    assert np.abs(seen.diagonal() - ship[range(32), range(32)]).max() <= 1
    assert seen.asked("decode") == 0


@pytest.mark.browser
@both_at_length
def test_what_a_camera_and_a_designer_leave_in_a_file(visit: callable, tmp_path: Path):
    seen = visit(link=FEW)
    picture = Image.new("RGB", (60, 40), "red")
    picture.paste("blue", (0, 0, 60, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    seen.choose_file(tmp_path / "turned.jpg")
    assert "turned upright" in seen.texts("#status")[0]
    red, blue = seen.pixel(16, 4), seen.pixel(16, 28)
    assert red[0] > 200 > red[2] and blue[2] > 200 > blue[0]

    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    seen.choose_file(tmp_path / "clear.png")
    assert seen.pixel(0, 0) == [255, 255, 255]
    assert "on white" in seen.texts("#status")[0] and "enlarged" in seen.texts("#status")[0]

    Image.new("RGBA", (20, 20), (255, 0, 0, 254)).save(tmp_path / "nearly.png")  # of an engine's resizing
    seen.choose_file(tmp_path / "nearly.png")
    assert "enlarged" in seen.texts("#status")[0] and "on white" not in seen.texts("#status")[0]

    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:], duration=100)
    seen.choose_file(tmp_path / "moves.gif")
    assert "animation" in seen.texts("#status")[0]


@pytest.mark.browser
@both_at_length
def test_an_own_picture_gives_a_new_comparison(visit: callable, tmp_path: Path):
    seen = visit(link=THREE)
    before = seen.canvases("cam")
    photograph(tmp_path / "photograph.jpg")
    seen.choose_file(tmp_path / "photograph.jpg")
    centre = seen.canvases("cam")
    assert len(centre) == 3 and all(old != new for old, new in zip(before, centre))
    assert seen.page.locator('#examples [aria-pressed="true"]').count() == 0
    seen.page.locator("#crop-choice select").select_option("squeeze")
    seen.rest()
    assert all(old != new for old, new in zip(centre, seen.canvases("cam")))
    cam = seen.page.locator('#maps [data-section="cam"]')
    cam.locator("select").first.select_option("dog")
    seen.rest()
    assert all("dog" in text for text in seen.texts('#maps [data-kind="cam"] .said'))
    cam.locator("select").nth(1).select_option("EigenCAM")
    seen.rest()
    assert "knows no class" in cam.locator("header p").inner_text()

    seen.page.get_by_role("button", name="Remove", exact=True).click()
    seen.rest()
    assert "removed" in seen.texts("#status")[0]
    assert seen.page.locator('#examples [aria-pressed="true"]').get_attribute("data-name") == "cat"
    assert seen.pixel(0, 0) == list(Image.open(CAT).convert("RGB").getpixel((0, 0)))


DROP = """([selector, bytes, name]) => {
    const data = new DataTransfer(), node = document.querySelector(selector);
    data.items.add(new File([new Uint8Array(bytes)], name));
    const settings = {dataTransfer: data, bubbles: true, cancelable: true};
    for (const type of ["dragenter", "dragover", "drop"])
        if (node.dispatchEvent(new DragEvent(type, settings)))
            throw new Error(`${type}: the browser would open the file`);
}"""


@pytest.mark.browser
@both_at_length
def test_a_file_is_taken_wherever_it_is_dropped(visit: callable, edition: str, server: str):
    seen = visit(link="#view=2&picture=deer&networks=plain,cbam&end")
    asked = seen.asked()
    places = ("#seen canvas", '#maps [data-kind="cam"] canvas', "#glance .thumb", "body")
    for count, (place, name) in enumerate(zip(places, ("ship", "dog", "frog", "bird")), 1):
        file = CAT.parent / f"{name}.png"
        seen.page.evaluate(DROP, [place, list(file.read_bytes()), "no_extension"])
        seen.rest()
        assert seen.pixel(0, 0) == list(Image.open(file).convert("RGB").getpixel((0, 0))), place
        assert "2 networks have answered" in seen.texts("#status")[0]
        assert seen.asked() == asked + count * (edition == server)
        assert not seen.page.locator("#drop").is_visible()


PASTE = """(bytes) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "ship.png", {type: "image/png"}));
    document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
}"""


@pytest.mark.browser
@both_at_length
def test_a_picture_can_be_pasted_or_chosen(visit: callable):
    seen = visit(link=FEW)
    seen.page.evaluate(PASTE, list(SHIP.read_bytes()))
    seen.rest()
    assert seen.pixel(0, 0) == list(Image.open(SHIP).convert("RGB").getpixel((0, 0)))
    for _ in range(2):  # the same file twice
        with seen.page.expect_file_chooser() as chooser:
            seen.page.get_by_role("button", name="Choose a photo").click()
        chooser.value.set_files(CAT)
        seen.rest()
        assert seen.pixel(0, 0) == list(Image.open(CAT).convert("RGB").getpixel((0, 0)))
        assert seen.page.locator('#examples [aria-pressed="true"]').count() == 0


GIVEN = """([bytes, type]) => { navigator.clipboard.read = async () => {
    if (!type) throw new Error("not allowed");
    return [new ClipboardItem({ [type]: new Blob([new Uint8Array(bytes)], { type }) })];
}; }"""


@pytest.mark.browser
def test_the_clipboard_by_a_button(visit: callable):
    seen = visit(link=FEW)
    seen.page.evaluate(GIVEN, [[*SHIP.read_bytes()], "image/png"])
    seen.page.locator("#paste").click()
    seen.page.locator("#remove").wait_for()
    seen.rest()
    assert seen.pixel(0, 0) == [*Image.open(SHIP).convert("RGB").getpixel((0, 0))]
    for kind, said in (
        ("text/plain", "There is no picture in the clipboard."),
        (None, "does not give out the clipboard"),
    ):
        seen.page.evaluate(GIVEN, [[65], kind])
        seen.page.locator("#paste").click()
        seen.page.locator("#status p", has_text=said).wait_for()


@pytest.mark.browser
@both_at_length
def test_what_needs_https_is_not_offered_without(edition: str, browser: Browser):
    """Camera and clipboard; a phone has a camera of its own."""
    context = browser.new_context()
    context.add_init_script("Object.defineProperty(window, 'isSecureContext', {value: false})")
    page = context.new_page()
    page.goto(edition)
    page.wait_for_function(AT_REST)
    assert page.locator("#choose").is_visible()
    assert not page.locator("#paste").is_visible() and not page.locator("#camera").is_visible()
    context.close()


@pytest.mark.browser
@both_at_length
def test_the_camera_of_a_computer(visit: callable):
    seen = visit(link=FEW)
    page, before = seen.page, seen.canvases("cam")
    for press, taken in (("Cancel", False), ("Take the picture", True)):
        page.locator("#camera").click()
        page.wait_for_function("() => document.querySelector('#shoot[open] video')?.videoWidth")
        track = page.evaluate_handle("document.querySelector('#shoot video').srcObject.getTracks()[0]")
        assert track.evaluate("(track) => track.readyState") == "live"
        page.locator("#shoot").get_by_role("button", name=press).click()
        page.locator("#shoot").wait_for(state="hidden")
        seen.rest()
        page.wait_for_function("(track) => track.readyState === 'ended'", arg=track)  # its light goes out
        assert page.locator("#remove").is_visible() is taken
        assert (seen.canvases("cam") != before) is taken


@pytest.mark.browser
@both
def test_bad_file_says_so_and_the_page_goes_on(visit: callable, tmp_path: Path):
    seen = visit(link=FEW)
    before = seen.canvases("cam")
    (tmp_path / "notes.png").write_text("This is text.")
    seen.choose_file(tmp_path / "notes.png")
    assert_plain_sentence(seen.texts("#status p")[0])
    seen.complaints.clear()  # Chromium reports that the server refused the file
    assert seen.canvases("cam") == before
    seen.example("ship")
    assert seen.canvases("cam") != before


@pytest.mark.browser
@both_at_length
def test_crop_is_a_square_to_drag(visit: callable, tmp_path: Path, edition: str, server: str):
    seen = visit(link=FEW)
    seen.choose_square(tmp_path)  # shown at a third of its size
    seen.rest()
    square = seen.page.locator("#crop .square")
    box, whole = square.bounding_box(), seen.page.locator("#crop canvas").bounding_box()
    assert (round(whole["width"]), round(whole["height"])) == (300, 200)
    assert (round(box["width"]), round(box["height"])) == (150, 150)
    seen.page.mouse.move(box["x"] + 40, box["y"] + 40)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] - 300, box["y"] - 300, steps=3)
    seen.page.mouse.up()
    seen.rest()
    assert seen.pixel(31, 0) == seen.pixel(0, 0)  # sky on both sides
    corner = square.bounding_box()
    assert (round(corner["x"]), round(corner["y"])) == (round(whole["x"]), round(whole["y"]))
    asked = seen.asked()
    square.evaluate(PRESS, ["ArrowRight", "ArrowDown", "-", "-"])  # faster than any hand
    seen.rest()
    assert seen.asked() == asked + (edition == server)  # gathered
    moved = square.bounding_box()
    assert moved["x"] > corner["x"] and moved["y"] > corner["y"] and moved["width"] < corner["width"]
    seen.page.get_by_role("button", name="larger").click()  # without any dragging
    larger = square.bounding_box()
    assert larger["width"] > moved["width"]
    seen.page.get_by_role("button", name="smaller").click()
    assert square.bounding_box()["width"] == pytest.approx(moved["width"], abs=1)
    seen.page.locator("#crop canvas").click(position={"x": 290, "y": 190})
    there = square.bounding_box()
    assert there["x"] + there["width"] == pytest.approx(whole["x"] + whole["width"], abs=1)
    text = square.get_attribute("aria-valuetext")
    side = int(square.get_attribute("aria-valuenow"))
    assert f"side {side} of 900 × 600" in text and abs(3 * there["width"] - side) < 4
    seen.rest()
    seen.page.locator("#crop").get_by_role("button", name="Done").click()
    assert not square.is_visible()
    seen.example("ship")  # another picture, another crop
    assert seen.page.locator("#crop-choice select").input_value() == "centre"
    assert seen.pixel(0, 0) == list(Image.open(SHIP).convert("RGB").getpixel((0, 0)))


PRESS = """(node, keys) => {
    for (const key of keys) node.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
}"""


@pytest.mark.browser
def test_pixels_of_any_number_become_text(blank: Page):
    """A channel matrix has 131,072 bytes, and no engine takes so many arguments at once."""
    script = """async (count) => {
        const { fromBase64, toBase64 } = await import("./page/picture.js");
        const bytes = Uint8Array.from({ length: count }, (_, i) => (7 * i) % 251);
        const again = fromBase64(toBase64(bytes));
        return again.length === count && again.every((value, i) => value === bytes[i]);
    }"""
    assert all(blank.evaluate(script, count) for count in (0, 3072, 2**18 + 1))


@pytest.mark.browser
def test_a_slow_file_does_not_replace_what_was_chosen_meanwhile(visit: callable, tmp_path: Path):
    seen, waiting = visit(link=FEW), []
    seen.page.route("**/decode", lambda route: waiting.append(route))
    (tmp_path / "slow.heic").write_bytes(b"no browser reads it")
    with seen.page.expect_request("**/decode"):
        seen.page.locator("#file").set_input_files(tmp_path / "slow.heic")
    seen.page.get_by_role("button", name="they differ").click()
    before = seen.pixel(16, 16)
    seen.page.locator("#disagree .pictures button").first.click()
    now = f"({PIXEL})(document.querySelector('#seen canvas'), [16, 16])"
    seen.page.wait_for_function(f"(before) => `${{{now}}}` !== `${{before}}`", arg=before)
    chosen = seen.pixel(16, 16)
    png = CAT.read_bytes()
    waiting[0].fulfill(body=png, content_type="image/png", headers={"Notes": "%5B%5D"})
    seen.rest()
    assert seen.pixel(16, 16) == chosen != list(Image.open(CAT).convert("RGB").getpixel((16, 16)))


# ---- networks


@pytest.mark.browser
@both_at_length
def test_two_networks_take_three_clicks_and_no_new_computation(visit: callable):
    seen = visit()
    seen.page.locator("#open-chooser").click()
    seen.page.get_by_role("button", name=f"only this: {CATALOGUE['se'].title}").click()
    seen.page.locator('#chooser [data-key="cbam"]').check()
    seen.rest()
    assert seen.texts("#glance .row .name") == [CATALOGUE[name].title for name in ("se", "cbam")]
    assert seen.asked() == 0  # both were there already
    assert "no spatial gate" in seen.texts('#maps [data-section="spatial"] .none-here')[0]
    said = seen.texts("#differ")[0]
    assert re.search(r"Channel weights: Squeeze.* 0\.\d+ to .*; CBAM (< )?0\.\d+ to", said)
    figures = seen.page.locator('#maps [data-kind="channel"]')
    widths = [figures.nth(index).bounding_box()["width"] for index in (0, 1)]
    assert min(widths) > 300  # few columns are larger


@pytest.mark.browser
def test_only_missing_networks_are_asked_for(visit: callable):
    seen = visit(link=link_to("se", "cbam"))
    seen.example("ship")
    bodies = []
    seen.page.on(
        "request", lambda one: bodies.append(one.post_data_json) if one.url.endswith("/look") else None
    )
    old = seen.page.locator('#maps [data-kind="cam"] canvas').first.element_handle()
    seen.page.locator("#open-chooser").click()
    search = seen.page.get_by_label("Search networks")
    search.press("Enter")  # looks for nothing
    search.fill("non-local")
    assert seen.page.locator('#chooser [data-key="non_local"]').is_visible()
    search.fill("nothing of this name")
    assert seen.page.get_by_text("No network is called that").is_visible()
    search.fill("注意力")  # no name has such letters
    assert seen.texts("#chooser .line:visible") == []
    search.press("Enter")
    search.fill("danet")
    assert seen.texts("#chooser .line:visible") != []
    search.evaluate("""(search) => { // two at once: Enter takes the first that is left
        search.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
        document.querySelector('#chooser [data-key="non_local"]').click();
    }""")
    seen.rest()
    assert [sorted(body["mechanisms"]) for body in bodies] == [["danet", "non_local"]]  # gathered, once
    assert old.evaluate("(canvas) => canvas.isConnected && !canvas.closest('.pending')")
    seen.page.get_by_role("button", name="Done").click()
    seen.page.locator("#glance .row", has_text="CBAM").hover()
    seen.page.get_by_role("button", name="Remove CBAM").click()
    seen.rest()
    assert seen.page.evaluate("document.activeElement.className") == "away"  # of the next row
    assert len(bodies) == 1 and "CBAM" not in seen.texts("#glance .row .name")


@pytest.mark.browser
@both_at_length
def test_all_none_and_pairs(visit: callable):
    seen = visit()
    seen.page.locator("#open-chooser").click()
    chooser = seen.page.locator("#chooser")
    chooser.get_by_role("button", name="None", exact=True).click()
    assert chooser.get_by_text("Choose at least one network").is_visible()
    chooser.get_by_role("button", name="All trained").click()
    seen.rest()
    assert len(seen.texts("#glance .row .name")) == len(TRAINED)
    chooser.get_by_role("button", name="SE and CBAM").click()
    seen.rest()
    assert len(seen.texts("#glance .row .name")) == 2


@pytest.mark.browser
@both_at_length
def test_of_quick_wishes_the_last_one_counts(visit: callable):
    seen = visit(link=THREE)
    for name in ("dog", "frog", "airplane", "ship"):
        seen.page.locator(f'#examples [data-name="{name}"]').click()
    seen.page.wait_for_function(
        "() => document.querySelector('#examples [aria-pressed=true]').dataset.name === 'ship'"
    )
    target, method = (seen.page.locator('#maps [data-section="cam"] select').nth(i) for i in (0, 1))
    target.select_option("dog")
    method.select_option("LayerCAM")
    seen.rest()
    assert (target.input_value(), method.input_value()) == ("dog", "LayerCAM")
    assert seen.page.locator(".pending").count() == 0
    assert all("dog" in text for text in seen.texts('#maps [data-kind="cam"] .said'))
    assert seen.pixel(0, 0) == list(Image.open(SHIP).convert("RGB").getpixel((0, 0)))


@pytest.mark.browser
def test_a_server_that_is_gone_is_named_and_asked_again(visit: callable):
    seen = visit(link=FEW)
    before = seen.canvases("cam")
    seen.page.route("**/look", lambda route: route.abort())
    seen.example("ship")
    assert_plain_sentence(seen.texts("#status p")[0].split(": ")[0] + ".")
    assert seen.canvases("cam") == before  # what was there stays
    assert seen.page.locator(".summary.pending").count() == 1  # pale: it is about the picture before
    assert seen.pixel(0, 0) == list(
        Image.open(SHIP).convert("RGB").getpixel((0, 0))
    )  # and the page's own picture
    seen.page.unroute("**/look")
    seen.page.get_by_role("button", name="Try again").click()
    seen.rest()
    assert seen.canvases("cam") != before and "have answered" in seen.texts("#status p")[0]
    assert seen.page.locator(".summary.pending").count() == 0
    assert seen.page.evaluate("document.activeElement.id") == "glance"  # the button has gone
    seen.complaints.clear()


@pytest.mark.browser
def test_the_place_in_the_queue_is_said(visit: callable):
    seen = visit(link=FEW)
    told = '{"waiting": {"place": 3, "seconds": 12}}\n{"error": "The line is too long."}\n'
    seen.page.evaluate("""() => {
        const line = document.querySelector("#status p");
        window.said = [];
        new MutationObserver(() => window.said.push(line.textContent)).observe(line, {childList: true});
    }""")
    seen.page.route("**/look", lambda route: route.fulfill(body=told, content_type="application/x-ndjson"))
    seen.example("ship")
    said = seen.page.evaluate("window.said")
    assert any("Place 3" in line and "12 seconds" in line for line in said)
    assert said[-1] == "The line is too long."


UNTRAINED = ["aspp", "stn", "ccnet", "san_pairwise", "apnb", "bam", "coord_attention"]
UNTRAINED += ["dynamic_conv", "dgc", "dwsep_conv", "spconv"]


@pytest.mark.browser
def test_every_kind_is_drawn_also_with_random_weights(visit: callable):
    """A handful of networks that have every kind of map between them, most of them untrained."""
    seen = visit(link=FEW)
    seen.page.locator("#open-chooser").click()
    seen.page.locator("#chooser").get_by_role("button", name="None", exact=True).click()
    seen.page.locator("#chooser summary").click()
    for name in ("cbam", "danet", *UNTRAINED):
        seen.page.locator(f'#chooser [data-key="{name}"]').check()
    seen.page.get_by_role("button", name="Done").click()
    seen.rest()
    seen.block("layer3.1")
    assert seen.page.locator("#glance .row.random").count() == len(UNTRAINED)
    told = {"random weights, not trained"}
    assert {*seen.texts("#glance .random .facts:visible")} == told
    seen.page.set_viewport_size({"width": 390, "height": 844})  # a phone says so, too
    assert {*seen.texts("#glance .facts:visible:not(.use)")} == told
    seen.page.set_viewport_size({"width": 1280, "height": 900})
    seen.rest()
    assert {*seen.texts("#maps .map.random .heading i")} == {"random weights"}
    draw_all(seen.page)
    found = seen.page.locator("#maps .map").evaluate_all(DRAWN)
    for kind, colours, said, label in found:
        assert colours > 1, (kind, label)
        assert kind == "grid" or re.search(r"\d", said), kind
        assert label and not label.endswith("on its way"), kind
    assert {kind for kind, *_ in found} == {*KINDS.values()}

    seen.choose("bam", "ccnet")  # the others need not answer any more
    tiles = seen.page.locator('#maps [data-kind="volume"][data-mechanism="bam"]').first
    before = tiles.locator("canvas").evaluate("(c) => c.toDataURL()")
    tiles.get_by_label("next page").click()
    seen.rest()
    assert tiles.locator("canvas").evaluate("(c) => c.toDataURL()") != before
    assert tiles.locator(".pager span").inner_text() == "page 2 of 33"
    assert seen.page.evaluate("document.activeElement.ariaLabel") == "next page"  # once more by the same key
    tiles.locator("canvas").hover(position={"x": 20, "y": 20})  # a place in the first of them
    seen.rest()
    assert re.fullmatch(r"channel \d+: 1\.\d+", tiles.locator(".value").inner_text())  # BAM: 1 + sigmoid
    cross = seen.page.locator('#maps [data-kind="cross"] canvas').first
    before = cross.evaluate("(c) => c.toDataURL()")
    tiles.locator("canvas").click(position={"x": 20, "y": 20})
    seen.rest()
    assert cross.evaluate("(c) => c.toDataURL()") != before  # it reads from there
    for _ in range(9):
        tiles.get_by_label("next page").click()
        seen.rest()
    assert tiles.locator(".pager span").inner_text() == "page 11 of 33"
    seen.block("layer1.1")  # has fewer
    tiles.scroll_into_view_if_needed()
    tiles.locator(".pager span", has_text=re.compile("^page 9 of 9$")).wait_for()


DRAWN = """(figures) => figures.map((figure) => { // kind, number of colours, words, and what a reader hears
    const canvas = figure.querySelector("canvas"), context = canvas.getContext("2d");
    const colours = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    const said = figure.querySelector(".said").innerText;
    return [figure.dataset.kind, new Set(colours).size, said, canvas.getAttribute("aria-label")];
})"""


# ---- one mechanism, results, words


@pytest.mark.browser
@both
def test_one_mechanism_in_detail(visit: callable):
    seen = visit(link=link_to("se", "cbam"))
    name = seen.page.locator("#glance .name", has_text="CBAM")
    top = seen.page.evaluate("scrollY")
    name.click()
    detail = seen.page.locator("#detail")
    seen.rest()
    assert seen.page.evaluate("scrollY") == top  # nothing jumps away
    assert detail.locator("h2").inner_text() == "CBAM"
    rows = detail.locator(".section")
    assert rows.count() == 3  # places, channels, Grad-CAM
    for row in rows.all():
        row.scroll_into_view_if_needed()
        assert row.locator(".map").count() == 8
        assert row.locator(".heading").all_inner_texts() == [
            f"at layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)
        ]
    seen.rest()
    assert detail.locator("math").count() > 0
    assert (
        detail.locator(".placement").count() == 1 and "Parameters" in detail.locator(".numbers").inner_text()
    )
    assert detail.get_by_role("link").first.get_attribute("href").startswith("https://arxiv.org/")
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 1280
    deep = rows.first.locator("canvas").last
    before = deep.evaluate("(c) => c.toDataURL()")
    deep.hover(position={"x": 10, "y": 10})
    seen.rest()
    assert deep.evaluate("(c) => c.toDataURL()") != before
    detail.locator(".card").scroll_into_view_if_needed()
    assert detail.evaluate("(node) => node.scrollTop") > 0
    detail.locator("select").select_option("border_align")  # it makes no network
    seen.rest()
    assert detail.evaluate("(node) => node.scrollTop") == 0  # another one begins at its top
    seen.page.evaluate(
        """() => { // as without https; what is selected is taken
            navigator.clipboard.write = async () => { throw new Error("not allowed"); };
            document.execCommand = () => { window.taken = document.activeElement.value; return true; };
        }"""
    )
    copy = detail.get_by_role("button", name="Copy link")
    copy.click()
    said = detail.locator("header p")
    said.filter(has_text="is copied").wait_for()
    address = seen.page.evaluate("location.href")
    assert seen.page.evaluate("taken") == address and "detail=border_align" in address
    seen.page.wait_for_function(
        "() => document.querySelector('#detail').textContent.includes('models/modules/border_align.py')"
    )
    assert "not among the networks" in detail.inner_text()
    detail.locator("select").select_option("se")
    seen.rest()
    assert said.inner_text() == ""  # that link was another one's
    detail.click(position={"x": 5, "y": 300})  # its own margin
    assert detail.is_visible()
    seen.page.mouse.click(2, 2)  # beside it
    assert not detail.is_visible()
    seen.page.wait_for_function("() => !location.hash")  # `close` comes after it is gone
    assert name.evaluate("(node) => node === document.activeElement")
    name.click()
    seen.rest()
    seen.page.evaluate(
        """() => { // opened again before the page was drawn without it
            const dialog = document.querySelector("#detail");
            const again = () => document.querySelector('#glance [data-key="cbam"] .name').click();
            dialog.addEventListener("close", again, { once: true });
            dialog.close();
        }"""
    )
    seen.page.wait_for_function("() => document.querySelector('#detail').open")
    seen.rest()
    assert detail.is_visible()
    seen.page.evaluate(
        """() => { // what comes between its closing and the event
            addEventListener("close", (event) => event.stopPropagation(), { capture: true, once: true });
            document.querySelector("#detail").close();
        }"""
    )
    seen.block("layer1.1")
    assert not detail.is_visible()


@pytest.mark.browser
def test_what_failed_is_asked_for_again_and_the_focus_stays(visit: callable):
    seen, focused = visit(link=FEW), "document.activeElement.textContent"
    detail, parts = seen.page.locator("#detail"), ("**/card/*", "**/evidence/*", "**/disagreement.json")
    for part in parts:
        seen.page.route(part, lambda route: route.abort())
    seen.page.locator("#glance .name", has_text="CBAM").click()
    again = detail.get_by_role("button", name="Try again")
    again.nth(1).wait_for()
    for part in parts[:2]:
        seen.page.unroute(part)
    while again.count():
        again.first.click()
        assert seen.page.evaluate(focused) == "Close"
        seen.rest()
    assert detail.locator("math").count() > 0
    detail.get_by_role("button", name="Close").click()
    seen.page.get_by_role("button", name="they differ").click()
    again = seen.page.locator("#disagree").get_by_role("button", name="Try again")
    again.wait_for()
    seen.page.unroute(parts[2])
    again.click()
    seen.page.locator("#disagree .pictures button").first.wait_for()
    assert seen.page.evaluate("document.activeElement.matches('#disagree summary')")
    seen.complaints.clear()


@pytest.mark.browser
@both_at_length
def test_cards_of_all_mechanisms_are_on_the_page(visit: callable, edition: str, server: str):
    seen = visit(link=FEW)
    assert seen.page.locator("#cards option").count() == len(CATALOGUE)
    results = seen.page.locator("#results").inner_text()
    assert ("No network is measured yet" in results) == (edition == server)  # two are as they ship there
    for _ in range(2):  # the same one again
        seen.page.locator("#cards select").select_option("se")
        seen.rest()
        assert not seen.page.locator("#detail").is_visible()  # the arrow keys walk through the list
        seen.page.locator("#cards").get_by_role("button", name="Show").click()
        seen.page.locator("#detail h2", has_text="Squeeze-and-Excitation").wait_for()
        seen.page.locator("#detail").get_by_role("button", name="Close").click()
        seen.rest()


@pytest.mark.browser
def test_with_no_network_chosen_the_page_keeps_those_it_has(visit: callable):
    seen = visit(link=FEW)
    seen.choose()
    assert "Choose at least one network" in seen.texts("#status p")[0]
    seen.example("ship")
    assert seen.page.locator("#glance .row[data-key]").count() > 1
    assert seen.page.locator(".pending").count() == 0


@pytest.mark.browser
def test_the_mark_is_as_large_as_a_cell_of_the_maps_below(visit: callable):
    seen = visit(link=link_to("non_local"))
    mark = seen.page.locator("#seen canvas")
    for block, side in {
        "layer3.1": 32,
        "layer2.1": 16,
        "layer3.0": 32,
    }.items():  # the mark is at 14, 20 of 32
        seen.block(block)
        x, y = 8 * 14 // side * side, 8 * 20 // side * side
        assert mark.evaluate(FRAMED, [x, y, side]) and not mark.evaluate(FRAMED, [y, x, side]), block


FRAMED = """(canvas, [x, y, side]) => { // whether the middles of its four sides are white
    const context = canvas.getContext("2d"), half = side / 2;
    const white = ([a, b]) => context.getImageData(a, b, 1, 1).data.every((level) => level === 255);
    return [[x + half, y], [x + half, y + side], [x, y + half], [x + side, y + half]].every(white);
}"""


@pytest.mark.browser
def test_what_is_wrong_with_a_file_is_still_said_when_networks_have_answered(visit: callable):
    seen, refused = visit(link=link_to("plain", "se")), "is not a picture"
    with held(seen.page, "**/look"):
        with seen.page.expect_request("**/look"):
            seen.page.locator('#examples [data-name="ship"]').click()
        seen.page.locator("#file").set_input_files(
            {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
        )
        seen.page.locator("#status p", has_text=refused).wait_for()
    seen.rest()
    assert re.search(f"have answered.*{refused}", seen.texts("#status p")[0])
    seen.choose("se")
    assert "has answered" in seen.texts("#status p")[0] and refused not in seen.texts("#status p")[0]
    seen.complaints.clear()


@pytest.mark.browser
def test_names_in_the_chart_keep_apart(visit: callable):
    """Those of the networks that ship: some are long, some short and in capitals."""
    page = visit(1440, link=FEW).page
    page.evaluate(
        """async (blocks) => {
            const { leaderboard } = await import(new URL("page/leaderboard.js", location.href).href);
            leaderboard(document.querySelector("#results"), { blocks });
        }""",
        results(ROOT / "checkpoints"),
    )
    points = page.locator("#results svg [tabindex]")
    points.nth(points.count() // 2).focus()
    here = "document.activeElement.getAttribute('aria-label')"
    before = page.evaluate(here)
    for key in ("ArrowUp", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        assert page.evaluate(here) != before and page.evaluate(
            "document.activeElement.closest('#results svg') !== null"
        )
        before = page.evaluate(here)
    for cost in ("parameters", "flops", "latency_ms"):
        page.locator(f'#results [data-cost="{cost}"]').first.click()
        page.wait_for_function("() => document.querySelector('#results svg .label')")
        boxes = page.locator("#results svg").first.evaluate(
            """(svg) => [...svg.querySelectorAll(".label")].map((label) => {
                const { x, y, width, height } = label.getBBox();
                return [x, x + width, y + 1, y + height - 1];
            })"""
        )
        assert len(boxes) > 5
        for at, (left, right, top, bottom) in enumerate(boxes):
            for other_left, other_right, other_top, other_bottom in boxes[:at]:
                beside = right < other_left or other_right < left
                assert beside or bottom <= other_top or other_bottom <= top, cost

    page.set_viewport_size(
        {"width": 703, "height": 1030}
    )  # A4 without its margins: a table, not a card for each
    page.emulate_media(media="print")
    table = page.locator("#results table")
    assert table.evaluate("(table) => getComputedStyle(table).display") == "table"
    assert table.evaluate("(table) => table.getBoundingClientRect().right") <= 703


@pytest.mark.browser
def test_a_difference_of_zero_has_no_sign(blank: Page):
    said = blank.evaluate(
        """async () => {
            const { points } = await import("./page/lab/forest.js");
            return [0.04, -0.04, 0, 0.06, -0.06, -12.3].map(points);
        }"""
    )
    assert said == ["0.0", "0.0", "0.0", "+0.1", "−0.1", "−12.3"]


@pytest.mark.browser
def test_the_small_pictures_are_described_as_they_are(visit: callable):
    mark, gates, curves = "what the marked place reads", "gates from 0", "channel gates as a curve"
    for name, said in {"non_local": {mark}, "se": {curves}, "cbam": {gates, curves}}.items():
        legend = visit(link=link_to(name)).texts("#glance .legend-line")[0]
        assert {words for words in (mark, gates, curves, "shares, ") if words in legend} == said, name
    # Shares of branches; shares that no place asks for.
    legend = visit(link=link_to("split_attention", "global_context")).texts("#glance .legend-line")[0]
    assert mark not in legend and gates not in legend and curves not in legend
    assert "shares, ¹⁄₁₆ to 16 times an equal one" in legend


@pytest.mark.browser
@both_at_length
def test_all_ten_answers_under_the_pointer_and_by_keyboard(visit: callable):
    seen = visit(link=link_to("plain", "se"), reduced_motion="reduce")  # which shows them at once
    row = seen.page.locator('#glance .row[data-key="se"]')
    every = row.locator(".every")
    assert not every.is_visible()
    row.locator(".answer").hover()
    every.wait_for(state="visible")
    shares = every.locator("i").evaluate_all(
        "(bars) => bars.map((bar) => +bar.style.getPropertyValue('--p'))"
    )
    assert len(shares) == 10 and shares == sorted(shares, reverse=True) and abs(sum(shares) - 1) < 1e-4
    first = row.locator(".bars:not(.every) li").all_inner_texts()
    assert every.locator("li").all_inner_texts()[:3] == first
    seen.page.mouse.move(0, 0)
    every.wait_for(state="hidden")
    row.locator(".away").focus()
    seen.page.keyboard.press("Tab")
    every.wait_for(state="visible")
    seen.page.keyboard.press("Escape")
    every.wait_for(state="hidden")
    assert row.locator(".answer").evaluate("(node) => node === document.activeElement")  # it stays there
    row.locator(".away").focus()
    row.locator(".answer").hover()
    every.wait_for(state="visible")
    seen.page.keyboard.press("Escape")
    every.wait_for(state="hidden")


@pytest.mark.browser
@both_at_length
def test_each_head_has_a_picture_of_its_own_in_the_single_view(visit: callable):
    seen = visit(link=link_to("self_attention").replace("&end", "&detail=self_attention&end"))
    maps = seen.page.locator('#detail .section[data-section="pairwise"] .map')
    heads = [f"head {head} of 4" for head in (1, 2, 3, 4)]
    assert [
        *zip(
            maps.locator(".heading").all_inner_texts(),
            re.findall(r"head \d of 4", " ".join(maps.all_inner_texts())),
            strict=True,
        )
    ] == [(place, head) for place in ("after layer2", "after layer3") for head in heads]
    drawn = maps.locator("canvas").evaluate_all(PIXELS)
    assert len({*drawn[:4]}) == 4
    seen.page.locator("#detail").get_by_role("button", name="Close").click()
    seen.page.locator('#maps [data-section="pairwise"] .controls select', has_text="mean").select_option("2")
    seen.rest()
    seen.page.locator("#glance .name").first.click()
    seen.rest()
    assert maps.count() == 2 and all("head 3 of 4" in said for said in maps.all_inner_texts())


@pytest.mark.browser
@both_at_length
def test_a_photograph_comes_as_a_visitors_own(visit: callable):
    """One sees what is lost of it, and that what is no class gets one all the same."""
    seen = visit(link=FEW)
    offered = seen.page.locator("#examples [data-photo]")
    assert [*offered.evaluate_all("(all) => all.map(({ dataset }) => dataset.photo)")] == [
        *answers.PHOTOGRAPHS
    ]
    offered.nth(2).click()
    seen.rest()
    rocket = load_image(ROOT / "visualize" / "page" / "examples" / "photo-rocket.jpg")
    expected = np.array(to_network(rocket, "centre"))
    assert np.abs(seen.diagonal() - expected[range(32), range(32)]).max() <= 1
    assert min(rocket.size) > 300 and seen.page.locator("#remove").is_visible()
    seen.page.locator("#crop-choice select").select_option("own")
    assert seen.page.locator("#crop .whole canvas").evaluate("({ width, height }) => [width, height]") == [
        *rocket.size
    ]
    with held(seen.page, "**/photo-cup.jpg"):  # of quick wishes the last one counts
        offered.nth(1).click()
        seen.page.locator('#examples [data-name="dog"]').click()
    seen.rest()
    dog = Image.open(ROOT / "visualize" / "page" / "examples" / "dog.png").convert("RGB")
    assert seen.pixel(9, 9) == list(dog.getpixel((9, 9)))
    seen.page.route("**/photo-cup.jpg", lambda route: route.abort())
    offered.nth(1).click()
    seen.page.locator("#status p", has_text="The photograph cannot be loaded").wait_for()
    assert len(seen.complaints) == 1 and "ERR_FAILED" in seen.complaints.pop()


@pytest.mark.browser
@both
def test_reading_is_one_click_away(visit: callable):
    seen = visit(link=FEW)
    seen.page.get_by_role("button", name="How to read this").first.click()
    assert seen.page.get_by_text("not an explanation").first.is_visible()
    seen.page.keyboard.press("Escape")
    assert not seen.page.locator("#reading").is_visible()
    seen.page.get_by_role("button", name="How to read this").first.click()
    seen.page.get_by_role("link", name="a truck").click()
    seen.rest()
    assert not seen.page.locator("#reading").is_visible()
    truck = Image.open(ROOT / "visualize" / "page" / "examples" / "truck.png").convert("RGB")
    assert seen.pixel(9, 9) == list(truck.getpixel((9, 9)))
    assert seen.texts("#glance .row .name") == [CATALOGUE["se"].title]


# ---- in another language

ENGLISH = """() => { // what the page says in Latin letters, without code and formulas
  const OURS = "script, style, code, math, [translate=no]", said = [];
  const both = NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT;
  const walk = document.createTreeWalker(document, both);
  while (walk.nextNode()) {
    const node = walk.currentNode, names = ["title", "aria-label", "placeholder", "data-label"];
    if ((node.parentElement || node).closest(OURS)) continue;
    if (node.data === undefined) said.push(...names.map((name) => node.getAttribute(name) || ""));
    else said.push(node.data);
  }
  return [...new Set(said.map((text) => text.trim()))].filter((text) => /[A-Za-z]{2}/.test(text));
}"""
TITLES = sorted(map(re.escape, (entry.title for entry in CATALOGUE.values())), key=len, reverse=True)
SAME = re.compile(  # in every language: names of networks, slots, tensors, methods, tests, colours, files
    "|".join(TITLES)
    + rf"|\b(?:{'|'.join([*CATALOGUE, *BLOCK_SLOTS])})\b"
    + r"|[\w.]*(?:_|layer\d|stage\d)[\w.]*|gate|weights|affinity|position|conv\d|bn\d|fc|layer|(?<=配方 )\w+"
    + r"|\w+CAM\+*|Grad-CAM\+*|ROAD|Sobel|McNemar|Holm|Wilson|Plain|SE|CBAM|non-local|ResNet18|ReLU|BatchNorm"
    + r"|logit|viridis|cividis|magma|AttnScope|CIFAR-10|PNG|PDF|NPZ|JSON|M?FLOPs|MB|ms|[CG]PU"
    + r"|Intel|AMD|EPYC|Xeon"
)


@pytest.mark.browser
@both_at_length
def test_the_page_speaks_chinese_too(visit: callable):
    seen = visit(link="?lang=zh#view=2&picture=dog&networks=se,cbam,danet&query=14,20&end")
    page, left = seen.page, set()
    assert page.locator("html").get_attribute("lang") == "zh"
    assert page.locator("#glance-title").inner_text() == "回答，以及注意力一览"
    assert "说是" in page.locator("#glance .summary").inner_text()

    def look() -> None:
        seen.rest()
        left.update(text for text in page.evaluate(ENGLISH) if re.search("[A-Za-z]{2}", SAME.sub("", text)))

    look()
    for name in ("average", "another picture's", "by hand", "factor 1", ""):
        page.locator("#whatif select").first.select_option(name)
        look()
    page.locator("#read").click()
    look()
    page.keyboard.press("Escape")
    page.locator("#pin").click()
    seen.example("cat")
    look()
    page.locator("#disagree summary").click()
    page.locator("#disagree .pictures button").first.wait_for()
    look()
    page.locator("#glance .name").first.click()
    look()
    assert "看什么。" in page.locator("#detail .words").inner_text()
    assert left == set()
    page.keyboard.press("Escape")
    page.locator("#language").click()
    page.locator('html[lang="en"]').wait_for()
    seen.rest()
    assert page.locator("#glance-title").inner_text() == "Answers, and attention at a glance"
    assert seen.texts("#glance .name") == ["Squeeze-and-Excitation", "CBAM", "DANet"]  # the view is the same
    page.reload()
    seen.rest()
    assert page.locator("html").get_attribute("lang") == "en"  # it was chosen


@pytest.mark.browser
def test_the_other_language_keeps_the_whole_photograph(visit: callable, tmp_path: Path):
    """A link holds 32 x 32 pixels of it; what else is to be seen of it can still be cut out."""
    seen = visit(link=FEW)
    seen.choose_square(tmp_path)
    square, whole = seen.page.locator("#crop .square"), seen.page.locator("#crop canvas")
    square.press("ArrowRight")
    seen.rest()
    pixels, place = seen.diagonal(), square.get_attribute("style")
    seen.page.locator("#language").click()
    seen.page.locator('html[lang="zh"]').wait_for()
    seen.rest()
    assert (seen.diagonal() == pixels).all()
    seen.page.locator("#adjust").click()
    assert whole.evaluate("({ width, height }) => [width, height]") == [900, 600]
    assert square.get_attribute("style") == place
    assert seen.page.evaluate("history.state") is None


LOST = (
    "0.12 points lost (−0.30 to 0.54 for this row alone), 10,000 test images, "
    "p = 0.420 after Holm's correction"
)
SPAN = (
    "At layer3.1, or nearest to it, Non-local’s attention ranged from 0.1× to 2× on this picture, "
    "DANet’s from 1× to 3×."
)
TEST = "Test picture 12, a cat: 2 say dog (CBAM, Global Context (GCNet), BAM); 1 says cat (scSE)."
OTHER = "BAM has no attention; Coordinate Attention has rows and columns"
NONE = "no numbers per place and channel"
SAID = [  # what was wrong once: sentences that are put together
    f"no measurable use: {LOST}",
    "未测出作用：损失 0.12 个百分点（仅就这一行：−0.30 至 0.54），10,000 张测试图片，Holm 校正后 p = 0.420",
    "SE: no spatial gate here, but at layer4.1",
    "SE：此处没有空间门控，但在 layer4.1 处有",
    f"At layer1.0 the two have nothing of the same kind: {OTHER}.",
    "在 layer1.0，两者没有同类的东西。BAM 没有注意力；Coordinate Attention：行与列。",
    f"Non-local has {NONE}: no feature is singled out; BAM has spatial maps plus channel weights",
    "Non-local 没有逐位置、逐通道的数：没有突出任何特征；BAM 有空间图和通道权重",
    "All 3 keep their answers, and no probability changes much.",
    "3 个网络的回答都不变，概率几乎不变。",
    SPAN,
    "在 layer3.1 或离它最近处，Non-local 的注意力在这张图片上为 0.1× 至 2×，DANet 的为 1× 至 3×。",
    "7 networks have answered, 3 of them on this device.",
    "7 个网络已回答，其中 3 个在本设备上。",
    TEST,
    "测试图片 12，猫：2 个说是狗（CBAM, Global Context (GCNet), BAM）；1 个说是猫（scSE）。",
    "A and B: CBAM says cat (91 %), dog (70 %).",
    "A 与 B：CBAM 说是猫（91 %），狗（70 %）。",
    "channel 17: 0.40",
    "通道 17：0.40",
    "93.12 (92.60 to 93.61)",
    "93.12（92.60 至 93.61）",
    "Parameters: 89,080 (0.8 %) more than plain.",
    "参数量：比 Plain 多 89,080（0.8 %）。",
]
TRANSLATED = """async (texts) => {
  const { translated } = await import(new URL("page/language/language.js", location.href).href);
  return texts.map(translated);
}"""


@pytest.mark.browser
def test_what_is_put_together_makes_sense_in_chinese(visit: callable):
    assert visit(link="?lang=zh").page.evaluate(TRANSLATED, SAID[::2]) == SAID[1::2]


@pytest.mark.browser
@both_at_length
def test_where_the_words_do_not_come_the_page_is_in_english(edition: str, browser: Browser):
    page = browser.new_page(locale="zh-CN")
    page.route("**/words.zh.json", lambda route: route.abort())
    page.goto(f"{edition}?lang=zh")
    page.wait_for_function(AT_REST)
    assert page.locator("#glance-title").inner_text() == "Answers, and attention at a glance"
    assert page.locator("#status p").inner_text().startswith("6 networks have answered.")
    assert page.locator("html").get_attribute("lang") == "en"
    assert "not an explanation" in page.locator("#reading").inner_html()
    page.unroute("**/words.zh.json")
    page.locator("#language").click()  # once more
    page.wait_for_function("() => document.documentElement.lang === 'zh'")
    page.close()


# ---- links and files


def copied(seen: Visit) -> str:
    """The link to the view: what follows the address."""
    seen.page.evaluate("history.replaceState(null, '', location.pathname)")
    view = seen.page.locator("#detail")  # it lies over all else
    (
        view.get_by_role("button", name="Copy link") if view.is_visible() else seen.page.locator("#copy")
    ).click()
    seen.page.wait_for_function("() => location.hash.startsWith('#view=2')")
    return seen.page.evaluate("location.hash")


@pytest.mark.browser
@both_at_length
def test_link_restores_the_view(visit: callable, tmp_path: Path):
    seen = visit()
    assert len(copied(seen)) < 300  # a QR code holds it
    seen.choose("cbam", "plain", "non_local")
    seen.choose_square(tmp_path)
    seen.page.locator("#crop").get_by_role("button", name="Done").click()
    seen.page.locator('#maps [data-section="cam"] select').first.select_option("dog")
    seen.block("layer3.1")
    for key, value in {"overlay": "0.8", "colours": "magma", "cells": "smooth", "scale": "own"}.items():
        seen.set(key, value)
    seen.page.locator("#seen canvas").click(position={"x": 10, "y": 70})
    seen.page.locator("#glance .name", has_text="CBAM").click()
    seen.rest()
    link = copied(seen)
    assert len(link) < 2953  # the largest QR code
    cell = 32 / seen.page.locator("#seen canvas").bounding_box()["width"]
    x, y = (int(query) for query in re.search(r"query=(\d+),(\d+)", link).groups())
    assert (
        abs(x - 10 * cell) <= 1 and abs(y - 70 * cell) <= 1
    )  # the mark stands where the picture was clicked
    assert "pixels:" in link
    seen.page.mouse.move(0, 0)
    seen.rest()

    other = visit(link=link)
    for kind in ("cam", "spatial", "channel"):
        assert other.canvases(kind) == seen.canvases(kind), kind
    assert other.page.locator("#detail h2").inner_text() == "CBAM"
    values = "(nodes) => nodes.map((node) => [node.value, node.checked])"
    controls = "[data-view], #bar input, #maps .controls select, #chooser input"
    chosen = [one.page.locator(controls).evaluate_all(values) for one in (seen, other)]
    assert chosen[0] == chosen[1]
    assert other.pixel(20, 3) == seen.pixel(20, 3)
    cropped = link.replace("&networks=", "&crop=squeeze&networks=")  # such pixels are cropped already
    other.page.evaluate("(hash) => { location.hash = hash; }", cropped)
    other.page.locator("#status p", has_text="damaged or was cut off").wait_for()


@pytest.mark.browser
def test_who_waits_for_a_network_sees_the_page_meanwhile(edition: str, browser: Browser):
    """A link names networks and a picture that nobody has asked about yet."""
    page = browser.new_page()
    page.clock.install()
    with held(page, "**/look"):
        with page.expect_request("**/look"):
            page.goto(f"{edition}#view=2&picture=frog&networks=se,cbam&end")
        page.clock.fast_forward(3000)  # its patience
        page.locator("#maps").wait_for()  # visible
        page.locator("footer").wait_for()
        page.locator("#glance .row.pending").nth(1).wait_for()
        assert page.locator("#glance .row.pending").count() == 2
    page.close()


@pytest.mark.browser
def test_while_a_picture_is_on_its_way_the_old_maps_follow_the_block(visit: callable):
    seen = visit(link=FEW)
    before = seen.canvases("spatial")
    with held(seen.page, "**/look"):
        with seen.page.expect_request("**/look"):
            seen.page.locator('#examples [data-name="ship"]').click()
        seen.page.locator('#bar input[value="layer3.1"]').check(force=True)
        map_ = seen.page.locator('#maps [data-kind="spatial"].pending')
        map_.locator(".tensor", has_text="layer3.1").wait_for()
        seen.page.wait_for_function(
            "([read, before]) => !before.includes(eval(read)([document.querySelector("
            "'#maps [data-kind=spatial] canvas')])[0])",
            arg=[PIXELS, before],
        )


@pytest.mark.browser
def test_a_network_on_its_way_is_not_called_absent(visit: callable):
    seen = visit(link=FEW)
    with held(seen.page, "**/look"):
        seen.page.locator("#open-chooser").click()
        seen.page.locator("#chooser summary").click()
        with seen.page.expect_request("**/look"):
            seen.page.locator('#chooser [data-key="gsop"]').check()
        seen.page.get_by_role("button", name="Done").click()
        seen.page.locator('#glance .row[data-key="gsop"] .name').click()
        seen.page.locator("#detail .blocks", has_text="Its maps are on their way.").wait_for()
    seen.page.locator("#detail .blocks canvas").first.wait_for()


PAINTED = "#view=2&picture=cat&networks=se&replace=by%20hand&only=se&by_hand=layer2.1.refine.gate:{}*0.5&end"


@pytest.mark.browser
def test_a_link_that_paints_beyond_a_tensor_is_refused_in_a_sentence(visit: callable):
    """By the server; the browser that computes in its place is asked in test_site.py."""
    check_painting(visit(link=PAINTED.format(128)).page)


def check_painting(page: Page) -> None:
    """What links that paint a channel come to, one that is not there and the last one."""
    page.evaluate("(hash) => { location.hash = hash; }", PAINTED.format(128))
    sentence = "The tensor layer2.1.refine.gate has 128 values, and one beyond them was changed."
    page.locator("#status p", has_text=sentence).wait_for()
    assert page.locator("#status p").all_inner_texts() == [sentence]
    assert page.locator("#maps .map.replaced").count() == 0
    page.evaluate("(hash) => { location.hash = hash; }", PAINTED.format(127))
    page.locator("#maps .map.replaced").wait_for()
    page.wait_for_function(AT_REST)
    assert page.locator("#maps .map.replaced").count() == 1


CUT = "#view=2&picture=cat&networks=plain,se&class=predicted&cam=GradCAM&block=layer2.1&query=14,20"


DAMAGED = [
    CUT,  # it lost its end
    "#view=2&end",
    "#view=2&picture=cat&networks=plain,nonsense",
    "#view=2&picture=pixels:eJwDAAAAAAE&networks=plain&end",
    "#view=2&picture=/etc/passwd&networks=plain&end",
    "#view=2&picture=cat&networks=plain&class=goat&end",
    "#view=2&picture=cat&networks=plain&crop=1,2,nan&end",
    "#view=2&picture=cat&networks=plain&query=14,40&end",
    "#view=2&picture=cat&networks=plain&block=%3Cb%3E&end",
    "#view=2&picture=cat&networks=se&replace=by%20hand&only=se&by_hand=layer2.1.refine.gate:007*0.5&end",
]
OTHER_VERSION = [
    "#view=1&picture=cat&networks=plain&end",
    "#view=2&picture=cat&networks=plain,nonsense&end",
]


@pytest.mark.browser
def test_a_link_that_is_too_long_for_a_picture_is_not_unpacked(blank: Page):
    """A megabyte of it could become a gigabyte of zeros."""
    said = blank.evaluate(
        """async () => {
            const { fromLink } = await import("./page/picture.js");
            globalThis.DecompressionStream = class { constructor() { throw new Error("unpacked"); } };
            const read = (letters) => fromLink("A".repeat(letters)).catch((error) => error.message);
            return [await read(4_200), await read(100_000)];
        }"""
    )
    assert said == ["unpacked", "This is no picture of 32 x 32 pixels."]


@pytest.mark.browser
@both_at_length
def test_damaged_link_says_so(visit: callable):
    """Whether the page comes with it, or it is opened where the page is."""
    seen = visit(link=CUT)
    for link in (*DAMAGED, *OTHER_VERSION):
        if link != CUT:
            seen.page.evaluate(
                "(link) => { $line.textContent = ''; location.hash = link; }".replace("$line", LINE), link
            )
            seen.page.wait_for_function(f"{LINE}.textContent && !location.hash")
        seen.rest()
        said = seen.texts("#status p")[0]
        words = "of another version" if link in OTHER_VERSION else "damaged or was cut off"
        assert words in said and "<" not in said, link
        assert len(seen.texts("#glance .row .name")) == len(TRAINED)  # the first view stays
        assert seen.page.locator('#bar input[value="layer2.1"]').is_checked()
        assert seen.page.evaluate("location.hash") == "" and seen.asked() == 0


LINE = "document.querySelector('#status p')"


@pytest.mark.browser
@both_at_length
def test_files_to_take_along(visit: callable, tmp_path: Path, edition: str, server: str):
    seen = visit(link=link_to("plain", "se"))
    for form, start in {"png": b"\x89PNG", "pdf": b"%PDF", "npz": b"PK", "json": b"{"}.items():
        seen.page.locator("#take").click()
        if edition != server and form in ("png", "pdf"):
            seen.page.locator(f'#files [data-form="{form}"]').click()
            seen.rest()
            assert_plain_sentence(seen.texts("#status p")[0])
            continue
        with seen.page.expect_download() as download:
            seen.page.locator(f'#files [data-form="{form}"]').click()
        assert download.value.suggested_filename.endswith(f".{form}")
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert file.read_bytes().startswith(start)
        if form == "npz":
            with np.load(file) as arrays:
                assert arrays["se/layer3.1.refine.gate"].shape == (256, 1, 1)
                assert (arrays["pixels"] == np.asarray(Image.open(CAT).convert("RGB"))).all()
    seen.rest()
    assert "2 networks have answered" in seen.texts("#status")[0]  # no longer that a file is being made


# ---- for everybody


@pytest.mark.browser
@both_at_length
def test_scale_is_fixed_or_shared_or_own(visit: callable):
    seen = visit(link=link_to("non_local", "self_attention", "danet"))
    seen.block("layer3.1")
    cams = seen.canvases("cam")
    for scale in ("shared", "own", "fixed"):
        seen.set("scale", scale)
        ends = [
            tuple(re.findall(r"[\d.]+×|¹⁄₁₆×", text))
            for text in seen.texts('#maps [data-kind="pairwise"] .legend')
        ]
        ranges = [
            re.findall(r"[\d.]+", text)[:2] for text in seen.texts('#maps [data-kind="pairwise"] .range')
        ]
        assert len(ends) == len(ranges) == PAIRWISE
        if scale == "fixed":
            assert {*ends} == {("¹⁄₁₆×", "16×")}
        elif scale == "shared":
            least, most = min(float(low) for low, _ in ranges), max(float(high) for _, high in ranges)
            assert len({*ends}) == 1
            low, high = (float(end[:-1]) for end in ends[0])
            assert low == max(least, 0.004) and high == most  # 1/256 of an equal share
        else:
            for (low, high), (least, most) in zip(ends, ranges):
                assert float(low[:-1]) == max(float(least), 0.004) and float(high[:-1]) == float(most)
        assert seen.canvases("cam") == cams  # always its own


@pytest.mark.browser
@both_at_length
def test_keys_and_words_for_who_cannot_see(visit: callable, columns: dict[str, dict]):
    seen = visit(link=link_to("cbam", "danet"))
    seen.page.keyboard.press("ArrowRight")
    seen.rest()
    assert seen.texts('#maps [data-kind="cam"] .tensor')[0] == "layer3.0.cam"
    label = seen.page.locator('#maps [data-kind="spatial"] canvas').first.get_attribute("aria-label")
    found = re.search(
        r"CBAM.*layer3.0.refine.spatial_gate.*strongest at row (\d), column (\d): ([\d.]+)", label
    )
    assert found, label
    gate = values_in(columns["cbam"], "layer3.0.refine.spatial_gate")[0]
    row, column = np.unravel_index(gate.argmax(), gate.shape)
    assert (int(found[1]), int(found[2])) == (row + 1, column + 1)
    canvas = seen.page.locator('#maps [data-kind="spatial"] canvas').first
    canvas.focus()
    seen.page.keyboard.press("ArrowRight")
    seen.rest()
    spoken, cell = canvas.get_attribute("aria-valuetext"), int(canvas.get_attribute("aria-valuenow"))
    found = re.fullmatch(r"row (\d), column (\d): ([\d.]+)", spoken)
    row, column = int(found[1]) - 1, int(found[2]) - 1
    assert cell == 8 * row + column and float(found[3]) == pytest.approx(gate[row, column], abs=0.006)
    matrix = seen.page.locator('#maps [data-kind="matrix"]').first
    matrix.locator("canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        seen.page.keyboard.press(key)
    seen.rest()
    assert re.search(r"\d", matrix.locator(".value").inner_text())
    assert matrix.locator("canvas").get_attribute("aria-valuetext") == matrix.locator(".value").inner_text()
    seen.example("ship")
    seen.page.wait_for_function(
        "() => document.querySelector('#voice').textContent.includes('have answered')"
    )
    labels = seen.page.locator("main canvas:not([aria-hidden])").evaluate_all(
        "(nodes) => nodes.map((node) => node.getAttribute('aria-label'))"
    )
    assert all(labels)
    assert (
        seen.page.locator("input:visible, select:visible").evaluate_all(
            """(nodes) => nodes.filter((node) => !node.labels?.length && !node.getAttribute("aria-label"))
                .length"""
        )
        == 0
    )


@pytest.mark.browser
@both_at_length
def test_keys_walk_on_in_a_map_whose_parts_are_on_their_way(visit: callable):
    """The difference of two networks waits for both, and the focus stays where it was."""
    seen = visit(link=link_to("non_local", "self_attention"))
    seen.page.locator('#maps [data-kind="pairwise"] canvas').first.focus()
    marked, focused = seen.page.locator("#seen canvas"), "document.activeElement.dataset.figure"
    place, figure = marked.evaluate("(node) => node.toDataURL()"), seen.page.evaluate(focused)
    difference = seen.page.locator('#maps [data-section="pairwise"] .difference').element_handle()
    for _ in range(2):
        seen.page.keyboard.press("ArrowRight")
        seen.rest()
        assert seen.page.evaluate(focused) == figure
        assert place != (place := marked.evaluate("(node) => node.toDataURL()"))
    assert seen.page.locator('#bar input[value="layer2.1"]').is_checked()
    assert difference.evaluate("(node) => node.isConnected && !node.classList.contains('fetching')")


UNREFLECTED = """() => { // browsers in which a canvas has no property for these attributes
    const reflecting = ["role", "ariaBusy", "ariaValueMin", "ariaValueMax", "ariaValueNow"];
    for (const name of reflecting) delete Element.prototype[name];
}"""


@pytest.mark.browser
def test_while_a_part_is_on_its_way_nothing_is_said_of_the_old_one(visit: callable):
    seen = visit(link=link_to("non_local", "self_attention"), script=f"({UNREFLECTED})()")
    map_ = seen.page.locator('#maps [data-kind="pairwise"]').first
    canvas, told = map_.locator("canvas"), seen.page.locator("#differ")
    canvas.focus()
    seen.page.keyboard.press("ArrowRight")
    seen.rest()
    spoken, before = canvas.get_attribute("aria-valuetext"), told.inner_text()
    assert re.search(r": [\d.<]+", spoken) and "ranged from" in before
    with held(seen.page, "**/row"):
        seen.page.keyboard.press("ArrowRight")
        seen.page.locator('#maps [data-kind="pairwise"].fetching').first.wait_for()
        seen.page.wait_for_function("(told) => told.classList.contains('pending')", arg=told.element_handle())
        assert told.inner_text() == before
        assert canvas.get_attribute("aria-valuetext").endswith(": on its way")
        assert canvas.get_attribute("aria-busy") == "true" and not map_.locator(".value").inner_text()
        seen.page.locator('[data-view="colours"]').select_option("magma")
        ramp = '#maps [data-kind="%s"] .ramp'
        first = "(ramp) => ramp.style.background.slice(0, 60)"
        magma = seen.page.locator(ramp % "cam").first
        seen.page.wait_for_function(
            f"(ramp) => ({first})(ramp).includes('rgb(0, 0, 4)')", arg=magma.element_handle()
        )
        seen.page.wait_for_function(
            f"(ramp) => ({first})(ramp).includes('rgb(0, 0, 4)')",
            arg=seen.page.locator(ramp % "pairwise").first.element_handle(),
        )
    seen.rest()
    assert "ranged from" in told.inner_text() and canvas.get_attribute("aria-busy") == "false"
    assert canvas.get_attribute("aria-valuetext") != spoken


@pytest.mark.browser
def test_a_browser_without_dark_colours_stays_light(visit: callable):
    known = "const able = CSS.supports.bind(CSS);"
    known += "CSS.supports = (...asked) => !/light-dark/.test(asked) && able(...asked);"
    light = visit(link=FEW)
    dark = visit(link=FEW, script=known, color_scheme="dark")
    assert not dark.page.locator("#theme").is_visible() and light.page.locator("#theme").is_visible()
    assert dark.canvases("channel") == light.canvases("channel")


@pytest.mark.browser
def test_where_follows_the_networks_that_are_there(visit: callable):
    """Non-local stands after layer2, Lightweight Non-local in layer2.1."""
    seen = visit(link=link_to("non_local"))
    where = seen.page.locator('#maps [data-section="pairwise"] select').first
    assert "after layer2" in where.inner_text()
    seen.page.locator("#open-chooser").click()
    seen.page.locator("#chooser summary").click()
    seen.page.locator('#chooser [data-key="light_nl"]').check()
    seen.page.locator("#chooser").get_by_role("button", name="Done").click()
    seen.rest()
    assert "after layer2" in where.inner_text()
    seen.page.locator("#open-chooser").click()
    seen.page.locator('#chooser [data-key="non_local"]').uncheck()
    seen.page.locator("#chooser").get_by_role("button", name="Done").click()
    seen.rest()
    assert "after layer2" not in where.inner_text() and "layer2.1" in where.inner_text()


@pytest.mark.browser
@both_at_length
def test_few_tabs_to_the_first_map(visit: callable):
    seen = visit()
    seen.page.keyboard.press("Tab")
    skip = seen.page.get_by_role("link", name="Skip to the maps")
    assert skip.evaluate("(node) => node === document.activeElement") and skip.is_visible()
    tabs = 1
    while not seen.page.evaluate("document.activeElement.matches('#glance .thumb')"):
        seen.page.keyboard.press("Tab")
        tabs += 1
        assert tabs < 21
    seen.page.keyboard.press("ArrowRight")
    assert seen.page.evaluate("document.activeElement.dataset.block") == "layer1.1"
    seen.page.keyboard.press("Enter")
    seen.rest()
    assert seen.page.locator('#bar input[value="layer1.1"]').is_checked()


@pytest.mark.browser
@both_at_length
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_nothing_is_barred_to_anybody(visit: callable, width: int, scheme: str):
    """No serious violation that axe-core finds, on the page, in the chooser, and in a single view."""
    seen = visit(width, 844, link=link_to("plain", "cbam", "self_attention", "danet"), color_scheme=scheme)

    def violations() -> list[str]:
        found = Axe().run(seen.page).response["violations"]
        return [
            f"{one['id']}: {one['nodes'][0]['html']}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    assert violations() == []
    seen.page.locator("#open-chooser").click()
    assert violations() == []
    seen.page.get_by_role("button", name="Done").click()
    seen.page.locator("#glance .name", has_text="CBAM").click()
    seen.rest()
    assert violations() == []


ANSWERS = {}  # of the server, by what it was asked: at another width it need not compute them again
FROM_STORE = """(answers) => { // line by line, as they came, and each is drawn before the next one comes
    const ask = fetch, drawn = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    window.answers = answers;
    window.fetch = async (place, given) => {
        if (!String(place).endsWith("/look")) return ask(place, given);
        if (!(given.body in answers)) {
            const answer = await ask(place, { ...given, signal: null }); // until its last byte
            answer.clone().text().then((text) => { answers[given.body] = text; });
            return answer;
        }
        const lines = answers[given.body].split(/(?<=\\n)/), encoder = new TextEncoder();
        return new Response(new ReadableStream({
            async pull(out) {
                await drawn();
                if (lines.length) out.enqueue(encoder.encode(lines.shift()));
                else out.close();
            },
        }));
    };
}"""
SHIFT = """() => {
    window.shifts = [];
    const name = (node) => node?.id || node?.className || node?.textContent;
    window.add = (all) => all.forEach((entry) =>
        window.shifts.push([entry.value, ...entry.sources.map(({ node }) => name(node))]));
    window.watch = new PerformanceObserver((list) => add(list.getEntries()));
    watch.observe({ type: "layout-shift", buffered: true });
}"""
PATIENT = """
    const wait = setTimeout; // on a slow machine, too, nothing is shown before all of it is drawn
    window.setTimeout = (act, delay, ...given) => wait(act, delay === 3000 ? 120_000 : delay, ...given);
"""
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def moves(seen: Visit) -> list:
    """What has moved since the page came, also what a click moves at once, which browsers do not count."""
    seen.page.evaluate(TWO_FRAMES)
    return seen.page.evaluate("() => { add(watch.takeRecords()); return window.shifts; }")


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1024, 1280, 1440, 1920])
@both_at_length
def test_nothing_jumps(visit: callable, width: int):
    """On arrival, and while another picture is computed."""
    seen = visit(width, script=PATIENT)
    seen.page.evaluate(SHIFT)
    seen.page.evaluate(FROM_STORE, ANSWERS)
    assert moves(seen) == []
    seen.example("ship")
    seen.block("layer4.1")
    assert moves(seen) == []
    ANSWERS.update(seen.page.evaluate("answers"))


@pytest.mark.browser
@both_at_length
@pytest.mark.parametrize("width", [390, 1024, 1280])
def test_no_what_if_moves_the_answers(visit: callable, width: int):
    """Some networks have nothing that could be replaced, others change their answers: in the same room.

    A phone makes that room when the first what-if is chosen: its screen is too small to keep it free.
    """
    seen = visit(width, link="#view=2&picture=cat&networks=plain,cbam,non_local&end")  # none, gates, shares
    box = seen.page.locator("#whatif select").first
    values = box.locator("option").evaluate_all("(options) => options.map(({ value }) => value)")
    replacements = [name for name in values if name]
    if width == 390:
        box.select_option(replacements[-1])
        seen.rest()
    seen.page.evaluate(SHIFT)
    seen.page.evaluate(FROM_STORE, ANSWERS)
    before = moves(seen)
    for name in (*replacements, *([""] if width > 390 else [])):
        box.select_option(name)
        seen.rest()
        assert moves(seen) == before, name
    ANSWERS.update(seen.page.evaluate("answers"))


@pytest.mark.browser
@both_at_length
def test_works_in_a_frame_of_another_site(edition: str, browser: Browser, tmp_path: Path):
    """As on the Hugging Face Hub."""
    (tmp_path / "index.html").write_text(f'<iframe src="{edition}" width="1200" height="2000"></iframe>')
    hub = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=hub.serve_forever, daemon=True).start()
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"http://127.0.0.1:{hub.server_port}/")
    frame = page.frame_locator("iframe")
    frame.locator("[data-ready]").wait_for()
    first = frame.locator('#maps [data-kind="cam"] canvas').first
    before = first.evaluate("(c) => c.toDataURL()")
    frame.locator('#examples [data-name="ship"]').click()
    frame.locator("html:not([data-busy])").wait_for()
    assert first.evaluate("(c) => c.toDataURL()") != before
    page.close()
    hub.shutdown()


@pytest.mark.browser
@both
def test_phone(visit: callable):
    seen = visit(390, 844, has_touch=True, is_mobile=True)
    wide = "document.documentElement.scrollWidth"
    assert seen.page.evaluate(wide) == 390
    top = seen.page.locator("#glance .thumb canvas").first.bounding_box()
    assert top["y"] + top["height"] < 844  # the first map is on the first screen
    assert "Class maps" in seen.texts("#bar .tabs button")  # whatever the method
    for tab in seen.page.locator("#bar .tabs button").all():  # one kind at a time
        tab.click()
        visible = seen.page.locator("#maps .section").filter(visible=True)
        kinds = visible.evaluate_all("(all) => all.map((one) => one.dataset.tab)")
        assert {*kinds} == {tab.get_attribute("data-tab")}
        assert seen.page.evaluate(wide) == 390
    seen.page.evaluate("scrollTo(0, document.querySelector('#maps').offsetTop + 300)")
    assert seen.page.locator("#bar .blocks").bounding_box()["y"] < 100  # the bar stays at hand
    assert not seen.page.locator("#looks").is_visible()
    seen.page.get_by_role("button", name="Display").click()
    assert seen.page.get_by_label("Overlay").is_visible()
    low = seen.page.locator("button:visible, select:visible, input:not([type=radio]):visible").evaluate_all(
        """(nodes) => nodes.filter((node) => node.getBoundingClientRect().height < 32
            && !node.closest("#results, label")).map((node) => node.outerHTML)"""
    )
    assert low == []
    seen.page.evaluate("scrollTo(0, 0)")
    seen.page.locator("#open-chooser").click()
    untrained = seen.page.locator("#chooser summary")
    if untrained.is_visible():  # without a server there are none
        untrained.click()
    assert seen.page.evaluate(wide) == 390
    assert seen.page.locator("#chooser").bounding_box()["height"] <= 844
    seen.page.keyboard.press("Escape")
    seen.page.locator("#glance .name").first.click()
    seen.rest()
    assert seen.page.locator("#detail").evaluate("(node) => node.scrollWidth <= node.clientWidth")
    seen.page.locator("#detail").get_by_role("button", name="Close").click()
    seen.page.emulate_media(media="print")
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    canvases = seen.page.locator("#maps .map:not(.fetching) canvas")
    assert canvases.count() > 12 and canvases.evaluate_all(
        "(all) => all.every((one) => one.style.aspectRatio)"
    )


SPACED = """ /* as far as WCAG 1.4.12 lets a reader space a page out */
    * { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important; }
    p { margin-bottom: 2em !important; }
"""
OVERLAPPING = """() => { // parts of the picture's column that reach into the one beside it
    const { left, top } = document.querySelector("#choices").getBoundingClientRect();
    return [...document.querySelectorAll("#picture :is(h2, button, span, select)")].filter((node) => {
        const box = node.getBoundingClientRect();
        return node.checkVisibility() && box.right > left && box.bottom > top;
    }).map((node) => node.outerHTML);
}"""


@pytest.mark.browser
def test_nothing_is_cut_in_a_narrow_window_nor_where_text_is_spaced_out(visit: callable):
    """At 400 % (320 pixels are 1,280 then), on small phones, and with a reader's own style sheet."""
    seen = visit(320, 640)
    wide = "document.documentElement.scrollWidth"
    one_line = "document.querySelector('.top nav').clientHeight < 40"
    for width in (320, 360, 375, 390):
        seen.page.set_viewport_size({"width": width, "height": 640})
        seen.rest()
        assert seen.page.evaluate(wide) == width
        assert seen.page.evaluate(one_line) == (width > 320)
    seen.page.add_style_tag(content=SPACED)
    for width in (390, 1024, 1280):
        seen.page.set_viewport_size({"width": width, "height": 640})
        seen.rest()
        assert seen.page.evaluate(wide) == width
        assert width == 390 or seen.page.evaluate(OVERLAPPING) == []
        cut = "(all) => all.filter((node) => node.scrollWidth > node.clientWidth + 1).length"
        assert seen.page.locator("#glance .answer > .bars:not(.every) data").evaluate_all(cut) == 0
        assert seen.page.locator("#glance .answer > .bars:not(.every) li").evaluate_all(cut) == 0
    seen.page.set_viewport_size({"width": 320, "height": 155})
    seen.page.locator("#take").click()
    last = seen.page.locator("#files button").last
    last.scroll_into_view_if_needed()
    box = last.bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 155


@pytest.mark.browser
@both_at_length
def test_a_wide_window_has_the_page_in_its_middle(visit: callable):
    seen = visit(1920, 1080)
    for width in (1920, 2560):
        seen.page.set_viewport_size({"width": width, "height": 1080})
        seen.rest()
        box = seen.page.locator("main").bounding_box()
        shown = seen.page.evaluate("document.documentElement.clientWidth")
        assert abs(box["x"] - (shown - box["x"] - box["width"])) <= 1
        assert box["width"] > 1500


@pytest.mark.browser
@both_at_length
def test_every_text_can_be_read(visit: callable):
    seen = visit(1024, 768)
    small = seen.page.evaluate("""() => [...document.querySelectorAll("body *")].filter((node) =>
        [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())
        && node.getClientRects().length && !node.closest("script, math, .placement")
        && parseFloat(getComputedStyle(node).fontSize) < 13)
        .map((node) => node.outerHTML.slice(0, 100))""")
    assert small == []


def brightness(seen: Visit, selector: str, what: str) -> float:
    colour = seen.page.locator(selector).first.evaluate(f"(node) => getComputedStyle(node).{what}")
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


@pytest.mark.browser
@both_at_length
def test_light_and_dark(visit: callable):
    for scheme, text_is_lighter in (("dark", True), ("light", False)):
        seen = visit(link=link_to("se"), color_scheme=scheme)
        curve = seen.canvases("channel")
        for switched in (False, True):
            text, ground = brightness(seen, "h2", "color"), brightness(seen, "body", "backgroundColor")
            assert (text > ground) == (text_is_lighter != switched) and abs(text - ground) > 150
            seen.page.get_by_role("button", name="Light" if text > ground else "Dark", exact=True).click()
            seen.rest()
            again = [now == old for now, old in zip(seen.canvases("channel"), curve, strict=True)]
            assert again == [switched] * len(curve)  # drawn again for each


@pytest.mark.browser
@both_at_length
def test_paper_collides_nowhere(visit: callable):
    seen = visit(794, 1123)  # A4 at 96 dpi
    seen.page.emulate_media(media="print")
    boxes = seen.page.locator("#glance .row .who, #glance .row .answer, #glance .row .thumbs").evaluate_all(
        """(nodes) => nodes.map((node) => node.getBoundingClientRect())
            .map(({left, top, right, bottom}) => [left, top, right, bottom])"""
    )
    assert len(boxes) == 3 * len(TRAINED) + 3
    for i, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[i + 1 :]:
            apart = (
                right <= other[0] + 1 or other[2] <= left + 1 or bottom <= other[1] + 1 or other[3] <= top + 1
            )
            assert apart, (boxes[i], other)
    cut = "(nodes) => nodes.filter((node) => node.scrollWidth > node.clientWidth + 1).length"
    assert seen.page.locator("#glance .bars li").evaluate_all(cut) == 0
    assert seen.page.locator("#maps .section").filter(visible=True).count() > 4  # all kinds
    assert not seen.page.locator("#whatif, .pinning, #disagree").filter(visible=True).count()


@pytest.mark.browser
@both_at_length
def test_paper_is_light(visit: callable):
    """Also where the visitor, or the system, wants the page dark."""
    light = visit(794, 1123)
    for dark in (visit(794, 1123, link="?__theme=dark"), visit(794, 1123, color_scheme="dark")):
        assert brightness(dark, "body", "backgroundColor") < 60
        drawn = dark.canvases("channel")
        dark.page.emulate_media(media="print")
        dark.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert dark.canvases("channel") == light.canvases("channel") != drawn
        assert (
            dark.page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor")
            == "rgb(255, 255, 255)"
        )
        dark.page.emulate_media(media="screen")
        dark.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert dark.canvases("channel") == drawn


WATCHED = """async (pixels) => { // what columns say, of networks that answer at once
    const here = (file) => import(new URL(`page/${file}`, location.href).href);
    const { Columns } = await here("maps/columns.js"), { State } = await here("state.js");
    const [a, b] = pixels.map((value) => new Uint8Array(3072).fill(value));
    const state = new State({ picture: { pixels: b, notes: [] }, mechanisms: ["one", "two"],
        target: "predicted", cam: "GradCAM", replace: null, device: false });
    const unusual = { one: [true, true], two: [false, true], three: [null, null] }; // on a, on b
    let failing = false;
    const engine = {
        async look(image, names, options, { onColumn, onWaiting }) {
            onWaiting({ place: 1, seconds: 1 });
            const at = atob(image).charCodeAt(0) === pixels[0] ? 0 : 1;
            for (const key of names) onColumn({ key, maps: [], unusual: unusual[key][at] });
        },
        async row(image, name, tensor, query, replace, { onLoading }) {
            onLoading({ loaded: 1, total: 2 });
            if (failing) throw new Error("It is gone.");
            return "a row";
        },
    };
    const about = { isRandom: () => false, titles: new Map(), most: 8, other: () => null };
    const columns = new Columns(engine, state, about), busy = () => columns.running || columns.timer;
    const rest = () => new Promise((done) => {
        const look = () => { if (busy() || columns.wanted().length) setTimeout(look); else done(); };
        look();
    });
    const said = [];
    for (const picture of [a, b, a, b]) {
        state.change("picture", { pixels: picture, notes: [] });
        await rest();
        said.push(columns.unlike);
    }
    for (const names of [["one"], ["one", "two", "three"], []]) {
        state.change("mechanisms", names);
        await rest();
        said.push(columns.unlike);
    }
    state.change("mechanisms", ["one", "two"]);
    await rest();
    const [column] = columns.record().mechanisms, wants = { mechanism: "one", tensor: "t", query: 1 };
    failing = true;
    columns.tries.set(columns.rowKey(column, wants), 4); // it failed before
    await columns.fetch(column, wants);
    said.push(columns.said.text);
    failing = false;
    columns.said.again();
    await columns.fetch(column, wants);
    said.push(columns.parts([column])(wants));
    columns.say("Something failed.", () => {});
    await columns.fetch(column, { ...wants, query: 2 });
    said.push(columns.said.text, columns.late);
    return said;
}"""


@pytest.mark.browser
@both_at_length
def test_a_warning_belongs_to_its_picture_and_a_part_that_failed_may_be_asked_for_again(visit: callable):
    *unlike, failed, part, still, late = visit().page.evaluate(WATCHED, [7, 9])
    both = sentence([True, True])
    assert unlike == [None, both, None, both, sentence([True]), both, both]  # of those on the page, most
    assert failed == "A part of the maps cannot be fetched at the moment. It is gone." and part == "a row"
    assert still == "Something failed." and not late  # what comes later does not hide it


@pytest.mark.browser
def test_a_paper_opens_in_a_tab_of_its_own(visit: callable):
    """The picture and what was painted are on this page alone."""
    seen = visit(link=FEW)
    seen.page.locator("#glance .name").last.click()
    paper = seen.page.locator("#detail .card a[href^=http]").first
    assert paper.get_attribute("target") == "_blank" and "noopener" in paper.get_attribute("rel")


@pytest.mark.browser
def test_the_arrow_keys_reach_every_cell(visit: callable):
    """Of the map that has the focus, whatever the cells of the pairwise maps beside it."""
    seen = visit(link=link_to("plain", "cbam", "non_local"))
    for block, side in (("layer1.0", 32), ("layer4.1", 4)):
        seen.block(block)
        canvas, cells = seen.page.locator('#maps [data-kind="spatial"] canvas').first, []
        canvas.focus()
        for key in ("ArrowLeft", "ArrowRight", "ArrowDown"):
            seen.page.keyboard.press(key)
            seen.rest()
            cells.append(int(canvas.get_attribute("aria-valuenow")))
        assert [cells[1] - cells[0], cells[2] - cells[1]] == [1, side], block


@pytest.mark.browser
def test_what_a_host_adds_to_the_address_is_of_this_visit(visit: callable):
    """As the Hub's theme and the sign of a private Space."""
    allowed = ["clipboard-read", "clipboard-write"]
    seen = visit(link="?__theme=light&__sign=secret" + FEW, permissions=allowed)
    seen.page.get_by_role("button", name="Dark", exact=True).click()
    seen.rest()
    seen.page.locator("#copy").click()
    seen.page.locator("#status p", has_text="The link is copied").wait_for()
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    assert re.search(r"/#view=2&.*&end$", copied) and "__" not in copied
    seen.page.reload()
    seen.rest()
    assert seen.page.locator("html").get_attribute("data-theme") == "dark"
    again = visit(link="?__theme=light" + FEW)
    again.page.get_by_role("button", name="Dark", exact=True).click()
    again.page.locator("#language").click()
    again.page.locator('html[lang="zh"]').wait_for()
    again.rest()
    assert again.page.locator("html").get_attribute("data-theme") == "dark"


@pytest.mark.browser
def test_what_cannot_be_read_or_is_too_large_is_not_sent(visit: callable):
    seen = visit(link=FEW)
    text = {"name": "x.png", "mimeType": "image/png", "buffer": b"This is text."}
    for change, words in (
        ("size: { get: () => 30 * 2 ** 20 }", "too large for the server"),
        ("size: { get: () => 13 }, arrayBuffer: { value: () => Promise.reject(new Error()) }", "a folder"),
    ):
        seen.page.evaluate(f"Object.defineProperties(Blob.prototype, {{ {change} }})")
        seen.choose_file(text)
        assert words in seen.texts("#status p")[0]
    assert seen.asked("decode") == 0


@pytest.mark.browser
def test_a_small_square_is_dragged_all_the_same(visit: callable, tmp_path: Path):
    """Its corner, which resizes it, does not cover it."""
    seen = visit(link=FEW)
    seen.choose_square(tmp_path)
    square = seen.page.locator("#crop .square")
    square.evaluate(PRESS, ["-"] * 14)
    seen.rest()
    box = square.bounding_box()
    assert box["width"] < 22
    seen.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + 60, box["y"] + box["height"] / 2)
    seen.page.mouse.up()
    seen.rest()
    there = square.bounding_box()
    assert there["width"] == box["width"] and there["x"] > box["x"] + 20


@pytest.mark.browser
def test_browsers_without_popovers_open_and_close_the_same_parts(edition: str, browser: Browser):
    """As those of tablets from 2022."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    gone = "for (const name of ['popover', 'showPopover', 'hidePopover']) delete HTMLElement.prototype[name];"
    page.add_init_script(gone)
    page.goto(edition + FEW)
    page.wait_for_function(AT_REST)

    def shown() -> list[str]:
        return page.locator("[popover]:not([hidden])").evaluate_all("(all) => all.map(({ id }) => id)")

    assert shown() == []
    page.locator("#open-chooser").click()
    assert shown() == ["chooser"]
    page.locator("#chooser").get_by_role("button", name="Done").click()
    assert shown() == []
    page.locator("#take").click()
    with page.expect_download() as taken:
        page.locator('#files [data-form="json"]').click()
    assert taken.value.suggested_filename.endswith(".json") and shown() == []
    page.close()


@pytest.mark.browser
def test_what_is_refused_for_good_is_not_offered_again(visit: callable):
    seen = visit(link=FEW)
    refusal = {"status": 400, "json": {"error": "A figure holds at most 24 networks."}}
    seen.page.route("**/file", lambda route: route.fulfill(**refusal))
    seen.page.locator("#take").click()
    seen.page.locator('#files [data-form="png"]').click()
    seen.page.locator("#status p", has_text="at most 24 networks").wait_for()
    assert not seen.page.locator("#status .again").is_visible()
    seen.complaints.clear()


@pytest.mark.browser
def test_a_figure_that_has_no_room_is_not_offered(visit: callable, edition: str):
    def narrower(route: Route) -> None:
        answer = route.fetch()
        most = f'"in_figure":{MOST_IN_FIGURE}'
        page = answer.text()
        assert most in page and page.count('"most":32') == 1
        narrow = page.replace(most, '"in_figure":2').replace('"most":32', '"most":3')
        route.fulfill(response=answer, body=narrow)

    seen = visit(link=FEW)
    seen.page.route(edition, narrower)
    seen.page.reload()
    seen.rest()
    files = {form: seen.page.locator(f'#files [data-form="{form}"]') for form in FORMS}
    note = seen.page.locator("#files .note", has_text="A figure has room for 2 networks")
    more = seen.page.locator("#files .note", has_text="A file has room for 3 networks")
    for names in (("plain", "se"), ("plain", "se", "cbam"), ("plain", "se", "cbam", "danet"), ("plain",)):
        drawn, written = len(names) <= 2, len(names) <= 3
        seen.choose(*names)
        seen.page.locator("#take").click()
        assert note.is_hidden() == drawn and more.is_hidden() == written
        offered = {form: button.is_enabled() for form, button in files.items()}
        assert offered == {"png": drawn, "pdf": drawn, "npz": written, "json": written}
        seen.page.keyboard.press("Escape")


@pytest.mark.browser
def test_what_a_file_is_like_is_judged_by_the_file(visit: callable):
    """A long picture is made small before it is looked at; an animation is one in every format."""
    seen, notes = visit(link=FEW), []

    def opened(size: tuple[int, int], form: str, frames: int = 1) -> list[str]:
        pictures = [Image.new("RGB", size, (40 * i, 90, 200)) for i in range(frames)]
        content = io.BytesIO()
        pictures[0].save(content, form, save_all=frames > 1, append_images=pictures[1:])
        given = [base64.b64encode(content.getvalue()).decode(), f"image/{form}"]
        return seen.page.evaluate(
            """async ([bytes, type]) => {
                const { open, fromBase64 } = await import("/page/picture.js");
                return (await open(new Blob([fromBase64(bytes)], { type }))).notes;
            }""",
            given,
        )

    assert opened((40, 2000), "png") == opened((64, 64), "webp") == []
    assert ["enlarged" in note for note in opened((20, 40), "png")] == [True]
    for form in ("gif", "png", "webp"):
        notes += opened((64, 64), form, 2)
    assert notes == ["This is an animation: its first frame is shown."] * 3


@pytest.mark.browser
def test_what_is_on_the_page_is_not_forgotten(visit: callable):
    """However many strokes another network has answered since."""
    wanted = visit(link=FEW).page.evaluate(
        """async () => {
            const [{ Columns }, { State }, { toBase64 }] = await Promise.all(
                ["maps/columns", "state", "picture"].map((name) => import(`/page/${name}.js`)));
            const pixels = new Uint8Array(3072), mechanisms = ["plain", "se"];
            const given = { target: "predicted", cam: "GradCAM" };
            const state = new State({ ...given, picture: { pixels }, mechanisms, replace: null });
            const chosen = { isRandom: () => false, other: () => null };
            const columns = new Columns({}, state, chosen);
            const column = (key) => ({ key, maps: [], before: [] });
            const first = { image: toBase64(pixels), classes: [], mechanisms: mechanisms.map(column) };
            columns.place({ ...given, ...first });
            for (let cell = 0; cell < 300; cell++) {
                const replace = { name: "by hand", scope: "all", strength: 1, only: "se" };
                state.replace = { ...replace, by_hand: { gate: { [cell]: 0 } } };
                columns.keep(column("se"), columns.about());
                columns.record();
            }
            return columns.wanted();
        }"""
    )
    assert wanted == []
