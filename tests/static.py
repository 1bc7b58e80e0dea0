"""The static edition for tests and measurements: how it is built and given out.

Its networks are stand-ins with random weights, the same as those of the tests' server, but for those that the
browser computes: these are as they ship, with made-up evidence.
"""

import gzip
import io
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from models.checkpoint import CHECKPOINTS, save
from tests.health import linked_tree

TRAINED = ("plain", "se", "non_local", "self_attention", "cbam", "danet")
TEXT = (".html", ".css", ".js", ".mjs", ".json", ".svg")
COMPUTED = ("non_local", "se")  # in the browser, too: a graph takes seconds to make
CARDS = (*TRAINED, "sk", "border_align")  # those that tests may open; all of them take seconds, too


def stand_ins(tree: Path, spared: Iterable[str] = ()) -> Path:
    """Makes an empty folder this source tree with random networks, one of them broken: its checkpoints.

    Args:
        spared: networks that the caller puts there.
    """
    from tests.networks import network  # brings pytest and its one thread: not for who gives a folder out

    checkpoints = linked_tree(tree)
    for name in TRAINED:
        if name in spared:
            continue
        save(network(name), name, {"name": name, "recipe": "random", "accuracy": 10.0}, checkpoints)
    (checkpoints / "sk.json").write_text('{"sha256": "0"}')
    (checkpoints / "sk.safetensors").write_bytes(b"not a checkpoint")
    return checkpoints


def make(folder: Path) -> None:
    """Puts a tree of stand-ins into a folder, and its static edition beside it: `tree` and `site`."""
    from tests.made_up import write_evidence

    (folder / "tree").mkdir()
    checkpoints = stand_ins(folder / "tree", COMPUTED)
    for name in COMPUTED:
        for ending in ("json", "safetensors"):
            shutil.copy(CHECKPOINTS / f"{name}.{ending}", checkpoints)
        write_evidence(name, checkpoints)
    build_site(folder / "tree", folder / "site", COMPUTED, CARDS)


def build_site(tree: Path, out: Path, names: Iterable[str], cards: Iterable[str] = ()) -> None:
    """The folder of a tree, with graphs of these networks, as `python -m visualize.site` makes it.

    Args:
        cards: the mechanisms whose cards are in it; by default those of all.

    Raises:
        RuntimeError: it cannot be built.
    """
    only = f"build.CATALOGUE = {{name: build.CATALOGUE[name] for name in {[*cards]}}}; " if cards else ""
    code = f"import sys; from visualize.site import __main__, build; {only}sys.exit(__main__.main())"
    command = [sys.executable, "-c", code, str(out), *names]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the static edition cannot be built: {done.stdout}\n{done.stderr[-2000:]}")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Packing(Quiet):
    """Text is packed on its way, as most static hosts do it."""

    def send_head(self):
        file = Path(self.translate_path(self.path))
        file = file / "index.html" if file.is_dir() else file
        if (
            "gzip" not in self.headers.get("Accept-Encoding", "")
            or file.suffix not in TEXT
            or not file.exists()
        ):
            return super().send_head()
        content = gzip.compress(file.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(file))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


@contextmanager
def given_out(folder: Path, by: type[Quiet] = Quiet) -> Iterator[str]:
    """The address at which a folder is given out, as `python -m http.server` does it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(by, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
