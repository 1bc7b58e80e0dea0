"""Screenshots of the running page: python -m tests.screenshots FOLDER

Starts the app on a free port, with the checkpoints that ship, and drives it in Chromium.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.health import ROOT, start, stop

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHELL = "chromium-headless-shell"  # the same engine without windows, which a test opens faster
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--use-fake-device-for-media-stream",  # a camera, and nobody who must allow it
    "--use-fake-ui-for-media-stream",
]


def find_chromium(playwright: Playwright, first: Sequence[str] = ()) -> str | None:
    """The program of Playwright's own Chromium, or of one that the system has; None where there is none.

    Args:
        first: programs that are preferred to all these.
    """
    own = playwright.chromium.executable_path
    return next(filter(None, map(shutil.which, (*first, own, *NAMES))), None)


@contextmanager
def launched(
    playwright: Playwright, flags: Sequence[str] = FLAGS, first: Sequence[str] = ()
) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=find_chromium(playwright, first), args=flags)
    try:
        yield browser
    finally:
        browser.close()


@contextmanager
def running_app(root: Path, scratch: Path, most: float = 120) -> Iterator[str]:
    """The address of the app of a source tree, started for the occasion; at the end it must stop cleanly.

    Args:
        root: folder that holds app.py.
        scratch: an empty folder for the app's temporary files and for its output, `output.txt`.
        most: seconds that the start may take.

    Raises:
        RuntimeError: the app does not start, fails, or leaves temporary files behind.
    """
    app, address = start(root, scratch, {"OMP_NUM_THREADS": "1"}, most)
    try:
        yield address
    finally:
        stop(app, scratch)


AT_REST = """() => new Promise((done) => { // it is looked at when something changes, not at each frame
    const root = document.documentElement, rests = () => root.dataset.ready && !root.dataset.busy;
    if (rests()) return done(true);
    const changes = new MutationObserver(() => requestAnimationFrame(() => {
        if (rests()) changes.disconnect(), done(true);
    }));
    changes.observe(root, { attributes: true });
})"""


def open_page(browser: Browser, address: str, width: int, height: int, **settings) -> Page:
    page = browser.new_page(
        viewport={"width": width, "height": height},
        device_scale_factor=2,
        reduced_motion="reduce",
        **settings,
    )
    page.goto(address)
    page.wait_for_function(AT_REST)
    return page


OBSERVED = """new Promise((done) => // the browser reports what came into view in a task after the frame
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"""


def draw_all(page: Page) -> None:
    """Large maps come when they are in view: scrolls through the page, and back."""
    for top in range(0, page.evaluate("document.documentElement.scrollHeight"), 600):
        page.evaluate("(top) => scrollTo(0, top)", top)
        page.evaluate(OBSERVED)
        page.wait_for_function(AT_REST)
    page.evaluate("scrollTo(0, 0)")


@contextmanager
def held(page: Page, pattern: str) -> Iterator[None]:
    """Requests of this kind get no answer as long as that goes on."""
    waiting, holding = [], True
    page.route(pattern, lambda route: waiting.append(route) if holding else route.continue_())
    yield
    holding = False
    for route in waiting:
        route.continue_()
    page.unroute(pattern)


def photograph(file: Path) -> None:
    """A drawn landscape with an animal in it, wider than high."""
    image = Image.new("RGB", (900, 600), (126, 178, 230))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 330, 900, 600), fill=(72, 128, 62))
    draw.ellipse((330, 210, 600, 400), fill=(150, 92, 48))
    draw.ellipse((560, 130, 670, 250), fill=(160, 100, 56))
    draw.polygon(((575, 200), (540, 330), (600, 330), (620, 230)), fill=(150, 92, 48))
    for left in (360, 400, 530, 565):
        draw.rectangle((left, 360, left + 20, 520), fill=(120, 72, 36))
    image.save(file, quality=92)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_app(ROOT, Path(scratch)) as address,
        sync_playwright() as playwright,
        launched(playwright) as browser,
    ):
        for name, width, height, scheme in (
            ("desktop", 1280, 900, "light"),
            ("small", 1024, 768, "light"),
            ("wide", 1920, 1080, "light"),
            ("dark", 1280, 900, "dark"),
            ("phone", 390, 844, "light"),
        ):
            page = open_page(browser, address, width, height, color_scheme=scheme)
            page.screenshot(path=folder / f"{name}.png")
            draw_all(page)
            page.screenshot(path=folder / f"{name}_whole.png", full_page=True)
            if name == "desktop":
                page.set_viewport_size({"width": width, "height": 1150})
                page.wait_for_function(AT_REST)
                page.screenshot(path=folder / "readme.png")
            page.close()

        page = open_page(browser, address, 1280, 900)
        draw_all(page)
        page.pdf(path=folder / "paper.pdf", format="A4")
        page.locator('#glance [data-block="layer3.1"]').first.click()
        page.locator('#maps [data-kind="cam"] canvas').first.click(position={"x": 60, "y": 60})
        page.wait_for_function(AT_REST)
        page.screenshot(path=folder / "click.png")

        page.evaluate("scrollTo(0, 0)")
        page.locator("#open-chooser").click()
        page.screenshot(path=folder / "chooser.png")
        page.get_by_role("button", name="SE and CBAM").click()
        page.get_by_role("button", name="Done").click()
        photograph(Path(scratch) / "photograph.jpg")
        page.locator("#file").set_input_files(Path(scratch) / "photograph.jpg")
        page.wait_for_function(AT_REST)
        page.screenshot(path=folder / "upload.png")
        page.locator("#glance .name").last.click()
        page.wait_for_function(AT_REST)
        page.screenshot(path=folder / "detail.png")
        page.keyboard.press("Escape")

        (Path(scratch) / "notes.png").write_text("This is text.")
        page.locator("#file").set_input_files(Path(scratch) / "notes.png")
        page.wait_for_function(AT_REST)
        page.screenshot(path=folder / "bad_file.png")
    print(f"Screenshots are in {folder}.")


if __name__ == "__main__":
    main()
