"""A graphics card computes where it passes a test, WebAssembly where it does not."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from models.checkpoint import restore_with_facts
from tests.conftest import chromium_or_skip
from tests.screenshots import AT_REST, FLAGS, launched
from tests.static import given_out
from tests.test_site import CLOSE, differences, look, moved
from visualize.inspection.network import inspect

SOFTWARE = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")

# Networks of the smallest kind in a pool of its own: where each was opened, and what it answered.
TRY = """async ([graph, trials, lost]) => {
    const here = (file) => new URL(file, location.href).href;
    const { Pool } = await import(here("page/browser/pool.js"));
    const { start } = await import(here("page/engine.js"));
    const { webgpu } = await (await fetch(start().site.networks)).json();
    const bytes = Uint8Array.from(atob(graph), (one) => one.charCodeAt(0));
    const file = { file: URL.createObjectURL(new Blob([bytes])), bytes: bytes.length };
    const facts = { graph: file, weights: { ...file, name: "none" }, averages: null, about: {}, attention: [],
        blocks: [], changing: [], maps: [{ tensor: "pixels_seen", shape: [10] }], unusual_below: null };
    const image = btoa(String.fromCharCode(...new Uint8Array(3072).fill(51)));
    const test = async (name) => { // what is known of it
        const [within, milliseconds, off] = trials[name];
        const map = { lo: 0.2 + off, hi: 0.2 + off, data: btoa("\\0".repeat(20)) };
        const column = { probabilities: new Array(10).fill(0.1), maps: [map] };
        return { image, column, within, milliseconds };
    };
    const names = Object.keys(trials), networks = Object.fromEntries(names.map((name) => [name, facts]));
    const pool = new Pool(new URL("./", location.href), webgpu, networks, test), opened = [], answers = [];
    pool.open = async function (worker, name) {
        await Pool.prototype.open.call(this, worker, name);
        opened.push(this.providers[name]);
        if (lost && opened.length === 1)
            worker.ask = async () => { throw Object.assign(new Error("gone"), { kind: "card" }); };
    };
    const asked = { act: "column", image, target: null, cam: "GradCAM", replace: null };
    for (const name of names) {
        const { probabilities, maps } = await pool.ask(name, asked);
        answers.push([...probabilities, maps[0].lo]);
    }
    for (const { worker } of pool.workers) worker.terminate();
    return { opened, answers };
}"""


def tiny() -> str:
    """A graph whose logits are all the mean of the pixels, between 0 and 1."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["mean"], keepdims=1),
        helper.make_node("Div", ["mean", "most"], ["share"]),
        helper.make_node("Reshape", ["share", "one"], ["flat"]),
        helper.make_node("Expand", ["flat", "ten"], ["logits"]),
        helper.make_node("Identity", ["logits"], ["pixels_seen"]),
    ]
    constants = [
        helper.make_tensor("most", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("one", TensorProto.INT64, [2], [1, 1]),
        helper.make_tensor("ten", TensorProto.INT64, [2], [1, 10]),
    ]
    given = [
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, 3, 32, 32]),
        helper.make_tensor_value_info("target", TensorProto.FLOAT, [1, 10]),
    ]
    found = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 10]) for name in ("logits", "pixels_seen")
    ]
    graph = helper.make_graph(nodes, "tiny", given, found, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content = io.BytesIO()
    onnx.save(model, content)
    return base64.b64encode(content.getvalue()).decode()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium with a graphics card that is made of software."""
    with sync_playwright() as playwright:
        chromium_or_skip(playwright)
        flags = [flag for flag in FLAGS if flag != "--disable-gpu"] + [*SOFTWARE]
        with launched(playwright, flags) as browser:
            yield browser


@pytest.fixture(scope="module")
def page(browser: Browser, site: Path) -> Iterator[Page]:
    """The static edition."""
    with given_out(site) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function(AT_REST)
        assert page.evaluate("async () => Boolean(await navigator.gpu.requestAdapter())")
        yield page


GOOD = (1e-3, 1e9, 0)  # within what it must be, in how many milliseconds, how far off what is known is


@pytest.mark.browser
@pytest.mark.parametrize(
    ("trials", "lost", "opened"),
    [
        (
            {
                "passes": GOOD,
                "other numbers": (1e-3, 1e9, 0.1),
                "much of a map of small numbers": (1e-3, 1e9, 5e-4),
                "too slow": (1e-3, 0, 0),
                "not a number": (1e-3, 1e9, float("nan")),
            },
            False,
            ["webgpu", "wasm", "wasm", "wasm", "wasm"],
        ),
        ({"lost on the way": GOOD}, True, ["webgpu", "wasm"]),
    ],
)
def test_a_card_computes_where_it_passes(page: Page, trials: dict, lost: bool, opened: list[str]):
    found = page.evaluate(TRY, [tiny(), trials, lost])
    assert found["opened"] == opened
    for *probabilities, value in found["answers"]:
        assert probabilities == pytest.approx([0.1] * 10) and value == pytest.approx(51 / 255)
    assert len(found["answers"]) == len(trials)


@pytest.mark.browser
def test_a_card_of_software_is_not_tried(page: Page):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    look(page, moved("cat"), ("se",))
    assert any("/engine." in url for url in requests) and not any("/webgpu." in url for url in requests)


@pytest.mark.browser
@pytest.mark.long
def test_a_card_computes_what_pytorch_computes(browser: Browser, page: Page, site: Path):
    """On a card of software, which takes seconds for it, as if it were one of hardware and in time."""
    context = browser.new_context()
    hardware = context.new_page()
    hardware.add_init_script("""
        navigator.gpu.requestAdapter = async () => ({ info: { isFallbackAdapter: false } });
    """)
    context.route("**/browser/engine.js", patient)
    hardware.goto(page.url)
    hardware.wait_for_function(AT_REST)
    column = look(hardware, moved("cat"), ("se",))["se"]
    seen = inspect(restore_with_facts("se", site.parent / "tree" / "checkpoints")[0], moved("cat"))
    records, cams = differences(column, seen)
    assert hardware.evaluate("pool.providers") == {"se": "webgpu"}
    assert records < CLOSE and max(cams) < 0.005
    context.close()


def patient(route: Route) -> None:
    """The engine, with all the time in the world for the card, and a pool that can be looked into."""
    answer = route.fetch()
    body = answer.text().replace("MILLISECONDS = 60", "MILLISECONDS = 1e9")
    route.fulfill(response=answer, body=body.replace("(opened = new", "(opened = globalThis.pool = new"))
