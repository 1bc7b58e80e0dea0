"""One description decides what is shown: the page's modules and the figure draw every kind alike."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Route, sync_playwright

from models import CLASSES
from tests.networks import EVERY_KIND, column, picture
from tests.screenshots import ROOT, find_chromium, launched
from visualize.export import panels as export
from visualize.export.column import Column
from visualize.export.panels import Absent, Panel, panels
from visualize.inspection.network import Map
from visualize.record import compare
from visualize.record.compare import affinity_row
from visualize.record.display import description
from visualize.record.encoding import decode, pack, pack_cam, pack_map
from visualize.record.kinds import KINDS, kind_of, stays
from visualize.record.view import View

ASSETS = ROOT / "visualize" / "page"
ADDRESS = "http://attnscope.test/"
VIEWS = (
    View(),
    View(block="layer1.0", scale="shared", head=1, query=(31, 0)),
    View(block="layer3.1", scale="own", query=(3, 25), colours="magma"),
    View(block="layer4.1", pairwise_block="layer2.1", head=9, query=(0, 31)),
)
MODULES = "Promise.all([import('/record.js'), import('/draw.js')])"


def packed(of: Column) -> dict:
    """A network's part of the page's record."""
    seen = of.inspection
    cams = [pack_cam(block, values, seen.cam_ranges[block]) for block, values in seen.cams.items()]
    return {
        "key": of.key,
        "name": of.title,
        "probabilities": [float(share) for share in seen.probabilities],
        "strength": seen.strength,
        "maps": cams + [pack_map(tensor, found) for tensor, found in seen.maps.items()],
    }


def as_sent(of: Column) -> Column:
    """A column with the numbers that a browser gets, which are rounded, where it gets them all at once."""
    seen = of.inspection
    cams = {block: decode(pack(values)) for block, values in seen.cams.items()}
    maps = {
        tensor: found if in_parts(found) else replace(found, values=decode(pack(found.values)))
        for tensor, found in seen.maps.items()
    }
    return replace(of, inspection=replace(seen, cams=cams, maps=maps))


def in_parts(found: Map) -> bool:
    """Whether the server gives out what is drawn of a map, and nothing else of it."""
    return stays(found) and description()["kinds"][kind_of(found)].get("part") in ("row", "sizes")


@cache
def comparison() -> tuple[dict, list[Column]]:
    """The record of networks that hold every kind between them, and the same for the figure."""
    columns = [column(name) for name in EVERY_KIND]
    sent = [packed(of) for of in columns]
    pixels = base64.b64encode(picture().tobytes()).decode()
    record = {
        "version": 1,
        "classes": list(CLASSES),
        "image": pixels,
        "target": "predicted",
        "cam": "GradCAM",
    }
    return record | {"mechanisms": sent}, [as_sent(of) for of in columns]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A blank page that can import the modules."""

    def answer(route: Route) -> None:
        file = ASSETS / Path(route.request.url).name
        if file.suffix == ".js":
            route.fulfill(path=file, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html><title>blank</title>", content_type="text/html")

    with sync_playwright() as playwright:
        if find_chromium(playwright) is None:
            pytest.skip("no Chromium")
        with launched(playwright) as browser:
            page = browser.new_page(viewport={"width": 400, "height": 400})
            page.route("**/*", answer)
            page.goto(ADDRESS)
            page.evaluate(
                f"""async ([description, record]) => {{
                    const [reading, drawing] = await {MODULES};
                    Object.assign(window, reading, drawing, {{ record, description }});
                    configure(description);
                }}""",
                [description(), comparison()[0]],
            )
            yield page


def held(columns: list[Column], monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has just looked at the picture, so that it gives out parts of maps without a network."""
    monkeypatch.setattr(compare, "_held", compare._Cache(2**30))
    for of in columns:
        compare._held.put((picture().tobytes(), of.key), of.inspection.maps)


def parts_of(page: Page, view: dict) -> dict[str, dict]:
    """What the browser asks the server for, and what it gets: JSON of a wish -> part of a map."""
    wishes = page.evaluate(
        """(view) => panels(record, view).flatMap(({ cells }) => Object.values(cells).flat())
            .map((panel) => panel.wants).filter(Boolean)""",
        view,
    )
    return {
        json.dumps(wish, separators=(",", ":")): affinity_row(
            picture(), wish["mechanism"], wish["tensor"], wish["query"]
        )
        for wish in wishes
    }


READ = """([view, parts]) => {
    window.shown = panels(record, view, description, (wish) => parts[JSON.stringify(wish)]);
    const plain = (panel) => ({
        ...panel, map: 0, mechanism: 0, others: panel.others.length, values: [...panel.values],
        tiles: drawnAs(panel) !== "tiles" ? null
            : tiles(panel).map((tile) => ({ ...tile, values: [...tile.values] })),
        drawn: drawnAs(panel), at: Object.values(marks(panel)),
    });
    return shown.map(({ section, block, cells }) => ({ section, block, cells: Object.fromEntries(
        Object.entries(cells).map(([key, cell]) => [key, Array.isArray(cell) ? cell.map(plain) : cell])) }));
}"""


@pytest.fixture(params=VIEWS, ids=lambda view: f"{view.block} {view.scale}")
def view(request: pytest.FixtureRequest) -> View:
    return request.param


@pytest.fixture
def read(page: Page, view: View, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The rows of the page."""
    held(comparison()[1], monkeypatch)
    asked = json.loads(json.dumps(view.__dict__))
    return page.evaluate(READ, [asked, parts_of(page, asked)])


def test_the_networks_hold_every_kind():
    rows = [row for view in VIEWS for row in panels(comparison()[1], view)]
    cells = [cell for row in rows for cell in row.cells.values() if isinstance(cell, list)]
    assert {panel.kind for cell in cells for panel in cell} == {*KINDS.values(), *description()["kinds"]}


@pytest.mark.browser
def test_every_kind_has_the_same_numbers_ends_and_words(read: list[dict], view: View):
    rows = panels(comparison()[1], view)
    assert [row.section.kind for row in rows] == [row["section"]["kind"] for row in read]
    for row, other in zip(rows, read):
        said = other["section"]
        assert (row.section.title, row.section.text, row.block) == (
            said["title"],
            said["text"],
            other["block"],
        )
        for key, cell in row.cells.items():
            theirs = other["cells"][key]
            if isinstance(cell, Absent):
                assert cell._asdict() == theirs
                continue
            assert [panel.tensor for panel in cell] == [panel["tensor"] for panel in theirs]
            for panel, their in zip(cell, theirs):
                compare_panels(panel, their)


def compare_panels(panel: Panel, their: dict) -> None:
    name = panel.name
    assert list(panel.values.shape) == their["shape"], name
    values = np.array([np.nan if x is None else x for x in their["values"]], np.float64)
    size = np.nanmax(np.abs(panel.values))
    assert np.allclose(panel.values.ravel(), values, atol=1e-4 * size, equal_nan=True), name
    for field in ("kind", "scale", "drawn", "flat", "said"):
        assert getattr(panel, field) == their[field], (name, field)
    assert panel.ends == pytest.approx(their["ends"], rel=1e-3), name
    assert panel.base == pytest.approx(their["base"]), name
    assert list(panel.end_words) == their["endWords"], name
    assert len(panel.others) == their["others"], name
    if panel.drawn == "tiles":
        ours = export.tiles(panel)
        assert [tile for tile, _ in ours] == [tile["name"] for tile in their["tiles"]], name
        for (_, values), tile in zip(ours, their["tiles"]):
            assert values.shape == (tile["height"], tile["width"]), name
            assert np.allclose(values.ravel(), tile["values"], atol=1e-4 * size), name
