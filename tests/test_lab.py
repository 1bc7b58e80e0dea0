"""The laboratory of the page in a real browser: measured evidence, two pictures, two networks, the gallery.

The networks have random weights and made-up evidence: what is shown must be what files and record say.
"""

import base64
import json
import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from gradio_client import Client, handle_file
from made_up import write_evidence
from matplotlib import colormaps
from PIL import Image

from models import CATALOGUE, CLASSES
from models.checkpoint import read_facts, restore_with_facts, save
from models.results import averages
from models.results.evidence import at_once
from tests.health import linked_tree
from tests.networks import network
from tests.screenshots import held, running_app
from tests.static import build_site, given_out
from tests.test_page import (  # noqa: F401 (fixtures)
    CAT,
    FEW,
    SAMPLED,
    SHIP,
    both_at_length,
    edition,
    link_to,
    visit,
)
from visualize.answers import PAGE
from visualize.inspection.network import inspect
from visualize.inspection.replaced import Replacement, inspect_replaced
from visualize.record.display import number
from visualize.record.encoding import decode
from visualize.texts.evidence import evidence

pytestmark = [pytest.mark.browser, both_at_length]
TRAINED = ("plain", "se", "cbam", "sk")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    checkpoints = linked_tree(tree)
    for name in TRAINED:
        facts = {"name": name, "recipe": "random", "accuracy": 10.0, "epochs": 1, "test_images": 10_000}
        facts["unusual_below"] = 100.0  # every picture is
        save(network(name), name, facts, checkpoints)
        if name != "plain":
            spared = ["average"] if name == "se" else []
            write_evidence(name, checkpoints, used=name != "sk", spared=spared)
    return tree


@pytest.fixture(scope="module")
def server(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_app(tree, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="module")
def whole(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    site = tmp_path_factory.mktemp("static") / "site"
    build_site(tree, site, TRAINED)
    with given_out(site) as address:
        yield address


@pytest.fixture(scope="module")
def record(server: str) -> callable:
    client = Client(server, verbose=False, analytics_enabled=False)
    return lambda file, *names: client.predict(handle_file(file), list(names), api_name="/compare")


def values(record: dict, tensor: str) -> np.ndarray:
    return decode(
        next(each for column in record["mechanisms"] for each in column["maps"] if each["tensor"] == tensor)
    )


def extent(numbers: np.ndarray) -> str:
    return f"{number(numbers.min())} to {number(numbers.max())}"


def test_use_is_said_under_each_name_and_by_the_results(visit: callable, tree):
    seen = visit()
    found = {name: at_once(read_facts(name, tree / "checkpoints")) for name in TRAINED}
    for name in TRAINED:
        lines = seen.texts(f'#glance [data-key="{name}"] .use:visible')
        assert lines == ([found[name]["line"]] if found[name] else [])
    assert found["sk"]["line"] == "no measurable use" != found["se"]["line"]
    heads = seen.texts("#used thead th")
    assert heads[:3] == ["Network", "as trained", "average"]
    for name in ("se", "sk"):
        row = seen.page.locator(f'#used tr[data-key="{name}"]')
        lost = found[name]["rows"]["average"]["lost"]["value"]
        cell = row.locator("td").nth(1)
        assert float(cell.inner_text().replace("−", "-")) == pytest.approx(-lost, abs=0.05)
        assert cell.locator("b").count() == (found[name]["rows"]["average"]["verdict"] != "same")
    spared = found["se"]  # CBAM loses points with its average, too
    assert found["cbam"]["rows"]["average"]["verdict"] != spared["rows"]["average"]["verdict"] == "same"
    assert (
        f"falls from {spared['right']:.1f} to {spared['rows']['factor 1']['right']:.1f} %"
        in seen.texts("#used .warning")[0]
    )

    measured = re.compile(r"/evidence/|-evidence\.")
    assert seen.asked() == 0 and not any(map(measured.search, seen.requests))  # not before it is in view
    seen.page.locator("#used .panels").scroll_into_view_if_needed()
    seen.page.locator("#used .panels figure").nth(2).wait_for()
    seen.page.locator('#used [data-replacement="shuffled"]').click()
    rows = [row for row in evidence("cbam", tree / "checkpoints")["rows"] if row["replacement"] == "shuffled"]
    seen.choose("plain")
    assert "This is not measured yet for any" in seen.page.locator("#used .panels").inner_text()
    seen.choose(*TRAINED)
    lines = seen.page.locator('#used figure[data-key="cbam"] .line')
    assert [float(text) for text in lines.locator("data").all_inner_texts()] == pytest.approx(
        [row["lost"]["value"] for row in rows], abs=0.05
    )
    strong = lines.evaluate_all("all => all.map((one) => one.classList.contains('strong'))")
    assert strong == [row["verdict"] != "same" for row in rows]
    shown = lines.first.locator(".whisker").evaluate(
        "(one) => [one.style.left, one.style.right].map(parseFloat)"
    )
    scale = seen.page.locator('#used figure[data-key="cbam"] .zero').first.evaluate(
        "(one) => parseFloat(one.style.left)"
    )
    middle = lines.first.locator(".dot").evaluate("(one) => parseFloat(one.style.left)")
    lost = rows[0]["lost"]
    assert (shown[0] - scale) / (middle - scale) == pytest.approx(lost["low"] / lost["value"], rel=1e-3)
    assert (100 - shown[1] - scale) / (middle - scale) == pytest.approx(
        lost["high"] / lost["value"], rel=1e-3
    )

    seen.page.emulate_media(media="print")  # paper cannot be scrolled
    assert (
        seen.page.locator("#used .scroll").evaluate("(node) => getComputedStyle(node).overflowX") == "visible"
    )


def test_the_single_view_shows_what_was_measured(visit: callable, tree):
    seen = visit()
    found = evidence("cbam", tree / "checkpoints")
    seen.page.locator('#glance [data-key="cbam"] .name').click()
    seen.rest()
    lab = seen.page.locator("#detail .lab")
    heard = lab.locator(
        '[data-part="use"] .forest .unseen'
    ).first.inner_text()  # what the dot and its line show
    assert re.search(r"\d to −?\d", heard)
    assert lab.locator('[data-part="health"] .badge').all_inner_texts() == ["constant"]
    shares = lab.locator('[data-part="health"] tbody tr').first.locator("td").first.inner_text()
    assert shares == f"{100 * found['tensors'][0]['from_picture']:.0f} %"
    for score in ("road", "deletion", "insertion"):
        shown = lab.locator(f'[data-score="{score}"] data').all_inner_texts()
        assert [float(text) for text in shown] == pytest.approx(
            [line[score]["mean"] for line in found["faithfulness"]], abs=0.006
        )
    assert lab.locator('[data-score="road"] .quiet .label').all_inner_texts() == [
        "random map",
        "centre of the picture",
        "edges (Sobel)",
    ]
    assert len(lab.locator('[data-score="twin"] .line').all()) == 16
    titles = lab.locator(".forest [title]").evaluate_all("(all) => all.map((one) => one.title)")
    assert any(": −" in title for title in titles) and not any(re.search(r"-\d", title) for title in titles)
    profile = next(each for each in found["profiles"] if each["tensor"] == "layer2.1.refine.spatial_gate")
    pixels = (
        lab.locator(".tiles canvas")
        .nth(3)
        .evaluate("(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]")
    )
    expected = 255 * colormaps["viridis"](decode(profile)[3])[..., :3]
    assert np.abs(np.array(pixels).reshape(16, 16, 4)[..., :3] - expected).max() < 8
    lab.locator('[data-part="classes"] select').select_option("layer4.1")
    assert lab.locator(".profiles code").all_inner_texts() == [
        "layer4.1.refine.channel_gate",
        "layer4.1.refine.spatial_gate",
    ]
    seen.page.locator("#detail header select").select_option("plain")
    seen.rest()
    assert lab.locator("section").count() == 0  # nothing was measured, nothing is shown


def test_what_comes_too_late_changes_nothing_in_the_single_view(visit: callable):
    """The evidence of the network that was opened first comes last."""
    found = visit().page.evaluate(
        """async () => {
            const { Evidence } = await import(new URL("page/lab/evidence.js", location.href).href);
            const { engine, start } = await import(new URL("page/engine.js", location.href).href);
            const let_go = {}, gates = {}, reads = {}, { description, record } = start();
            for (const key of ["se", "cbam"]) gates[key] = new Promise((done) => { let_go[key] = done; });
            const late = { evidence: async (key) => { await gates[key]; return engine.evidence(key); } };
            const state = { view: description.view }, columns = { classes: record.classes };
            const shown = new Evidence(state, description, late, columns), read = shown.read;
            shown.read = (key) => (reads[key] = read.call(shown, key));
            shown.open("se"), shown.open("cbam");
            for (const key of ["cbam", "se"]) {
                let_go[key]();
                await reads[key];
            }
            return [shown.node.contains(shown.choice), shown.node.textContent.includes("spatial_gate")];
        }"""
    )
    assert found == [True, True]


def test_two_pictures_and_what_differs(visit: callable, record: callable, edition: str):
    seen = visit()
    seen.page.locator("#pin").click()
    seen.rest()
    assert "This picture is A" in seen.texts("#pair [role=status]")[0]
    seen.example("ship")
    tensor = "layer2.1.refine.spatial_gate"
    a, b = (values(record(file, "cbam"), tensor)[0] for file in (CAT, SHIP))
    triple = '#pair .triple[data-mechanism="cbam"][data-section="spatial"]'
    ranges = seen.texts(f"{triple} .range")
    assert [text.split(", mean")[0] for text in ranges] == [extent(a), extent(b), extent(b - a)]
    assert {
        *seen.page.locator("#pair .triple").evaluate_all("all => all.map((one) => one.dataset.mechanism)")
    } == {*TRAINED}
    curves = seen.texts('#pair .triple[data-mechanism="se"][data-section="channel"] .heading')
    assert curves == ["A", "B (grey: A)", "B minus A"]
    end = max(0.1, np.abs(b - a).max())
    seen.set("overlay", "1")
    pixels = seen.page.locator(f"{triple} canvas").nth(2).evaluate(SAMPLED, 16)
    expected = 255 * colormaps["viridis"]((b - a) / (2 * end) + 0.5)[..., :3]
    assert np.abs(np.array(pixels).reshape(16, 16, 3) - expected).max() < 8

    numbers = '#files [data-form="npz"]'
    for picture, file in (("B", SHIP), ("A", CAT)):
        seen.page.locator("#take").click()
        seen.page.get_by_label("Of picture").select_option(picture)
        with seen.page.expect_download() as download:
            seen.page.locator(numbers).click()
        assert download.value.suggested_filename.endswith(f"-layer2.1-{picture}.npz")
        with np.load(download.value.path()) as arrays:
            assert (arrays["pixels"] == np.asarray(Image.open(file).convert("RGB"))).all()
            expected = (a, b)[file == SHIP]
            assert np.abs(arrays[f"cbam/{tensor}"].squeeze() - expected.squeeze()).max() < 1e-5
    seen.rest()

    seen.page.locator("#copy").click()
    seen.page.wait_for_function("() => location.hash.includes('pinned')")
    again = visit(link=seen.page.evaluate("location.hash"))
    assert again.texts(f"{triple} .range") == ranges
    again.page.locator("#pair .triples").evaluate(
        """(list) => {
            Object.assign(window, { emptied: 0, first: list.querySelector("canvas") });
            const count = () => { if (!list.children.length) emptied++; };
            new MutationObserver(count).observe(list, { childList: true });
        }"""
    )
    kept = "() => [emptied, first.isConnected]"  # what is computed anew stays where it is until then
    put(again, "average")
    framed = again.page.locator("#pair .map.replaced")
    roles = {*framed.evaluate_all("(all) => all.map((one) => one.dataset.role)")}
    assert framed.count() > 6 and roles == {"gate", "share"}  # no difference is what was put there
    put(again, "by hand")
    curve = again.page.locator('#maps [data-mechanism="se"][data-kind="channel"] canvas').last
    curve.click(position={"x": 2, "y": 20})
    again.rest()
    by_hand = "() => document.querySelectorAll('#glance .row:has(.changed)').length"
    assert again.page.evaluate(by_hand) == 1
    assert again.page.evaluate(kept) == [0, True]
    difference = '#pair .triple[data-mechanism="se"][data-section="channel"] canvas'
    again.page.locator(difference).nth(2).click(position={"x": 9, "y": 9})  # no gate of any network
    again.rest()
    assert again.page.evaluate(by_hand) == 1
    again.page.locator("#pair").get_by_role("button", name="Unpin A").click()
    again.rest()
    assert again.page.locator("#pair").is_hidden()
    assert again.page.evaluate("document.activeElement.id") == "pin"
    again.page.locator("#take").click()
    assert again.page.locator(numbers).is_visible() and again.page.get_by_label("Of picture").is_hidden()


def test_two_pictures_name_the_method_that_is_shown(visit: callable):
    seen = visit(link=link_to("cbam"))
    seen.page.locator("#pin").click()
    seen.example("ship")
    title = seen.page.locator('#pair .triple[data-section="cam"] h3')
    assert title.inner_text() == "CBAM: Grad-CAM"
    seen.page.get_by_label("Method").select_option("EigenCAM")
    seen.rest()
    assert title.inner_text() == "CBAM: EigenCAM"


def test_a_server_that_says_nothing_of_a_pinned_picture_is_given_up(visit: callable, server: str, browser):
    first = visit(link=link_to("cbam"))
    first.example("ship")
    first.page.locator("#pin").click()
    first.example("cat")
    first.page.locator("#copy").click()
    first.page.wait_for_function("() => location.hash.includes('pinned')")
    page = browser.new_page()
    page.clock.install()
    said = page.locator("#pair [role=status]")
    with held(page, "**/look"):
        with page.expect_request("**/look"):
            page.goto(server + first.page.evaluate("location.hash"))
        page.clock.fast_forward(21_000)
        said.filter(has_text="The server does not answer at the moment.").wait_for()
    said.get_by_role("button", name="Try again").click()
    page.locator("#pair .triple").first.wait_for()
    page.close()


def test_evidence_that_does_not_come_is_missed_aloud(visit: callable):
    seen = visit()
    seen.page.route("**/evidence/*", lambda route: route.abort())
    panels = seen.page.locator("#used .panels")
    panels.scroll_into_view_if_needed()
    again = panels.get_by_role("button", name="Try again")
    again.wait_for()
    seen.page.unroute("**/evidence/*")
    again.click()
    panels.locator("figure").nth(2).wait_for()
    assert again.count() == 0
    seen.complaints.clear()


def test_shares_are_not_taken_from_gates(visit: callable):
    """Two maps of one kind and size may be in other units."""
    found = visit().page.evaluate(
        """async () => {
            const { differenceOf } = await import(new URL("page/lab/difference.js", location.href).href);
            const values = Float32Array.from({ length: 16 }, (_, i) => i / 16);
            const gate = { kind: "spatial", scale: "0-1", values, shape: [4, 4], key: "a", tensor: "t" };
            return [gate, { ...gate, scale: "uniform=1" }].map((one) => differenceOf(gate, one, "") !== null);
        }"""
    )
    assert found == [True, False]


def test_two_networks_beside_each_other(visit: callable, record: callable):
    seen = visit()
    seen.choose("se", "cbam")
    found = record(CAT, "se", "cbam")
    se, cbam = (values(found, f"layer2.1.refine.{name}") for name in ("gate", "channel_gate"))
    names = {"se": CATALOGUE["se"].title, "cbam": CATALOGUE["cbam"].title}
    spans = sorted([(np.ptp(se), names["se"], se), (np.ptp(cbam), names["cbam"], cbam)], reverse=True)
    (_, wide, one), (_, narrow, other) = spans
    said = seen.texts("#differ > b")[0]
    first, second = f"{wide}’s channel weights ranged from {extent(one)}", f"{narrow}’s from {extent(other)}"
    assert said == f"At layer2.1 {first} on this picture, {second}."
    lacks = seen.texts('#maps [data-section="spatial"] .lacks')
    means = "there is no number per place that all channels share"
    assert lacks == [f"{names['se']} has no spatial gate: {means}."]
    left, right = (seen.page.locator('#maps [data-kind="cam"]').nth(at).bounding_box() for at in (0, 1))
    assert left["y"] == right["y"] and left["width"] > 300
    cams = [
        decode(next(each for each in column["maps"] if each["tensor"] == "layer2.1.cam"))
        for column in found["mechanisms"]
    ]
    difference = seen.page.locator('#maps [data-section="cam"] .difference .range').inner_text()
    assert difference.startswith(extent(cams[1] - cams[0]))
    assert (
        seen.page.locator('#maps [data-section="channel"] .difference').count() == 0
    )  # channels do not compare
    seen.choose("se", "cbam", "plain")
    assert (
        seen.page.locator("#maps .difference, #maps .lacks").count() == 0
        and seen.page.locator("#differ").is_hidden()
    )


BLACK = """() => {
    CanvasRenderingContext2D.prototype.getImageData = (x, y, width, height) => new ImageData(width, height);
}"""


def test_a_picture_of_the_gallery_is_one_click_from_the_grid(visit: callable, edition: str, server: str):
    found = json.loads((PAGE / "examples" / "disagreement.json").read_text())
    mosaic = np.asarray(Image.open(PAGE / "examples" / "disagreement.png"))
    noise = "OffscreenCanvasRenderingContext2D.prototype.getImageData = () => new ImageData(32, 32);"
    seen, slow = visit(1024, 768, link=FEW, script=noise), []  # a browser asks its visitor for elements alone
    seen.page.route("**/disagreement.json", lambda route: slow.append(route))
    assert not any("disagreement" in url for url in seen.requests)  # fetched when it is opened
    with seen.page.expect_request("**/disagreement.json"):
        seen.page.get_by_role("button", name="they differ").click()
    for _ in range(2):  # closed and opened again while they are on their way
        seen.page.locator("#disagree summary").click()
    for route in slow:
        route.continue_()
    seen.rest()
    assert len(slow) == 1
    pictures = seen.page.locator("#disagree .pictures button")
    assert pictures.count() == len(found["pictures"])
    chosen = found["pictures"][23]
    said = pictures.nth(23).get_attribute("aria-label")
    assert f"Test picture {chosen['index']:,}, " in said
    most = max(chosen["answers"].count(answer) for answer in chosen["answers"])
    assert re.search(rf": {most} says? ", said)
    violations = Axe().run(seen.page).response["violations"]
    assert [one["id"] for one in violations if one["impact"] in ("serious", "critical")] == []
    pictures.first.focus()
    seen.page.keyboard.press("ArrowRight")
    assert pictures.nth(1).evaluate("(node) => node === document.activeElement")
    pictures.nth(23).click()
    seen.rest()
    assert said in seen.texts("#status p")[0] and seen.asked() == (edition == server)
    tile = mosaic[32:64, 3 * 32 : 4 * 32]
    assert [seen.pixel(x, y) for x, y in ((0, 0), (31, 5), (16, 30))] == [
        tile[y, x].tolist() for x, y in ((0, 0), (31, 5), (16, 30))
    ]
    seen.page.evaluate(BLACK)
    pictures.nth(2).click()
    seen.page.locator("#disagree .readout", has_text="This browser hides the pixels").wait_for()
    assert said in seen.texts("#status p")[0]


def test_pixels_are_taken_away_in_the_order_of_a_map(visit: callable, tree: Path, edition: str, server: str):
    """Those that it ranks highest first, and what is drawn is what the network then answers."""
    seen = visit(link=link_to("cbam").replace("&end", "&detail=cbam&end"))
    if edition != server:  # this device computes it
        seen.page.locator("#detail .curve > button").click()
        seen.page.locator("#detail .curve svg").wait_for()
        assert seen.page.locator("#detail .curve .way").count() == 3
        return
    with seen.page.expect_request("**/probabilities") as asked:
        seen.page.locator("#detail .curve > button").click()
    seen.page.locator("#detail .curve svg").wait_for()
    given = [
        np.frombuffer(base64.b64decode(one), np.uint8).reshape(32, 32, 3)
        for one in asked.value.post_data_json["images"]
    ]
    assert len(given) == 1 + 3 * 7 + 1 and (given[0] == np.asarray(Image.open(CAT).convert("RGB"))).all()
    assert (given[-1] == [125, 123, 114]).all()  # nothing is left
    model, cat = (
        restored("cbam", tree / "checkpoints")[0],
        inspect(restored("cbam", tree / "checkpoints")[0], Image.open(CAT).convert("RGB")),
    )
    maps = [cat.cams["layer4.1"], cat.maps["layer2.1.refine.spatial_gate"].values[0]]
    for which, small in enumerate(maps):
        large = torch.nn.functional.interpolate(torch.tensor(small)[None, None], (32, 32), mode="bilinear")[
            0, 0
        ].numpy()
        for step in range(7):
            gone = (given[1 + 7 * which + step] == [125, 123, 114]).all(-1) & (
                given[0] != [125, 123, 114]
            ).any(-1)
            assert abs(gone.sum() - 128 * (step + 1)) < 8
            assert large[gone].min() >= large[~gone].max() - 1e-4
    shares = np.array([inspect(model, Image.fromarray(one)).probabilities[cat.target] for one in given])
    for which, way in enumerate(("Cam", "Own", "Random")):
        curve = np.array([shares[0], *shares[1 + 7 * which : 8 + 7 * which], shares[-1]])
        drawn = seen.page.locator(f"#detail .way.way{way}").get_attribute("d")
        heights = np.array([float(point.split(",")[1]) for point in drawn[1:].split("L")])
        assert np.abs((156 - heights) / 148 - curve).max() < 1e-3
        shown = float(seen.page.locator(f"#detail .ways .way{way} data").get_attribute("value"))
        assert shown == pytest.approx(np.trapezoid(curve, dx=1 / 8), abs=1e-4)
    seen.page.locator("#detail .seen > button").click()
    seen.page.locator("#detail .seen canvas").last.wait_for()
    gates = cat.maps["layer2.1.refine.channel_gate"].values.flatten()
    order = np.argsort(-gates, kind="stable")
    assert seen.texts("#detail .seen figcaption") == [
        f"channel {at}: {number(gates[at])}" for at in (*order[:4], *order[-4:])
    ]
    seen.page.keyboard.press("Escape")
    seen.page.locator('#maps [data-section="cam"] select').first.select_option("dog")
    seen.rest()
    seen.page.locator("#glance .name").first.click()
    seen.rest()
    assert seen.page.locator("#detail .curve svg").count() == 0  # it was about the cat
    seen.page.locator("#detail .curve > button").click()
    seen.page.locator("#detail .ways", has_text="probability of dog").wait_for()
    drawn = seen.page.locator("#detail .way.wayCam").get_attribute("d")
    start = (156 - float(drawn[1:].split("L")[0].split(",")[1])) / 148
    assert start == pytest.approx(cat.probabilities[CLASSES.index("dog")], abs=1e-3)
    assert seen.page.evaluate("document.activeElement.closest('.curve') !== null")  # the button is gone
    seen.page.route("**/features", lambda route: route.abort())
    seen.page.locator("#detail .seen > button").click()
    seen.page.locator("#detail .seen", has_text="The server does not answer").get_by_role(
        "button", name="Try again"
    ).wait_for()
    seen.complaints.clear()
    seen.page.keyboard.press("Escape")
    seen.block("layer1.0")
    seen.page.locator("#glance .name").first.click()
    seen.page.locator("#detail .seen > button").wait_for()
    assert seen.page.locator("#detail .seen canvas").count() == 0  # they were of another block
    seen.page.keyboard.press("Escape")
    seen.block("layer2.1")
    seen.example("ship")
    seen.page.locator("#glance .name").first.click()
    seen.page.locator("#detail .curve > button").wait_for()
    assert seen.page.locator("#detail .curve svg").count() == 0  # it was of the cat


# ---- what if


ANSWERS = """(bars) => bars.map((bar) => [bar.querySelector("span").textContent,
    ...["--p", "--was"].map((name) => +bar.querySelector("i").style.getPropertyValue(name))])"""


def answers(seen, name: str) -> list[np.ndarray]:
    """What the page says a network answers, and answers as trained (NaN where nothing is replaced)."""
    bars = seen.page.locator(f'#glance [data-key="{name}"] .every li').evaluate_all(ANSWERS)
    found = {label: (share, was) for label, share, was in bars}
    return [np.array([found[label][at] or np.nan for label in CLASSES]) for at in (0, 1)]


restored = cache(restore_with_facts)


def replaced(tree, name: str, file, replacement: Replacement | None):
    """The same, computed by the network itself."""
    model, facts = restored(name, tree / "checkpoints")
    picture = Image.open(file).convert("RGB")
    if replacement is None:
        return inspect(model, picture)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averages, "load", partial(averages.load, folder=tree / "checkpoints"))
        return inspect_replaced(model, facts, name, picture, replacement)


def put(seen, name: str) -> None:
    seen.page.locator("#whatif select").first.select_option(name)
    seen.rest()


def close(shown: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.allclose(shown, expected, atol=2e-5, rtol=0))


def test_what_if_everything_follows_and_one_press_goes_back(
    visit: callable, tree: Path, edition: str, server: str
):
    seen = visit()
    put(seen, "average")
    for name in ("se", "cbam", "sk"):
        expected = replaced(tree, name, CAT, Replacement("average"))
        shown, was = answers(seen, name)
        assert close(shown, expected.probabilities) and close(was, expected.before)
        assert not close(shown, was)
        assert seen.page.locator(f'#glance [data-key="{name}"] .thumb.replaced').count() == 8
    assert np.isnan(answers(seen, "plain")[1]).all()
    assert "Plain ResNet18 has no attention" in seen.texts("#status p")[0]
    expected = replaced(tree, "se", CAT, Replacement("average"))
    channel = '#maps [data-mechanism="se"][data-kind="channel"]'
    assert seen.texts(f"{channel} .range")[0].startswith(extent(expected.maps["layer2.1.refine.gate"].values))
    assert seen.page.locator(f"{channel}.replaced").count() == 1
    assert seen.page.locator('#maps [data-kind="cam"].replaced').count() == 0
    asked = seen.asked()

    seen.page.locator("#whatif select").nth(1).select_option("layer3.1")
    seen.rest()
    expected = replaced(tree, "cbam", CAT, Replacement("average", "layer3.1"))
    assert close(answers(seen, "cbam")[0], expected.probabilities)
    assert seen.page.locator('#glance [data-key="cbam"] .thumb.replaced').count() == 1
    seen.page.locator("#copy").click()
    seen.page.wait_for_function("() => location.hash.includes('replace=average')")
    again = visit(link=seen.page.evaluate("location.hash"))
    assert close(answers(again, "cbam")[0], expected.probabilities)
    assert again.texts("#whatif p") == seen.texts("#whatif p")

    with seen.page.expect_download() as download:
        seen.page.locator("#take").click()
        seen.page.locator('#files [data-form="json"]').click()
    report = json.loads(Path(download.value.path()).read_text())
    wanted = {"name": "average", "scope": "layer3.1", "strength": 1}
    assert report["settings"]["replace"] == wanted | {"only": None, "by_hand": None, "other_sha256": None}
    seen.rest()
    violations = Axe().run(seen.page).response["violations"]
    assert [one["id"] for one in violations if one["impact"] in ("serious", "critical")] == []
    seen.page.get_by_role("button", name="As trained").click()
    seen.rest()
    assert seen.page.evaluate("document.activeElement.parentNode.innerText").startswith("What if")
    assert (
        seen.asked() == asked + (edition == server) and seen.page.locator(".replaced, .changed").count() == 0
    )
    assert close(answers(seen, "cbam")[0], replaced(tree, "cbam", CAT, None).probabilities)


def test_another_picture_is_the_next_example_or_the_pinned_one(visit: callable, tree):
    seen = visit(link=link_to("cbam"))
    put(seen, "another picture's")
    deer, cat = (
        Image.open(PAGE / "examples" / f"{name}.png").convert("RGB").tobytes() for name in ("deer", "cat")
    )
    expected = replaced(tree, "cbam", CAT, Replacement("another picture's", other=deer))
    assert close(answers(seen, "cbam")[0], expected.probabilities)
    seen.page.locator("#pin").click()
    seen.rest()
    assert close(answers(seen, "cbam")[0], expected.probabilities)  # its own would change nothing
    seen.example("ship")
    expected = replaced(tree, "cbam", SHIP, Replacement("another picture's", other=cat))
    assert close(answers(seen, "cbam")[0], expected.probabilities)
    one = "layer2.1.refine.spatial_gate"  # of the two that CBAM has at the chosen block
    seen.page.locator("#whatif select").nth(1).select_option(one)
    seen.rest()
    expected = replaced(tree, "cbam", SHIP, Replacement("another picture's", one, other=cat))
    assert close(answers(seen, "cbam")[0], expected.probabilities)


def test_a_slider_ends_where_it_stands_without_asking_for_every_step(
    visit: callable, tree: Path, edition: str, server: str
):
    seen = visit(link=FEW)
    put(seen, "strength")
    assert close(*answers(seen, "cbam"))  # as it is: a strength of 1
    asked = seen.asked()
    bar = seen.page.get_by_role("slider", name="Strength")
    bar.focus()
    with held(seen.page, "**/look"):  # however slow a hand, or this machine, is
        for _ in range(18):
            seen.page.keyboard.press("ArrowLeft")
    seen.rest()
    expected = replaced(tree, "cbam", CAT, Replacement("strength", strength=0.1))
    assert close(answers(seen, "cbam")[0], expected.probabilities)
    assert 1 <= seen.asked() - asked <= 2 if edition == server else seen.asked() == 0
    if edition != server:
        return
    assert seen.page.locator("#glance .row.pending").count() == 0
    seen.page.route("**/look", lambda route: route.abort())
    bar.press("ArrowLeft")
    seen.page.locator("#status .again").wait_for()
    seen.page.locator("#glance .row.pending").first.wait_for()  # what stands there is of another strength
    seen.page.unroute("**/look")
    seen.page.locator("#status .again").click()
    seen.rest()
    assert seen.page.locator("#glance .row.pending").count() == 0
    seen.complaints.clear()


def test_channels_are_switched_and_gates_painted_by_hand(visit: callable, tree):
    seen = visit()
    put(seen, "by hand")
    assert seen.page.locator(".changed").count() == 0  # nothing is changed yet
    said = seen.texts("#glance .summary")
    assert "4 of 4 find" in said[0]
    curve = seen.page.locator('#maps [data-mechanism="se"][data-kind="channel"] canvas')
    curve.click(position={"x": 2, "y": 20})  # the largest
    seen.rest()
    gate = replaced(tree, "se", CAT, None).maps["layer2.1.refine.gate"].values
    hand = (("layer2.1.refine.gate", ((int(gate.argmax()), 0.0),)),)
    expected = replaced(tree, "se", CAT, Replacement("by hand", by_hand=hand))
    assert close(answers(seen, "se")[0], expected.probabilities)
    assert seen.page.locator("#glance .row:has(.changed)").evaluate_all(
        "(all) => all.map((one) => one.dataset.key)"
    ) == ["se"]
    assert "4 of 4 find" in seen.texts("#glance .summary")[0]  # asked of one network, said of all
    curve.click(position={"x": curve.bounding_box()["width"] - 2, "y": 20})  # it is the smallest now
    seen.rest()
    assert seen.page.locator(".changed").count() == 0
    curve.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "Enter"):  # back at the largest
        seen.page.keyboard.press(key)
    seen.rest()
    assert close(answers(seen, "se")[0], expected.probabilities)
    seen.page.keyboard.press("Enter")
    seen.rest()
    assert seen.page.locator(".changed").count() == 0

    place = seen.page.evaluate("() => document.querySelector('#seen canvas').toDataURL()")
    canvas = seen.page.locator('#maps [data-mechanism="cbam"][data-kind="spatial"] canvas')
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    cell = box["width"] / 16
    seen.page.mouse.move(box["x"] + 2.5 * cell, box["y"] + 1.5 * cell)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + 6.5 * cell, box["y"] + 1.5 * cell)  # so quick that cells lie between
    seen.page.mouse.up()
    seen.rest()
    hand = (("layer2.1.refine.spatial_gate", tuple((16 + column, 0.0) for column in range(2, 7))),)
    expected = replaced(tree, "cbam", CAT, Replacement("by hand", by_hand=hand))
    assert close(answers(seen, "cbam")[0], expected.probabilities)
    assert place == seen.page.evaluate("() => document.querySelector('#seen canvas').toDataURL()")
    seen.page.mouse.move(box["x"] + 4.5 * cell, box["y"] + 1.5 * cell)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + 4.5 * cell + 1, box["y"] + 1.5 * cell)  # a hand trembles
    seen.page.mouse.move(box["x"] + 5.5 * cell, box["y"] + 1.5 * cell)  # what begins so takes back all along
    seen.page.mouse.move(box["x"] + 5.5 * cell, box["y"] + 2.5 * cell)  # and paints nothing
    seen.page.mouse.up()
    seen.page.mouse.move(box["x"] - 8, box["y"] + 3.5 * cell)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + 0.5 * cell, box["y"] + 3.5 * cell)  # what begins beside it paints
    seen.page.mouse.up()
    seen.rest()
    hand = (("layer2.1.refine.spatial_gate", tuple((at, 0.0) for at in (18, 19, 22, 48))),)
    expected = replaced(tree, "cbam", CAT, Replacement("by hand", by_hand=hand))
    assert close(answers(seen, "cbam")[0], expected.probabilities)
    touched = "(node) => [getComputedStyle(node).touchAction, getComputedStyle(node).cursor]"
    assert canvas.evaluate(touched) == ["none", "cell"]
    assert curve.evaluate(touched) == ["manipulation", "cell"]  # a finger scrolls there
    seen.page.locator("#copy").click()
    seen.page.wait_for_function("() => location.hash.includes('by_hand')")
    again = visit(link=seen.page.evaluate("location.hash"))
    assert close(answers(again, "cbam")[0], expected.probabilities)
