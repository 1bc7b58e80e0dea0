"""What keeps a public server up: what it opens, how much it takes in, what it leaves behind, how it ends.

    with temporary_folder() as folder:
        page.launch(prevent_thread_lock=True, app_kwargs={"middleware": MIDDLEWARE})
        wait_until_stopped(page, folder)
    leave()

app.py, which builds the page, uses it, and so do the page's events.
"""

import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import gradio as gr
from gradio_client.utils import is_http_url_like
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .picture import MAX_BYTES
from .record.requests import RequestError

log = logging.getLogger("attnscope")

UPLOAD = "/gradio_api/upload"
MAX_UPLOAD = MAX_BYTES + 2**20  # bytes: a picture in its multipart envelope
MAX_BODY = 2**20  # bytes of any other request; the page itself sends some kilobytes
FULL = "The server has no room for files at the moment: try again in half an hour."
MIN_FREE = 200 * 2**20  # bytes on the disk, or no upload is taken
# Gradio answers these, too: they store what they are sent, or fetch what somebody else's server holds.
UNUSED = re.compile(r"/(process_recording|deep_link|file=.*:/)", re.IGNORECASE)

FOLDER = "attnscope-"  # what the names of our temporary folders start with
SWEEP = 600  # seconds between two sweeps
LOOSE = 1800  # seconds after which a file is nobody's, as for those that Gradio deletes itself
GRACE = 1  # seconds that answers under way get when the server is stopped


# What it opens.


def uploaded(file: object) -> str | None:
    """The path of an uploaded file; whatever else a request may name is refused."""
    path = file.get("path") if isinstance(file, dict) else file
    if path is None:
        return None
    folder = os.path.realpath(os.environ["GRADIO_TEMP_DIR"]) + os.sep
    if not isinstance(path, str) or "\0" in path or not os.path.realpath(path).startswith(folder):
        raise refusal(RequestError("The picture must be a file that was uploaded to this page."))
    return os.path.realpath(path)


def refuse_urls(page: gr.Blocks) -> None:
    """Gradio would fetch a URL that a request names in place of an uploaded file."""

    def only_files(move):
        async def checked(path):
            if is_http_url_like(str(path)):
                raise refusal(RequestError("The picture must be a file that was uploaded to this page."))
            return await move(path)

        return checked

    for block in page.blocks.values():
        block.async_move_resource_to_block_cache = only_files(block.async_move_resource_to_block_cache)


def refusal(error: Exception) -> gr.Error:
    """What a visitor reads of an error, and a line in the log."""
    message = str(error)
    if isinstance(error.__cause__, FileNotFoundError):  # an upload's place is known, so it was there once
        message = "This picture was deleted, as all are after half an hour or so: choose it again."
    log.warning("refused: %s", message)
    return gr.Error(message, print_exception=False)


# How much it takes in.


def is_full() -> bool:
    return shutil.disk_usage(tempfile.gettempdir()).free < MIN_FREE


def check_room() -> None:
    """Before a file is made.

    Raises:
        RequestError: the disk is full.
    """
    if is_full():
        raise RequestError(FULL)


class Limits:
    """ASGI middleware: bodies of a bounded size, and none of Gradio's routes that the page does not use."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif UNUSED.search(scope["path"]):
            await PlainTextResponse("There is nothing here.", 404)(scope, receive, send)
        elif scope["path"].rstrip("/") != UPLOAD:
            await self.limited(MAX_BODY, "This request is too large.", scope, receive, send)
        elif is_full():
            await PlainTextResponse(FULL, 507)(scope, receive, send)
        else:
            sentence = f"This file is larger than {MAX_BYTES // 2**20} MB."
            await self.limited(MAX_UPLOAD, sentence, scope, receive, send)

    async def limited(self, limit: int, sentence: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a body by the length that it declares, or once more has come: it need not declare any."""
        declared = int(dict(scope["headers"]).get(b"content-length", b"0"))  # the server has checked it
        received, too_large = 0, declared > limit

        async def counted() -> Message:
            nonlocal received, too_large
            message = await receive()
            received += len(message.get("body", b""))
            too_large = too_large or received > limit
            if too_large:
                raise OSError("the body is too large")  # whatever the route makes of it is not sent
            return message

        async def checked(message: Message) -> None:
            nonlocal too_large
            too_large = too_large or message.get("status") == 413  # Gradio's own limit, in its own words
            if not too_large:
                await send(message)

        if not too_large:
            try:
                await self.app(scope, counted, checked)
            except OSError:
                if not too_large:
                    raise
        if too_large:
            log.warning("refused: %s", sentence)
            await PlainTextResponse(sentence, 413)(scope, receive, send)


class SafeHeaders:
    """ASGI middleware: no guessing of types, no address passed on.

    X-Frame-Options is not among them: the page works in a frame, as on the Hugging Face Hub.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, with_headers)


MIDDLEWARE = [Middleware(SafeHeaders), Middleware(Limits)]


# What it leaves behind, and how it ends.


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for all temporary files of this process; at the end, SIGTERM included, it is deleted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = Path(tempfile.mkdtemp(prefix=FOLDER)).resolve()
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(folder)
    os.environ["MPLCONFIGDIR"] = str(folder / "matplotlib")  # for its list of fonts
    try:
        yield folder
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # we are at it
        tempfile.tempdir = None
        give_up = time.monotonic() + 1
        while folder.exists() and time.monotonic() < give_up:  # a thread may still write into it
            shutil.rmtree(folder, ignore_errors=True)


def wait_until_stopped(page: gr.Blocks, folder: Path) -> None:
    """Keeps the folder clean until SIGTERM or Ctrl-C comes, then closes the server."""
    kept = set(folder.rglob("*"))  # copies of the page's own pictures
    try:
        while True:
            sweep(folder, kept)
            time.sleep(SWEEP)
    except (KeyboardInterrupt, SystemExit):
        logging.getLogger("uvicorn.error").disabled = True  # it prints a traceback for each answer cut short
        page.server.config.timeout_graceful_shutdown = GRACE
        page.server.should_exit = True
        page.server.thread.join(GRACE + 1)


def sweep(folder: Path, kept: set[Path], age: float = LOOSE) -> None:
    """Deletes what Gradio lost sight of: broken-off uploads, empty folders, and folders of killed servers.

    Args:
        folder: the temporary folder of this process, which is marked as in use.
        kept: paths in it that stay.
        age: seconds since the last change after which a file is deleted.
    """
    oldest = time.time() - age
    os.utime(folder)
    for path in sorted(folder.rglob("*"), reverse=True):  # what is inside a folder before the folder
        with suppress(OSError):  # gone by now, or a folder that is not empty
            if path not in kept and path.lstat().st_ctime < oldest:
                path.rmdir() if path.is_dir() else path.unlink()
    for other in folder.parent.glob(f"{FOLDER}*"):
        with suppress(OSError):
            if other != folder and other.stat().st_mtime < oldest:
                shutil.rmtree(other, ignore_errors=True)


def leave() -> NoReturn:
    """Ends the process at once: Python would wait for threads in which networks still compute, or crash."""
    sys.stdout.flush()
    os._exit(0)
