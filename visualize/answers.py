"""What the server answers: the page with its first comparison, comparisons, rows of maps, files, cards.

A request may come from anybody: whatever is wrong with it becomes one sentence, by one of `REFUSALS`.
"""

import asyncio
import base64
import io
import json
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import numpy as np
from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from gradio.context import LocalContext
from PIL import Image

from models import CATALOGUE, CLASSES, CheckpointError
from models.metadata import mechanisms_table
from models.replacements import EVERYWHERE, REPLACEMENTS
from models.results.evidence import used
from models.results.table import results

from .export.files import MOST_IN_FIGURE, check_file, column_or_reason, write
from .gate import check_room, log, uploaded
from .inspection.engine import Question, answers_of
from .inspection.network import NotFiniteError
from .inspection.replaced import Replacement, ReplacementError
from .inspection.unfamiliar import sentence
from .inspection.untrained import example_picture
from .picture import MAX_BYTES, ImageError, load_image, load_with_notes, to_network
from .record.compare import affinity_row, answer, channel_features, first_rows, record_of
from .record.display import description
from .record.encoding import picture_of
from .record.requests import RequestError, check_mechanisms, check_request, pixels_of, replacement_of
from .record.view import View, view_of
from .texts.cards import FAMILIES, card, languages, measured
from .texts.evidence import evidence
from .texts.markup import to_html
from .texts.placement import placement
from .turns import FullError, Line, Waiting

PAGE = Path(__file__).parent / "page"
READING = PAGE.parent / "texts" / "reading"  # a file for each language
START = '<script type="application/json" id="start">'  # of index.html, which the value follows
FIRST_MECHANISMS = ("plain", "se", "non_local", "self_attention", "cbam", "danet", "sk")
FIRST_EXAMPLE = "cat"
PHOTOGRAPHS = ("cat", "cup", "rocket")  # two of them of no class; see README for who took them
MOST_NETWORKS = 32  # in one request
MOST_PICTURES = 40  # in one request for their probabilities
MOST_FILES = 4  # whose maps, of up to 20 MB, are held until they are written
REFUSALS = (RequestError, ImageError, CheckpointError, ReplacementError, NotFiniteError)
TYPES = {"png": "image/png", "pdf": "application/pdf", "npz": "application/zip", "json": "application/json"}


def start_value() -> dict:
    """What is in the page before any request: networks, the first picture and what they make of it, texts."""
    picture = example_picture(FIRST_EXAMPLE)
    asked = Question(picture)
    record = record_of(asked, [answer(name, asked, False) for name in first_networks(mechanisms_table())])
    return {
        "mechanisms": mechanisms_table(),  # some faults show when a network is loaded
        "families": FAMILIES,
        "record": record | {"example": FIRST_EXAMPLE},
        "rows": first_rows(record),
        "examples": {name: base64.b64encode(example_picture(name).tobytes()).decode() for name in CLASSES},
        "photographs": {name: small_photograph(name) for name in PHOTOGRAPHS},
        "most": MOST_NETWORKS,
        "in_figure": MOST_IN_FIGURE,
        "largest": MAX_BYTES,  # of a file
        "unlike": {  # what is said of a picture that most networks find unusual
            "one": sentence([True]),
            "many": sentence([True] * 3).replace("3 of 3", "{count} of {known}"),
        },
        "replacements": [
            {"name": name, "question": question}
            for name, question in REPLACEMENTS.items()
            if name != "as trained"
        ],
        "description": description(),
        "cards": [{"key": name, "name": entry.title} for name, entry in CATALOGUE.items()],
        "results": {"blocks": results()},
        "used": used(),
        "disagreement": (PAGE / "examples" / "disagreement.json").is_file(),
        "reading": {file.stem: to_html(file.read_text(encoding="utf-8")) for file in READING.glob("*.md")},
    }


def small_photograph(name: str) -> str:
    """For its button: the pixels of its middle, in base64."""
    picture = load_image(PAGE / "examples" / f"photo-{name}.jpg")
    return base64.b64encode(to_network(picture, "centre").tobytes()).decode()


def first_networks(table: list[dict]) -> list[str]:
    """Those of the first screen that are trained, broken ones too: the page says what is wrong with them."""
    first = [row["key"] for row in table if row["key"] in FIRST_MECHANISMS]
    return [row["key"] for row in table if row["key"] in first and row["trained"]] or first


def page_with(start: dict) -> bytes:
    """The page's HTML, with the value that it starts with inside."""
    text = json.dumps(start, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    before, mark, after = (PAGE / "index.html").read_text(encoding="utf-8").partition(START)
    if "site" in start:  # not by a script: what that writes comes late, and moves what stands below
        before = re.sub(r'(<span id="sent">)[^<]*', r"\1It stays on this device.", before)
    return (before + mark + text + after).encode()


def whole_card(name: str) -> dict:
    """A mechanism's card, as HTML: `html`, language -> words; the drawing of its place; what was measured."""
    return {
        "html": {language: to_html(card(name, language)) for language in languages(name)},
        "placement": placement(name),
        "measured": to_html(measured(name)),
    }


class Answers:
    """The answers of one running server. What comes from a request is checked here, or by what is called."""

    def __init__(self):
        self.line = Line()
        self.desk = ThreadPoolExecutor(1, "file")  # a figure takes a second, for which no click shall wait
        self.room = asyncio.Semaphore(MOST_FILES)
        self.asking: dict[str, set[asyncio.Task]] = {}  # session of Gradio -> its comparisons under way

    # The public API.

    async def compare(
        self,
        image: dict,
        mechanisms: list[str],
        target: str = "predicted",
        cam: str = "GradCAM",
        replace: str = "as trained",
        scope: str = EVERYWHERE,
        strength: float = 1.0,
        request: gr.Request = None,
    ) -> dict:
        """Shows one picture to several networks and returns everything that the page draws of it.

        Args:
            image: an uploaded file: PNG, JPEG, WebP, AVIF, GIF or BMP, at most 20 MB.
            mechanisms: ids of networks, such as ["plain", "se"]; `/mechanisms` lists them.
            target: the class to explain, or "predicted" for each network's own answer.
            cam: GradCAM, GradCAM++, HiResCAM, LayerCAM, XGradCAM or EigenCAM.
            replace: what the networks get in the place of their attention: average, strength, level,
                shuffled, query ignored, best constant, factor 1, or another picture's: that of the first of
                the page's ten examples which is not the picture itself. With `before`, each network then also
                says what it answers as trained.
            scope: where: all, a block such as layer2.1, or a tensor such as layer2.1.refine.gate.
            strength: of "strength", from 0, the average, to 2; 1 is as trained.
        """
        task = asyncio.create_task(self._compare(image, mechanisms, target, cam, replace, scope, strength))
        session = self.asking.setdefault(request.session_hash, set())
        session.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # the server ends
                raise
            raise gr.Error("The visitor has left.", print_exception=False) from None
        except REFUSALS as error:
            log.warning("refused: %s", error)
            raise gr.Error(str(error), print_exception=False) from None
        finally:
            session.discard(task)
            if not session:
                self.asking.pop(request.session_hash, None)

    async def _compare(
        self, image: object, mechanisms: object, target: object, cam: object, *instead: object
    ) -> dict:
        file = uploaded(image)
        picture = await self.line.run(lambda: to_network(load_image(file)), quick=True)
        check_comparison(picture, mechanisms, target, cam)
        asked = Question(picture, target, cam, replacement=replacement_in_call(picture, *instead))
        jobs = [partial(answer, name, asked) for name in mechanisms]
        async with aclosing(self.line.ask(jobs)) as news:
            found = [one async for one in news if not isinstance(one, Waiting)]
        return record_of(asked, found)

    def gone(self, session: str) -> None:
        """Nobody listens any more to a session of Gradio."""
        for task in self.asking.get(session, ()):
            task.cancel()

    async def mechanisms(self) -> list[dict]:
        """Lists the networks: key, name, family, parameters, accuracy, recipe, trained, available, reason."""
        return await asyncio.to_thread(mechanisms_table)

    # The page's own.

    async def look(self, request: Request) -> Response:
        """A comparison, line by line: waiting, column or unavailable for each network, done; or error."""
        asked = await asked_in(request)
        picture, names = picture_of(asked), asked.get("mechanisms")
        target, cam = asked.get("target", "predicted"), asked.get("cam", "GradCAM")
        check_comparison(picture, names, target, cam)
        random, replacement = asked.get("random") is True, replacement_of(asked.get("replace"))
        question = Question(picture, target, cam, random, replacement)
        jobs = [partial(answer, name, question) for name in names]
        return Lines(self._look(jobs))

    async def _look(self, jobs: list[Callable]) -> AsyncGenerator[str, None]:
        try:
            async with aclosing(self.line.ask(jobs)) as news:
                async for one in news:
                    if isinstance(one, Waiting):
                        yield line_of(waiting={"place": one.place, "seconds": one.seconds})
                    else:
                        yield line_of(**{"column" if "maps" in one else "unavailable": one})
            yield line_of(done=True)
        except REFUSALS as error:
            log.warning("refused: %s", error)
            yield line_of(error=str(error), full=isinstance(error, FullError))

    async def row(self, request: Request) -> dict:
        """A part of a map too large to travel with the record."""
        asked = await asked_in(request)
        wanted = picture_of(asked), asked.get("mechanism"), asked.get("tensor"), asked.get("query")
        if any(isinstance(one, list | dict) for one in wanted):
            raise RequestError("The mechanism, the tensor and the query must be text or numbers.")
        work = partial(affinity_row, *wanted, replacement=replacement_of(asked.get("replace")))
        del asked  # or whatever else it holds would wait in the line, too
        return await while_there(request, self.line.run(work, quick=True))

    async def features(self, request: Request) -> dict:
        """What the channels see that a gate opens most, and those that it opens least."""
        asked = await asked_in(request)
        work = partial(channel_features, picture_of(asked), asked.get("mechanism"), asked.get("tensor"))
        del asked
        return await while_there(request, self.line.run(work, quick=True))

    async def probabilities(self, request: Request) -> dict:
        """What a trained network answers to some pictures, such as one that loses its pixels step by step."""
        asked = await asked_in(request)
        images, name = asked.get("images"), asked.get("mechanism")
        check_mechanisms([name])
        if not isinstance(images, list) or not 0 < len(images) <= MOST_PICTURES:
            raise RequestError(f"The images must be a list of 1 to {MOST_PICTURES} pictures.")
        pixels = b"".join(pixels_of(one, "Each image must be 32 x 32 pixels in RGB.") for one in images)
        pictures = np.frombuffer(pixels, np.uint8).reshape(-1, 32, 32, 3).copy()
        del asked, images
        found = await while_there(request, self.line.run(partial(answers_of, name, pictures)))
        return {"probabilities": found.round(5).tolist()}

    async def file(self, request: Request) -> Response:
        """What the page shows, as a figure, as numbers or as a report."""
        asked = await asked_in(request)
        picture, view = picture_of(asked), view_of(asked.get("view"))
        form, names, target, cam = (asked.get(key) for key in ("form", "mechanisms", "target", "cam"))
        question = Question(picture, target, cam, True, replacement_of(asked.get("replace")))
        check_file(form, picture, names, target, cam)
        check_comparison(picture, names, target, cam)
        check_room()
        del asked  # or whatever else it holds would wait in the line, too
        jobs = {name: partial(column_or_reason, name, question) for name in names}
        name, content = await while_there(request, self._file(form, question, jobs, view))
        disposition = f'attachment; filename="{name}"'
        return Response(content, media_type=TYPES[form], headers={"Content-Disposition": disposition})

    async def _file(
        self, form: str, question: Question, jobs: dict[str, Callable], view: View
    ) -> tuple[str, bytes]:
        """Name and content of a file; its maps are computed only when few others wait to be written."""
        async with self.room:
            async with aclosing(self.line.ask(list(jobs.values()))) as news:
                found = [one async for one in news if not isinstance(one, Waiting)]

            def written() -> tuple[str, bytes]:
                folder = Path(tempfile.mkdtemp())
                try:
                    file = write(form, question, dict(zip(jobs, found)), view, folder)
                    return file.name, file.read_bytes()
                finally:
                    shutil.rmtree(folder, ignore_errors=True)

            return await asyncio.get_running_loop().run_in_executor(self.desk, written)  # its turn has been

    async def decode(self, request: Request) -> Response:
        """A picture file that the browser cannot read, as PNG; what there is to say of it is in a header."""
        with tempfile.TemporaryDirectory() as folder:  # many may come at once: they wait on the disk
            file = Path(folder) / "picture"
            with file.open("wb") as stream:
                async for part in request.stream():
                    stream.write(part)

            def decoded() -> tuple[bytes, list[str]]:
                picture, notes = load_with_notes(file)
                png = io.BytesIO()
                picture.save(png, "PNG", compress_level=1)
                return png.getvalue(), notes

            png, notes = await while_there(request, self.line.run(decoded, quick=True))
        return Response(png, media_type="image/png", headers={"Notes": quote(json.dumps(notes))})

    async def card(self, name: str) -> dict:
        """A mechanism in words, the drawing of its place, and what was measured."""
        check_mechanism(name)
        return await self.line.run(partial(whole_card, name), quick=True)

    async def evidence(self, name: str) -> Response:
        """What was measured of a network's attention, or null."""
        check_mechanism(name)
        return JSONResponse(await self.line.run(partial(evidence, name), quick=True))


def refuse(_: Request, error: Exception) -> Response:
    """One of `REFUSALS`, for the page; `full`: another engine may answer, or this one later."""
    log.warning("refused: %s", error)
    if isinstance(error, FullError):
        return JSONResponse({"error": str(error), "full": True}, 503)
    return JSONResponse({"error": str(error)}, 400)


class Lines(StreamingResponse):
    """JSON, a line at a time; the generator ends at once when the visitor has left."""

    def __init__(self, lines: AsyncGenerator[str, None]):
        unbuffered = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(lines, media_type="application/x-ndjson", headers=unbuffered)

    async def __call__(self, scope, receive, send) -> None:
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


def line_of(**what: object) -> str:
    return json.dumps(what, allow_nan=False, separators=(",", ":")) + "\n"


async def asked_in(request: Request) -> dict:
    """The JSON object that a request sends, whose visitor is named for a Space that lends GPU time.

    Raises:
        RequestError: it sends something else.
    """
    LocalContext.request.set(gr.Request(request))
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RequestError("The request must be an object in JSON.")
    return found


def replacement_in_call(
    picture: Image.Image, name: object, scope: object, strength: object
) -> Replacement | None:
    """The replacement that a call of the public API asks for.

    Raises:
        RequestError: there is none such, or it needs the page.
    """
    if name == "by hand":
        raise RequestError("What is changed by hand is chosen on the page: choose another replacement here.")
    other = base64.b64encode(other_example(picture)).decode() if name == "another picture's" else None
    return replacement_of({"name": name, "scope": scope, "strength": strength, "other": other})


def other_example(picture: Image.Image) -> bytes:
    """The pixels of the first of the ten examples that is another picture."""
    examples = (example_picture(name).tobytes() for name in CLASSES)
    return next(pixels for pixels in examples if pixels != picture.tobytes())


def check_mechanism(name: str) -> None:
    if name not in CATALOGUE:
        raise RequestError("There is no such mechanism.")


def check_comparison(picture: Image.Image, names: object, target: object, cam: object) -> None:
    check_request(picture, names, target, cam)
    if len(names) > MOST_NETWORKS:
        raise RequestError(f"Choose at most {MOST_NETWORKS} networks at a time.")


async def while_there(request: Request, work):
    """What `work` gives, as long as the visitor waits for it.

    Raises:
        RequestError: the visitor has left.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=0.5))[0]:
            if await request.is_disconnected():
                raise RequestError("The visitor has left.")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])  # until it has left the line
