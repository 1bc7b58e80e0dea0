"""What the static edition takes of a visitor's device: python -m tests.site [FOLDER]

Builds it, or takes a folder that `python -m visualize.site` made, gives it out on this machine and opens it
in a fresh Chromium. Measures the first visit (bytes from a host that packs text, requests, paint), and for
one network, four, seven and all of them: the seconds until an own photograph is answered when nothing is
loaded, and when everything is; the memory of the page; and how soon a network follows a slider. A request to
another host, or one that is for computing, is a fault. Keeps the figures in tests/figures.json. Exit status 1
says that a bar is missed.
"""

import base64
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from tests.figures import store
from tests.paint import PAINTED
from tests.screenshots import AT_REST, launched
from tests.static import Packing, given_out

TURNS = 5
BARS = {  # figure: the most
    "first_paint_seconds": 0.6,
    "first_visit_kilobytes": 300,
    "first_visit_requests": 25,
    "seven_networks_seconds": 1.0,
    "four_networks_megabytes": 400,
    "slider_milliseconds": 100,
    "requests_when_loaded": 0,
    "requests_to_other_hosts": 0,
    "layout_shift": 0,
}
LOOK = """async ([image, names, replace]) => { // seconds until the first answer, and all of them
    const { engine } = await import(new URL("page/engine.js", location.href).href);
    const begun = performance.now(), seconds = () => (performance.now() - begun) / 1000;
    let first = null;
    await engine.look(image, names, { replace }, { onColumn: () => { first ??= seconds(); } });
    return [first, seconds()];
}"""
ATTENTION = """async () => { // network -> a tensor of its attention
    const { start } = await import(new URL("page/engine.js", location.href).href);
    const { networks } = await (await fetch(start().site.networks)).json();
    const first = ([name, { attention: [one] }]) => [name, one?.path];
    return Object.fromEntries(Object.entries(networks).map(first));
}"""
SHIFT = """() => new Promise((done) => {
    let all = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((one) => { all += one.value; }))
        .observe({ type: "layout-shift", buffered: true });
    requestAnimationFrame(() => requestAnimationFrame(() => done(all)));
})"""


def photograph(seed: int) -> str:
    """32 x 32 pixels that nobody has seen before."""
    return base64.b64encode(np.random.default_rng(seed).bytes(3072)).decode()


class Visit:
    """A page in a browser that has never seen it, and what it asks for."""

    def __init__(self, page: Page, address: str):
        self.page, self.address, self.requests, self.bytes = page, address, [], 0
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        network.on("Network.loadingFinished", self.count)
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(address, wait_until="commit")
        self.painted = page.wait_for_function(PAINTED, polling="raf").json_value() / 1000
        page.wait_for_function(AT_REST)

    def count(self, event: dict) -> None:
        self.bytes += event["encodedDataLength"]

    def look(self, seed: int, names: list[str], replace: dict | None = None) -> tuple[float, float]:
        return self.page.evaluate(LOOK, [photograph(seed), names, replace])

    def foreign(self) -> int:
        return sum(not url.startswith((self.address, "data:", "blob:")) for url in self.requests)


@contextmanager
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield Visit(context.new_page(), address)


def megabytes_held(browser: Browser, page: Page, address: str, names: list[str]) -> Iterator[float]:
    """The megabytes of a second visit with networks that have seen several pictures, in five turns.

    The least of them counts: what nobody has collected yet is not held, and what is held is in each.
    The files come from the browser's store. Of those that come over the network, the connection by which
    Playwright drives the browser holds copies in the page's process, a third larger than the files.
    """
    page.close()
    second = Visit(page.context.new_page(), address)
    for seed in range(2 * TURNS):
        second.look(seed, names)
        second.page.request_gc()
        if seed >= TURNS:
            yield megabytes(browser)


def megabytes(browser: Browser) -> float:
    """What the page and its workers take, in memory that is theirs alone.

    The page is in the largest of the renderers: others draw parts of the browser's own window.
    """
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    found = []
    for page in (one["id"] for one in processes if one["type"] == "renderer"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            found.append(Path(f"/proc/{page}/smaps_rollup").read_text())
    return max(int(re.search(r"^Private_Dirty:\s+(\d+)", text, re.MULTILINE)[1]) for text in found) / 1024


def measure(browser: Browser, address: str, packing: str) -> dict[str, float]:
    """The figures of a folder that is given out at two addresses: as it is, and by a host that packs text."""
    found: dict[str, float] = {}
    with visit(browser, packing) as seen:
        found["first_visit_kilobytes"] = round(seen.bytes / 1000)
    with visit(browser, address) as seen:
        found["first_visit_unpacked_kilobytes"] = round(seen.bytes / 1000)
        found["first_visit_requests"] = sum(url.startswith(address) for url in seen.requests)
        found["layout_shift"] = round(seen.page.evaluate(SHIFT), 4)
        attention, empty = seen.page.evaluate(ATTENTION), megabytes(browser)
    names = list(attention)
    paints, foreign, late = [], 0, 0
    for _ in range(TURNS):
        with visit(browser, address) as seen:
            paints.append(seen.painted)
    found["first_paint_seconds"] = round(median(paints), 2)
    found["page_megabytes"] = round(empty)
    for count, word in ((1, "one"), (4, "four"), (7, "seven"), (len(names), "all")):
        with visit(browser, address) as seen:
            first, last = seen.look(0, names[:count])
            found[f"{word}_first_answer_seconds"] = round(first, 2)
            found[f"{word}_loaded_seconds"] = round(last, 2)
            loaded = len(seen.requests)
            times = [seen.look(turn + 1, names[:count])[1] for turn in range(TURNS)]
            found[f"{word}_networks_seconds"] = round(median(times), 2)
            found[f"{word}_milliseconds_each"] = round(1000 * median(times) / count)
            if word == "four":
                name = next(name for name in names[:count] if attention[name])
                found["slider_milliseconds"] = slider(seen, name, attention[name])
            late += len(seen.requests) - loaded
            foreign += seen.foreign()
            held = min(megabytes_held(browser, seen.page, address, names[:count]))
            found[f"{word}_networks_megabytes"] = round(held)
    return found | {"requests_when_loaded": late, "requests_to_other_hosts": foreign, "networks": len(names)}


def slider(seen: Visit, name: str, tensor: str) -> int:
    """Milliseconds from a slider's move to the new answer of a network that is there."""
    times = []
    for turn in range(TURNS + 1):  # another place each time, for what was computed before is kept
        asked = {"name": "by hand", "scope": "all", "by_hand": {tensor: {str(turn): 0.5}}}
        times.append(seen.look(1, [name], asked)[1])
    return round(1000 * median(times[1:]))  # the first one computes the answer as trained, too


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as scratch,
        sync_playwright() as playwright,
        launched(playwright) as browser,
    ):
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "site"
        if len(sys.argv) < 2:
            from visualize.site.build import build

            build(folder)
        with given_out(folder) as address, given_out(folder, Packing) as packing:
            found = measure(browser, address, packing)
    missed = [name for name, most in BARS.items() if found[name] > most]
    bar = ", ".join(f"{name.replace('_', ' ')} {most}" for name, most in BARS.items())
    entry = {"what": "The static edition, in Chromium on this machine", "networks": found["networks"]}
    entry |= {name: found[name] for name in BARS}
    store("site", entry | {"bar": f"at most: {bar}", "holds": not missed})
    store("site_details", {name: value for name, value in found.items() if name not in entry})
    for name, value in found.items():
        print(f"{name}: {value}" + (" (missed)" if name in missed else ""))
    return min(len(missed), 1)


if __name__ == "__main__":
    sys.exit(main())
