"""The static edition: what a browser computes is what PyTorch computes, and nothing else is asked for."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import compress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, Route
from torch import nn

from models import CLASSES, CheckpointError, load
from models.checkpoint import CHECKPOINTS, read_facts, restore_with_facts
from models.metadata import mechanisms_table
from models.replacements import EVERYWHERE, REPLACEMENTS, attention_of, replace
from models.results import averages
from tests.screenshots import AT_REST, ROOT, held, photograph
from tests.site import BARS, megabytes_held
from tests.static import COMPUTED, TRAINED, Quiet, given_out
from tests.test_page import check_painting
from visualize.export.column import all_maps
from visualize.inspection.cam import METHODS
from visualize.inspection.network import Inspection, NotFiniteError, inspect
from visualize.inspection.replaced import Replacement
from visualize.inspection.untrained import EXAMPLES
from visualize.record.encoding import decode
from visualize.record.kinds import stays

PHONE = {"is_mobile": True, "has_touch": True}
CLOSE = 1e-5  # of a map's range: the rounding of float32; in parts of large maps half a step of 65,536, too

ASK = """async ([act, ...given]) => {
    const { engine } = await import(new URL("page/engine.js", location.href).href);
    const { toBase64 } = await import(new URL("page/picture.js", location.href).href);
    const text = (map) => // of floats
        (map.data?.buffer ? { ...map, data: "", floats: toBase64(new Uint8Array(map.data.buffer)) } : map);
    const columns = [], unavailable = [];
    if (act !== "look") return text(await engine[act](...given));
    const onColumn = (one) => columns.push({ ...one, maps: one.maps.map(text) });
    const heard = { onColumn, onUnavailable: (one) => unavailable.push(one) };
    return { ...(await engine.look(...given, heard)), columns, unavailable };
}"""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with given_out(site) as address:
        yield address


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_function(AT_REST)
        yield page


@pytest.fixture(scope="module")
def checkpoints(site: Path) -> Path:
    return site.parent / "tree" / "checkpoints"


@cache
def network(name: str, checkpoints: Path):
    return restore_with_facts(name, checkpoints)[0]


def moved(example: str) -> Image.Image:
    """An example, moved to the side by some pixels, so that no stored record answers for it."""
    pixels = np.array(Image.open(EXAMPLES / f"{example}.png").convert("RGB"))
    return Image.fromarray(np.roll(pixels, 5, 1))


def text_of(picture: Image.Image) -> str:
    return base64.b64encode(picture.tobytes()).decode()


def look(page: Page, picture: Image.Image, names: tuple[str, ...], **options: object) -> dict[str, dict]:
    """name -> the column that the browser makes."""
    found = page.evaluate(ASK, ["look", text_of(picture), names, options])
    assert found["unavailable"] == [], found["unavailable"]
    return {column["key"]: column for column in found["columns"]}


def values_of(entry: dict) -> np.ndarray:
    """A map that the browser has computed, which stays in floats."""
    return np.frombuffer(base64.b64decode(entry["floats"]), "<f4").reshape(entry["shape"])


def differences(column: dict, seen: Inspection) -> tuple[float, list[float]]:
    """The largest difference between the browser's records and PyTorch's, and those of the eight CAMs.

    They are in parts of a map's range, and prediction counts among the records.
    """
    maps, found = all_maps(seen), {"": np.abs(np.array(column["probabilities"]) - seen.probabilities).max()}
    assert [entry["tensor"] for entry in column["maps"]] == list(maps)
    for entry in column["maps"]:
        values = maps[entry["tensor"]].values
        scale = max(float(values.max() - values.min()), 1.0)
        apart = max(abs(entry["lo"] - values.min()), abs(entry["hi"] - values.max()))
        assert ("floats" in entry) != stays(maps[entry["tensor"]])  # but for those fetched in parts
        if "floats" in entry:
            apart = np.abs(values_of(entry) - values).max()
        found[entry["tensor"]] = float(apart / scale)
    cams = [found.pop(path) for path in list(found) if path.endswith(".cam")]
    return max(found.values()), cams


def check_cams(apart: list[float]) -> None:
    """A ReLU whose input is 0 but for rounding lets a gradient through in one place and not in the other.

    Two libraries, which add up in another order, differ there: of 320 CAMs of ten shipped networks four, all
    of one picture with a value of 2e-7 before a ReLU of layer3, and by 1.5e-3 at most.
    """
    assert np.mean(np.array(apart) < CLOSE) > 0.95 and max(apart) < 0.005, sorted(apart)[-20:]


def steady(model: nn.Module, picture: Image.Image, seen: Inspection) -> list[bool]:
    """Which CAMs PyTorch finds again where another layout in memory has it add up in another order, too."""
    again = inspect(model.to(memory_format=torch.channels_last), picture)
    model.to(memory_format=torch.contiguous_format)
    return [np.abs(cam - again.cams[block]).max() < CLOSE for block, cam in seen.cams.items()]


@pytest.mark.browser
def test_the_browser_computes_what_pytorch_computes(page: Page, checkpoints: Path):
    """Prediction, every record and eight CAMs, on ten pictures, by each method and for many classes."""
    apart = []
    for at, example in enumerate(CLASSES):
        picture, cam, target = moved(example), METHODS[at % len(METHODS)], None if at < 5 else (at + 3) % 10
        asked = {"cam": cam, "target": "predicted" if target is None else CLASSES[target]}
        for name, column in look(page, picture, COMPUTED, **asked).items():
            seen = inspect(network(name, checkpoints), picture, target, cam)
            records, cams = differences(column, seen)
            assert records < CLOSE, (example, name)
            apart += cams
    check_cams(apart)


@pytest.mark.browser
def test_a_column_is_as_the_server_sends_it(page: Page, checkpoints: Path, monkeypatch: pytest.MonkeyPatch):
    """What stands beside the numbers, and the parts of large maps."""
    from visualize.inspection import engine
    from visualize.record import compare

    def given(name: str, device: str = "cpu") -> tuple:
        return network(name, checkpoints), read_facts(name, checkpoints)

    monkeypatch.setattr(engine, "load_with_facts", given)
    picture, numbers = moved("deer"), ("data", "floats", "lo", "hi", "raw")
    for name, column in look(page, picture, COMPUTED).items():
        wanted = compare.column(name, engine.Question(picture), on_gpu=False)
        for one in (column, wanted):
            one["maps"] = [
                {key: value for key, value in entry.items() if key not in numbers} for entry in one["maps"]
            ]
            one.pop("probabilities")
        assert column.pop("strength") == pytest.approx(wanted.pop("strength"), abs=2e-5)
        assert column == wanted
    for path, query in (("stage2.affinity", 7), ("stage2.affinity", 255)):
        row = page.evaluate(ASK, ["row", text_of(picture), "non_local", path, query])
        wanted = compare.affinity_row(picture, "non_local", path, query)
        assert row["shape"] == wanted["shape"]
        assert np.abs(values_of(row) - decode(wanted)).max() < CLOSE


@pytest.mark.browser
def test_the_channels_of_a_gate_are_the_servers(
    page: Page, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
):
    from visualize.inspection import engine
    from visualize.record.compare import channel_features

    monkeypatch.setattr(engine, "load_with_facts", lambda name, device: (network(name, checkpoints), {}))
    picture, path = moved("deer"), "layer4.1.refine.gate"
    found = page.evaluate(ASK, ["features", text_of(picture), "se", path])
    wanted = channel_features(picture, "se", path)
    assert found["channels"] == wanted["channels"] and found["shape"] == wanted["shape"] == [8, 4, 4]
    assert found["gates"] == pytest.approx(wanted["gates"], abs=1e-5)
    assert np.abs(values_of(found) - decode(wanted)).max() < 1e-4 * wanted["hi"]


@pytest.mark.browser
def test_many_pictures_are_answered_one_after_the_other(page: Page, checkpoints: Path):
    pictures = [moved("deer"), moved("ship")]
    found = page.evaluate(ASK, ["answers", [*map(text_of, pictures)], "se"])
    for picture, shares in zip(pictures, found, strict=True):
        expected = inspect(network("se", checkpoints), picture).probabilities
        assert np.abs(expected - shares).max() < CLOSE


@pytest.mark.browser
@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("replacement", [name for name in REPLACEMENTS if name != "as trained"])
def test_a_replacement_does_what_it_does_in_pytorch(
    page: Page, checkpoints: Path, name: str, replacement: str
):
    model, picture, other = network(name, checkpoints), moved("frog"), moved("truck")
    attention, measured, plain, others = expected(name, checkpoints)
    path = next(iter(attention))
    painted = np.full(attention[path].shape, np.nan, np.float32)
    painted.flat[3], painted.flat[5] = 0.25, 0.75
    asked = {"name": replacement, "scope": EVERYWHERE, "strength": 1.7}
    asked |= {"other": text_of(other), "by_hand": {path: {"3": 0.25, "5": 0.75}}}
    column = look(page, picture, (name,), replace=asked)[name]
    assert np.abs(np.array(column["before"]) - plain.probabilities).max() < CLOSE
    try:
        edits = replace(
            replacement,
            EVERYWHERE,
            attention,
            measured.average,
            others,
            measured.best,
            {path: tensor(painted)},
            1.7,
        )
    except ValueError:  # it has no meaning here
        assert column["replace_note"].endswith("it answers as trained.")
        assert column["before"] == column["probabilities"]
        return
    assert column["replace_note"] is None and column["replaced"] == [*edits]
    seen = inspect(model, picture, edits=edits)
    assert (
        np.abs(seen.probabilities - plain.probabilities).max() > 3 * CLOSE
    )  # else the test would see nothing
    records, cams = differences(column, seen)
    assert records < CLOSE and max(cams) < 0.05


@cache
def expected(name: str, checkpoints: Path) -> tuple:
    """Of a network: its attention, its averages, a frog as trained, and what it gives to a truck."""
    model = network(name, checkpoints)
    attention = attention_of(model)
    seen = inspect(model, moved("truck")).maps
    others = {path: tensor(seen[path].values[None]) for path in attention}
    measured = averages.read(name, read_facts(name, checkpoints)["sha256"], checkpoints)
    return attention, measured, inspect(model, moved("frog")), others


def tensor(values: np.ndarray):
    import torch

    return torch.from_numpy(values)


@pytest.mark.browser
def test_a_scope_is_a_block_or_a_tensor(page: Page, checkpoints: Path):
    model, picture = network("se", checkpoints), moved("ship")
    for scope in ("layer3.1", "layer3.1.refine.gate"):
        asked = {"name": "factor 1", "scope": scope}
        column = look(page, picture, ("se",), replace=asked)["se"]
        edits = replace("factor 1", scope, attention_of(model))
        assert [*edits] == ["layer3.1.refine.gate"]
        assert differences(column, inspect(model, picture, edits=edits))[0] < CLOSE


@pytest.mark.browser
def test_numbers_and_report_are_those_of_the_server(page: Page, checkpoints: Path):
    picture = moved("horse")
    script = """async ([image, mechanisms, form, replace = null]) => {
        const here = (file) => import(new URL(`page/${file}`, location.href).href);
        const { engine } = await here("engine.js"), { toBase64 } = await here("picture.js");
        const view = { block: "layer3.1" };
        const asked = { image, mechanisms, target: "frog", cam: "GradCAM", view, replace };
        const { blob, name } = await engine.file(form, asked);
        return [name, toBase64(new Uint8Array(await blob.arrayBuffer()))];
    }"""
    name, content = page.evaluate(script, [text_of(picture), COMPUTED, "npz"])
    assert name == "attnscope-non_local-se-layer3.1.npz"
    numbers = np.load(io.BytesIO(base64.b64decode(content)))
    assert (numbers["pixels"] == np.array(picture)).all() and tuple(numbers["classes"]) == CLASSES
    wanted = {"pixels", "classes", "target", "cam"}
    assert (str(numbers["target"]), str(numbers["cam"])) == ("frog", "GradCAM")
    hand = {"name": "by hand", "scope": EVERYWHERE, "strength": 1, "by_hand": {}, "only": "cbam"}
    _, content = page.evaluate(script, [text_of(picture), COMPUTED, "npz", hand])
    assert (
        np.load(io.BytesIO(base64.b64decode(content)))["replaced"] == "by hand, in CBAM alone"
    )  # which is none of these
    name, content = page.evaluate(script, [text_of(picture), COMPUTED, "json"])
    report = json.loads(base64.b64decode(content))
    for key, about in zip(COMPUTED, report["networks"]):
        seen = inspect(network(key, checkpoints), picture, CLASSES.index("frog"))
        assert about["checkpoint_sha256"] == read_facts(key, checkpoints)["sha256"]
        assert about["target"] == "frog" and about["predicted"] == CLASSES[seen.probabilities.argmax()]
        wanted.add(f"{key}/probabilities")
        for entry, (path, shown) in zip(about["maps"], all_maps(seen).items()):
            values = numbers[f"{key}/{path}"]
            wanted.add(f"{key}/{path}")
            assert values.dtype == np.float32 and values.shape == shown.values.shape
            assert np.abs(values - shown.values).max() < CLOSE * max(1, np.ptp(shown.values))
            assert entry["tensor"] == path and entry["shape"] == list(shown.values.shape)
            assert values[tuple(entry["strongest"])] == values.max()
        for block, ends in seen.cam_ranges.items():
            wanted.add(f"{key}/{block}.cam_range")
            found = numbers[f"{key}/{block}.cam_range"]
            assert found.dtype == np.float32 and found == pytest.approx(ends, abs=1e-4, rel=1e-3)
    assert set(numbers) == wanted

    whole = {"name": "level", "scope": EVERYWHERE, "strength": 1}
    picked = script, [text_of(picture), COMPUTED, "json", whole | {"only": "se"}]
    report = json.loads(base64.b64decode(page.evaluate(*picked)[1]))
    assert report["settings"]["replace"] == Replacement("level", only="se").whole
    other, se = report["networks"]
    assert "before" not in other
    assert [*se["before"].values()] == pytest.approx(numbers["se/probabilities"].tolist(), abs=CLOSE)
    assert se["probabilities"] != se["before"] and se["replace_note"] is None
    assert se["replaced"] and set(se["replaced"]) <= {entry["tensor"] for entry in se["maps"]}
    nowhere = whole | {"scope": "layer1.0.refine.gate"}
    _, content = page.evaluate(script, [text_of(picture), ("non_local",), "npz", nowhere])
    note = str(np.load(io.BytesIO(base64.b64decode(content)))["non_local/replace_note"])
    assert note == "Non-local has no attention there: it answers as trained."
    _, content = page.evaluate(script, [text_of(picture), COMPUTED, "npz", whole])
    replaced = np.load(io.BytesIO(base64.b64decode(content)))
    assert str(replaced["replaced"]) == Replacement("level").words == "level, everywhere"
    path, other = "layer2.1.refine.gate", moved("cat")
    asked = whole | {"name": "by hand", "only": "se", "by_hand": {path: {"3": 0.25}}}
    _, content = page.evaluate(script, [text_of(picture), COMPUTED, "npz", asked])
    by_hand = Replacement("by hand", by_hand=((path, ((3, 0.25),)),), only="se")
    assert str(np.load(io.BytesIO(base64.b64decode(content)))["replaced"]) == by_hand.words
    _, content = page.evaluate(script, [text_of(picture), COMPUTED, "npz", whole | {"scope": "stage3"}])
    after = str(np.load(io.BytesIO(base64.b64decode(content)))["replaced"])
    assert after == Replacement("level", "stage3").words == "level, after layer3"
    another = {"name": "another picture's", "other": text_of(other)}
    for wanted, given in (
        (by_hand, asked),
        (Replacement("another picture's", other=other.tobytes()), whole | another),
    ):
        report = json.loads(
            base64.b64decode(page.evaluate(script, [text_of(picture), ("se",), "json", given])[1])
        )
        assert report["settings"]["replace"] == wanted.whole
    assert (replaced["se/before"] == numbers["se/probabilities"]).all()
    assert replaced["se/probabilities"] == pytest.approx([*se["probabilities"].values()], abs=1e-6)


# ---- the folder on a host that only gives out files


@pytest.mark.browser
def test_moved_elsewhere_with_the_host_gone_it_still_answers(browser: Browser, site: Path, tmp_path: Path):
    """Served by `python -m http.server` from another folder; once loaded it asks nobody anything."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(site, folder)
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    command += ["--directory", str(folder)]
    host = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = host.stdout.readline().split("port ")[1].split()[0]
        address = f"http://127.0.0.1:{port}/"
        page, requests = browser.new_page(), []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_function(AT_REST)
        page.locator("#open-chooser").click()
        page.locator("#chooser").get_by_role("button", name="None", exact=True).click()
        for name in COMPUTED:
            page.locator(f'#chooser [data-key="{name}"]').check()
        page.locator("#chooser").get_by_role("button", name="Done").click()
        page.wait_for_function(AT_REST)
        assert not any("safetensors" in url for url in requests)  # the first screen is stored
        photograph(tmp_path / "photograph.jpg")
        page.locator("#file").set_input_files(tmp_path / "photograph.jpg")
        page.wait_for_function(AT_REST, timeout=60_000)
        assert page.locator("#status p").inner_text().startswith("2 networks have answered.")
        assert sum("safetensors" in url for url in requests) == len(COMPUTED)
    finally:
        host.terminate()
        host.wait()
    loaded, before = (
        len(requests),
        page.locator('#maps [data-kind="cam"] canvas').first.evaluate("(c) => c.toDataURL()"),
    )
    page.locator("#crop-choice select").select_option("squeeze")
    page.wait_for_function(AT_REST, timeout=60_000)
    assert page.locator("#status p").inner_text().startswith("2 networks have answered.")
    assert page.locator('#maps [data-kind="cam"] canvas').first.evaluate("(c) => c.toDataURL()") != before
    assert len(requests) == loaded
    page.locator('#examples [data-name="frog"]').click()  # what is stored of it never came
    page.wait_for_function(AT_REST, timeout=60_000)
    assert page.locator("#status p").inner_text().startswith("2 networks have answered.")
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


@pytest.mark.browser
def test_without_webassembly_the_examples_still_answer(browser: Browser, address: str, tmp_path: Path):
    page = browser.new_page()
    page.add_init_script("delete globalThis.WebAssembly")
    page.goto(address)
    page.wait_for_function(AT_REST)
    page.locator('#examples [data-name="ship"]').click()
    page.wait_for_function(AT_REST)
    assert page.locator("#status p").inner_text().startswith(f"{len(TRAINED)} networks have answered.")
    photograph(tmp_path / "photograph.jpg")
    page.locator("#file").set_input_files(tmp_path / "photograph.jpg")
    page.wait_for_function(AT_REST)
    assert "the ten examples can be looked at" in page.locator("#status p").inner_text()
    page.close()


@pytest.mark.browser
def test_what_breaks_off_is_tried_again(browser: Browser, address: str):
    context = browser.new_context()
    page, broken = context.new_page(), [True]

    def answer(route: Route) -> None:
        route.abort() if broken[0] else route.continue_()

    page.route("**/se.*.safetensors", answer)
    page.goto(address)
    page.wait_for_function(AT_REST)
    asked, other = (
        ["look", text_of(moved("bird")), ["se"], {}],
        ["look", text_of(moved("bird")), COMPUTED[::-1], {}],
    )
    assert page.evaluate(FAILING, other) == [BROKE_OFF, "non_local"]  # one that fails keeps no other away
    broken[0] = False
    assert [column["key"] for column in page.evaluate(ASK, asked)["columns"]] == ["se"]
    context.close()


BROKE_OFF = "A part of the networks could not be loaded: the connection broke off. Try once more."
FAILING = ASK.replace("return { ...(await", "try { await").replace(
    "heard)), columns, unavailable };",
    "heard); } catch (error) { return [error.message, ...columns.map(({ key }) => key)]; }",
)


@pytest.mark.browser
def test_what_came_wrong_comes_anew(browser: Browser, site: Path):
    """While files are still being put there, a host may give half of one, or a page for whatever is asked."""
    wrong = ["half"]

    class Wrong(Quiet):
        def do_GET(self) -> None:
            if wrong[0] == "half" and re.search(r"/engine\.\w+\.wasm\.gz$", self.path):
                content = Path(self.translate_path(self.path)).read_bytes()
                return self.give(content[: len(content) // 2])
            if wrong[0] == "page" and "non_local" in self.path and self.path.endswith(".onnx.gz"):
                return self.give(b"<!doctype html>")
            super().do_GET()

        def give(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Cache-Control", "public, max-age=31536000, immutable")
            self.end_headers()
            self.wfile.write(content)

    asked = ["look", text_of(moved("dog")), ["non_local"], {}]
    context = browser.new_context()
    with given_out(site, Wrong) as address:
        page = context.new_page()
        page.goto(address)
        page.wait_for_function(AT_REST)
        assert page.evaluate(FAILING, asked) == [BROKE_OFF]
        wrong[0] = "page"
        (said,) = page.evaluate(FAILING, asked)
        assert said.startswith("The networks cannot be computed in this browser")
        assert said.count("computed in this browser") == 1  # not within itself
        wrong[0] = None
        page.reload()
        page.wait_for_function(AT_REST)
        assert [column["key"] for column in page.evaluate(ASK, asked)["columns"]] == ["non_local"]
    context.close()


@pytest.mark.browser
def test_where_the_engine_does_not_start_nothing_more_is_loaded(browser: Browser, address: str):
    context = browser.new_context()
    page, asked = context.new_page(), []
    page.route("**/engine.*.mjs", lambda route: route.abort())
    page.route(f"**/{COMPUTED[1]}.*.safetensors", lambda route: None)  # it never comes, and so is not kept
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_function(AT_REST)
    page.evaluate(FAILING, ["look", text_of(moved("dog")), COMPUTED, {}])
    names = "async () => (await (await caches.open((await caches.keys())[0])).keys()).map(({ url }) => url)"
    assert any("engine." in url for url in page.evaluate(names))  # what came is kept for the next time
    weights = [url for url in asked if url.endswith(".safetensors")]
    page.evaluate(FAILING, ["look", text_of(moved("frog")), COMPUTED, {}])
    assert weights and weights == [url for url in asked if url.endswith(".safetensors")]
    context.close()


@pytest.mark.browser
def test_no_more_networks_are_in_memory_than_there_is_room_for(page: Page):
    """A worker closes one to open another, and one that nobody waits for any more is not loaded."""
    found = page.evaluate(
        """async ([image, names]) => {
            const { Pool } = await import(new URL("page/browser/pool.js", location.href).href);
            const { start } = await import(new URL("page/engine.js", location.href).href);
            const { engine, networks } = await (await fetch(start().site.networks)).json();
            const root = new URL("./", location.href), counts = [];
            const pool = Object.assign(new Pool(root, engine, networks), { most: 1, size: 1, each: 1 });
            const message = { act: "column", image, cam: "GradCAM", target: null, replace: null };
            const ask = async (name, signal) => {
                const { key } = await pool.ask(name, message, signal);
                counts.push(pool.workers.flatMap(({ held }) => held).length);
                return key;
            };
            const control = new AbortController(), gone = ask(names[1], control.signal).catch(() => "gone");
            control.abort();
            const answers = [await gone];
            for (const unwanted of ["a", "b"]) pool.files.set(unwanted, {}); // loaded for who left meanwhile
            const most = [];
            for (const room of [1, 2]) {
                Object.assign(pool, { most: room, each: room });
                for (const turn of [1, 2])
                    answers.push(...(await Promise.all(names.map((name) => ask(name)))));
                most.push(Math.max(...counts.splice(0)));
            }
            await new Promise((done) => setTimeout(done));
            const { loaded } = pool.loading;
            for (const { worker } of pool.workers) worker.terminate();
            return { answers, most, loaded };
        }""",
        [text_of(moved("cat")), COMPUTED],
    )
    assert found == {"answers": ["gone", *(COMPUTED * 4)], "most": [1, 2], "loaded": 0}  # nothing is coming


@pytest.mark.browser
def test_a_click_that_loads_a_network_says_so(browser: Browser, address: str):
    """Rows of large maps are stored for the first mark alone."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_function(AT_REST)
    with held(page, "**/*.safetensors"):
        page.locator("#seen canvas").click(position={"x": 9, "y": 9})
        page.locator("#status", has_text="Loading networks into this browser").wait_for()
    page.wait_for_function(AT_REST, timeout=120_000)
    assert "have answered" in page.locator("#status").inner_text()
    context.close()


@pytest.mark.browser
def test_a_file_that_loads_a_network_says_so(browser: Browser, address: str):
    """What stands on the page is stored, but a file holds more."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}#view=2&picture=cat&networks=se&end")
    page.wait_for_function(AT_REST)
    with page.expect_download(timeout=120_000) as taken, held(page, "**/*.safetensors"):
        page.locator("#take").click()
        page.locator('#files [data-form="json"]').click()
        page.locator("#status", has_text="Loading networks into this browser").wait_for()
    assert taken.value.suggested_filename == "attnscope-se-layer2.1.json"
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("settings", "memory", "most"),
    [({}, "undefined", 4), ({}, "2", 2), ({}, "8", 4), (PHONE, "undefined", 2), (PHONE, "8", 2)],
)
def test_a_phone_holds_two_networks(browser: Browser, address: str, settings: dict, memory: str, most: int):
    """Safari and Firefox do not say how much memory there is; what a phone says is not all for one page."""
    page = browser.new_page(**settings)
    page.add_init_script(
        f"Object.defineProperty(Navigator.prototype, 'deviceMemory', {{ get: () => {memory} }})"
    )
    page.goto(address)
    found = page.evaluate(
        """async () => {
            const { Pool } = await import(new URL("page/browser/pool.js", location.href).href);
            return new Pool(location.href, {}, {}).most;
        }"""
    )
    assert found == most
    page.close()


@pytest.mark.browser
def test_a_file_that_is_wanted_again_at_once_goes_on_coming(page: Page):
    """As when a visitor changes the picture while networks load; one that stays unwanted is given up."""
    found = page.evaluate(
        """async () => {
            const { Pool } = await import(new URL("page/browser/pool.js", location.href).href);
            const { setTimeout: wait } = globalThis; // seconds pass quickly
            globalThis.setTimeout = (act, delay, ...rest) => wait(act, delay / 50, ...rest);
            const file = (name) => ({ file: name, bytes: 1 }), begun = [];
            const files = { graph: file("graph"), weights: file("weights"), averages: null };
            const pool = new Pool(location.href, { binary: file("binary") }, { se: files });
            const given_up = new Promise((done) => {
                pool.download = ({ file }, signal) => new Promise((_, reject) => {
                    begun.push(file);
                    signal.addEventListener("abort", () => { reject(signal.reason), done("given up"); });
                });
            });
            const next = () => new Promise((done) => setTimeout(done)), controls = [];
            const ask = () => {
                controls.unshift(new AbortController());
                return pool.ask("se", {}, controls[0].signal).catch(() => "left");
            };
            const first = ask();
            await next();
            const coming = pool.coming;
            controls[0].abort();
            const second = ask();
            await next();
            const kept = pool.coming === coming && !coming.controller.signal.aborted;
            controls[0].abort();
            const answers = [await first, await second, kept, await given_up, begun];
            globalThis.setTimeout = wait;
            return answers;
        }"""
    )
    assert found == ["left", "left", True, "given up", ["binary"]]


@pytest.mark.browser
def test_a_download_that_falls_silent_is_given_up(page: Page):
    """The browser itself would wait for minutes, and whoever asks once more with it."""
    found = page.evaluate(
        """async () => {
            const { Pool } = await import(new URL("page/browser/pool.js", location.href).href);
            const { setTimeout: wait, fetch: ask } = globalThis, file = (name) => ({ file: name, bytes: 1 });
            globalThis.setTimeout = (act, delay, ...rest) => wait(act, delay / 100, ...rest);
            globalThis.fetch = (address, { signal }) => new Promise((_, reject) =>
                signal.addEventListener("abort", () => reject(signal.reason)));
            const files = { graph: file("graph"), weights: file("weights"), averages: null };
            const pool = new Pool(location.href, { binary: file("nothing") }, { se: files });
            const said = await pool.ask("se", {}).catch(({ message }) => message);
            Object.assign(globalThis, { setTimeout: wait, fetch: ask });
            return said;
        }"""
    )
    assert found.endswith("the connection broke off. Try once more.")


@pytest.mark.browser
def test_a_link_that_paints_beyond_a_tensor_is_refused_in_a_sentence(page: Page):
    check_painting(page)


@pytest.mark.browser
def test_what_is_in_memory_is_held_once(browser: Browser, page: Page, address: str):
    """Else two networks take more than four may. The last test of `page`, whose store has the files."""
    look(page, moved("cat"), COMPUTED)
    most = BARS["four_networks_megabytes"]
    assert any(held < most for held in megabytes_held(browser, page, address, COMPUTED))


# ---- how it is made


def test_a_clear_sentence_where_npm_or_a_package_is_missing(tmp_path: Path, monkeypatch, capsys):
    from visualize.site import __main__ as command
    from visualize.site import build

    monkeypatch.setattr(sys, "argv", ["site", str(tmp_path / "out")])
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    assert command.main() == 1
    assert capsys.readouterr().out.startswith("npm is missing: ")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["site", str(tmp_path / "full")])
    assert command.main() == 1
    assert "holds something else" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("somebody's own page")
    monkeypatch.setattr(sys, "argv", ["site", str(tmp_path / "mine")])
    assert command.main() == 1 and (tmp_path / "mine" / "index.html").exists()
    assert "holds something else" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["site", str(tmp_path / "full")])
    (tmp_path / "full" / "site").mkdir()  # as a clone has it where its edition was built
    assert command.main() == 1
    assert "holds something else" in capsys.readouterr().out
    assert (tmp_path / "full" / "work.txt").exists()
    monkeypatch.setattr(sys, "argv", ["site", str(tmp_path / "out"), "se", "see"])
    assert command.main() == 1
    assert capsys.readouterr().out == "No trained network is called see.\n"
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in ("visualize.site.build", "visualize.site.graph"):
        monkeypatch.delitem(sys.modules, name)
    assert command.main() == 1
    assert capsys.readouterr().out == (
        "The package onnx is missing: pip install --require-hashes -r .lock/site.txt\n"
    )


def test_a_network_that_cannot_be_made_is_left_out_with_the_reason(tmp_path: Path, monkeypatch):
    from visualize.site import build
    from visualize.site.graph import ExportError

    faults = {
        "cbam": ExportError("no such operation"),
        "plain": CheckpointError("The file of plain is damaged."),
        "se": NotFiniteError("The network gives no finite numbers for this picture."),
    }

    def network(site: build.Site, name: str) -> dict:
        if name in faults:
            raise faults[name]
        return {}

    pages = []
    monkeypatch.setattr(build, "network", network)
    monkeypatch.setattr(build, "engines_of", lambda site: ({}, {}))
    monkeypatch.setattr(build, "stored", lambda site, example, names: {})
    monkeypatch.setattr(build, "whole_card", lambda name: {})
    monkeypatch.setattr(build, "start_value", lambda: {"mechanisms": mechanisms_table()})
    monkeypatch.setattr(build, "page_with", lambda start: pages.append(start) or b"")
    failed = build.build(tmp_path / "out", tell=lambda step: None)
    reasons = {row["key"]: row["reason"] for row in pages[0]["mechanisms"] if row["key"] in faults}
    assert failed == reasons
    assert failed == {
        "cbam": "CBAM cannot be computed in a browser yet: no such operation.",
        "plain": "The file of plain is damaged.",
        "se": "Squeeze-and-Excitation gives no finite numbers.",
    }


def test_an_edition_that_computes_less_than_asked_for_takes_no_older_ones_place(tmp_path: Path, monkeypatch):
    from visualize.site import build
    from visualize.site.graph import ExportError

    def network(site: build.Site, name: str) -> dict:
        raise ExportError("no such operation")

    monkeypatch.setattr(build, "network", network)
    monkeypatch.setattr(build, "engines_of", lambda site: ({}, {}))
    older = tmp_path / "out"
    older.mkdir()
    (older / build.MARK).write_text("older")
    for names in (["se"], None):
        with pytest.raises(build.BuildError, match="cannot be computed in a browser yet: no such operation"):
            build.build(older, names, tell=lambda step: None)
        assert [(one.name, one.read_text()) for one in older.iterdir()] == [(build.MARK, "older")]
    assert list(tmp_path.iterdir()) == [older]  # and nothing half made beside it


def test_where_the_new_edition_cannot_be_put_the_older_one_stays(tmp_path: Path, monkeypatch):
    from visualize.site import build

    def fill(site: build.Site, *given) -> dict:
        site.folder.mkdir(parents=True)
        return {}

    rename = Path.rename

    def full(file: Path, place: Path) -> Path:
        if file.name == "made":
            raise OSError(28, "No space left on device")
        return rename(file, place)

    older = tmp_path / "out"
    older.mkdir()
    (older / build.MARK).write_text("older")
    monkeypatch.setattr(build, "fill", fill)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        build.build(older)
    assert (older / build.MARK).read_text() == "older" and list(tmp_path.iterdir()) == [older]


def test_the_shipped_files_are_in_it_unchanged_under_names_of_their_content(site: Path, checkpoints: Path):
    import hashlib

    for name in COMPUTED:
        (file,) = (site / "site").glob(f"{name}.*.safetensors")
        assert file.read_bytes() == (checkpoints / f"{name}.safetensors").read_bytes()
    for file in (site / "site").iterdir():
        assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(file.name.split(".")[1])
    ours = ROOT / "visualize" / "page"
    for script in ours.rglob("*.js"):
        assert (site / "page" / script.relative_to(ours)).read_bytes() == script.read_bytes()


@pytest.mark.long
def test_every_shipped_network_is_the_same_in_the_browser(browser: Browser, tmp_path: Path):
    """Ten pictures each; and the folder is the same, byte by byte, when it is made again."""
    from visualize.site.build import build

    names = [file.stem for file in sorted(CHECKPOINTS.glob("*.safetensors")) if "." not in file.stem]
    for folder in ("one", "two"):
        assert build(tmp_path / folder, tell=lambda step: None) == {}
    one, two = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    with given_out(tmp_path / "one") as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function(AT_REST)
        apart, farther = [], {}
        for example in CLASSES:
            picture = moved(example)
            for name, column in look(page, picture, tuple(names)).items():
                model = load(name)
                seen = inspect(model, picture)
                records, cams = differences(column, seen)
                if records >= CLOSE:
                    farther[name, example] = records
                apart += compress(cams, steady(model, picture, seen))
        assert farther == {}
        check_cams(apart)
        page.close()
