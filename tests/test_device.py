"""Computing on the visitor's own device, beside a server: who answers when, and that both say the same."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.screenshots import AT_REST, photograph, running_app
from tests.static import COMPUTED
from visualize import device

LOOK = """async ([act, ...given]) => { // what the page's own engine says, with or without the device
    const { engine, start } = await import(new URL("page/engine.js", location.href).href);
    const { image } = start().record;
    if (act !== "look") return engine[act](image, ...given);
    const columns = [];
    await engine.look(image, ...given, { onColumn: (column) => columns.push(column) });
    return columns;
}"""


@pytest.fixture(scope="module")
def server(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNSCOPE_SITE", str(site))
        with running_app(site.parent / "tree", tmp_path_factory.mktemp("server")) as address:
            yield address


class Visit:
    """A page with these networks, and what it asked for."""

    def __init__(self, page: Page, address: str, names: tuple[str, ...]):
        self.page, self.requests = page, []
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(f"{address}#view=2&picture=cat&networks={','.join(names)}&end")
        self.rest()

    def rest(self) -> None:
        self.page.wait_for_function(AT_REST, timeout=120_000)

    def on_device(self) -> None:
        self.page.locator("#open-chooser").click()
        self.page.get_by_label("Compute on this device").check()
        self.page.keyboard.press("Escape")
        self.rest()

    def choose_file(self, file: Path) -> None:
        self.page.locator("#file").set_input_files(file)
        self.rest()

    @property
    def said(self) -> str:
        return self.page.locator("#status p").inner_text()

    def asked(self, route: str) -> int:
        return sum(url.endswith(f"/{route}") for url in self.requests)


@pytest.fixture
def visit(browser: Browser, server: str) -> Iterator[Callable[..., Visit]]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield lambda *names, page=None: Visit(page or context.new_page(), server, names or COMPUTED)


@pytest.fixture(scope="module")
def loaded(browser: Browser, server: str) -> Iterator[Visit]:
    """A page whose engine holds both networks, unasked by the visitor. Tests leave it as it was."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        seen = Visit(context.new_page(), server, COMPUTED)
        seen.page.evaluate(LOOK, ["look", [*COMPUTED], {"target": "dog", "device": True}])
        yield seen


@pytest.mark.browser
def test_the_visitor_may_have_it_computed_on_this_device(visit, tmp_path: Path):
    seen = visit(*COMPUTED, "cbam")  # which only the server can compute
    assert seen.asked("look") == 0 and not any("/site/" in url for url in seen.requests)
    words = seen.page.locator("#chooser .here .note").text_content()
    assert "sent only for what this device cannot do" in words and "MB once" in words
    seen.on_device()
    assert seen.said.startswith("3 networks have answered, 2 of them on this device.")
    assert seen.asked("look") == 1 and sum(url.endswith(".safetensors") for url in seen.requests) == 2
    before = len(seen.requests)
    seen.page.locator('#examples [data-name="ship"]').click()
    seen.rest()
    assert seen.page.locator('#maps [data-section="pairwise"] canvas').count() > 0
    asked = [url.rsplit("/", 1)[-1] for url in seen.requests[before:] if "/page/" not in url]
    assert asked == ["look"]  # who computed a column gives the parts of its large maps as well
    seen.page.locator("#open-chooser").click()
    seen.page.locator('#chooser [data-key="cbam"]').uncheck()
    seen.page.keyboard.press("Escape")
    photograph(tmp_path / "photograph.jpg")
    seen.choose_file(tmp_path / "photograph.jpg")
    assert seen.said.startswith("2 networks have answered, on this device.")
    assert seen.asked("look") == 2  # none for the photograph


@pytest.mark.browser
def test_both_engines_say_the_same_and_say_who_answered(loaded: Visit):
    page = loaded.page
    given = ["look", list(COMPUTED), {"target": "dog"}]
    theirs = {column["key"]: column for column in page.evaluate(LOOK, given)}
    given[-1] |= {"device": True}
    ours = {column["key"]: column for column in page.evaluate(LOOK, given)}
    assert set(ours) == set(theirs) == set(COMPUTED)
    for name, column in ours.items():
        assert column.pop("device") is True and theirs[name].pop("device") is False
        assert set(column) == set(theirs[name])
        assert column["probabilities"] == pytest.approx(theirs[name]["probabilities"], abs=1e-5)
        assert [entry["tensor"] for entry in column["maps"]] == [
            entry["tensor"] for entry in theirs[name]["maps"]
        ]
    row = ["row", "non_local", "stage2.affinity", 5, None]
    theirs, ours = (page.evaluate(LOOK, [*row, device]) for device in (False, True))
    assert ours["shape"] == theirs["shape"] and ours["hi"] == pytest.approx(theirs["hi"], abs=1e-5)


@pytest.mark.browser
def test_this_device_takes_over_where_the_server_is_gone(visit, tmp_path: Path):
    seen = visit("se")
    seen.page.route("**/look", lambda route: route.abort())
    seen.page.route("**/row", lambda route: route.abort())
    photograph(tmp_path / "photograph.jpg")
    seen.choose_file(tmp_path / "photograph.jpg")
    assert seen.said.startswith("1 network has answered, on this device.")
    assert seen.asked("look") == 1
    seen.page.locator("#open-chooser").click()
    seen.page.locator('#chooser [data-key="cbam"]').check()  # it has no graph of this one
    seen.page.keyboard.press("Escape")
    seen.rest()
    assert seen.said.startswith("The server does not answer.")


@pytest.mark.browser
def test_this_device_takes_over_where_the_server_is_busy(loaded: Visit):
    seen = loaded

    def busy(route: Route) -> None:  # with the line of the moment
        route.fulfill(content_type="application/x-ndjson", body=json.dumps(answer) + "\n")

    seen.page.route("**/look", busy)
    for example, line in {
        "ship": {"waiting": {"place": 40, "seconds": 60}},
        "dog": {"error": "200 visitors are waiting already: try again in a minute.", "full": True},
        "frog": {"waiting": {"place": 1, "seconds": 1}},  # then the connection breaks off
    }.items():
        answer = line
        seen.page.locator(f'#examples [data-name="{example}"]').click()
        seen.rest()
        assert seen.said.startswith("2 networks have answered, on this device."), example
    seen.page.unroute("**/look")
    full = json.dumps({"error": "200 visitors are waiting already: try again in a minute.", "full": True})
    seen.page.route("**/row", lambda route: route.fulfill(status=503, body=full))
    assert seen.page.evaluate(LOOK, ["row", "non_local", "stage2.affinity", 5, None])["shape"] == [16, 16]
    seen.page.unroute("**/row")
    seen.page.locator('#examples [data-name="deer"]').click()
    seen.rest()
    assert seen.said.startswith("2 networks have answered.")  # by the server, which is there again


@pytest.mark.browser
def test_the_wish_counts_at_once_and_for_files_and_the_next_visit(visit, tmp_path: Path):
    """A picture that is not sent is not sent by a file, by another language, or by a request on its way."""
    seen = visit("se")
    seen.page.route("**/look", lambda route: None)  # never answered
    with seen.page.expect_request("**/look"):
        seen.page.locator('#examples [data-name="ship"]').click()
    seen.on_device()
    assert seen.said.startswith("1 network has answered, on this device.")
    seen.page.locator("#take").click()
    with seen.page.expect_download():
        seen.page.locator('#files [data-form="json"]').click()
    (tmp_path / "photograph.heic").write_bytes(b"of a kind that this browser cannot read")
    seen.choose_file(tmp_path / "photograph.heic")
    assert "cannot read that file" in seen.said
    seen.page.locator("#language").click()
    seen.page.wait_for_function("() => document.documentElement.lang === 'zh'")
    seen.rest()
    assert seen.asked("look") == 1 and seen.asked("file") == seen.asked("decode") == 0


@pytest.mark.browser
def test_a_refusal_is_the_servers_own(visit, tmp_path: Path):
    """What is wrong with a request is no reason to load networks."""
    seen = visit()
    error = json.dumps({"error": "This picture is wrong."})
    seen.page.route("**/look", lambda route: route.fulfill(status=400, body=error))
    photograph(tmp_path / "photograph.jpg")
    seen.choose_file(tmp_path / "photograph.jpg")
    assert seen.said == "This picture is wrong." and not any("/site/" in url for url in seen.requests)


@pytest.mark.browser
def test_the_server_answers_where_this_device_cannot(visit, browser: Browser):
    page = browser.new_page()
    page.add_init_script("delete globalThis.WebAssembly")
    seen = visit("se", page=page)
    seen.on_device()
    assert seen.said.startswith("1 network has answered.") and seen.asked("look") == 1
    page.close()


@pytest.mark.browser
def test_what_if_follows_a_slider_on_this_device_where_it_is_loaded(visit, loaded: Visit):
    seen = visit("se")
    seen.page.locator("#whatif select").first.select_option("strength")
    seen.rest()
    assert seen.asked("look") == 1  # nothing is loaded there
    seen, before = loaded, loaded.asked("look")
    seen.page.locator("#whatif select").first.select_option("strength")
    seen.rest()
    slider = seen.page.get_by_role("slider", name="Strength")
    for strength in ("0.5", "1.5"):
        slider.fill(strength)
        seen.rest()
        assert seen.said.startswith("2 networks have answered, on this device.")
    assert seen.asked("look") == before
    seen.page.locator("#whatif select").first.select_option("")
    seen.rest()


# ---- whether it is offered


def offered(folder: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> dict | None:
    monkeypatch.setenv("ATTNSCOPE_SITE", str(folder))
    monkeypatch.setattr(device, "CHECKPOINTS", site.parent / "tree" / "checkpoints")
    return device.device()


def test_it_is_offered_where_the_folder_belongs_to_the_server(
    site: Path, tmp_path: Path, monkeypatch, caplog
):
    found = offered(site, site, monkeypatch)
    assert sorted(found["names"]) == sorted(COMPUTED)
    engine, network = found["megabytes"]
    assert 1 < engine < 10 < network < 20
    assert offered(tmp_path / "nothing", site, monkeypatch) is None and not caplog.records
    folder = tmp_path / "copy"
    shutil.copytree(site, folder)
    networks = folder / found["networks"]
    made = json.loads(networks.read_text())
    made["networks"]["se"]["sha256"] = "of other weights"
    networks.write_text(json.dumps(made))
    assert offered(folder, site, monkeypatch)["names"] == ["non_local"]
    made["networks"]["non_local"]["measured"] = "of other averages"
    networks.write_text(json.dumps(made))
    assert offered(folder, site, monkeypatch) is None
    (folder / "page" / "browser" / "edits.js").write_text("// of another version")
    assert offered(folder, site, monkeypatch) is None
    assert "another version" in caplog.text
    shutil.copytree(site / "page", folder / "page", dirs_exist_ok=True)
    for broken in ("{", "[]", '{"networks": {"se": {}}}', '{"networks": {}}', None):
        caplog.clear()
        networks.write_text(broken) if broken else networks.unlink()
        assert offered(folder, site, monkeypatch) is None
        assert "cannot be read" in caplog.text or broken == '{"networks": {}}'  # in which nothing is wrong


@pytest.mark.browser
def test_its_files_may_be_kept_for_ever(server: str, site: Path, browser: Browser):
    address = json.loads((site / "device.json").read_text())["networks"]
    page = browser.new_page()
    answer = page.request.get(server + address)
    assert answer.ok and "immutable" in answer.headers["cache-control"]
    assert answer.body() == (site / address).read_bytes()
    for path in ("site/", "site/../app.py", "site/..%2Fdevice.json", "site/nothing.json", "device.json"):
        assert page.request.get(server + path).status == 404, path
    page.close()
