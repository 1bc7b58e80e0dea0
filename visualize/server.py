"""What keeps a public server up: what it sets, where its temporary files lie, how it listens, how it ends.

    end_on_sigterm()                   # while it starts, too
    with kept():                       # what is made now is not looked through for rubbish
        folder = prepare()             # threads, allocator, file limit, temporary folder
    bound_connections(server.config)
    wait_until_stopped(server)         # and leave nothing behind

Nothing is imported here that makes files: Gradio does, so that `prepare` comes before it.
"""

import atexit
import ctypes
import gc
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None

FOLDER = "attnscope-server-"  # what the names of our temporary folders start with, and nobody else's
SWEEP = 600  # seconds between two sweeps
LOOSE = 1800  # seconds after which a file is nobody's
GRACE = 1  # seconds that answers under way get when the server is stopped

MOST_CONNECTIONS = 1000
MOST_FILES = 4096  # the soft limit of open files, if the hard one allows it
FIRST_REQUEST = 20  # seconds that a connection may stay silent before its first request


# What it sets, however it is started.


def prepare() -> Path:
    """Sets threads, allocator, file limit and temporary folder of this process, once: the folder."""
    global _folder
    if _folder is None:
        import torch  # takes a second, which nobody need wait whose port is taken

        torch.set_num_threads(1)  # two networks are computed at a time, each by one thread
        torch.backends.cudnn.allow_tf32 = False  # a GPU gives what was measured, not three digits of it
        flatten_memory()
        raise_file_limit()
        logging.getLogger("asyncio").addFilter(_quiet)
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        _folder = TemporaryFolder()
    _folder.ensure()
    return _folder.path


@contextmanager
def kept() -> Iterator[None]:
    """What is made in here stays, so that Python need not look for rubbish among it, now or later.

    Else it would do so again and again while the app starts, a fifth of that time, and a request that comes
    during a search through everything would wait for it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def flatten_memory() -> None:
    """Keeps a long-running process from growing, where glibc allocates: few arenas, large blocks given back.

    A feature map takes 256 kB at most: memory for it is kept at hand, for to ask the system each time costs a
    page fault for every 4 kB, a sixth of what a network computes.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-8, 2)  # M_ARENA_MAX, else eight for each core
        libc.mallopt(-3, 2**20)  # M_MMAP_THRESHOLD, else it rises to the size of the weights
        libc.mallopt(-1, 2**25)  # M_TRIM_THRESHOLD: so much is kept at hand


def raise_file_limit() -> None:
    """A connection is an open file, and the usual soft limit is 1,024."""
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _quiet(record: logging.LogRecord) -> bool:
    """Without a free file, asyncio logs a traceback for each connection that waits."""
    return "out of system resource" not in record.getMessage()


class TemporaryFolder:
    """A folder for all temporary files of this process, locked while it lives, deleted at its end.

    It lies in GRADIO_TEMP_DIR, or where the system keeps such files. A lock says that it is in use: folders
    without one are left by servers that were killed, and are deleted.
    """

    def __init__(self):
        parent = "temporary folder"
        while True:
            try:
                parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
                parent.mkdir(parents=True, exist_ok=True)
                self.path = Path(tempfile.mkdtemp(prefix=FOLDER, dir=parent))
            except OSError as error:  # before anything is there: the start ends
                raise SystemExit(
                    f"Nothing can be written to {parent} ({error.strerror}): see GRADIO_TEMP_DIR."
                ) from error
            self.lock = locked(self.path)
            if self.path.exists():  # else another server took it for abandoned before it was locked
                break
        os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(self.path)
        os.environ["MPLCONFIGDIR"] = str(self.path / "matplotlib")  # for its list of fonts
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(self.path / "torch")
        self.delete_abandoned()
        atexit.register(self.delete)
        threading.Thread(target=self.keep_clean, name="sweep", daemon=True).start()

    def ensure(self) -> None:
        """Makes it again, if something that tidies up has removed it."""
        if not self.path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            if self.lock is not None:
                os.close(self.lock)  # of the folder that is gone
            self.lock = locked(self.path)

    def keep_clean(self) -> None:
        while True:
            time.sleep(SWEEP)
            with suppress(OSError):
                self.ensure()
                self.sweep()
                self.delete_abandoned()

    def sweep(self, age: float = LOOSE) -> None:
        """Deletes uploads that are older than `age` seconds, and folders that are empty by then."""
        oldest = time.time() - age
        for path in sorted(self.path.rglob("*"), reverse=True):  # what is inside a folder before the folder
            with suppress(OSError):  # gone by now, or a folder that is not empty
                if path.lstat().st_ctime < oldest and "matplotlib" not in path.parts:
                    path.rmdir() if path.is_dir() else path.unlink()

    def delete_abandoned(self) -> None:
        for other in self.path.parent.glob(f"{FOLDER}*"):
            if other != self.path and (lock := locked(other)) is not None:
                shutil.rmtree(other, ignore_errors=True)
                os.close(lock)

    def delete(self) -> None:
        tempfile.tempdir = None
        give_up = time.monotonic() + 1
        while self.path.exists() and time.monotonic() < give_up:  # a thread may still write into it
            shutil.rmtree(self.path, ignore_errors=True)


_folder: TemporaryFolder | None = None


def locked(folder: Path) -> int | None:
    """Locks a folder for the life of this process: the lock, or None where another process has it."""
    if fcntl is None:
        return None
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


# How it listens and how it ends.


def check_port(host: str, port: int) -> None:
    """Before anything is loaded: Gradio would go on to another port.

    Raises:
        OSError: it is taken, or not ours to take.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host.strip("[]"), port))


def bound_connections(config: uvicorn.Config, most: int = MOST_CONNECTIONS) -> None:
    """Hangs up on connections beyond a number, and on those that never ask for anything."""

    class Bounded(config.http_protocol_class):
        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.abort()
            else:
                self.loop.call_later(FIRST_REQUEST, self.hang_up_if_silent)

        def hang_up_if_silent(self) -> None:
            if self.cycle is None:  # no request has come
                self.transport.abort()

    config.http_protocol_class = Bounded


def end_on_sigterm() -> None:
    """SIGTERM ends the process as an error would: it tidies up, and the status is 0."""
    if threading.current_thread() is threading.main_thread():  # else of a notebook, say
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def wait_until_stopped(server: uvicorn.Server) -> None:
    """Until SIGTERM (see `end_on_sigterm`) or Ctrl-C comes; then the server closes, and the process ends with
    status 0."""
    if threading.current_thread() is not threading.main_thread():
        server.thread.join()
        return
    try:
        server.thread.join()
    except (KeyboardInterrupt, SystemExit):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # we are at it
        logging.getLogger("uvicorn.error").disabled = True  # it prints a traceback for each answer cut short
        server.config.timeout_graceful_shutdown = GRACE
        server.should_exit = True
        server.thread.join(GRACE + 1)
    if _folder:
        _folder.delete()
    sys.stdout.flush()
    os._exit(0)  # Python would wait for threads in which networks still compute, or crash
