"""The results on the page: their value, and what a browser makes of it."""

import json
import re

import numpy as np
import pytest
from playwright.sync_api import Page

from models import CATALOGUE
from models.checkpoint import write_facts
from models.results import predictions
from models.results.table import results
from visualize.answers import PAGE

LABELS = np.arange(10_000) % 10


def made_up(folder, count: int = 40):
    """A folder of measured networks, the last two by another recipe: made-up figures, no weights."""
    random = np.random.default_rng(1)
    names = [name for name, entry in CATALOGUE.items() if entry.is_network][:count]
    hard = random.random(10_000) < 0.06  # what one network gets wrong, the next one often does, too
    for index, name in enumerate(names):
        quality = 0.72 if index == 3 else 0.88 if index == 8 else 0.8 + 0.01 * random.standard_normal()
        wrong = hard & (random.random(10_000) < quality) | (random.random(10_000) < 0.004)
        predicted = np.where(wrong, (LABELS + 1) % 10, LABELS)
        extra = 0.0
        if index:
            extra = float(random.choice([0.001, 0.01, 0.03, 0.2, 0.5]) * (1 + random.random()))
        facts = {
            "name": name,
            "recipe": "cpu" if index >= count - 2 else "gpu",
            "settings": {},
            "dataset": "cifar10",
            "epochs": 45,
            "seed": 0,
            "accuracy": 100 * float((predicted == LABELS).mean()),
            "accuracy_mirror": 100 * float((predicted == LABELS).mean()) + 0.3,
            "accuracy_unrounded": None,
            "test_images": 10_000,
            "parameters": int(11_173_962 * (1 + extra)) if index != 5 else 9_000_000,
            "flops": int(1_110_845_440 * (1 + extra / 2)),
            "latency_ms": 7.5 * (1 + extra),
            "train_seconds": 60.0 * (1 + extra),
            "sha256": name,
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_facts(name, facts, folder)
        predictions.store(name, predicted, LABELS, facts, folder)
    return folder


# In a browser, without a server: the part of the page that holds them, its style and its script.


def document(value: dict, theme: str = "light") -> str:
    style = "".join((PAGE / file).read_text() for file in ("page.css", "lab/lab.css"))
    html = re.search(r'<section id="results".*?</section>', (PAGE / "index.html").read_text(), re.DOTALL)[0]
    script = "".join((PAGE / file).read_text() for file in ("elements.js", "leaderboard.js"))
    script = re.sub(r"^(import .*|export )", "", script, flags=re.MULTILINE)
    return f"""<!doctype html><html data-theme="{theme}" data-ready="yes"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><style>{style}</style><main>{html}</main>
<script>{script} leaderboard(document.querySelector("#results"), {json.dumps(value)});</script>"""


@pytest.fixture(scope="module")
def forty(tmp_path_factory) -> dict:
    return {"blocks": results(made_up(tmp_path_factory.mktemp("forty")))}


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert not errors


def column(page: Page, block: int, key: str) -> list[str]:
    """The texts of one column, from top to bottom."""
    cells = "th" if key == "Network" else f'td[data-label="{key}"]'
    return page.locator(".block").nth(block).locator(f"tbody {cells} > span").all_inner_texts()


def show(page: Page, content: str) -> None:
    """Puts the tables on a page, and waits for their charts, which are drawn when their width is known."""
    page.set_content(content)
    drawn = "(charts) => charts.every((chart) => chart.querySelector('.point'))"
    page.wait_for_function(f"() => ({drawn})([...document.querySelectorAll('.block figure > svg')])")


@pytest.mark.browser
def test_every_recipe_has_a_picture_and_a_table_of_its_own(page, forty):
    show(page, document(forty))
    assert page.locator(".block").count() == page.locator("figure > svg").count() == 2
    for index, block in enumerate(forty["blocks"]):
        shown = page.locator(".block").nth(index)
        keys = [row["key"] for row in block["rows"]]
        assert shown.locator("h3").inner_text() == block["title"]
        points = shown.locator("figure > svg .point").evaluate_all("all => all.map((one) => one.dataset.key)")
        assert sorted(points) == sorted(keys)
        assert len(column(page, index, "Network")) == len(keys)
    assert page.locator(".block").nth(1).locator(".band").count() == 0  # no plain network by that recipe


@pytest.mark.browser
def test_a_header_sorts_by_mouse_and_by_keyboard(page, forty):
    page.set_content(document(forty))
    rows = forty["blocks"][0]["rows"]
    head = page.locator(".block").first.locator("thead")
    head.get_by_role("button", name="Parameters").click()
    numbers = [int(text.replace(",", "")) for text in column(page, 0, "Parameters")]
    assert numbers == sorted(row["parameters"] for row in rows)
    head.get_by_role("button", name="Parameters").click()
    assert [int(text.replace(",", "")) for text in column(page, 0, "Parameters")] == numbers[::-1]
    head.get_by_role("button", name="Accuracy").focus()
    page.keyboard.press("Enter")  # the best first
    shown = [float(text.split()[0]) for text in column(page, 0, "Accuracy, 95 % interval")]
    assert shown == sorted((row["accuracy"]["value"] for row in rows), reverse=True)
    sorts = head.locator("th").evaluate_all("all => all.map((one) => one.getAttribute('aria-sort'))")
    assert [sort for sort in sorts if sort] == ["descending"] and sorts[1] == "descending"
    head.get_by_role("button", name="Beside plain").click()
    compared = [row for row in rows if row["verdict"]]
    best = max(compared, key=lambda row: row["verdict"]["better"] - row["verdict"]["worse"])
    assert column(page, 0, "Network")[0] == best["title"] and len(compared) == len(rows) - 1
    assert column(page, 0, "Network")[-1] == "Plain ResNet18"  # nothing to sort it by
    assert column(page, 1, "Network") == [row["title"] for row in forty["blocks"][1]["rows"]]  # left alone


@pytest.mark.browser
def test_a_point_stands_where_its_numbers_say(page, forty):
    show(page, document(forty))
    rows = sorted(forty["blocks"][0]["rows"], key=lambda row: row["accuracy"]["value"])
    points = page.locator(".block").first.locator("figure > svg .point")
    places = points.evaluate_all(
        """all => Object.fromEntries(all.map((one) => [one.dataset.key, ["line", "path"].map((part) => {
            const box = one.querySelector(part).getBoundingClientRect();
            return [box.left + box.width / 2, box.top, box.bottom];
        })]))"""
    )  # key -> interval and mark, each as middle, top, bottom
    middles = {key: (path[1] + path[2]) / 2 for key, (_, path) in places.items()}
    down = [middles[row["key"]] for row in rows]
    assert down == sorted(down, reverse=True)
    lowest, highest = rows[0], rows[-1]
    percent = (down[0] - down[-1]) / (highest["accuracy"]["value"] - lowest["accuracy"]["value"])  # in pixels
    for row in rows:
        _, top, bottom = places[row["key"]][0]
        span = row["accuracy"]["high"] - row["accuracy"]["low"]
        assert bottom - top == pytest.approx(percent * span, abs=2)
    by_cost = sorted(rows, key=lambda row: row["parameters"])
    across = [places[row["key"]][0][0] for row in by_cost]
    assert across == sorted(across)
    page.locator('.block >> nth=0 >> [data-cost="latency_ms"]').click()
    label = page.locator(".block figure > svg").first.get_attribute("aria-label")
    assert "Milliseconds, CPU" in label
    now = points.evaluate_all(
        "(all) => all.map((one) => [one.dataset.key, +one.querySelector('line').getAttribute('x1')])"
    )
    dear = [dict(now)[row["key"]] for row in sorted(rows, key=lambda row: row["latency_ms"])]
    assert dear == sorted(dear) and [dict(now)[row["key"]] for row in by_cost] != dear


@pytest.mark.browser
def test_the_kind_of_a_verdict_decides_its_mark_and_its_words_are_only_shown(page, forty):
    spoken = json.loads(json.dumps(forty))
    for block in spoken["blocks"]:
        for row in block["rows"]:
            row["beside"] = row["verdict"] and f"verdict {row['key']}"
    spoken["blocks"][0]["rows"][1]["verdict"]["kind"] = "worse"  # the made-up ones have none
    page.set_content(document(spoken))
    for index, block in enumerate(spoken["blocks"]):
        for row in block["rows"]:
            kind = row["verdict"]["kind"] if row["verdict"] else "plain"
            shown = page.locator(".block").nth(index)
            point = shown.locator(f'figure > svg .point[data-key="{row["key"]}"]')
            look = {"better": "differs", "worse": "differs"}.get(kind, kind)
            assert point.get_attribute("class").split() == ["point", look]
            begins = {"better": "M0,-5.5", "worse": "M0,5.5", "plain": "M-4,-4"}.get(kind, "M4.5,0")
            assert point.locator("path").get_attribute("d").startswith(begins)
            words = shown.locator(f'tr[data-key="{row["key"]}"] td.verdict').inner_text()
            assert words.startswith(row["beside"] or "the others are compared")
    kinds = {row["verdict"]["kind"] for block in spoken["blocks"] for row in block["rows"] if row["verdict"]}
    assert kinds == {"better", "worse", "same", "unknown"}


@pytest.mark.browser
def test_numbers_show_on_hover_and_for_the_keyboard(page, forty):
    page.set_content(document(forty))
    block = page.locator(".block").first
    readout, rows = block.locator(".readout"), forty["blocks"][0]["rows"]
    size = readout.bounding_box()
    worst = min(rows, key=lambda row: row["accuracy"]["value"])
    block.locator(f'tbody tr[data-key="{worst["key"]}"]').hover()
    said = readout.inner_text()
    low, high = worst["accuracy"]["low"], worst["accuracy"]["high"]
    assert said.startswith(worst["title"]) and f"({low:.2f} to {high:.2f})" in said
    assert block.locator(".point.on").get_attribute("data-key") == worst["key"]
    page.mouse.move(0, 0)  # what is below it may move when the picture is scrolled into view
    block.locator("figure > svg .point[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    second = sorted(rows, key=lambda row: row["parameters"])[1]
    assert readout.inner_text().startswith(second["title"])
    assert block.locator("tbody tr.on").get_attribute("data-key") == second["key"]
    assert readout.bounding_box()["height"] == size["height"]  # nothing jumps
    assert block.locator("figure > svg [tabindex='0']").count() == 1


@pytest.mark.browser
def test_on_a_phone_nothing_scrolls_sideways(page, forty):
    page.set_viewport_size({"width": 390, "height": 844})
    show(page, document(forty, "dark"))
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    right = "(all) => Math.max(...all.map((one) => one.getBoundingClientRect().right))"
    assert page.locator("#results *").evaluate_all(right) <= 390
    assert "Plain ResNet18" in page.locator("figure > svg .label").all_text_contents()
    page.locator("thead").first.get_by_role("button", name="Parameters").click()
    assert page.locator("th[aria-sort]").inner_text() == "Parameters"
    readout = page.locator(".readout").first
    height = readout.bounding_box()["height"]
    for row in page.locator("tbody tr").all()[:3]:
        row.hover()
        assert readout.bounding_box()["height"] == height


@pytest.mark.browser
def test_without_a_network_it_says_so(page):
    page.set_content(document({"blocks": []}))
    assert "No network is measured yet" in page.locator(".none").inner_text()
