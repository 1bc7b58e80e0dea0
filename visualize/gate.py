"""What the server lets in: the routes there are, bodies of a bounded size, calls that Gradio can take."""

import asyncio
import errno
import inspect
import json
import logging
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .picture import MAX_BYTES
from .record.requests import RequestError
from .server import prepare

log = logging.getLogger("attnscope")

MAX_UPLOAD = MAX_BYTES + 2**20  # bytes: a picture in its multipart envelope
MAX_BODY = 2**20  # bytes of any other request; the page itself sends some kilobytes
LONGEST_PATH = 4096  # characters
MIN_FREE = 200 * 2**20  # bytes on the disk, or no file is taken
NO_ROOM = "The server has no room for files at the moment: try again in half an hour."


def check_room() -> None:
    """Before a file is made.

    Raises:
        RequestError: the disk is full.
    """
    if shutil.disk_usage(prepare()).free < MIN_FREE:
        raise RequestError(NO_ROOM)


def uploaded(file: object) -> str:
    """The path of an uploaded file; whatever else a request may name is refused.

    Raises:
        RequestError: it names no file in the folder of uploads.
    """
    path = file.get("path") if isinstance(file, dict) else file
    folder = os.path.realpath(os.environ["GRADIO_TEMP_DIR"]) + os.sep
    try:
        short = isinstance(path, str) and len(path) <= LONGEST_PATH  # for each part of it is looked up
        found = os.path.realpath(path) if short else ""
    except ValueError:  # a character that no path can have
        found = ""
    if not found.startswith(folder):
        raise RequestError("The picture must be a file that was uploaded to this page.")
    if not os.path.isfile(found):
        raise RequestError("This picture was deleted, as all are after half an hour or so: choose it again.")
    return found


NAME = r"[\w-]+"
READ = re.compile(
    rf"/(page/.*|site/\w[\w.-]*|(card|evidence)/{NAME}|config|gradio_api/(info|startup-events|queue/data|heartbeat/{NAME}|call/{NAME}/{NAME}))?"
)
SENT = re.compile(
    rf"/(look|row|file|decode|features|probabilities|gradio_api/(upload|queue/join|call/{NAME}))"
)
NOTHING_HERE = "There is nothing here."


class Refused(Exception):
    """An HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


PATIENCE = 30  # seconds in which a call's answer must be asked for


class Gate:
    """ASGI middleware: lets in requests for the routes there are, with bodies that these can take.

    Gradio has many more routes, some of which fetch URLs: they are not reached. What is left of a request for
    one of its functions is what the function needs: texts, lists, and the path of an uploaded file.

    Args:
        app: what is behind it.
        functions: name -> function of the public API, in the order in which Gradio knows them.
        start: called before Gradio is asked for something.
        waiting: whether a session waits for an answer of Gradio.
        gone: called with the id of a session whose visitor left before the answer was there.
        forget: called with that of one who has all answers, who left, or for whose answer nobody has come.
    """

    def __init__(
        self,
        app: ASGIApp,
        functions: dict[str, Callable],
        start: Callable[[], Awaitable[None]],
        waiting: Callable[[str], bool],
        gone: Callable[[str], None],
        forget: Callable[[str], Awaitable[None]],
    ):
        self.app, self.functions = app, functions
        self.start, self.waiting, self.gone, self.forget = start, waiting, gone, forget
        self.expected: dict[str, asyncio.Task] = {}  # session -> what forgets it, if nobody comes
        self.listening: set[str] = set()  # sessions whose answers somebody waits for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})
        exchange = Exchange(receive, send)
        try:
            await self.pass_on(scope, exchange)
        except Refused as refused:
            if exchange.started:
                return
            exchange.refused = refused.status, refused.sentence
            log.warning("refused: %s", refused.sentence)
            answer = JSONResponse({"error": refused.sentence}, refused.status)
            await answer(scope, receive, exchange.reply)

    async def pass_on(self, scope: Scope, exchange: "Exchange") -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        route = {"GET": READ, "HEAD": READ, "POST": SENT}.get(scope["method"])
        if scope["method"] == "OPTIONS":
            route = READ if READ.fullmatch(path) else SENT
        if route is None or not route.fullmatch(path):
            raise Refused(404, NOTHING_HERE)
        parts = path.strip("/").split("/")
        receive, session, sent = exchange.receive, None, None
        if parts[:2] == ["gradio_api", "call"] and parts[2] not in self.functions:
            raise Refused(404, self.no_function() if scope["method"] == "POST" else NOTHING_HERE)
        if parts in (["gradio_api", "upload"], ["decode"]):
            try:
                check_room()
            except RequestError as error:
                raise Refused(507, str(error)) from None
            exchange.limit(MAX_UPLOAD, f"This file is larger than {MAX_BYTES // 2**20} MB.")
        else:
            exchange.limit(MAX_BODY, "This request is too large.")
        exchange.check_length(scope)
        if parts[:2] in (["gradio_api", "call"], ["gradio_api", "queue"]):
            await self.start()
            if scope["method"] == "POST":
                content = await exchange.body()
                sent = self.checked(parts, content)
                receive = exchange.replaced(sent, scope)
            elif scope["method"] == "GET":  # to look at the head takes no answer
                session = self.session(parts, scope)
                self.listening.add(session)
        try:
            await self.app(scope, receive, exchange.reply)
        except ClientDisconnect:  # in the middle of what it sent: there is nobody to answer
            return
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise Refused(507, NO_ROOM) from None
            if not exchange.refused:
                raise
        finally:
            self.listening.discard(session)
            if session and not exchange.finished:
                self.gone(session)
            if session and not (exchange.finished and self.waiting(session)):
                await self.forget(session)  # Gradio keeps for ever that there was one, and what it said
        if exchange.refused:
            raise Refused(*exchange.refused)
        if sent:
            self.expect(sent, exchange.said)

    def expect(self, sent: bytes, said: bytes) -> None:
        """Somebody will come for what Gradio has promised to compute, or it is given up."""
        with suppress(ValueError, KeyError, TypeError):  # it has refused the call
            session = json.loads(sent).get("session_hash") or json.loads(said)["event_id"]
            self.arrived(session)
            self.expected[session] = asyncio.create_task(self.give_up(session))

    def arrived(self, session: str) -> None:
        if expected := self.expected.pop(session, None):
            expected.cancel()

    async def give_up(self, session: str) -> None:
        await asyncio.sleep(PATIENCE)
        del self.expected[session]
        if session not in self.listening:
            self.gone(session)
            await self.forget(session)

    def no_function(self) -> str:
        return f"There is no such function: there are {' and '.join(self.functions)}."

    def session(self, parts: list[str], scope: Scope) -> str:
        """The session whose answers are asked for."""
        if parts[1] == "call":
            session = parts[3]
        else:
            found = re.fullmatch(rb"session_hash=([\w-]{1,64})", scope["query_string"])
            session = found[1].decode() if found else ""
        if not self.waiting(session):
            raise Refused(404, "No answer is waiting here: ask once more.")
        self.arrived(session)
        return session

    def checked(self, parts: list[str], content: bytes) -> bytes:
        """The body that Gradio gets for a call of one of the functions."""
        names = list(self.functions)
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            raise Refused(400, "The request is not JSON.") from None
        if not isinstance(body, dict) or not isinstance(body.get("data"), list):
            raise Refused(400, 'The request must be an object with the arguments in a list, "data".')
        kept, data = {}, body["data"]
        if parts[1] == "call":
            name = parts[2]
        else:
            index, session = body.get("fn_index"), body.get("session_hash")
            if not isinstance(session, str) or not re.fullmatch(r"[\w-]{1,64}", session):
                raise Refused(400, "The request names no session.")
            known = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(names)
            name = names[index] if known else None
            kept = {"fn_index": index, "session_hash": session}
        if name not in names:
            raise Refused(404, self.no_function())
        return json.dumps({**kept, "data": arguments(self.functions[name], data)}).encode()


def arguments(function: Callable, given: list) -> list:
    """All arguments of a function: those that are given, then its defaults.

    Gradio fetches whatever looks like a file to it, so that no dictionary is passed on: of the first argument
    the path remains, of any other nothing, and the function refuses what it cannot use.

    Raises:
        Refused: too few or too many.
    """
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name != "request"]
    needed = [one.name for one in parameters if one.default is one.empty]
    if not len(needed) <= len(given) <= len(parameters):
        names = ", ".join(one.name for one in parameters)
        told = (
            f"The arguments are {names}; the first {len(needed)} are needed."
            if names
            else "It has no arguments."
        )
        raise Refused(400, told)
    plain = [without_files(value) for value in given]
    if given and isinstance(given[0], dict):
        plain[0] = without_files(given[0].get("path"))
    return plain + [one.default for one in parameters[len(given) :]]


def without_files(value: object) -> object:
    """A value, or a list of values, without dictionaries; no argument is a list of lists."""
    if isinstance(value, list):
        return [None if isinstance(one, list | dict) else one for one in value]
    return None if isinstance(value, dict) else value


class Exchange:
    """A request and its answer, whose bodies are counted."""

    def __init__(self, receive: Receive, send: Send):
        self.incoming, self.send = receive, send
        self.most, self.sentence, self.received = MAX_BODY, "", 0
        self.started = self.finished = False
        self.refused: tuple[int, str] | None = None  # an exception would hold all that it came through
        self.said = b""  # the answer's first bytes

    def limit(self, most: int, sentence: str) -> None:
        self.most, self.sentence = most, sentence

    def check_length(self, scope: Scope) -> None:
        declared = int(dict(scope["headers"]).get(b"content-length", b"0"))  # the server has checked it
        if declared > self.most:
            raise Refused(413, self.sentence)

    async def receive(self) -> Message:
        """A body need not declare its length."""
        message = await self.incoming()
        self.received += len(message.get("body", b""))
        if self.received > self.most:
            self.refused = 413, self.sentence
            raise OSError("the body is too large")  # whatever the route makes of it is not sent
        return message

    async def body(self) -> bytes:
        parts, more = [], True
        while more:
            try:
                message = await self.receive()
            except OSError:
                raise Refused(*self.refused) from None
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(parts)

    def replaced(self, content: bytes, scope: Scope) -> Receive:
        """Gives another body, then whatever else comes."""
        scope["headers"] = [
            pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"content-type")
        ]
        scope["headers"] += [
            (b"content-length", str(len(content)).encode()),
            (b"content-type", b"application/json"),
        ]
        messages = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> Message:
            return messages.pop() if messages else await self.incoming()

        return receive

    async def reply(self, message: Message) -> None:
        """No guessing of types, no address passed on. A frame is allowed: the Hugging Face Hub shows one."""
        if self.refused and not self.started and message.get("status") != self.refused[0]:
            return
        if message["type"] == "http.response.start":
            if message["status"] == 413 and not self.refused:  # Gradio's own limit, in its own words
                self.refused = 413, self.sentence
                return
            self.started = True
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
        if len(self.said) < 1000:
            self.said += message.get("body", b"")
        self.finished = message["type"] == "http.response.body" and not message.get("more_body")
        await self.send(message)
