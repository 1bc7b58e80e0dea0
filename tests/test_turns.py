"""Whose turn it is: order, places, fairness, and what happens when a visitor leaves."""

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from fastapi import Request
from gradio.context import LocalContext

from visualize import answers
from visualize.answers import Lines, while_there
from visualize.record.requests import RequestError
from visualize.turns import Line, Waiting


class Work:
    """Jobs that start when they are computed and end when the test says so."""

    def __init__(self):
        self.started: list[str] = []
        self.ends: dict[str, threading.Event] = {}

    def job(self, name: str) -> Callable[[], str]:
        end = self.ends[name] = threading.Event()

        def run() -> str:
            self.started.append(name)
            assert end.wait(10)
            return name

        return run

    def jobs(self, *names: str) -> list[Callable[[], str]]:
        return [self.job(name) for name in names]


@pytest.fixture
def work() -> Work:
    return Work()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.002)


def visit(line: Line, jobs: list[Callable], heard: list, quick: bool = False) -> asyncio.Task:
    """A visitor who listens to the end; what is heard goes into a list."""

    async def listen() -> None:
        async with aclosing(line.ask(jobs, quick)) as news:
            async for one in news:
                heard.append(one)

    return asyncio.ensure_future(listen())


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[[Work], None]:
    def run(work: Work) -> None:
        asyncio.run(test(work))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_loop
async def test_one_visitor_has_both_threads_and_gets_answers_in_order(work: Work):
    line, heard = Line(), []
    asked = visit(line, work.jobs("a", "b", "c"), heard)
    await until(lambda: sorted(work.started) == ["a", "b"])
    work.ends["b"].set()
    await until(lambda: "c" in work.started)
    assert heard == []  # b is done, but a comes first
    work.ends["a"].set(), work.ends["c"].set()
    await asked
    assert heard == ["a", "b", "c"]


@in_loop
async def test_who_comes_first_is_served_first_and_the_others_see_their_place(work: Work):
    line, heard = Line(), [[], [], []]
    line.seconds = 3.0
    asked = [visit(line, work.jobs(f"{who}1", f"{who}2"), heard[index]) for index, who in enumerate("abc")]
    await until(lambda: sorted(work.started) == ["a1", "a2"])
    await until(lambda: heard[1] and heard[2])
    assert heard[1][0] == Waiting(place=1, seconds=3)  # two jobs of 3 s run, on two threads
    assert heard[2][0] == Waiting(place=2, seconds=6)
    work.ends["a1"].set(), work.ends["a2"].set()
    await until(lambda: sorted(work.started[2:]) == ["b1", "b2"])
    for end in work.ends.values():
        end.set()
    await asyncio.gather(*asked)
    assert sorted(work.started[4:]) == ["c1", "c2"] and heard[2][-2:] == ["c1", "c2"]


@in_loop
async def test_nothing_is_computed_for_who_has_left(work: Work):
    line, heard = Line(), []
    first = visit(line, work.jobs("a", "b", "c", "d"), [])
    left = visit(line, work.jobs("x", "y"), [])
    last = visit(line, work.jobs("z"), heard)
    await until(lambda: sorted(work.started) == ["a", "b"])
    left.cancel(), first.cancel()
    await until(lambda: left.done() and first.done())
    assert sorted(work.started) == ["a", "b"]
    for end in work.ends.values():
        end.set()
    await last
    assert sorted(work.started[:2]) == ["a", "b"] and work.started[2:] == ["z"] and heard[-1] == "z"


@in_loop
async def test_no_row_and_no_file_is_computed_for_who_has_left(work: Work):
    """Nothing is sent until such an answer is whole, so the server must ask whether somebody waits for it."""

    class Request:
        async def is_disconnected(self) -> bool:
            return True

    line = Line(at_once=1)
    busy = visit(line, work.jobs("a"), [])
    await until(lambda: work.started == ["a"])
    with pytest.raises(RequestError, match="left"):
        await while_there(Request(), line.run(work.job("row")))
    work.ends["a"].set()
    await busy
    assert await line.run(lambda: "next") == "next" and work.started == ["a"]


@in_loop
async def test_a_long_request_goes_behind_those_who_wait(work: Work):
    line = Line(at_once=1, turn=0.0)
    for name in ("a1", "a2", "a3", "b1"):
        work.job(name)
    long = visit(line, work.jobs("a1", "a2", "a3"), [])
    short = visit(line, work.jobs("b1"), [])
    for end in work.ends.values():
        end.set()
    await asyncio.gather(long, short)
    assert work.started.index("b1") == 1


@in_loop
async def test_who_is_sent_behind_the_others_hears_so(work: Work):
    """Else the page, which hears nothing for long, takes the server for gone."""
    line, heard = Line(at_once=1, turn=0.0), []
    long = visit(line, work.jobs("a1", "a2"), heard)
    short = visit(line, work.jobs("b1"), [])
    await until(lambda: work.started == ["a1"])
    work.ends["a1"].set()
    await until(lambda: heard[1:] == [Waiting(place=1, seconds=1)])
    for end in work.ends.values():
        end.set()
    await asyncio.gather(long, short)
    assert work.started == ["a1", "b1", "a2"] and heard[0] == "a1" and heard[-1] == "a2"


@in_loop
async def test_who_is_being_served_is_not_told_to_wait(work: Work):
    """Of two jobs at once the first is done, and the visitor's turn is over."""
    line, heard = Line(turn=0.0), []
    long = visit(line, work.jobs("a1", "a2", "a3"), heard)
    short = visit(line, work.jobs("b1"), [])
    await until(lambda: sorted(work.started) == ["a1", "a2"])
    work.ends["a1"].set()
    await until(lambda: "b1" in work.started and heard == ["a1"])
    await asyncio.sleep(0)
    assert heard == ["a1"]  # a2 is computed
    for end in work.ends.values():
        end.set()
    await asyncio.gather(long, short)
    assert [one for one in heard if isinstance(one, str)] == ["a1", "a2", "a3"]


@in_loop
async def test_small_jobs_need_not_wait_and_leave_one_thread_to_the_others(work: Work):
    line, row = Line(), []
    asked = [visit(line, work.jobs(f"{number}"), []) for number in range(4)]
    asked += [visit(line, work.jobs("row1"), row, quick=True), visit(line, work.jobs("row2"), [], quick=True)]
    await until(lambda: sorted(work.started) == ["0", "1"])
    work.ends["0"].set()
    await until(lambda: work.started[2:] == ["row1"])
    work.ends["1"].set()
    await until(lambda: len(work.started) == 4)
    assert work.started[3] == "2"
    for end in work.ends.values():
        end.set()
    await asyncio.gather(*asked)
    assert row[-1] == "row1"


@in_loop
async def test_two_hundred_may_wait_and_one_more_gets_a_sentence(work: Work):
    line = Line()
    asked = [visit(line, work.jobs(f"{number}"), []) for number in range(202)]
    await until(lambda: len(line.waiting) == 200)
    with pytest.raises(RequestError, match="200 visitors are waiting"):
        await line.run(work.job("more"))
    for end in work.ends.values():
        end.set()
    await asyncio.gather(*asked)
    assert len(work.started) == 202


@in_loop
async def test_a_job_that_fails_tells_its_visitor_and_the_line_goes_on(work: Work):
    line = Line(at_once=1)

    def fail() -> None:
        raise RequestError("It cannot be done.")

    with pytest.raises(RequestError, match="cannot be done"):
        await line.run(fail)
    assert await line.run(lambda: 7) == 7


@in_loop
async def test_a_stream_whose_listener_hangs_up_stops_its_work(work: Work):
    line, sent, hung_up = Line(at_once=1), [], asyncio.Event()

    async def lines():
        async with aclosing(line.ask(work.jobs("a", "b", "c"))) as news:
            async for one in news:
                yield f"{one}\n"

    async def receive() -> dict:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    answering = asyncio.ensure_future(Lines(lines())({"type": "http", "asgi": {}}, receive, send))
    await until(lambda: work.started == ["a"])
    work.ends["a"].set()
    await until(lambda: sorted(work.started) == ["a", "b"])
    hung_up.set()
    await answering
    work.ends["b"].set()
    assert await line.run(lambda: "next") == "next"
    assert work.started == ["a", "b"] and [m["body"] for m in sent[1:]] == [b"a\n"]


# ---- whose turn it is on a GPU that a Space lends


@pytest.mark.parametrize("route", ["look", "row", "file"])
def test_the_gpu_time_of_every_answer_is_that_of_its_visitor(route: str, monkeypatch):
    body = {"image": base64.b64encode(bytes(3072)).decode(), "mechanisms": ["plain"], "mechanism": "plain"}
    body |= {"target": "predicted", "cam": "GradCAM", "form": "json", "view": {}}
    whose = []

    def computed(*given: object, **settings: object) -> None:
        whose.append(LocalContext.request.get())
        raise RequestError("That is enough.")

    for name in ("answer", "affinity_row", "column_or_reason"):
        monkeypatch.setattr(answers, name, computed)

    async def receive() -> dict:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        return await asyncio.Event().wait()  # the visitor waits

    async def ask() -> None:
        asked = Request({"type": "http", "method": "POST", "path": f"/{route}", "headers": []}, receive)
        with suppress(RequestError):
            answer = await getattr(answers.Answers(), route)(asked)
            async for _ in answer.body_iterator:
                pass
        assert [one.request for one in whose] == [asked]

    bodies = [json.dumps(body).encode()]
    asyncio.run(ask())


@pytest.mark.parametrize("route", ["row", "file"])
def test_nothing_of_a_request_waits_but_what_was_checked(route: str):
    """Else two hundred that wait hold whatever JSON they came with."""

    class Sent:
        scope, headers = {"type": "http", "headers": []}, {}

        async def body(self) -> bytes:
            image = base64.b64encode(bytes(3072)).decode()
            sound = {"image": image, "mechanisms": ["plain"], "target": "predicted", "cam": "GradCAM"}
            more = {"form": "json", "view": {}, "mechanism": "plain"}
            return json.dumps(sound | more | {"filler": ["mark"]}).encode()

        async def is_disconnected(self) -> bool:
            return False

    async def held() -> str:
        asked, begun = answers.Answers(), asyncio.Event()

        async def wait(*_: object, **__: object) -> None:
            begun.set()
            await asyncio.Event().wait()

        asked.line.run = asked._file = wait
        coroutine = getattr(asked, route)(Sent())
        task = asyncio.ensure_future(coroutine)
        waiting = asyncio.ensure_future(begun.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        found = str(coroutine.cr_frame.f_locals) if begun.is_set() else task.exception()
        task.cancel()
        await asyncio.wait([task])
        return found

    found = asyncio.run(held())
    assert isinstance(found, str), found
    assert "plain" in found and "mark" not in found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Files are drawn when this is set."""
    drawn = threading.Event()

    def write(form: str, asked: object, found: dict, view: object, folder: Path) -> Path:
        assert drawn.wait(10)
        file = folder / f"it.{form}"
        file.write_text("drawn")
        return file

    monkeypatch.setattr(answers, "write", write)
    return drawn


def test_figures_that_are_drawn_keep_no_click_waiting(drawn: threading.Event):
    async def visit() -> None:
        ours = answers.Answers()
        files = [asyncio.create_task(ours._file("png", None, {"se": dict}, None)) for _ in range(3)]
        while ours.desk._work_queue.qsize() < 2:  # one is drawn, the others wait
            await asyncio.sleep(0.01)
        click = ours.line.run(lambda: "a row", quick=True)
        assert await asyncio.wait_for(click, 5) == "a row"
        drawn.set()
        assert await asyncio.gather(*files) == [("it.png", b"drawn")] * 3

    asyncio.run(visit())


def test_few_files_hold_their_maps_at_once(drawn: threading.Event):
    """A class that presses Download: who waits for the desk has nothing computed yet."""
    computed = []

    async def visit() -> None:
        ours = answers.Answers()
        jobs = {"se": lambda: computed.append(1) or {}}
        files = [asyncio.create_task(ours._file("png", None, jobs, None)) for _ in range(10)]
        while ours.desk._work_queue.qsize() < answers.MOST_FILES - 1:
            await asyncio.sleep(0.01)
        await ours.line.run(lambda: "what comes after all that was asked for")
        assert len(computed) == answers.MOST_FILES
        drawn.set()
        await asyncio.gather(*files)
        assert len(computed) == 10

    asyncio.run(visit())
