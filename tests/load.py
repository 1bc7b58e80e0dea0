"""How much the app stands: python -m tests.load [NAME ...] [--write README.md]

Without a name, everything is measured, with the networks that ship; that takes about half an hour on two
cores that do nothing else. Results are kept in tests/figures.json; exit status 1 says that a bar is missed.
With `--write`, nothing is measured: the table of what is in that file replaces what stands between the lines
`<!-- load -->` and `<!-- /load -->`.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.request import urlopen

import httpx
import numpy as np
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from models import build, load
from models.checkpoint import save
from models.metadata import mechanisms_table, networks
from models.results.table import write_into
from tests.figures import markdown, store
from tests.health import ROOT, client_of, linked_tree, start, stop
from tests.hostile import hostile_files, is_right, worst_files
from tests.test_picture import fuzz
from visualize.inspection.cache import MOST as CACHE_BYTES
from visualize.inspection.network import Inspection, inspect
from visualize.record.encoding import picture_of

MB = 2**20
PREFERRED = ("plain", "se", "cbam", "non_local", "sk", "danet", "self_attention")


# Without a server.


def loader_fuzz() -> dict:
    """300,000 mutated pictures, fixed seed"""
    count = int(os.environ.get("ATTNSCOPE_FUZZ", "300000"))
    pictures, _, strays = fuzz(count)
    for stray in strays[:3]:
        print(stray)
    return {
        "files": count,
        "pictures": pictures,
        "stray_exceptions": len(strays),
        "bar": "0 stray exceptions of 300,000",
        "holds": not strays and count >= 300_000,
    }


COST = """import re, sys, time
from picture import load_image, to_network
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before, started = peak(), time.process_time()  # of computing: others may want the processor, too
to_network(load_image(sys.argv[1]))
print(time.process_time() - started, (peak() - before) / 1024)"""


def worst_upload() -> dict:
    """The largest pictures that are taken, format by format"""
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, content in worst_files().items():
            (file := Path(folder) / "upload").write_bytes(content)
            command = [sys.executable, "-c", COST, str(file)]
            done = subprocess.run(command, cwd=ROOT / "visualize", stdout=subprocess.PIPE, text=True)
            if done.returncode:  # it has said why
                raise RuntimeError(f"{kind} of {len(content) / MB:.1f} MB was not taken")
            seconds, megabytes = map(float, done.stdout.split())
            print(f"  {kind} of {len(content) / MB:.1f} MB: {seconds:.2f} s, {megabytes:.0f} MB")
            costs.append((seconds, megabytes))
    seconds, megabytes = (max(column) for column in zip(*costs))
    return {
        "slowest_s": round(seconds, 2),
        "largest_MB": round(megabytes),
        "bar": "at most 1 s and 200 MB",
        "holds": seconds <= 1 and megabytes <= 200,
    }


def wrong_maps() -> dict:
    """8 threads, each with the same 100 pictures, share a network without a lock"""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same sums in the same order
    images = [random_picture(seed) for seed in range(100)]
    wrong, names = 0, available()
    for name in names:
        network = load(name)
        alone = [inspect(network, image) for image in images]

        def differing(offset: int, network=network, alone=alone) -> int:
            order = [(offset * 13 + index) % len(images) for index in range(len(images))]
            return sum(not same(inspect(network, images[index]), alone[index]) for index in order)

        with ThreadPoolExecutor(8) as pool:
            wrong += sum(pool.map(differing, range(8)))
    torch.set_num_threads(threads)
    answers = 8 * len(images) * len(names)
    return {
        "networks": len(names),
        "answers": answers,
        "wrong": wrong,
        "bar": "0 wrong",
        "holds": answers > 0 and not wrong,
    }


def same(one: Inspection, other: Inspection) -> bool:
    """Bit by bit."""
    maps = all(np.array_equal(one.maps[path].values, other.maps[path].values) for path in other.maps)
    cams = all(np.array_equal(one.cams[block], other.cams[block]) for block in other.cams)
    return maps and cams and np.array_equal(one.probabilities, other.probabilities)


# With one.


def hostile() -> dict:
    """Odd and hostile files, uploaded to the server"""
    wrong, files = [], hostile_files()
    with server() as (_, address, folder):
        client = client_of(address)
        for name, (content, expected) in files.items():
            picture = sentence = None
            sent = httpx.post(f"{address}gradio_api/upload", files={"files": ("upload.png", content)})
            try:
                if sent.status_code != 200:
                    raise AppError(sent.json()["error"])
                record = client.predict({"path": sent.json()[0]}, ["plain"], api_name="/compare")
                picture = picture_of(record)
            except AppError as error:
                sentence = str(error)
            if not is_right(expected, picture, sentence):
                print(f"  {name}: {sentence}")
                wrong.append(name)
    return {"files": len(files), "wrong": len(wrong), "bar": "0 wrong", "holds": not wrong}


def twenty_clients() -> dict:
    """20 clients with 10 requests each, four networks with CAMs"""
    names = available()[:4]
    with server() as (_, address, folder):
        outcomes, times, seconds = crowd(address, folder, 20, 10, names)
    rate, slow = outcomes["answer"] / seconds, float(np.percentile(times, 95))
    return {
        "networks": len(names),
        "answers_per_s": round(rate, 2),
        "p95_s": round(slow, 2),
        "lost": 200 - outcomes["answer"],
        "bar": "at least 4 answers per s, p95 at most 5 s, 0 lost",
        "holds": rate >= 4 and slow <= 5 and outcomes["answer"] == 200 and len(names) == 4,
    }


def fifty_at_once(count: int = 50) -> dict:
    """50 visitors at once with their own picture, and somebody who opens the page meanwhile"""
    slowest, done = [], threading.Event()
    with server() as (_, address, _), ThreadPoolExecutor(count + 1) as visitors:

        def open_the_page() -> None:
            while not done.wait(0.1):
                started = time.perf_counter()
                urlopen(address, timeout=60).read()
                slowest.append(time.perf_counter() - started)

        visiting = visitors.submit(open_the_page)
        names = available()[:4]
        heard = list(visitors.map(lambda seed: look(address, random_picture(seed), names), range(count)))
        done.set()
        visiting.result()
    answers = sum(found.get("column", []) == names and "done" in found for found in heard)
    return {
        "answers": answers,
        "refused": sum("error" in found for found in heard),
        "saw_their_place": sum("waiting" in found for found in heard),
        "longest_wait_s": round(max(found["seconds"] for found in heard), 1),
        "slowest_page_s": round(max(slowest), 2),
        "bar": "50 answers, a place for each who waits, the page within 1 s",
        "holds": answers == count >= 50 and max(slowest) <= 1 and any("waiting" in found for found in heard),
    }


def what_if(pictures: int = 20) -> dict:
    """What if, for seven networks with attention, after the comparison as trained, and with none before it"""
    names = [name for name in available() if name != "plain"][:7]
    seconds = {"plain": [], "after it": [], "alone": []}
    with server() as (_, address, _):
        look(address, random_picture(0), names, "shuffled")  # loads the networks
        for seed in range(1, pictures + 1):
            for key, picture, replacement in (
                ("plain", random_picture(seed), None),
                ("after it", random_picture(seed), "shuffled"),
                ("alone", random_picture(1000 + seed), "shuffled"),
            ):
                found = look(address, picture, names, replacement)
                if found.get("column") != names:
                    raise RuntimeError(f"{key}: {found}")
                seconds[key].append(found["seconds"])
    plain, after, alone = (median(column) for column in seconds.values())
    return {
        "networks": len(names),
        "as_trained_s": round(plain, 2),
        "after_it_s": round(after, 2),
        "with_none_before_it_s": round(alone, 2),
        "bar": "after it at most 1.5 times as long as the comparison",
        "holds": after <= 1.5 * plain and len(names) == 7,
    }


def look(address: str, picture: Image.Image, names: list[str], replacement: str | None = None) -> dict:
    """A comparison as the page asks for it: its lines by kind, of a column the key; and seconds."""
    started, found = time.perf_counter(), {}
    wanted = {"image": base64.b64encode(picture.tobytes()).decode(), "mechanisms": names}
    if replacement:
        wanted["replace"] = {"name": replacement, "scope": "all"}
    with httpx.stream("POST", f"{address}look", json=wanted, timeout=120) as answer:
        for line in answer.iter_lines():
            ((kind, value),) = json.loads(line).items()
            short = {"column": "key", "waiting": "place"}.get(kind)
            found.setdefault(kind, []).append(value[short] if short else value)
    return found | {"seconds": time.perf_counter() - started}


def five_hundred() -> dict:
    """500 requests in a row, seven networks, another picture each"""
    resident = []
    with tempfile.TemporaryDirectory() as name, server(tree_of(7, Path(name))) as (app, address, folder):
        names = available(client_of(address).predict(api_name="/mechanisms"))[:7]
        for number in range(500):
            if number % 10 == 0:
                client = client_of(address)  # another visitor
            if (outcome := ask(client, save_picture(folder, number), names)) != "answer":
                raise RuntimeError(f"request {number}: {outcome}")
            resident.append(resident_bytes(app.pid) / MB)
    growth = max(resident[-20:]) - max(resident[80:100])
    return {
        "networks": len(names),
        "of_them_with_random_weights": len(set(names) - set(available())),
        "resident_after_100_MB": round(resident[99]),
        "resident_MB": round(resident[-1]),
        "growth_MB": round(growth),
        "map_cache_at_most_MB": CACHE_BYTES // MB,
        "bar": "growth at most 50 MB, resident at most 1,600 MB with seven networks",
        "holds": growth <= 50 and resident[-1] <= 1600 and len(names) == 7,
    }


def sigterm() -> dict:
    """SIGTERM while 20 clients ask"""
    with server() as (app, address, folder):
        names = available()[:4]
        clients = [client_of(address) for _ in range(20)]
        threading.excepthook = lambda _: None  # the clients' own threads complain about a server that is gone
        file, answers = save_picture(folder, 0), []

        def keep_asking(client: Client) -> None:
            while ask(client, file, names) == "answer":
                answers.append(1)

        asking = [threading.Thread(target=keep_asking, args=[client], daemon=True) for client in clients]
        for thread in asking:
            thread.start()
        while len(answers) < 40 and any(thread.is_alive() for thread in asking):
            time.sleep(0.1)
        try:
            seconds, left = stop(app, folder / "app"), "nothing"
        except RuntimeError as error:
            print(error)
            seconds, left = None, "something"
    return {
        "stopped_after_s": None if seconds is None else round(seconds, 2),
        "left": left,
        "bar": "at most 5 s, status 0, no temporary file left",
        "holds": seconds is not None and seconds <= 5,
    }


def start_of_forty() -> dict:
    """From the command to the page, with forty checkpoints"""
    with tempfile.TemporaryDirectory() as name:
        root = tree_of(40, Path(name))
        started = time.perf_counter()
        with server(root) as (_, address, _):
            seconds = time.perf_counter() - started
            rows = client_of(address).predict(api_name="/mechanisms")
    count = sum(row["available"] for row in rows)
    return {
        "networks": count,
        "started_after_s": round(seconds, 1),
        "bar": "at most 10 s with 40 networks",
        "holds": seconds <= 10 and count >= 40,
    }


def tree_of(count: int, tree: Path) -> Path:
    """This source tree, with random weights of the same size where fewer networks than that are trained."""
    checkpoints, trained = linked_tree(tree), available()
    shutil.copytree(ROOT / "checkpoints", checkpoints, dirs_exist_ok=True)
    others = [name for name in dict.fromkeys((*PREFERRED, *networks())) if name not in trained]
    for name in others[: max(0, count - len(trained))]:
        save(build(name), name, {"name": name, "recipe": "random"}, checkpoints)
    return tree


@contextmanager
def server(root: Path = ROOT) -> Iterator[tuple[subprocess.Popen, str, Path]]:
    """The running app: its process, its address, and a folder for the caller's files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        app, address = start(root, folder / "app", {})
        try:
            yield app, address, folder
        finally:
            if app.poll() is None:
                stop(app, folder / "app")


def crowd(address: str, folder: Path, count: int, each: int, names: list[str]) -> tuple[Counter, list, float]:
    """So many clients at once, each with so many requests: outcomes of `ask`, seconds of each and in all."""
    files = [save_picture(folder, number) for number in range(count * each)]
    clients = [client_of(address) for _ in range(count)]
    ready = threading.Barrier(count + 1)

    def work(index: int) -> list[tuple[str, float]]:
        found = []
        ready.wait()
        for file in files[index * each : (index + 1) * each]:
            started = time.perf_counter()
            found.append((ask(clients[index], file, names), time.perf_counter() - started))
        return found

    with ThreadPoolExecutor(count) as pool:
        working = [pool.submit(work, index) for index in range(count)]
        ready.wait()
        started = time.perf_counter()
        found = [pair for job in working for pair in job.result()]
        seconds = time.perf_counter() - started
    outcomes = Counter(outcome for outcome, _ in found)
    for outcome in outcomes - Counter(answer=count * each):
        print(f"  lost {outcomes[outcome]}: {outcome}")
    return outcomes, [taken for _, taken in found], seconds


def ask(client: Client, file: Path, names: list[str]) -> str:
    """One comparison: "answer", or else what went wrong."""
    try:
        record = client.predict(handle_file(file), names, api_name="/compare")
    except Exception as error:  # of many kinds
        return repr(error)
    return "answer" if [column["key"] for column in record["mechanisms"]] == names else "columns are missing"


def available(table: list[dict] | None = None) -> list[str]:
    """The networks with a sound checkpoint, the best known first: of a server's list, or those that ship."""
    names = [row["key"] for row in table or mechanisms_table() if row["available"]]
    return sorted(names, key=lambda name: (*PREFERRED, name).index(name))


def random_picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8))


def save_picture(folder: Path, seed: int) -> Path:
    """A photograph's size, another content for each seed."""
    file = folder / f"{seed}.jpg"
    random_picture(seed).resize((640, 480), Image.BICUBIC).save(file, quality=90)
    return file


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


MEASURED: dict[str, Callable[[], dict]] = {
    function.__name__: function
    for function in (
        hostile,
        loader_fuzz,
        worst_upload,
        wrong_maps,
        twenty_clients,
        fifty_at_once,
        what_if,
        five_hundred,
        start_of_forty,
        sigterm,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.load", description="Measure how much the app stands."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURED)}; by default all")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two marks; nothing is measured")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(MEASURED):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if arguments.write:
        arguments.write.write_text(write_into(arguments.write.read_text(), markdown(), "load"))
        return
    warnings.simplefilter("ignore")  # Pillow warns about what it overlooks
    all_hold = True
    for name in arguments.names or MEASURED:
        entry = {"what": MEASURED[name].__doc__} | MEASURED[name]()
        store(name, entry)
        all_hold = all_hold and entry["holds"]
        print(f"{name}: {json.dumps({key: value for key, value in entry.items() if key != 'what'})}")
    sys.exit(0 if all_hold else 1)


if __name__ == "__main__":
    main()
