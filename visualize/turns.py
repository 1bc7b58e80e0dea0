"""Whose turn it is: two networks are computed at a time, for all visitors together.

    line = Line()
    async with aclosing(line.ask([job, job, job])) as news:  # functions without arguments
        async for one in news:  # `Waiting`, once a second while the visitor waits; and the jobs' results

Who comes first is served first; a visitor whose jobs have taken `TURN` seconds goes behind those who wait.
When the visitor leaves, none of the jobs left is started any more. A job that has begun runs to its end.
"""

import asyncio
import contextvars
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import torch

from .record.requests import RequestError

AT_ONCE = 2  # jobs computed at the same time
MOST_WAITING = 200  # visitors
TURN = 5.0  # seconds of computing
FIRST_GUESS = 0.2  # seconds that a job takes, before any was measured
NEWS_EVERY = 1.0  # seconds between two messages to somebody who waits
FULL = f"{MOST_WAITING} visitors are waiting already: try again in a minute."


class FullError(RequestError):
    """Too many wait already."""


@dataclass(frozen=True)
class Waiting:
    """How long a visitor will have to wait: the place in the line, from 1, and about how many seconds."""

    place: int
    seconds: int


@dataclass(eq=False)
class Visit:
    """What one visitor asked for and is not computed yet. `quick`: small jobs, which need not wait long."""

    jobs: deque[tuple[Callable, asyncio.Future]]
    quick: bool
    waits: bool = True  # for its turn
    running: int = 0  # of its jobs
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    used: float = 0.0  # seconds of computing in this turn


class Line:
    """The visitors who wait, and the threads that serve them. All methods belong to one event loop."""

    def __init__(self, at_once: int = AT_ONCE, turn: float = TURN):
        self.at_once, self.turn = at_once, turn
        self.waiting: deque[Visit] = deque()
        self.quick: deque[Visit] = deque()
        self.running, self.quick_running = 0, 0
        self.seconds = FIRST_GUESS  # that a job takes, a moving average
        one_thread = partial(torch.set_num_threads, 1)  # for each network: the others have the other cores
        self.pool = ThreadPoolExecutor(at_once, "network", initializer=one_thread)

    async def ask(self, jobs: list[Callable], quick: bool = False) -> AsyncGenerator:
        """Gives what the jobs return, in order; while the visitor waits, says once a second for how long.

        Args:
            jobs: functions without arguments; they run in threads of their own.
            quick: jobs of some milliseconds. They take one of the threads before anybody who waits.

        Raises:
            FullError: too many wait already.
        """
        loop, line = asyncio.get_running_loop(), self.quick if quick else self.waiting
        if len(line) >= MOST_WAITING:
            raise FullError(FULL)
        visit = Visit(deque((job, loop.create_future()) for job in jobs), quick)
        futures = [future for _, future in visit.jobs]
        line.append(visit)
        self._go_on()
        try:
            for future in futures:
                while not future.done():
                    if visit.waits and not visit.running:
                        yield self._outlook(visit)
                    await asyncio.wait([future], timeout=NEWS_EVERY)
                yield future.result()
        finally:
            self._leave(visit, futures)

    async def run(self, job: Callable, quick: bool = False):
        """What one job returns."""
        async with aclosing(self.ask([job], quick)) as news:
            return [one async for one in news][-1]

    def _outlook(self, visit: Visit) -> Waiting:
        line = self.quick if visit.quick else self.waiting
        place = line.index(visit)
        jobs = self.running + sum(len(other.jobs) for other in list(line)[:place])
        return Waiting(place + 1, math.ceil(jobs * self.seconds / self.at_once))

    def _leave(self, visit: Visit, futures: list[asyncio.Future]) -> None:
        visit.jobs.clear()
        self._remove(visit)
        for future in futures:
            future.cancel()

    def _remove(self, visit: Visit) -> None:
        line = self.quick if visit.quick else self.waiting
        if visit in line:
            line.remove(visit)

    def _next(self) -> Visit | None:
        if self.quick and not (self.quick_running and self.waiting):
            return self.quick[0]
        return self.waiting[0] if self.waiting else None

    def _go_on(self) -> None:
        """Gives the free threads their next jobs."""
        while self.running < self.at_once and (visit := self._next()):
            job, future = visit.jobs.popleft()
            if not visit.jobs:
                self._remove(visit)
            visit.waits = False
            self.running += 1
            visit.running += 1
            self.quick_running += visit.quick
            timed = partial(_timed, visit.context.copy(), job)
            done = asyncio.get_running_loop().run_in_executor(self.pool, timed)
            done.add_done_callback(partial(self._done, visit, future))

    def _done(self, visit: Visit, future: asyncio.Future, done: asyncio.Future) -> None:
        self.running -= 1
        visit.running -= 1
        self.quick_running -= visit.quick
        seconds, result, error = done.result()
        visit.used += seconds
        if not visit.quick:
            self.seconds += 0.1 * (seconds - self.seconds)
        if not future.done():
            future.set_exception(error) if error else future.set_result(result)
            future.exception()  # seen: nobody may be listening any more
        if visit.used > self.turn and visit in self.waiting:
            self.waiting.remove(visit)
            self.waiting.append(visit)
            visit.waits, visit.used = True, 0.0
        self._go_on()


def _timed(context: contextvars.Context, job: Callable) -> tuple[float, object, Exception | None]:
    started = time.monotonic()
    try:
        result, error = context.run(job), None
    except Exception as caught:  # of any kind: it is raised where the result is waited for
        result, error = None, caught
    return time.monotonic() - started, result, error
