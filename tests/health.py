"""Does the app work here? python -m tests.health

Starts it as the README does, asks it for a comparison, checks the answer and stops it: one line, and exit
status 0 if all is well. Needs nothing but the app's own requirements.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

from visualize.record.encoding import decode, picture_of

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "visualize" / "page" / "examples" / "cat.png"


def linked_tree(tree: Path) -> Path:
    """Makes an empty folder this source tree, but for the checkpoints: the folder that they go into."""
    shutil.copy(ROOT / "app.py", tree)  # through a link, Python would import from the original's folder
    for name in ("models", "visualize"):
        (tree / name).symlink_to(ROOT / name)
    (tree / "checkpoints").mkdir()
    return tree / "checkpoints"


def start(
    root: Path, scratch: Path, settings: dict[str, str], most: float = 300
) -> tuple[subprocess.Popen, str]:
    """Starts the app of a source tree on a free port: its process, and its address once it answers.

    A port that somebody else takes before the app does is none: then it takes another one, twice.

    Args:
        root: folder that holds app.py.
        scratch: an empty folder, for the app's temporary files, `temporary/`, and its output, `output.txt`.
        settings: further environment variables.
        most: seconds that the start may take.

    Raises:
        RuntimeError: the app does not start.
    """
    (scratch / "temporary").mkdir(parents=True)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GRADIO_")}
    for _ in range(3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ours = {"GRADIO_SERVER_PORT": str(port), "TMPDIR": str(scratch / "temporary")}
        with (scratch / "output.txt").open("w") as output:
            command = [sys.executable, "app.py"]
            environment = inherited | ours | settings
            app = subprocess.Popen(command, cwd=root, env=environment, stdout=output, stderr=output)
        address, give_up = f"http://127.0.0.1:{port}/", time.monotonic() + most
        while app.poll() is None and time.monotonic() < give_up:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                return app, address
            except OSError:
                time.sleep(0.2)
        app.kill()
        if "is taken" not in written(scratch):
            break
    raise RuntimeError(f"the app does not start:\n{written(scratch)}")


def stop(app: subprocess.Popen, scratch: Path, most: float = 15) -> float:
    """Stops the app with SIGTERM: the seconds that it took.

    Raises:
        RuntimeError: it does not stop, fails, or leaves temporary files behind.
    """
    started = time.monotonic()
    app.terminate()
    try:
        code = app.wait(most)
    except subprocess.TimeoutExpired:
        app.kill()
        raise RuntimeError(f"the app does not stop within {most} seconds") from None
    seconds = time.monotonic() - started
    left = [path.name for path in (scratch / "temporary").rglob("*")]
    if code != 0 or left:
        raise RuntimeError(f"the app stopped with status {code} and left {left}:\n{written(scratch)}")
    return seconds


def written(scratch: Path) -> str:
    return (scratch / "output.txt").read_text()


def client_of(address: str) -> Client:
    return Client(address, verbose=False, analytics_enabled=False)


def check(record: dict, names: list[str]) -> None:
    """A comparison of the example picture by some networks.

    Raises:
        AssertionError: it is not what it should be.
    """
    assert [column["key"] for column in record["mechanisms"]] == names, record["unavailable"]
    assert picture_of(record).tobytes() == Image.open(EXAMPLE).convert("RGB").tobytes(), "another picture"
    for column in record["mechanisms"]:
        name, maps = column["key"], column["maps"]
        assert abs(sum(column["probabilities"]) - 1) < 1e-4, f"{name}: the probabilities do not sum to one"
        assert sum(found["tensor"].endswith(".cam") for found in maps) == 8, f"{name}: not eight CAMs"
        for values in (decode(found) for found in maps if found["data"]):
            assert values.size and np.isfinite(values).all(), f"{name}: a map without numbers"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch, started = Path(folder) / "scratch", time.monotonic()
        app = None
        try:
            app, address = start(ROOT, scratch, {})
            client = client_of(address)
            names = [row["key"] for row in client.predict(api_name="/mechanisms") if row["available"]]
            assert names, "no network has a checkpoint"
            check(client.predict(handle_file(EXAMPLE), names, api_name="/compare"), names)
            stop(app, scratch)
        except Exception as error:
            sys.exit(f"unhealthy: {error}")
        finally:
            if app is not None and app.poll() is None:
                app.kill()
    print(f"healthy: {', '.join(names)} answered, {time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
