"""The page in a real browser, and the API through Gradio's own client.

One server for all tests. Its networks are stand-ins with random weights: what they answer means nothing, but
every kind of map is there, one checkpoint is missing and one is broken.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from matplotlib import colormaps
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import app
from models import CATALOGUE, CheckpointError
from models.checkpoint import save
from models.metadata import mechanisms_table
from tests.health import linked_tree
from tests.networks import randomised
from tests.screenshots import ROOT, choose_file, find_chromium, launched, new_record, photograph, running_app
from visualize import events
from visualize.record.encoding import decode
from visualize.record.kinds import KINDS

TRAINED = ("plain", "se", "non_local", "self_attention", "cbam", "danet")
PAIRWISE = 3  # of them
CAT, SHIP = (ROOT / "visualize" / "page" / "examples" / f"{name}.png" for name in ("cat", "ship"))
MODEL_ROUTES = ("/queue/join", "/run/", "/call/", "/component_server")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app, run from a tree that is this one but for the checkpoints."""
    tree = tmp_path_factory.mktemp("tree")
    checkpoints = linked_tree(tree)
    for name in TRAINED:
        save(randomised(name), name, {"name": name, "recipe": "random", "accuracy": 10.0}, checkpoints)
    (checkpoints / "sk.json").write_text('{"sha256": "0"}')
    (checkpoints / "sk.safetensors").write_bytes(b"not a checkpoint")
    with running_app(tree, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="module")
def client(server: str) -> Client:
    return Client(server, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        if find_chromium(playwright) is None:
            reason = "no Chromium: install it (apt install chromium) or run `playwright install chromium`"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
        with launched(playwright) as browser:
            yield browser


class Visit:
    """A page, and what it asked for and complained about since."""

    def __init__(self, page: Page):
        self.page, self.requests, self.complaints = page, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def to_model(self) -> list[str]:
        self.page.wait_for_timeout(300)  # what is under way shall be seen
        return [url for url in self.requests if any(route in url for route in MODEL_ROUTES)]

    def canvases(self, kind: str) -> list[str]:
        """What the maps of a kind show, as one string each."""
        script = "(nodes) => nodes.map((node) => node.toDataURL())"
        return self.page.locator(f'#grid [data-kind="{kind}"] canvas').evaluate_all(script)

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(f"#grid {selector}").all_inner_texts()

    def scroll_to(self, kind: str) -> None:
        self.page.locator(f'#grid [data-kind="{kind}"] canvas').first.scroll_into_view_if_needed()
        self.page.wait_for_timeout(500)  # large maps are fetched once they are in view


@pytest.fixture
def visit(server: str, browser: Browser) -> Iterator[callable]:
    """Opens the page in a window of some size; at the end nothing may have gone wrong in the browser."""
    visits = []

    def open_in(width: int = 1280, height: int = 900, query: str = "") -> Visit:
        opened = Visit(browser.new_page(viewport={"width": width, "height": height}))
        visits.append(opened)
        opened.page.goto(server + query)
        opened.page.wait_for_selector("#grid [data-draws]")
        opened.page.wait_for_selector("#picture img")
        opened.page.wait_for_timeout(500)
        return opened

    yield open_in
    for opened in visits:
        opened.page.close()
        assert opened.complaints == []
        assert [url for url in opened.requests if not url.startswith((server, "data:", "blob:"))] == []


def assert_plain_sentence(message: str) -> None:
    """One sentence for a visitor: no path, no class name, no traceback."""
    assert re.fullmatch(r"[A-Z][^\n]{10,240}\.", message), message
    assert not re.search(r"Error|Exception|Traceback|<|/tmp|\.py\b|site-packages", message), message


# ---- the API


def test_mechanisms_lists_every_network(client: Client):
    rows = {row["key"]: row for row in client.predict(api_name="/mechanisms")}
    assert {*TRAINED, "sk"} <= set(rows)
    assert rows["plain"]["parameters"] == 11_173_962
    assert rows["se"]["available"] and rows["se"]["recipe"] == "random"
    assert rows["se"]["accuracy"]["value"] == 10.0
    assert not rows["sk"]["available"]
    assert_plain_sentence(rows["sk"]["reason"])


def test_compare_returns_the_record(client: Client):
    record = client.predict(handle_file(SHIP), ["cbam", "plain"], "frog", "LayerCAM", api_name="/compare")
    assert (record["version"], record["target"], record["cam"]) == (1, "frog", "LayerCAM")
    assert [column["key"] for column in record["mechanisms"]] == ["cbam", "plain"]
    cbam, plain = record["mechanisms"]
    assert sum(cbam["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert {found["kind"] for found in plain["maps"]} == {"cam"}
    gate = next(found for found in cbam["maps"] if found["tensor"] == "layer3.1.refine.spatial_gate")
    values = decode(gate)
    assert values.shape == (1, 8, 8) and 0 < values.min() < values.max() < 1


def test_compare_names_what_is_broken(client: Client):
    record = client.predict(handle_file(SHIP), ["sk", "plain", "bam"], api_name="/compare")
    assert [column["key"] for column in record["mechanisms"]] == ["plain"]
    broken, untrained = record["unavailable"]
    assert (broken["key"], untrained["key"]) == ("sk", "bam")
    assert_plain_sentence(broken["reason"])
    assert untrained["reason"] == "bam is not trained yet."  # random weights are for the page alone


@pytest.mark.parametrize(
    ("mechanisms", "target", "cam"),
    [
        (["plian"], "predicted", "GradCAM"),
        (["plain", "plain"], "predicted", "GradCAM"),
        ([], "predicted", "GradCAM"),
        ("plain", "predicted", "GradCAM"),
        (None, "predicted", "GradCAM"),
        ({"plain": 1}, "predicted", "GradCAM"),
        ([True, None], "predicted", "GradCAM"),
        (["plain"] * 1000, "predicted", "GradCAM"),
        (["../../etc/passwd"], "predicted", "GradCAM"),
        (["plain"], "giraffe", "GradCAM"),
        (["plain"], 99, "GradCAM"),
        (["plain"], "predicted", "<b>CAM</b>"),
        (["plain"], "predicted", None),
    ],
)
def test_bad_arguments_get_one_sentence(client: Client, mechanisms: object, target: object, cam: object):
    with pytest.raises(AppError) as refused:
        client.predict(handle_file(SHIP), mechanisms, target, cam, api_name="/compare")
    assert_plain_sentence(str(refused.value))
    assert client.predict(handle_file(SHIP), ["plain"], api_name="/compare")["mechanisms"]


def bomb() -> bytes:
    """13,300 x 13,300 pixels in 22 kB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    pixels = zlib.compress(bytes(13_300 * (13_300 // 8 + 2)), 9)
    header = struct.pack(">IIBBBBB", 13_300, 13_300, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


BAD_FILES = {
    "text.png": b"This is text.",
    "empty.png": b"",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "bomb.png": bomb(),
    "truncated.jpg": None,  # half of a photograph
}


@pytest.fixture
def bad_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    content = BAD_FILES[request.param]
    if content is None:
        photograph(tmp_path / "whole.jpg")
        content = (tmp_path / "whole.jpg").read_bytes()
        content = content[: len(content) // 2]
    file = tmp_path / request.param
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("bad_file", BAD_FILES, indirect=True)
def test_bad_files_get_one_sentence(client: Client, bad_file: Path):
    with pytest.raises(AppError) as refused:
        client.predict(handle_file(bad_file), ["plain"], api_name="/compare")
    assert_plain_sentence(str(refused.value))


@pytest.mark.parametrize(
    "image",
    [
        None,
        "/etc/passwd",
        {"path": "/etc/passwd"},
        {"path": "http://127.0.0.1:9/ship.png", "meta": {"_type": "gradio.FileData"}},
        {"path": "data:image/png;base64,iVBORw0KGgo="},
        {"path": "\0"},
        7,
        [],
    ],
)
def test_only_uploaded_files_are_opened(client: Client, image: object):
    with pytest.raises(AppError) as refused:
        client.predict(image, ["plain"], api_name="/compare")
    assert_plain_sentence(str(refused.value))


def test_only_two_endpoints_are_public(client: Client):
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert set(endpoints["named_endpoints"]) == {"/compare", "/mechanisms"}
    assert endpoints["unnamed_endpoints"] == {}


def test_nobody_sees_random_weights_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without any checkpoint the first screen is empty, and says why."""

    def read(name: str, device: str) -> dict:
        raise CheckpointError(f"{name} is not trained yet.")

    monkeypatch.setattr("visualize.inspection.engine.load_with_facts", read)
    monkeypatch.setattr("visualize.inspection.engine.is_trained", lambda name: False)
    record = events.first_record(app.first_networks(mechanisms_table(tmp_path)))
    assert record["mechanisms"] == []
    assert {entry["key"] for entry in record["unavailable"]} == {*app.FIRST_MECHANISMS}

    (tmp_path / "se.json").write_text("{}")  # broken, and the only one that there is
    record = events.first_record(app.first_networks(mechanisms_table(tmp_path)))
    assert [entry["key"] for entry in record["unavailable"]] == ["se"]


@pytest.mark.parametrize(("size", "said"), [((31, 80), True), ((80, 31), True), ((32, 32), False)])
def test_says_that_a_small_picture_was_enlarged(tmp_path: Path, size: tuple[int, int], said: bool):
    Image.new("RGB", size).save(tmp_path / "small.png")
    first = next(events.look(events.View(file=str(tmp_path / "small.png")), ["plain"]))
    assert ("enlarged" in " ".join(first["notes"])) == said


# ---- the browser


@pytest.mark.browser
def test_first_screen_is_there_without_a_request(visit: callable):
    seen = visit()
    names = seen.texts('[data-kind="cam"] .name')
    assert len(names) == len(TRAINED) and names[0] == "Plain ResNet18"
    for kind, count in {"cam": 6, "spatial": 1, "pairwise": PAIRWISE, "channel": 2, "matrix": 1}.items():
        assert len(seen.texts(f'[data-kind="{kind}"] .name')) == count, kind
    assert seen.texts('[data-kind="cam"] .path')[0] == "layer4.1.cam"
    picture = seen.page.locator("#grid .picture").evaluate(
        "(c) => [...c.getContext('2d').getImageData(0, 0, 256, 256).data]"
    )
    example = np.asarray(Image.open(CAT).convert("RGB"))
    shown = np.array(picture, np.uint8).reshape(256, 256, 4)[4::8, 4::8, :3]
    assert (shown == example).all(axis=2).mean() > 0.95  # all but the mark
    assert "sk" in seen.texts(".status")[0]  # the broken checkpoint is named
    assert seen.to_model() == []


@pytest.mark.browser
def test_block_slider_and_looks_need_no_request(visit: callable):
    seen = visit()
    slider = seen.page.locator("#scope-block")
    before = seen.canvases("cam")
    slider.focus()
    for _ in range(7):
        slider.press("ArrowLeft")
    seen.page.wait_for_timeout(200)
    assert seen.texts('[data-kind="cam"] .path') == ["layer1.0.cam"] * 6
    assert "layer1.0" in seen.texts(".block-name")[0] and "32 × 32" in seen.texts(".block-name")[0]
    coarse = seen.canvases("cam")
    assert all(old != new for old, new in zip(before, coarse))
    for key, value in {"colours": "magma", "cells": "smooth"}.items():
        seen.page.locator(f'#grid [data-set="{key}"]').select_option(value)
        seen.page.wait_for_timeout(200)
        assert seen.canvases("cam") != coarse
        coarse = seen.canvases("cam")
    seen.page.locator('#grid [data-set="overlay"]').fill("0")
    seen.page.wait_for_timeout(200)
    assert len(set(seen.canvases("cam"))) == 1  # without overlay, the picture alone
    assert seen.to_model() == []


@pytest.mark.browser
def test_click_moves_the_question(visit: callable):
    seen = visit()
    seen.page.get_by_role("button", name="after layer3").click()
    seen.scroll_to("pairwise")
    seen.requests.clear()
    before, answers = seen.canvases("pairwise"), seen.texts('[data-kind="pairwise"] .numbers')
    map_ = seen.page.locator('#grid [data-kind="pairwise"] canvas').first
    map_.click(position={"x": 20, "y": 20})
    seen.page.mouse.move(0, 0)
    seen.page.wait_for_timeout(200)
    after = seen.canvases("pairwise")
    assert len(after) == PAIRWISE and all(old != new for old, new in zip(before, after))
    assert seen.texts('[data-kind="pairwise"] .numbers') != answers  # other numbers, not only another mark
    assert seen.to_model() == []  # 8 x 8: everything is in the record

    map_.focus()
    map_.press("ArrowRight")
    seen.page.wait_for_timeout(200)
    assert all(old != new for old, new in zip(after, seen.canvases("pairwise")))
    assert seen.to_model() == []

    seen.page.get_by_role("button", name="after layer2").click()  # 16 x 16: a row for each of the mechanisms
    seen.page.wait_for_timeout(700)
    assert seen.page.locator("#grid .fetching").count() == 0
    assert seen.texts('[data-kind="pairwise"] .path')[0].startswith("stage2.")
    assert sum("component_server" in url for url in seen.to_model()) == PAIRWISE
    before = seen.canvases("pairwise")
    map_ = seen.page.locator('#grid [data-kind="pairwise"] canvas').first
    map_.click(position={"x": 100, "y": 100})
    seen.page.wait_for_timeout(700)
    assert all(old != new for old, new in zip(before, seen.canvases("pairwise")))


@pytest.mark.browser
def test_large_map_comes_into_view_and_stays(visit: callable):
    seen = visit()
    seen.page.get_by_role("button", name="after layer3").click()  # small enough to be in the record
    assert seen.to_model() == []
    seen.scroll_to("matrix")
    assert len(seen.to_model()) == 1
    drawn = seen.canvases("matrix")
    seen.page.evaluate("scrollTo(0, 0)")
    seen.page.wait_for_timeout(300)
    assert seen.canvases("matrix") == drawn and seen.page.locator("#grid .fetching").count() == 0
    seen.scroll_to("matrix")
    assert len(seen.to_model()) == 1  # kept
    old = seen.page.locator('#grid [data-kind="matrix"] canvas').first.element_handle()
    with new_record(seen.page):
        seen.page.locator('#examples [data-name="ship"]').click()
    assert old.evaluate("(canvas) => canvas.isConnected")  # the old picture stays until the new one is there
    seen.scroll_to("matrix")
    assert seen.canvases("matrix") != drawn


@pytest.mark.browser
def test_colours_tell_the_true_values(visit: callable, client: Client):
    """Gates on a fixed scale from 0 to 1, shares as multiples of an equal one from 1/16 to 16, in viridis."""
    record = client.predict(handle_file(CAT), ["cbam", "non_local"], api_name="/compare")
    maps = {found["tensor"]: found for column in record["mechanisms"] for found in column["maps"]}
    query = 5 * 8 + 3  # where the mark stands at first
    gate = decode(maps["layer3.1.refine.spatial_gate"])[0]
    share = decode(maps["stage3.affinity"])[query] * 64
    seen = visit()
    seen.page.locator("#scope-block").fill("5")
    seen.page.get_by_role("button", name="after layer3").click()
    seen.page.locator('#grid [data-set="overlay"]').fill("1")
    seen.page.mouse.move(0, 0)
    seen.page.wait_for_timeout(200)
    for kind, position in {"spatial": gate, "pairwise": (np.log2(share) + 4) / 8}.items():
        pixels = seen.page.locator(f'#grid [data-kind="{kind}"] canvas').first.evaluate(
            "(c) => [...c.getContext('2d').getImageData(0, 0, 320, 320).data]"
        )
        shown = np.array(pixels).reshape(320, 320, 4)[20::40, 20::40, :3]
        expected = 255 * colormaps["viridis"](np.clip(position, 0, 1))[..., :3]
        assert np.abs(shown - expected).max() < 8, kind


@pytest.mark.browser
def test_hover_reads_the_same_place_everywhere(visit: callable):
    seen = visit()
    seen.page.get_by_role("button", name="after layer3").click()  # small enough to be in the record
    seen.page.locator('#grid [data-kind="cam"] canvas').nth(2).hover(position={"x": 50, "y": 50})
    seen.page.wait_for_timeout(200)
    read = seen.texts(".value.here")
    assert len(read) == len(TRAINED) + 1 + PAIRWISE  # CAMs, the spatial gate, the pairwise maps
    assert all(re.match(r"[\d.e-]+×?$", text) for text in read)
    assert seen.to_model() == []


@pytest.mark.browser
def test_upload_gives_a_new_comparison(visit: callable, tmp_path: Path):
    seen = visit()
    before = seen.canvases("cam")
    photograph(tmp_path / "photograph.jpg")
    seen.page.locator("#picture button").first.click()  # removes the old picture
    seen.page.wait_for_timeout(1500)
    assert seen.canvases("cam") == before and seen.page.locator('#grid [data-kind="cam"]').is_visible()
    assert seen.page.locator("#grid [data-records='1']").count() == 1  # nothing was computed
    with new_record(seen.page):
        seen.page.locator("#picture input[type=file]").set_input_files(tmp_path / "photograph.jpg")
    centre = seen.canvases("cam")
    assert len(centre) == len(TRAINED) and all(old != new for old, new in zip(before, centre))
    assert seen.page.locator('#examples [aria-pressed="true"]').count() == 0

    with new_record(seen.page):
        seen.page.locator('#grid [data-ask="crop"]').select_option("squeeze")
    assert all(old != new for old, new in zip(centre, seen.canvases("cam")))

    with new_record(seen.page):
        seen.page.locator('#grid [data-kind="cam"] select').first.select_option("dog")
    assert all(text.startswith("dog") for text in seen.texts('[data-kind="cam"] .value'))
    with new_record(seen.page):
        seen.page.locator('#grid [data-kind="cam"] select').nth(1).select_option("EigenCAM")
    assert "knows no class" in seen.texts('[data-kind="cam"] header p')[0]


@pytest.mark.browser
def test_full_box_takes_another_picture(visit: callable, tmp_path: Path):
    """By its button, by a click on the picture, and by paste; nothing is lost when no file is chosen."""
    seen = visit()
    photograph(tmp_path / "photograph.jpg")
    with seen.page.expect_file_chooser():
        seen.page.locator("#picture img").click()
    assert seen.page.locator("#picture img").is_visible()
    with seen.page.expect_file_chooser() as chooser, new_record(seen.page):
        seen.page.locator('#picture [aria-label="Upload file"]').first.click()
        chooser.value.set_files(tmp_path / "photograph.jpg")
    assert seen.page.locator('#examples [aria-pressed="true"]').count() == 0
    with new_record(seen.page):
        seen.page.evaluate(PASTE, list(SHIP.read_bytes()))
    assert seen.page.evaluate(SEEN_PIXEL, [0, 0]) == list(Image.open(SHIP).convert("RGB").getpixel((0, 0)))


PASTE = """(bytes) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "ship.png", {type: "image/png"}));
    document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
}"""


@pytest.mark.browser
def test_example_and_choice_of_mechanisms(visit: callable):
    seen = visit()
    with new_record(seen.page):
        seen.page.locator('#examples [data-name="ship"]').click()
    picture = seen.page.locator("#grid .picture").evaluate(
        "(c) => [...c.getContext('2d').getImageData(4, 4, 1, 1).data]"
    )
    assert picture[:3] == list(Image.open(SHIP).convert("RGB").getpixel((0, 0)))
    seen.page.get_by_role("button", name="Mechanisms").click()
    for name in ("Squeeze-and-Excitation", "DANet"):
        seen.page.get_by_label(name, exact=True).uncheck()
    seen.page.wait_for_function("() => document.querySelectorAll('#grid [data-kind=cam] .map').length === 4")
    assert seen.texts('[data-kind="cam"] .name') == ["Plain ResNet18", "Non-local", "Self-attention", "CBAM"]
    assert seen.page.locator('#grid [data-kind="matrix"]').count() == 0  # none of these has one


@pytest.mark.browser
def test_of_quick_wishes_the_last_one_counts(visit: callable):
    seen = visit()
    for name in ("dog", "frog", "airplane", "ship"):
        seen.page.locator(f'#examples [data-name="{name}"]').click()
    seen.page.wait_for_function(SHOWS, arg=["ship", "predicted", "GradCAM"])
    target, method = (seen.page.locator('#grid [data-kind="cam"] select').nth(i) for i in (0, 1))
    target.select_option("dog")
    method.select_option("LayerCAM")
    seen.page.wait_for_function(SHOWS, arg=["ship", "dog", "LayerCAM"])
    seen.page.wait_for_timeout(1500)  # nothing older comes after it
    assert seen.page.evaluate(SHOWS, ["ship", "dog", "LayerCAM"])
    assert seen.page.evaluate(SEEN_PIXEL, [0, 0]) == list(Image.open(SHIP).convert("RGB").getpixel((0, 0)))


SHOWS = """([example, target, method]) => {
    const chosen = [...document.querySelectorAll("#grid [data-kind=cam] select")].map((one) => one.value);
    const pressed = document.querySelector("#examples [aria-pressed=true]")?.dataset.name;
    const status = document.querySelector("#grid .status").textContent;
    return pressed === example && chosen.join() === [target, method].join() && !status.includes("…")
        && !document.querySelector("#grid .pending");
}"""


UNTRAINED = ["aspp", "stn", "sge", "ccnet", "san_pairwise", "apnb", "bam", "coord_attention"]
UNTRAINED += ["dynamic_conv", "dgc", "dwsep_conv", "spconv"]


@pytest.mark.browser
def test_every_kind_is_drawn_also_with_random_weights(visit: callable):
    """A handful of networks that have every kind of map between them, most of them untrained."""
    seen = visit()
    seen.page.locator("#scope-block").fill("5")
    seen.page.get_by_role("button", name="after layer3").click()  # small enough to be in the record
    box = seen.page.locator("#mechanisms")
    seen.page.get_by_role("button", name="Mechanisms").click()
    label = seen.page.get_by_label(CATALOGUE["bam"].title, exact=True)
    assert label.is_disabled()  # listed, but greyed
    seen.page.get_by_label("Show untrained networks").check()
    for name in UNTRAINED:
        box.get_by_label(CATALOGUE[name].title, exact=True).check()
    script = "(count) => document.querySelectorAll('#grid .answer.random').length === count"
    seen.page.wait_for_function(script, arg=len(UNTRAINED))
    assert seen.texts(".answer.random .facts") == ["random weights, not trained"] * len(UNTRAINED)
    assert seen.texts(".answer:not(.random) .facts") == ["10.0 % right in the test"] * len(TRAINED)
    assert {*seen.texts(".map.random .line i")} == {"random weights"}

    drawn = set()
    for figure in seen.page.locator("#grid .map").all():
        figure.scroll_into_view_if_needed()
        kind = figure.get_attribute("data-figure")
        canvas = figure.locator("canvas")
        canvas.wait_for()
        seen.page.wait_for_function(
            "(node) => !node.classList.contains('fetching')", arg=figure.element_handle()
        )
        colours = canvas.evaluate(COUNT_COLOURS)
        assert colours > 1, (kind, figure.inner_text())
        assert re.search(r"\d", figure.locator(".numbers").inner_text()), kind
        assert canvas.get_attribute("aria-label"), kind
        drawn.add(kind)
    assert drawn == {*KINDS.values()}

    tiles = seen.page.locator('#grid [data-figure="volume"]').first
    before = tiles.locator("canvas").evaluate("(c) => c.toDataURL()")
    tiles.get_by_label("next").click()
    seen.page.wait_for_timeout(200)
    assert tiles.locator("canvas").evaluate("(c) => c.toDataURL()") != before
    assert tiles.locator(".pager").inner_text().split("\n")[1] == "page 2 of 33"

    tiles.locator("canvas").hover(position={"x": 20, "y": 20})  # a place in the first of them
    seen.page.wait_for_timeout(200)
    assert re.fullmatch(r"channel \d+: 1\.\d+", tiles.locator(".value.here").inner_text())  # BAM: 1 + sigmoid
    cross = seen.page.locator('#grid [data-figure="cross"] canvas').first
    before = cross.evaluate("(c) => c.toDataURL()")
    tiles.locator("canvas").click(position={"x": 20, "y": 20})
    seen.page.wait_for_timeout(200)
    assert cross.evaluate("(c) => c.toDataURL()") != before  # it reads from there

    seen.page.evaluate("scrollTo(0, 0)")
    seen.page.get_by_label("Show untrained networks").uncheck()
    seen.page.wait_for_function(script, arg=0)
    assert label.is_disabled()


COUNT_COLOURS = """(canvas) => new Set(new Uint32Array(
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""


@pytest.mark.browser
def test_cards(visit: callable):
    seen = visit()
    seen.page.locator('#grid [data-kind="cam"] .name').nth(1).click()  # a name opens its card
    card = seen.page.locator("#cards")
    card.get_by_role("heading", name="Squeeze-and-Excitation").wait_for()
    assert card.locator(".katex").count() > 0
    assert card.get_by_role("link").first.get_attribute("href").startswith("https://arxiv.org/")
    card.locator("input").click()
    card.locator("input").fill("BorderAl")
    card.locator("input").press("Enter")
    card.get_by_role("heading", name="BorderAlign").wait_for()  # it makes no network
    assert "models/modules/border_align.py" in card.inner_text()


# ---- what else a visitor can do


@pytest.mark.browser
def test_crop_is_a_square_to_drag(visit: callable, tmp_path: Path):
    seen = visit()
    photograph(tmp_path / "photograph.jpg")  # 900 x 600: shown at a third of its size
    with new_record(seen.page):
        choose_file(seen.page, tmp_path / "photograph.jpg")
    with new_record(seen.page):
        seen.page.locator('#grid [data-ask="crop"]').select_option("own")
    square = seen.page.locator("#grid .square")
    box, whole = square.bounding_box(), seen.page.locator("#grid .crop img").bounding_box()
    assert (round(whole["width"]), round(whole["height"])) == (300, 200)
    assert (round(box["width"]), round(box["height"])) == (150, 150)
    with new_record(seen.page):
        seen.page.mouse.move(box["x"] + 40, box["y"] + 40)
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] - 300, box["y"] - 300, steps=3)
        seen.page.mouse.up()
    assert seen.page.evaluate(SEEN_PIXEL, [31, 0]) == seen.page.evaluate(
        SEEN_PIXEL, [0, 0]
    )  # sky on both sides
    corner = square.bounding_box()
    assert (round(corner["x"]), round(corner["y"])) == (round(whole["x"]), round(whole["y"]))
    square.focus()
    with new_record(seen.page):
        for key in ("ArrowRight", "ArrowDown", "-", "-"):
            square.press(key)
    moved = square.bounding_box()
    assert moved["x"] > corner["x"] and moved["y"] > corner["y"] and moved["width"] < corner["width"]
    seen.page.get_by_role("button", name="Done").click()
    assert not square.is_visible()
    with new_record(seen.page):
        seen.page.locator('#examples [data-name="ship"]').click()  # another picture, another crop
    assert seen.page.locator('#grid [data-ask="crop"]').input_value() == "centre"
    assert seen.page.evaluate(SEEN_PIXEL, [0, 0]) == list(Image.open(SHIP).convert("RGB").getpixel((0, 0)))


SEEN_PIXEL = """([x, y]) => [...document.querySelector("#grid .picture").getContext("2d")
    .getImageData(8 * x + 4, 8 * y + 4, 1, 1).data].slice(0, 3)"""


@pytest.mark.browser
def test_scale_is_fixed_or_shared_or_own(visit: callable):
    seen = visit()
    seen.page.get_by_role("button", name="after layer3").click()  # small enough to be in the record

    def ends() -> list[str]:
        legends = seen.texts('[data-kind="pairwise"] .legend')
        return [" to ".join(legend.split()) for legend in legends]

    def has(colour: str) -> bool:  # every map, somewhere
        return seen.page.locator('#grid [data-kind="pairwise"] canvas').evaluate_all(HAVE_COLOUR, colour)

    number = r"[\d.]+(?:e-\d+)?"
    seen.page.locator('#grid [data-set="overlay"]').fill("1")
    seen.page.wait_for_timeout(200)
    cams = seen.canvases("cam")
    assert ends() == ["¹⁄₁₆× to 16×"] * PAIRWISE
    seen.page.locator('#grid [data-set="scale"]').select_option("shared")
    seen.page.wait_for_timeout(200)
    ranges = [re.findall(number, text)[:2] for text in seen.texts('[data-kind="pairwise"] .numbers')]
    least, most = min(float(low) for low, _ in ranges), max(float(high) for _, high in ranges)
    assert len({*ends()}) == 1 and [float(x) for x in re.findall(number, ends()[0])] == [
        max(least, 0.004),  # 1/256 of an equal share
        most,
    ]
    seen.page.locator('#grid [data-set="scale"]').select_option("own")
    seen.page.wait_for_timeout(200)
    own = [[float(x) for x in re.findall(number, text)] for text in ends()]
    assert own == [[max(float(low), 0.004), float(high)] for low, high in ranges]
    assert has("68,1,84") and has("253,231,37")  # both ends of viridis
    assert seen.canvases("cam") == cams  # always its own
    assert seen.to_model() == []


HAVE_COLOUR = """(canvases, colour) => canvases.every((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4) if (data.slice(i, i + 3).join() === colour) return true;
    return false;
})"""


@pytest.mark.browser
def test_one_mechanism_in_detail(visit: callable):
    seen = visit()
    seen.page.locator('#grid [data-kind="cam"] .name', has_text="CBAM").click()
    detail = seen.page.locator("#grid .detail")
    assert "CBAM" in detail.locator("h2").inner_text()
    rows = {row.locator("h3").inner_text(): row for row in detail.locator(".blocks").all()}
    assert len(rows) == 3  # Grad-CAM, places, channels
    for title, row in rows.items():
        assert row.locator(".map").count() == 8, title
        assert row.locator(".name").all_inner_texts() == [
            f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)
        ]
        assert all(path.startswith("layer") for path in row.locator(".path").all_inner_texts())
    deep = rows["How much each place passes"].locator("canvas").last
    before = deep.evaluate("(c) => c.toDataURL()")
    deep.hover(position={"x": 10, "y": 10})  # the same place in the maps above
    seen.page.wait_for_timeout(200)
    assert deep.evaluate("(c) => c.toDataURL()") != before and len(seen.texts(".value.here")) > 10
    seen.page.locator("#cards").get_by_role("heading", name="CBAM").wait_for()
    with new_record(seen.page):  # it stays open for the next picture
        seen.page.locator('#examples [data-name="ship"]').click()
    assert deep.evaluate("(c) => c.toDataURL()") != before
    detail.get_by_role("button", name="close").click()
    assert not detail.is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("own_picture", [False, True])
def test_link_restores_the_view(visit: callable, server: str, tmp_path: Path, own_picture: bool):
    seen = visit()
    if own_picture:
        photograph(tmp_path / "photograph.jpg")
        with new_record(seen.page):
            choose_file(seen.page, tmp_path / "photograph.jpg")
    with new_record(seen.page):
        seen.page.locator('#grid [data-ask="crop"]').select_option("own")
    seen.page.get_by_role("button", name="Done").click()
    with new_record(seen.page):
        seen.page.locator('#grid [data-kind="cam"] select').first.select_option("dog")
    seen.page.get_by_role("button", name="Mechanisms").click()
    with new_record(seen.page):
        seen.page.get_by_label("Squeeze-and-Excitation", exact=True).uncheck()
    seen.page.get_by_role("button", name="Mechanisms").click()
    seen.page.locator("#scope-block").fill("3")
    seen.page.locator('#grid [data-set="overlay"]').fill("0.8")
    for key, value in {"colours": "magma", "cells": "smooth", "scale": "own"}.items():
        seen.page.locator(f'#grid [data-set="{key}"]').select_option(value)
    seen.page.locator("#grid .picture").click(position={"x": 10, "y": 70})
    seen.page.locator('#grid [data-kind="cam"] .name', has_text="CBAM").click()
    seen.page.wait_for_timeout(1000)
    seen.page.locator("#grid").get_by_role("button", name="Copy link").click()
    seen.page.wait_for_function("() => location.search.includes('view=1')")
    seen.page.mouse.move(0, 0)

    other = visit(query=seen.page.url.removeprefix(server))
    other.page.wait_for_function("() => document.querySelector('#grid [data-records]').dataset.records > 1")
    other.page.wait_for_timeout(1000)
    for kind in ("cam", "spatial", "channel"):
        assert other.canvases(kind) == seen.canvases(kind), kind
    script = "(nodes) => nodes.map((node) => node.toDataURL())"
    blocks = [one.page.locator("#grid .detail canvas").evaluate_all(script) for one in (seen, other)]
    assert blocks[0] == blocks[1] and len(blocks[0]) == 24
    controls = "[data-set], .controls select"
    values = "(nodes) => nodes.map((node) => node.value)"
    chosen = [one.page.locator("#grid").locator(controls).evaluate_all(values) for one in (seen, other)]
    assert chosen[0] == chosen[1]
    assert other.page.locator("#cards").get_by_role("heading", name="CBAM").is_visible()
    other.page.get_by_role("button", name="Mechanisms").click()
    boxes = other.page.locator("#mechanisms input[type=checkbox]:checked")
    boxes.first.wait_for()
    assert boxes.count() == len(TRAINED) - 1


@pytest.mark.browser
@pytest.mark.parametrize(
    "query",
    [
        "?view=1",
        "?view=1&picture=cat&mechanisms=plain,nonsense",
        "?view=1&picture=AAAA&mechanisms=plain",
        "?view=1&picture=cat&mechanisms=plain&crop=1,2,nan&block=layer9.9&place=a,b&overlay=NaN&detail=<b>",
        "?view=1&picture=/etc/passwd&mechanisms=plain",
        "?view=1&picture=cat&mechanisms=plain&class=goat",
        "?view=1&picture=cat&mechanisms=plain&crop=foo",
    ],
)
def test_damaged_link_says_so(visit: callable, query: str):
    seen = visit(query=query)
    assert_plain_sentence(seen.page.locator(".toast-body").first.inner_text().strip().splitlines()[-1])
    assert len(seen.texts('[data-kind="cam"] .name')) == len(TRAINED)  # the first view stays
    assert seen.page.locator("#scope-block").input_value() == "7"
    with new_record(seen.page):  # and nothing of the link is left behind
        seen.page.locator('#examples [data-name="ship"]').click()
    assert seen.page.evaluate(SEEN_PIXEL, [0, 0]) == list(Image.open(SHIP).convert("RGB").getpixel((0, 0)))


@pytest.mark.browser
def test_files_to_take_along(visit: callable, tmp_path: Path):
    seen = visit()
    for form, start in {"png": b"\x89PNG", "pdf": b"%PDF", "npz": b"PK", "json": b"{"}.items():
        with seen.page.expect_download() as download:
            seen.page.locator(f'#grid [data-form="{form}"]').click()
        assert download.value.suggested_filename.endswith(f".{form}")
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert file.read_bytes().startswith(start)
        if form == "npz":
            with np.load(file) as arrays:
                assert arrays["se/layer3.1.refine.gate"].shape == (256, 1, 1)
                assert (arrays["pixels"] == np.asarray(Image.open(CAT).convert("RGB"))).all()
    seen.page.wait_for_timeout(200)
    assert "sk" in seen.texts(".status")[0]  # no longer that a file is being made


@pytest.mark.browser
def test_keys_and_words_for_who_cannot_see(visit: callable):
    seen = visit()
    seen.page.keyboard.press("ArrowLeft")
    seen.page.wait_for_timeout(200)
    assert seen.texts('[data-kind="cam"] .path')[0] == "layer4.0.cam"
    seen.page.keyboard.press("ArrowRight")
    labels = seen.page.locator("#grid .sections canvas").evaluate_all(
        "(nodes) => nodes.map((node) => node.getAttribute('aria-label'))"
    )
    seen.page.wait_for_timeout(200)
    spatial = seen.page.locator('#grid [data-kind="spatial"] canvas').first.get_attribute("aria-label")
    found = re.fullmatch(
        r"CBAM, How much each place passes, layer4.1.refine.spatial_gate: "
        r"strongest at row (\d), column (\d): ([\d.]+); the top fifth of the cells holds ([\d.]+) %",
        spatial,
    )
    assert found, spatial
    record = Client(seen.page.url, verbose=False).predict(handle_file(CAT), ["cbam"], api_name="/compare")
    maps = {one["tensor"]: one for one in record["mechanisms"][0]["maps"]}
    gate = decode(maps["layer4.1.refine.spatial_gate"])[0]
    row, column = np.unravel_index(gate.argmax(), gate.shape)
    assert (int(found[1]), int(found[2])) == (row + 1, column + 1)
    top = np.sort(gate.ravel())[::-1][:4].sum() / gate.sum()
    assert abs(float(found[4]) - 100 * top) < 1
    assert all(labels)

    seen.page.locator("#scope-block").focus()
    reached = set()
    for _ in range(24):  # every control can be reached by Tab
        seen.page.keyboard.press("Tab")
        reached.add(seen.page.evaluate("document.activeElement.textContent.trim().slice(0, 12)"))
    assert {"Copy link", "Figure PNG", "Report JSON"} <= reached


SHIFT_ON_ARRIVAL = """() => new Promise((resolve) => {
    const sum = (list) => list.getEntries().reduce((all, entry) => all + entry.value, 0);
    new PerformanceObserver((list) => resolve(sum(list))).observe({type: "layout-shift", buffered: true});
    setTimeout(() => resolve(0), 1000);  // none at all
})"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280, 1440])
def test_nothing_jumps_on_arrival(visit: callable, width: int):
    assert visit(width).page.evaluate(SHIFT_ON_ARRIVAL) < 0.01


@pytest.mark.browser
def test_nothing_jumps(visit: callable):
    seen = visit()
    seen.page.evaluate("""() => {
        window.shift = 0;
        const add = (list) => list.getEntries().forEach((entry) => { window.shift += entry.value; });
        new PerformanceObserver(add).observe({type: "layout-shift"});
    }""")
    with new_record(seen.page):
        seen.page.locator('#examples [data-name="ship"]').click()
    for block in ("0", "7", "3"):
        seen.page.locator("#scope-block").fill(block)
        seen.page.wait_for_timeout(150)
    assert seen.page.evaluate("window.shift") < 0.01


@pytest.mark.browser
def test_works_in_a_frame_of_another_site(server: str, browser: Browser, tmp_path: Path):
    """As on the Hugging Face Hub."""
    (tmp_path / "index.html").write_text(f'<iframe src="{server}" width="1200" height="2000"></iframe>')
    hub = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=hub.serve_forever, daemon=True).start()
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"http://127.0.0.1:{hub.server_port}/")
    frame = page.frame_locator("iframe")
    frame.locator("#grid [data-draws]").wait_for()
    before = frame.locator('#grid [data-kind="cam"] canvas').first.evaluate("(c) => c.toDataURL()")
    frame.locator('#examples [data-name="ship"]').click()
    frame.locator('#grid [data-records="2"]').wait_for()
    assert frame.locator('#grid [data-kind="cam"] canvas').first.evaluate("(c) => c.toDataURL()") != before
    page.close()
    hub.shutdown()


@pytest.mark.browser
def test_reading_is_one_click_away(visit: callable):
    seen = visit()
    seen.page.get_by_role("link", name="How to read this").click()
    seen.page.get_by_text("not an explanation").first.wait_for()


@pytest.mark.browser
def test_bad_file_says_so_and_the_page_goes_on(visit: callable, tmp_path: Path):
    seen = visit()
    before = seen.canvases("cam")
    (tmp_path / "notes.png").write_text("This is text.")
    choose_file(seen.page, tmp_path / "notes.png")
    message = seen.page.locator(".toast-body").first.inner_text()
    assert_plain_sentence(message.strip().splitlines()[-1])
    assert seen.canvases("cam") == before and seen.page.locator('#grid [data-kind="cam"]').is_visible()
    seen.page.wait_for_function("() => document.querySelector('#picture img')?.src.includes('cat')")
    with new_record(seen.page):
        seen.page.locator('#examples [data-name="ship"]').click()
    assert seen.canvases("cam") != before


@pytest.mark.browser
def test_phone(visit: callable):
    seen = visit(390, 844)
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    first = seen.page.locator('#grid [data-kind="cam"] canvas').first.bounding_box()
    assert first["y"] + first["height"] < 844  # the first map is above the fold
    cut = "(names) => names.filter((name) => name.scrollWidth > name.clientWidth).length"
    assert seen.page.locator('#grid [data-kind="cam"] .name').evaluate_all(cut) == 0
    for tab in seen.page.locator("#grid .tabs button").all():  # one kind at a time
        tab.click()
        assert seen.page.locator("#grid .section").filter(visible=True).count() >= 1
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    assert not seen.page.locator('#grid [data-kind="cam"]').is_visible()
    seen.page.get_by_role("button", name="Mechanisms").click()  # 73 of them, in a box of their own
    seen.page.get_by_label("Show untrained networks").wait_for()
    assert seen.page.locator("#mechanisms").bounding_box()["height"] < 600
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.browser
def test_dark_mode(visit: callable):
    def brightness(seen: Visit, selector: str, what: str) -> float:
        colour = seen.page.locator(selector).first.evaluate(f"(node) => getComputedStyle(node).{what}")
        return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3

    for query, text_is_lighter in (("?__theme=dark", True), ("?__theme=light", False)):
        seen = visit(query=query)
        text = brightness(seen, "#grid h2", "color")
        ground = brightness(seen, "#grid .tools", "backgroundColor")
        assert (text > ground) == text_is_lighter and abs(text - ground) > 150
