"""One description decides what is shown: the page's modules and the figure draw every kind alike."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import StepPatch
from PIL import Image
from playwright.sync_api import Page, Route, sync_playwright

from models import CLASSES
from models.catalogue import BLOCKS
from tests.conftest import chromium_or_skip
from tests.networks import EVERY_KIND, column, picture
from tests.screenshots import ROOT, SHELL, launched
from visualize.export import panels as export
from visualize.export.column import Column
from visualize.export.drawing import draw
from visualize.export.panels import Absent, Panel, panels
from visualize.export.sheet import Sheet
from visualize.inspection.cache import Cache
from visualize.inspection.network import Map
from visualize.record import compare
from visualize.record.compare import affinity_row
from visualize.record.display import description, number, percent
from visualize.record.encoding import decode, pack, pack_cam, pack_map
from visualize.record.kinds import KINDS, kind_of, stays
from visualize.record.view import View

ASSETS = ROOT / "visualize" / "page" / "maps"
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
        chromium_or_skip(playwright)
        with launched(playwright, first=[SHELL]) as browser:
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
    monkeypatch.setattr(compare, "_held", Cache(2**30))
    for of in columns:
        compare._held.put(compare.key_of(picture().tobytes(), of.key, None), of.inspection.maps, 0)


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
    window.shown = panels(record, view, (wish) => parts[JSON.stringify(wish)]);
    const packed = (values) => { // as text: Playwright takes many seconds over so many numbers
        const bytes = new Uint8Array(Float32Array.from(values).buffer);
        return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
    };
    const plain = (panel) => ({
        ...panel, map: 0, mechanism: 0, others: panel.others.length, values: packed(panel.values),
        tiles: drawnAs(panel) !== "tiles" ? null
            : tiles(panel).map((tile) => ({ ...tile, values: packed(tile.values) })),
        drawn: drawnAs(panel), at: Object.values(marks(panel)),
    });
    const cell = ([key, given]) => [key, Array.isArray(given) ? given.map(plain) : given];
    return JSON.stringify(shown.map((row) => (
        { ...row, cells: Object.fromEntries(Object.entries(row.cells).map(cell)) })));
}"""


def unpacked(text: str) -> np.ndarray:
    """Numbers as `READ` packs them; NaN where there is none."""
    return np.frombuffer(base64.b64decode(text), "<f4")


@pytest.fixture(params=VIEWS, ids=lambda view: f"{view.block} {view.scale}")
def view(request: pytest.FixtureRequest) -> View:
    return request.param


@pytest.fixture
def read(page: Page, view: View, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The rows of the page."""
    held(comparison()[1], monkeypatch)
    asked = json.loads(json.dumps(view.__dict__))
    return json.loads(page.evaluate(READ, [asked, parts_of(page, asked)]))


def test_what_stands_beside_a_fixed_scale_is_its_ends():
    written = {"0": 0, "1": 1, "2": 2, "¹⁄₁₆×": 1 / 16, "16×": 16, "least": 0, "most": 1}
    for name, scale in description()["scales"].items():
        if "ends" in scale:
            assert [written[word] for word in scale["words"]] == scale["ends"], name
    assert description()["scales"]["1-2"]["ends"] == [1, 2]
    assert tuple(description()["blocks"]) == BLOCKS


def test_the_networks_hold_every_kind():
    rows = [row for view in VIEWS for row in panels(comparison()[1], view)]
    cells = [cell for row in rows for cell in row.cells.values() if isinstance(cell, list)]
    assert {panel.kind for cell in cells for panel in cell} == {*KINDS.values(), *description()["kinds"]}
    assert {panel.scale for cell in cells for panel in cell} == {*description()["scales"]}


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
    values = unpacked(their["values"])
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
            assert np.allclose(values.ravel(), unpacked(tile["values"]), atol=1e-4 * size), name


NUMBERS = (0, -0.0, 0.125, -0.125, 0.0949, 0.095, 0.0951, 0.00094, 0.00095, 4e-8, -4e-8, 0.375, 0.475, 1.005)
NUMBERS += (2.5, 9.995, 9.9951, 10, 10.25, -10.25, 99.95, 100, 100.5, 193.7, 1e6, -0.0004, -0.5)
SHARES = (0, 1, 0.125, 0.135, 0.0995, 0.09949, 0.0005, 0.005, 0.5, 0.545, 0.995, 0.9951, 0.99949, 0.9995)
SHARES += (0.99951, 0.999999, 0.00125, 0.0125, 1.455)


@pytest.mark.browser
def test_numbers_and_percentages_are_written_alike(page: Page):
    written = page.evaluate(
        "([numbers, shares]) => [numbers.map(number), shares.map(percent)]", [NUMBERS, SHARES]
    )
    assert [[number(x) for x in NUMBERS], [percent(x) for x in SHARES]] == written
    assert number(3e38).startswith("3") and number(-3e38).startswith("−3")  # painted by hand, perhaps
    assert [number(x) for x in (0.125, -0.125, 0.0, 4e-8, -4e-8)] == [
        "0.13",
        "−0.13",
        "0.00",
        "< 0.001",
        "> −0.001",
    ]
    shares = (0.125, 0.0995, 0.995, 0.99949, 0.9995)
    assert [percent(x) for x in shares] == ["13 %", "10 %", "99.5 %", "99.9 %", "> 99.9 %"]


# ---- pictures

SIDE = 200  # pixels of a map
DRAW = """([key, tensor]) => {
    const panel = shown.flatMap(({ cells }) => cells[key]).find((one) => one.tensor === tensor);
    const canvas = document.createElement("canvas");
    drawPanel(canvas, panel, { view, picture: pixelsOf(record), description, dark: false, width: SIDE });
    return { boxes: regions(canvas), picture: canvas.toDataURL() };
}""".replace("SIDE", str(SIDE))
DRAWN = (  # every kind, where it is easy to tell that something has changed places
    ("plain_cam", "cbam", "layer3.1.cam"),
    ("spatial", "cbam", "layer3.1.refine.spatial_gate"),
    ("pairwise", "danet", "stage3.position"),
    ("cross", "ccnet", "stage3.affinity_1"),
    ("footprint", "san_pairwise", "stage3.weights"),
    ("keys", "apnb", "stage3.affinity"),
    ("maps", "sge", "layer3.1.refine.group_gate"),
    ("profile", "coord_attention", "layer3.1.refine.h_gate"),
    ("views", "acblock", "layer3.1.conv1.views"),
    ("matrix", "danet", "stage3.channel"),
    ("affine", "stn", "input.theta"),
    ("grid", "stn", "input.grid"),
    ("channel", "cbam", "layer3.1.refine.channel_gate"),
    ("branch", "sk", "layer3.1.conv1.weights"),
    ("vector", "condconv", "layer3.1.conv1.gate"),
    ("filters", "doconv", "layer3.1.conv1.depthwise"),
)


@pytest.fixture(scope="module")
def drawn_view(page: Page) -> View:
    """Maps without the contour lines; the page has read them."""
    view = View(block="layer3.1", overlay=1.0, query=(5, 26))
    with pytest.MonkeyPatch.context() as patch:
        held(comparison()[1], patch)
        asked = json.loads(json.dumps(view.__dict__))
        page.evaluate(READ, [asked, parts_of(page, asked)])
        page.evaluate("(view) => { window.view = view; }", asked)
    return view


@cache
def shown(view: View) -> list:
    """Its panels, made once for all that draw them."""
    return panels(comparison()[1], view)


@pytest.mark.browser
@pytest.mark.parametrize(("key", "tensor"), [row[1:] for row in DRAWN], ids=[row[0] for row in DRAWN])
def test_both_draw_the_same_picture(page: Page, drawn_view: View, key: str, tensor: str):
    """Colours at a grid of points in each part of a panel, such as its tiles."""
    rows = shown(drawn_view)
    cells = [row.cells[key] for row in rows if isinstance(row.cells[key], list)]
    (panel,) = (panel for cell in cells for panel in cell if panel.tensor == tensor)
    theirs = page.evaluate(DRAW, [key, tensor])
    canvas = read_picture(theirs["picture"])

    sheet = Sheet(4, drawn_view, 2.0, 2.0, np.array(picture()))
    draw(sheet, panel, 0.5, 0.5)
    made = sheet.cut(6)
    made.set_dpi(SIDE / sheet.side)
    renderer = FigureCanvasAgg(made)
    renderer.draw()
    image = np.asarray(renderer.buffer_rgba())[..., :3]
    axes = [one for one in made.axes if one.get_label() and not one.get_label().endswith(" strip")]

    parts = [part for part in theirs["boxes"] if part["name"] != "strip"][: len(axes)]
    assert len(parts) == len(axes) > 0
    for part, one in zip(parts, axes):
        left, bottom, width, height = one.bbox.bounds
        ours = sampled(image, left, image.shape[0] - bottom - height, width, height)
        differ = np.abs(ours - sampled(canvas, *part["box"])).max(2) > 40
        assert differ.mean() < 0.04, f"{part}: {differ.mean():.0%} of the points differ"


def read_picture(address: str) -> np.ndarray:
    """Colours (h, w, 3) of a canvas on a white page, from its data URL."""
    content = base64.b64decode(address.partition(",")[2])
    pixels = np.asarray(Image.open(BytesIO(content)).convert("RGBA")).astype(int)
    return np.where(pixels[..., 3:] < 128, 255, pixels[..., :3])


def sampled(pixels: np.ndarray, left: float, top: float, width: float, height: float) -> np.ndarray:
    """Colours at 32 x 32 points of a box, (32, 32, 3)."""
    x, y = (
        ((np.arange(32) + 0.5) / 32 * size + start).astype(int)
        for size, start in ((width, left), (height, top))
    )
    return pixels[np.clip(y, 0, len(pixels) - 1)][:, np.clip(x, 0, pixels.shape[1] - 1)].astype(int)


@pytest.mark.browser
def test_the_figure_draws_the_lines_areas_and_bars_of_the_page(page: Page, drawn_view: View):
    numbers = page.evaluate(
        """() => {
            const find = (tensor, key) => shown.flatMap(({ cells }) => cells[key])
                .find((panel) => panel.tensor === tensor);
            return {
                curve: [...curve(find("layer3.1.refine.channel_gate", "cbam"))],
                stack: stack(find("layer3.1.conv1.weights", "sk")).areas
                    .map(({ from, to }) => [[...from], [...to]]),
                bars: bars(find("stage3.affinity", "apnb")), grid: gridLines(find("input.grid", "stn")),
            };
        }"""
    )
    found = {
        panel.name: panel
        for row in shown(drawn_view)
        for cell in row.cells.values()
        if isinstance(cell, list)
        for panel in cell
    }

    def axes_of(name: str) -> Axes:
        sheet = Sheet(4, drawn_view, 2.0, 2.0, np.array(picture()))
        draw(sheet, found[name], 0.5, 0.5)
        return next(axes for axes in sheet.figure.axes if axes.get_label() == name)

    ours = axes_of("cbam/layer3.1.refine.channel_gate").lines[-1].get_ydata()
    assert np.allclose(ours, numbers["curve"], atol=1e-4)
    for area, (start, end) in zip(axes_of("sk/layer3.1.conv1.weights").collections, numbers["stack"]):
        edge = area.get_paths()[0].vertices[:, 1]
        assert edge.min() == pytest.approx(min(start), abs=1e-4)
        assert edge.max() == pytest.approx(max(end), abs=1e-4)
    (stairs,) = (patch for patch in axes_of("apnb/stage3.affinity").patches if isinstance(patch, StepPatch))
    values, _, baseline = stairs.get_data()
    assert np.allclose(values, [bar["to"] for bar in numbers["bars"]], rtol=1e-3)
    assert {bar["from"] for bar in numbers["bars"]} == {float(baseline)} == {1.0}
    lines = axes_of("stn/input.grid").collections[-1].get_segments()
    assert np.allclose(lines, numbers["grid"], atol=1e-3)


@pytest.mark.browser
def test_a_pointer_is_answered_where_it_means_something(page: Page, drawn_view: View):
    """A channel in its own panel only, though others draw channels; a place in all pictures of places."""
    found = page.evaluate(
        """([key, tensor, width]) => {
            const all = shown.flatMap(({ cells }) => Object.values(cells).flat()).filter((one) => one.tensor);
            const given = { view, picture: pixelsOf(record), description, dark: false, width };
            const name = (panel) => `${panel.key}/${panel.tensor}`;
            const drawnWith = (panel, hover) => {
                const canvas = document.createElement("canvas");
                drawPanel(canvas, panel, { ...given, hover });
                return canvas.toDataURL();
            };
            const pointed = (tensor) => {
                const canvas = document.body.appendChild(document.createElement("canvas"));
                drawPanel(canvas, all.find((one) => one.key === key && one.tensor === tensor), given);
                const { left, top } = canvas.getBoundingClientRect();
                const at = hit(canvas, { clientX: left + 80.5, clientY: top + 40.5 });
                canvas.remove();
                const some = all.filter((panel) => drawnAs(panel) === at.kind);
                return { at, kinds: Object.fromEntries(all.map((panel) => [name(panel), drawnAs(panel)])),
                    answers: all.filter((one) => valueAt(one, at)).map(name), asked: some.map(name),
                    values: some.map((one) => [name(one), valueAt(one, at)?.value]),
                    changed: some.filter((one) => drawnWith(one, at) !== drawnWith(one, null)).map(name) };
            };
            return [pointed(tensor), pointed(`${view.block}.cam`)];
        }""",
        ["cbam", "layer3.1.refine.channel_gate", SIDE],
    )
    channel, spot = found
    rows = panels(comparison()[1], drawn_view)
    cells = [cell for row in rows for cell in row.cells.values() if isinstance(cell, list)]
    ours = {panel.name: panel.values for cell in cells for panel in cell}
    for name, value in spot["values"]:
        height, width = ours[name].shape
        expected = ours[name][spot["at"]["y"] * height // 32, spot["at"]["x"] * width // 32]
        if np.isnan(expected):
            assert value is None, name
        else:
            assert value == pytest.approx(
                expected, rel=1e-3, abs=1e-4 * float(np.nanmax(np.abs(ours[name])))
            ), name
    own = "cbam/layer3.1.refine.channel_gate"
    assert len(channel["asked"]) > 1  # so that there is another network's panel
    assert channel["answers"] == channel["changed"] == [own]
    values = comparison()[1][EVERY_KIND.index("cbam")].inspection.maps["layer3.1.refine.channel_gate"].values
    index = channel["at"]["index"]
    assert index == np.argsort(-values.ravel(), kind="stable")[int(80.5 / SIDE * values.size)]
    assert channel["at"]["text"] == f"channel {index}: {number(values.ravel()[index])}"
    assert (spot["at"]["x"], spot["at"]["y"]) == (int(80.5 / SIDE * 32), int(40.5 / SIDE * 32))
    places = {name for name, drawn in spot["kinds"].items() if drawn == "places"}
    assert places <= {*spot["answers"]} and own not in spot["answers"]
    assert spot["changed"] == spot["asked"] != []


@pytest.mark.browser
@pytest.mark.parametrize("overlay", [0.01, 0.6, 1.0])
def test_the_photograph_does_not_mix_into_the_colours(page: Page, drawn_view: View, overlay: float):
    """Away from the contour lines every pixel has exactly the colour of its value."""
    tensor = "layer3.1.refine.spatial_gate"
    values = comparison()[1][EVERY_KIND.index("cbam")].inspection.maps[tensor].values[0]
    picture_of, clear = page.evaluate(
        """([overlay, tensor]) => {
            const panel = shown.flatMap(({ cells }) => cells.cbam).find((one) => one.tensor === tensor);
            const canvas = document.createElement("canvas");
            const drawnOn = (picture) => {
                drawPanel(canvas, panel, { view: { ...view, overlay }, picture, description, width: 256 });
                return canvas.toDataURL();
            };
            return [drawnOn(pixelsOf(record)), drawnOn(new Uint8Array(3072))]; // black has no contours
        }""",
        [overlay, tensor],
    )
    canvas, plain = read_picture(picture_of), read_picture(clear)
    table = colour_table(drawn_view.colours)
    expected = table[np.floor(255 * values + 0.5).astype(int)].repeat(32, 0).repeat(32, 1)
    assert np.abs(plain - expected).max() <= 2  # the values travelled as 16 bits
    same = (canvas == plain).all(2)
    assert same.mean() > 0.4 and (overlay < 1 or same.all())
    assert overlay == 1 or not same.all()  # the contours are there


def colour_table(name: str) -> np.ndarray:
    """256 colours (256, 3) between the anchors of the description."""
    anchors = description()["colours"][name].split()
    colours = np.array([[int(anchor[i : i + 2], 16) for i in (0, 2, 4)] for anchor in anchors])
    at = np.linspace(0, len(anchors) - 1, 256)
    return np.stack([np.interp(at, np.arange(len(anchors)), colours[:, i]) for i in range(3)], 1)


HALVES = """([left, right]) => {
    const colour = (i) => ((Math.floor(i / 3) % 32 < 16 ? left : right)[i % 3]);
    const picture = Uint8Array.from({ length: 3072 }, (_, i) => colour(i));
    const [{ cells }] = panels(record, { block: "layer3.1" });
    const canvas = document.createElement("canvas"), view = { overlay: 0.01 };
    drawPanel(canvas, cells.cbam[0], { view, picture, description, dark: false, width: 192, page: 0 });
    return canvas.toDataURL();
}"""


@pytest.mark.browser
def test_the_page_finds_green_brighter_than_red_and_red_brighter_than_blue(page: Page):
    """ITU-R BT.601: the contour line between two halves lies nearer to the darker one."""

    def drawn(left: tuple[int, int, int], right: tuple[int, int, int]) -> np.ndarray:
        return read_picture(page.evaluate(HALVES, [left, right]))

    rising, falling = drawn((0,) * 3, (255,) * 3), drawn((255,) * 3, (0,) * 3)
    for colour, brightness in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)):
        for grey, same, other in ((brightness + 3, rising, falling), (brightness - 3, falling, rising)):
            found = drawn(colour, (grey,) * 3)
            assert np.abs(found - same).sum() < np.abs(found - other).sum() / 5, (colour, grey)
