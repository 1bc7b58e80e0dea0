"""A public server: what it takes in, what it refuses, what it leaves behind; broken networks at its start."""

import asyncio
import base64
import gc
import getpass
import hashlib
import io
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
import torch
from gradio.routes import App
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as safetensors_bytes

from models import CLASSES
from models.checkpoint import restore_with_facts, save
from tests.health import EXAMPLE, ROOT, check, client_of, linked_tree, start, stop
from tests.hostile import wrong_files
from tests.networks import network, picture
from visualize.gate import Gate
from visualize.inspection.network import inspect, observe
from visualize.record.encoding import decode

MB = 2**20
SENTENCE = re.compile(r"[A-Z0-9][^\n/\\<>]{10,240}\.")
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}
web = httpx.Client(timeout=60, verify=False)  # one for all: making one takes longer than a request
PIXELS = base64.b64encode(picture().tobytes()).decode()


# Networks that cannot be used.


def damaged(folder: Path, name: str, content: bytes | None, right_sum: bool = False) -> None:
    sha256 = hashlib.sha256(content).hexdigest() if right_sum else "0"
    (folder / f"{name}.json").write_text(json.dumps({"sha256": sha256}))
    if content is not None:
        (folder / f"{name}.safetensors").write_bytes(content)


def with_nan(content: bytes) -> bytes:
    stored = parse_safetensors(content)
    stored["bn1.weight"][3] = torch.nan
    return safetensors_bytes(stored)


SOUND = ("plain", "non_local", "cbam")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 11386776\n"
FAULTS: dict[str, tuple[Callable[[Path, bytes], None], str]] = {  # network: what is done to it, what is said
    "se": (lambda folder, sound: damaged(folder, "se", None), "missing"),
    "gsop": (lambda folder, sound: damaged(folder, "gsop", b""), "empty"),
    "sk": (lambda folder, sound: damaged(folder, "sk", sound[:5000]), "damaged"),
    "danet": (lambda folder, sound: damaged(folder, "danet", LFS), "Git LFS pointer"),
    "ccnet": (lambda folder, sound: damaged(folder, "ccnet", b"<!DOCTYPE html>"), "web page"),
    "eca": (lambda folder, sound: damaged(folder, "eca", sound[:-1] + b"!"), "damaged"),
    "bam": (lambda folder, sound: damaged(folder, "bam", sound, right_sum=True), "another version"),
    "sge": (lambda folder, sound: damaged(folder, "sge", with_nan(sound), right_sum=True), "not finite"),
    "scse": (lambda folder, sound: (folder / "scse.json").write_text('{"sha2'), "facts"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This source tree with other checkpoints: some sound networks, and one for each fault of a file."""
    tree = tmp_path_factory.mktemp("tree")
    folder = linked_tree(tree)
    for name in SOUND:
        save(network(name), name, {"name": name, "recipe": "random", "accuracy": 10.0}, folder)
    sound = (folder / "plain.safetensors").read_bytes()
    for spoil, _ in FAULTS.values():
        spoil(folder, sound)
    return tree


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of whoever runs the server: empty."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def running(tree: Path, scratch: Path, home: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The app and its address; the last test of this file stops it."""
    before = written_in(tree)
    app, address = start(tree, scratch, NO_BYTECODE | {"HOME": str(home)})
    after = written_in(tree)
    yield app, address
    if app.poll() is None:
        stop(app, scratch)
    assert after == before  # it writes nothing there when it starts


@pytest.fixture(scope="module")
def server(running: tuple[subprocess.Popen, str]) -> str:
    return running[1]


def written_in(tree: Path) -> dict[Path, int]:
    """When files and folders of a source tree were written, also behind its links; without Python's cache."""
    found = [
        path for folder in (tree, *(tree / name for name in os.listdir(tree))) for path in folder.rglob("*")
    ]
    return {path: path.lstat().st_mtime_ns for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def client(server: str) -> Client:
    """Gradio's own client, with its own defaults."""
    return client_of(server)


@pytest.fixture
def log(scratch: Path) -> Iterator[Callable[[], str]]:
    """What the server has written since the test began; at the end there may be no traceback in it."""
    file = scratch / "output.txt"
    before = file.stat().st_size
    yield lambda: file.read_text()[before:]
    assert "Traceback" not in file.read_text()[before:]


def asked(server: str, names: list, **more: object) -> dict:
    """A comparison as the page asks for it: its lines by their kind."""
    found: dict[str, list] = {}
    with web.stream(
        "POST", f"{server}look", json={"image": PIXELS, "mechanisms": names, **more}, timeout=60
    ) as answer:
        for line in answer.iter_lines():
            ((kind, value),) = json.loads(line).items()
            found.setdefault(kind, []).append(value)
    return found


def test_broken_networks_are_listed_with_the_reason_and_the_rest_works(server: str, client: Client):
    record = client.predict(handle_file(EXAMPLE), [*FAULTS, "plain"], api_name="/compare")
    rows = {row["key"]: row for row in client.predict(api_name="/mechanisms")}  # some show when loading
    assert {name for name, row in rows.items() if row["available"]} == {*SOUND}
    assert {name for name, row in rows.items() if row["trained"]} == {*SOUND, *FAULTS}
    reasons = {entry["key"]: entry["reason"] for entry in record["unavailable"]}
    for name, (_, expected) in FAULTS.items():
        assert expected in rows[name]["reason"] and rows[name]["reason"] == reasons.pop(name)
        assert name in rows[name]["reason"] and rows[name]["reason"].endswith((".", "`."))
    assert not reasons
    check(record, ["plain"])
    first = start_of(server)
    assert {entry["key"] for entry in first["record"]["unavailable"]} == {"se", "sk", "danet"}
    late = {"eca", "bam", "sge"}  # whose fault shows when they are loaded
    assert all(row == rows[row["key"]] for row in first["mechanisms"] if row["key"] not in late)


def start_of(server: str) -> dict:
    """What the page starts with."""
    text = web.get(server).text
    return json.loads(re.search(r'<script type="application/json" id="start">(.*?)</script>', text)[1])


# The public API, as the README shows it.


def test_compare_returns_the_record_with_the_clients_own_defaults(client: Client):
    record = client.predict(handle_file(EXAMPLE), ["cbam", "plain"], "frog", "LayerCAM", api_name="/compare")
    assert (record["version"], record["target"], record["cam"]) == (1, "frog", "LayerCAM")
    check(record, ["cbam", "plain"])
    cbam, plain = record["mechanisms"]
    assert {found["kind"] for found in plain["maps"]} == {"cam"}
    gate = next(found for found in cbam["maps"] if found["tensor"] == "layer3.1.refine.spatial_gate")
    values = decode(gate)
    assert values.shape == (1, 8, 8) and 0 < values.min() < values.max() < 1
    record = client.predict(handle_file(EXAMPLE), ["plain"], api_name="/compare")
    assert (record["target"], record["cam"]) == ("predicted", "GradCAM")


def readme(language: str, holds: str) -> str:
    """A block of code of the README."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if holds in block)


@pytest.mark.parametrize("language", ["python", "bash"])
def test_the_readmes_calls_work(server: str, tmp_path: Path, language: str):
    code = readme(language, "gradio_client" if language == "python" else "curl")
    code = code.replace("http://127.0.0.1:7860/", server).replace("http://127.0.0.1:7860", server.rstrip("/"))
    shutil.copy(EXAMPLE, tmp_path / "dog.jpg")
    command = (
        [sys.executable, "-c", code + "\nprint(record)"] if language == "python" else ["bash", "-euc", code]
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for python3
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "probabilities" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "optional", [[], ["dog"], ["dog", "EigenCAM"], ["dog", "EigenCAM", "shuffled", "layer2.1", 1]]
)
def test_curl_may_leave_out_what_is_optional(server: str, optional: list):
    (path,) = upload(server, EXAMPLE.read_bytes()).json()
    kind, answer = called(server, "compare", [{"path": path}, ["plain"], *optional])
    assert kind == "complete"
    expected = [*optional[:2], *["predicted", "GradCAM"][len(optional) :]]
    assert [answer[0]["target"], answer[0]["cam"]] == expected
    replace = {"name": "shuffled", "scope": "layer2.1", "strength": 1} if len(optional) > 2 else None
    assert answer[0]["replace"] == replace and ("before" in answer[0]["mechanisms"][0]) == bool(replace)


def called(server: str, name: str, data: object) -> tuple[str, object]:
    """A call by hand, as with curl: the kind of the last event, and what it says."""
    content = json.dumps({"data": data})  # in ASCII: half a character has no other form
    sent = web.post(f"{server}gradio_api/call/{name}", content=content, timeout=60)
    if sent.status_code != 200:
        return "refused", sent.json()
    event = sent.json()["event_id"]
    answer = web.get(f"{server}gradio_api/call/{name}/{event}", timeout=60).text
    kind, said = re.findall(r"event: (\w+)\ndata: (.*)", answer)[-1]
    return kind, json.loads(said)


def test_only_two_functions_are_public(client: Client):
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert set(endpoints["named_endpoints"]) == {"/compare", "/mechanisms"}
    assert endpoints["unnamed_endpoints"] == {}
    names = [one["parameter_name"] for one in endpoints["named_endpoints"]["/compare"]["parameters"]]
    assert names == ["image", "mechanisms", "target", "cam", "replace", "scope", "strength"]


def test_a_client_asks_what_if(client: Client):
    as_trained = client.predict(handle_file(EXAMPLE), ["cbam"], api_name="/compare")
    found = client.predict(handle_file(EXAMPLE), ["cbam"], replace="shuffled", api_name="/compare")
    (before,), (after,) = as_trained["mechanisms"], found["mechanisms"]
    assert found["replace"] == {"name": "shuffled", "scope": "all", "strength": 1}
    assert after["before"] == before["probabilities"] != after["probabilities"]
    somewhere = {"scope": "layer2.1", "replace": "another picture's", "api_name": "/compare"}
    (other,) = client.predict(handle_file(EXAMPLE), ["cbam"], **somewhere)["mechanisms"]
    assert other["before"] == before["probabilities"] != other["probabilities"]
    for wrong in ({"replace": "by hand"}, {"replace": "all"}, {"replace": "strength", "strength": 3}):
        with pytest.raises(AppError) as refused:
            client.predict(handle_file(EXAMPLE), ["cbam"], **wrong, api_name="/compare")
        assert SENTENCE.fullmatch(str(refused.value))


def test_nobody_sees_random_weights_unasked(client: Client, server: str):
    record = client.predict(handle_file(EXAMPLE), ["eca", "triplet_attention"], api_name="/compare")
    assert record["mechanisms"] == []
    assert record["unavailable"][1]["reason"] == "triplet_attention is not trained yet."
    assert asked(server, ["triplet_attention"])["unavailable"][0]["key"] == "triplet_attention"
    (column,) = asked(server, ["triplet_attention"], random=True)["column"]
    assert column["random"] is True


# The page's own requests.


def test_the_page_starts_with_a_comparison_and_asks_for_nothing(server: str):
    first = start_of(server)
    check(first["record"], ["plain", "non_local", "cbam"])
    assert list(first["examples"]) == list(CLASSES) and set(first["families"]) >= {"channel", "pairwise"}
    for name, pixels in first["examples"].items():
        file = ROOT / "visualize" / "page" / "examples" / f"{name}.png"
        assert base64.b64decode(pixels) == Image.open(file).convert("RGB").tobytes(), name
    assert "<p>" in first["reading"]["en"] and first["results"] == {"blocks": []} and first["description"]
    offered = {found["name"]: found["question"] for found in first["replacements"]}
    assert "as trained" not in offered and offered["level"].endswith("?")


def test_the_page_works_under_any_path(server: str):
    """Nothing in its own files starts at the root of the host."""
    files = [*(ROOT / "visualize" / "page").rglob("*.*")]
    assert len(files) > 30
    for file in files:
        if file.suffix in (".html", ".css", ".js"):
            before = r"src=|href=|url\(|fetch\(|URL\(|import\(|from |import "
            assert not re.findall(rf"""(?:{before})["'`]/[^/]""", file.read_text()), file


def test_files_are_asked_for_again_only_if_they_changed(server: str):
    page = web.get(server)
    assert page.headers["content-encoding"] == "gzip" and page.headers["cache-control"] == "no-cache"
    for address in (server, f"{server}page/engine.js"):
        tag = web.get(address).headers["etag"]
        again = web.get(address, headers={"If-None-Match": tag})
        assert again.status_code == 304 and again.headers["cache-control"] == "no-cache" and not again.content
    script = web.get(f"{server}page/engine.js")
    assert "javascript" in script.headers["content-type"] and "content-encoding" in script.headers
    for path in ("page/..%2f..%2fapp.py", "page/%2e%2e/%2e%2e/app.py"):
        assert web.get(server + path).status_code == 404, path


def test_columns_come_one_by_one_in_the_order_asked(server: str, tree: Path):
    model, _ = restore_with_facts("cbam", tree / "checkpoints")
    least = int(inspect(model, picture()).probabilities.argmin())  # not what it would explain by itself
    found = asked(server, ["cbam", "sk", "plain"], target=CLASSES[least], cam="LayerCAM")
    cam = next(one for one in found["column"][0]["maps"] if one["tensor"] == "layer3.1.cam")
    assert np.abs(decode(cam) - inspect(model, picture(), least, "LayerCAM").cams["layer3.1"]).max() < 1e-3
    assert [column["key"] for column in found["column"]] == ["cbam", "plain"]
    assert [entry["key"] for entry in found["unavailable"]] == ["sk"]
    assert found["done"] == [True] and "error" not in found


def test_a_row_of_a_large_map_is_the_one_that_was_recorded(server: str, tree: Path):
    (column,) = asked(server, ["non_local"])["column"]
    left = next(found for found in column["maps"] if found["tensor"] == "stage2.affinity")
    assert left["data"] == "" and left["shape"] == [256, 16, 16]
    wanted = {"image": PIXELS, "mechanism": "non_local", "tensor": "stage2.affinity", "query": 7}
    row = decode(web.post(f"{server}row", json=wanted, timeout=60).json())
    model, _ = restore_with_facts("non_local", tree / "checkpoints")
    rows = inspect(model, picture(), stage="layer4.1").maps["stage2.affinity"].values
    assert np.abs(row - rows[7]).max() < 1e-3 * rows[7].max() < np.abs(rows[8] - rows[7]).max()


def test_channels_that_a_gate_opens_most_and_least(server: str, tree: Path):
    """Their feature maps are those of the block that the gate stands in."""
    path, route = "layer2.1.refine.channel_gate", f"{server}features"
    found = web.post(route, json={"image": PIXELS, "mechanism": "cbam", "tensor": path}, timeout=60).json()
    model, _ = restore_with_facts("cbam", tree / "checkpoints")
    seen = observe(model, picture())
    gates, output = seen.maps[path].values.flatten(), seen.activations["layer2.1"]
    order = np.argsort(-gates, kind="stable")
    assert found["channels"] == [*order[:4], *order[-4:]]
    assert found["gates"] == pytest.approx(gates[found["channels"]], abs=1e-6)
    assert np.abs(decode(found) - output[found["channels"]]).max() < 1e-4 * np.ptp(output)
    sound = {"image": PIXELS, "mechanism": "cbam", "tensor": path}
    spatial = {"tensor": "layer2.1.refine.spatial_gate"}
    for wrong in (
        spatial,
        {"tensor": "layer2.1.output"},
        {"tensor": [path]},
        {"mechanism": 7},
        {"image": "x"},
    ):
        answer = web.post(route, json=sound | wrong, timeout=60)
        assert answer.status_code == 400 and SENTENCE.fullmatch(answer.json()["error"]), wrong


def test_many_pictures_are_answered_at_once(server: str, tree: Path):
    """As for a picture that loses its pixels step by step."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    images = [base64.b64encode(one.tobytes()).decode() for one in pixels]
    route = f"{server}probabilities"
    found = web.post(route, json={"images": images, "mechanism": "cbam"}, timeout=60).json()["probabilities"]
    model, _ = restore_with_facts("cbam", tree / "checkpoints")
    for one, shares in zip(pixels, found, strict=True):
        assert np.abs(inspect(model, Image.fromarray(one)).probabilities - shares).max() < 2e-5
    assert np.ptp(found, axis=0).max() > 1e-4
    sound = {"images": images, "mechanism": "cbam"}
    for wrong in (
        {"images": []},
        {"images": images * 14},
        {"images": [7]},
        {"images": "x"},
        {"mechanism": ["cbam"]},
    ):
        answer = web.post(route, json=sound | wrong, timeout=60)
        assert answer.status_code == 400 and SENTENCE.fullmatch(answer.json()["error"]), wrong
    answer = web.post(route, json=sound | {"mechanism": "iau"}, timeout=60)
    assert answer.status_code == 400 and "not trained" in answer.json()["error"]


SHUFFLED = {"name": "shuffled", "scope": "stage2", "strength": None, "other": None, "by_hand": None}


def test_what_if_is_asked_of_a_comparison_a_row_and_a_file(server: str):
    before, after = (asked(server, ["non_local"], replace=what)["column"][0] for what in (None, SHUFFLED))
    assert after["before"] == before["probabilities"] != after["probabilities"] and "before" not in before
    wanted = {"image": PIXELS, "mechanism": "non_local", "tensor": "stage2.affinity", "query": 7}
    own, shuffled = (
        decode(web.post(f"{server}row", json=wanted | {"replace": what}, timeout=60).json())
        for what in (None, SHUFFLED)
    )
    assert not np.array_equal(own, shuffled) and np.allclose(np.sort(own, None), np.sort(shuffled, None))
    wanted = {"form": "json", "image": PIXELS, "mechanisms": ["non_local"], "target": "predicted"}
    wanted |= {"cam": "GradCAM", "view": {}, "replace": SHUFFLED}
    report = web.post(f"{server}file", json=wanted, timeout=60).json()
    wanted = {"name": "shuffled", "scope": "stage2", "strength": 1}
    assert report["settings"]["replace"] == wanted | {"only": None, "by_hand": None, "other_sha256": None}
    assert [*report["networks"][0]["before"].values()] == pytest.approx(before["probabilities"], abs=2e-6)


@pytest.mark.parametrize(
    "replace",
    [
        {"name": "nothing"},
        {"name": "shuffled", "scope": "../se"},
        {"name": "by hand", "by_hand": {"layer2.1.refine.spatial_gate": {"999": 0}}},
    ],
)
def test_a_what_if_that_makes_no_sense_is_refused(server: str, log: Callable, replace: dict):
    wanted = {"image": PIXELS, "mechanisms": ["cbam"], "target": "predicted", "cam": "GradCAM", "view": {}}
    wanted |= {"form": "json", "mechanism": "cbam", "tensor": "layer2.1.refine.gate", "replace": replace}
    for route in ("look", "row", "file"):
        answer = web.post(f"{server}{route}", json=wanted, timeout=60)
        assert SENTENCE.fullmatch(answer.json()["error"]), route


@pytest.mark.parametrize(
    ("form", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("npz", b"PK"), ("json", b"{")]
)
def test_a_file_to_take_along(server: str, form: str, begins: bytes):
    looks = {"block": "layer2.1", "query": [3, 4], "scale": "own"}
    wanted = {"form": form, "image": PIXELS, "mechanisms": ["plain", "cbam", "sk"], "target": "dog"}
    wanted |= {"cam": "LayerCAM", "view": looks}
    answer = web.post(f"{server}file", json=wanted, timeout=60)
    assert answer.status_code == 200 and answer.content.startswith(begins)
    assert answer.headers["content-disposition"].endswith(f'plain-cbam-sk-layer2.1.{form}"')
    if form == "json":
        report = answer.json()
        assert (looks | {"target": "dog", "cam": "LayerCAM"}).items() <= report["settings"].items()
        assert {one["target"] for one in report["networks"]} == {"dog"} and {*report["unavailable"]} == {"sk"}


def test_a_picture_that_the_browser_cannot_read(server: str):
    answer = web.post(f"{server}decode", content=EXAMPLE.read_bytes(), timeout=60)
    assert answer.headers["content-type"] == "image/png" and answer.headers["notes"] == "%5B%5D"
    assert answer.content.startswith(b"\x89PNG")
    refused = web.post(f"{server}decode", content=b"This is text.", timeout=60)
    assert refused.status_code == 400 and SENTENCE.fullmatch(refused.json()["error"])


def test_a_card(server: str):
    found = web.get(f"{server}card/cbam").json()
    assert "<math" in found["html"]["en"] and "通道门控" in found["html"]["zh"]
    assert found["placement"].startswith("<svg") and "<table>" in found["measured"]


def test_evidence_that_nobody_measured_is_null(server: str):
    assert web.get(f"{server}evidence/cbam").text == "null"


# What comes in.


def chunks(megabytes: float) -> Iterator[bytes]:
    """A multipart body with one long field and without a declared length."""
    yield b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\n'
    for _ in range(int(megabytes * 16)):
        yield bytes(MB // 16)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("route", "megabytes", "sentence"),
    [
        ("gradio_api/upload", 22, "This file is larger than 20 MB."),
        ("decode", 22, "This file is larger than 20 MB."),
        ("gradio_api/queue/join", 2, "This request is too large."),
        ("gradio_api/call/compare", 2, "This request is too large."),
        ("gradio_api/call/mechanisms", 2, "This request is too large."),
        ("look", 2, "This request is too large."),
        ("file", 2, "This request is too large."),
    ],
)
def test_a_body_that_is_too_large(
    server: str, log: Callable, route: str, megabytes: int, sentence: str, declared: bool
):
    content = bytes(megabytes * MB) if declared else chunks(megabytes)
    kind = "multipart/form-data; boundary=b" if route.endswith("upload") else "application/json"
    answer = web.post(server + route, content=content, headers={"Content-Type": kind}, timeout=60)
    assert (answer.status_code, answer.json()) == (413, {"error": sentence})


@pytest.mark.parametrize("route", ["upload", "decode", "nothing"])
def test_a_call_of_nothing_is_refused_before_it_is_read(server: str, route: str):
    """However its name ends: a large body of many small objects would take a gigabyte as Python objects."""
    content = b'{"data": [' + b"{}," * 700_000 + b"{}]}"
    answer = web.post(f"{server}gradio_api/call/{route}", content=content, timeout=60)
    assert answer.status_code == 404 and "no such function" in answer.json()["error"]


def test_nothing_of_a_refused_body_stays():
    """An exception that is kept holds all the frames that it came through, with their bodies."""
    body = b'{"data": [' + b"{}," * 30_000 + b"{}]}"

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict) -> None:
        pass

    async def start() -> None:
        pass

    gate = Gate(None, {"compare": lambda image, mechanisms: None}, start, None, None, None)
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/call/compare", "headers": []}

    def dictionaries() -> int:
        return sum(type(one) is list and len(one) > 30_000 for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = dictionaries()
        asyncio.run(gate(scope, receive, send))
        assert dictionaries() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("comes", [None, "HEAD", "GET", "GET and leaves"])
def test_a_call_is_given_up_when_nobody_comes_for_its_answer(monkeypatch: pytest.MonkeyPatch, comes: str):
    """Posted and left: nothing is computed for who asks no more, and nothing of it is kept; of an answer that
    somebody took neither."""
    monkeypatch.setattr("visualize.gate.PATIENCE", 0.05)
    gone, forgotten = [], []

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        more = scope["method"] == "GET" and comes == "GET and leaves"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"event_id": "abc"}', "more_body": more})

    async def receive() -> dict:
        return {"type": "http.request", "body": b'{"data": []}', "more_body": False}

    async def send(message: dict) -> None:
        pass

    async def start() -> None:
        pass

    async def forget(session: str) -> None:
        forgotten.append(session)

    async def visit() -> None:
        waits = iter([True, comes == "GET and leaves"])  # before the answer, and after it
        gate = Gate(app, {"mechanisms": lambda: None}, start, lambda _: next(waits), gone.append, forget)
        scope = {"type": "http", "headers": [], "query_string": b""}
        await gate({**scope, "method": "POST", "path": "/gradio_api/call/mechanisms"}, receive, send)
        if comes:
            asked = {"method": comes.split()[0], "path": "/gradio_api/call/mechanisms/abc"}
            await gate({**scope, **asked}, receive, send)
        assert bool(gate.expected) == (comes in (None, "HEAD"))
        await asyncio.sleep(0.2)
        assert gate.expected == {}

    asyncio.run(visit())
    assert forgotten == ["abc"] and gone == ([] if comes == "GET" else ["abc"])


def upload(server: str, content: bytes) -> httpx.Response:
    return web.post(f"{server}gradio_api/upload", files={"files": ("picture.png", content)}, timeout=30)


def test_a_file_of_20_mb_comes_in_and_one_byte_more_does_not(server: str):
    assert upload(server, bytes(20 * MB)).status_code == 200
    answer = upload(server, bytes(20 * MB + 1))
    assert (answer.status_code, answer.json()) == (413, {"error": "This file is larger than 20 MB."})


class Listener(HTTPServer):
    """A server that counts who comes."""

    def __init__(self):
        visits = self.visits = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                visits.append(self.path)
                self.send_error(404)

            do_HEAD = do_POST = do_GET
            log_message = lambda *_: None  # noqa: E731

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield listening
    listening.shutdown()
    listening.server_close()


def routes() -> list[str]:
    """The paths of Gradio's routes, whether they are closed or not, and of our own."""
    with gr.Blocks(mode="server", analytics_enabled=False) as blocks:
        pass
    app, gradios = App.create_app(blocks), []
    for route in app.routes:
        gradios += [
            one.path for one in getattr(route, "original_router", app.router).routes if hasattr(one, "path")
        ]
    gradios = {*gradios}
    assert len(gradios) > 60 and {"/gradio_api/upload", "/config"} <= gradios
    return [
        *gradios,
        "/",
        "/look",
        "/row",
        "/file",
        "/decode",
        "/card/{name}",
        "/evidence/{name}",
        "/page/{path}",
    ]


def test_nothing_takes_a_url_whatever_the_route_and_the_argument(
    server: str, client: Client, log: Callable, listener: Listener
):
    url = f"http://127.0.0.1:{listener.server_port}/cat.png"
    file = {"path": url, "url": url, "meta": {"_type": "gradio.FileData"}, "orig_name": url}
    sound = {"image": PIXELS, "mechanisms": ["plain"], "target": "predicted", "cam": "GradCAM"}
    for route in {re.sub(r"\{[^}]*\}", url, route) for route in routes()} | {f"/gradio_api/file/{url}"}:
        for spelling in {route, route.replace("=", "%3D"), route.upper() if "file" in route else route}:
            web.get(server.rstrip("/") + spelling, timeout=30)
            web.post(
                server.rstrip("/") + spelling, json={"data": [file], "url": url, "path": url}, timeout=30
            )
    for value in (url, file, [file]):
        for key in (*sound, "random", "view", "form", "mechanism", "tensor", "query", "replace"):
            for route in ("look", "row", "file", "features", "probabilities"):
                wanted = {
                    **sound,
                    "form": "json",
                    "view": {},
                    "mechanism": "plain",
                    "images": [PIXELS],
                    key: value,
                }
                web.post(server + route, json=wanted, timeout=60)
        for place in range(7):
            data = [*sound.values(), "average", "all", 1.0]
            data[place] = value
            called(server, "compare", data)
            with suppress(AppError, ValueError):
                client.predict(*data, api_name="/compare")
        for key in ("session_hash", "event_data", "trigger_id", "fn_index", "request", "batched"):
            body = {"data": [file, ["plain"]], "fn_index": 0, "session_hash": "walk", key: value}
            web.post(f"{server}gradio_api/queue/join", json=body, timeout=30)
    web.post(f"{server}decode", content=url.encode(), timeout=30)
    for route in ("card", "evidence"):
        web.get(f"{server}{route}/{url}", timeout=30)
    assert listener.visits == []


CLOSED = (
    *("file=/etc/passwd", "file/etc/passwd", "proxy=x", "run/compare", "api/compare", "call/v2/compare"),
    *("component_server", "process_recording", "custom_component/1/2/3/4", "stream/a", "openapi.json"),
    *("upload_progress?upload_id=a", "queue/status", "runs", "theme.css", "cancel", "reset"),
    *(f"../{path}" for path in ("monitoring", "theme.css", "login", "logout", "svelte/a", "static/a")),
    *(f"../{path}" for path in ("assets/a", "manifest.json", "robots.txt", "docs", "openapi.json")),
)


@pytest.mark.parametrize("route", CLOSED)
def test_routes_that_are_not_used_are_closed(server: str, route: str):
    body = {"data": [{"path": str(EXAMPLE)}, ["plain"], "predicted", "GradCAM"]}
    there = f"{server}gradio_api/{route}".replace("gradio_api/../", "")
    for answer in (web.get(there), web.post(there, json=body)):
        assert (answer.status_code, answer.json()) == (404, {"error": "There is nothing here."})


def test_headers_of_every_answer(server: str):
    answers = [
        web.get(server),
        web.get(f"{server}no/such/page"),
        web.get(f"{server}gradio_api/info"),
        web.post(f"{server}gradio_api/call/compare", content=bytes(2 * MB)),
        web.get(f"{server}page/engine.js"),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 413, 200]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "x-frame-options" not in answer.headers  # a Space shows the page in a frame
        assert "frame-ancestors" not in answer.headers.get("content-security-policy", "")


# What is refused.

MARK = "<b>mark</b>"
ODD = [
    None,
    True,
    7,
    -1.5,
    "",
    MARK,
    [],
    [MARK],
    [[MARK]],
    {},
    {MARK: MARK},
    "x" * 5000,
    ["plain"] * 1000,
    "\0",
]


def assert_refused(answer: object) -> None:
    """One plain sentence, with nothing from the request."""
    assert isinstance(answer, dict) and isinstance(answer.get("error"), str), answer
    assert SENTENCE.fullmatch(answer["error"]) and "mark" not in answer["error"], answer
    assert not re.search(r"Error|Exception|Traceback|\.py\b", answer["error"]), answer


def test_wrong_calls_of_the_public_api_get_one_sentence_each(server: str, log: Callable):
    sound = [{"path": upload(server, EXAMPLE.read_bytes()).json()[0]}, ["plain"], "predicted", "GradCAM"]
    wrong = [[], sound[:1], [*sound, 1], [*sound, *sound]]
    for place, fits in enumerate([(), (), (), ()]):
        wrong += [[*sound[:place], value, *sound[place + 1 :]] for value in ODD if value not in fits]
    wrong += [
        [{"path": path}, ["plain"]] for path in ("/etc/passwd", "../app.py", str(EXAMPLE), "\0", None, 7)
    ]
    wrong += [[sound[0], ["plian"]], [sound[0], ["plain", "plain"]], [sound[0], ["plain", MARK]]]
    for data in wrong:
        kind, answer = called(server, "compare", data)
        assert kind in ("refused", "error"), data
        assert_refused(answer)
    deep = []
    for _ in range(600):
        deep = [deep]
    for data in ([*sound[:1], deep], [deep, ["plain"]], [deep] * 4):
        assert_refused(called(server, "compare", data)[1])
    for data in ([1], [None], [sound]):
        assert_refused(called(server, "mechanisms", data)[1])
    kind, answer = called(server, "compare", sound)
    assert kind == "complete"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"7", b'{"data": 7}', b'{"data": {}}', b'{"data": null}', b"{}"]
    + [b"\xff\xfe", b"[" * 100_000, b'{"data": [NaN]}', b'{"data": ["' + b"\\ud800" + b'"]}'],
)
@pytest.mark.parametrize("route", ["call/compare", "call/mechanisms", "call/nothing", "queue/join"])
def test_malformed_calls_get_one_sentence(server: str, log: Callable, route: str, content: bytes):
    answer = web.post(f"{server}gradio_api/{route}", content=content, timeout=30)
    assert answer.status_code in (400, 404)
    assert_refused(answer.json())


@pytest.mark.parametrize("route", ["look", "decode", "gradio_api/call/compare"])
def test_who_leaves_in_the_middle_of_a_request_is_no_fault(server: str, log: Callable, route: str):
    host, port = re.fullmatch(r"http://(.+):(\d+)/", server).groups()
    with socket.create_connection((host, int(port))) as line:
        line.sendall(f"POST /{route} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n{{".encode())
        web.get(server)  # it has come
    assert web.get(server).status_code == 200
    assert "Exception" not in log()


@pytest.mark.parametrize("index", [None, -1, 2, 99, True, "0", MARK, [], {}, 1e400, 0.5])
def test_unknown_functions_get_one_sentence(server: str, log: Callable, index: object):
    body = json.dumps({"data": [], "fn_index": index, "session_hash": "a"})
    answer = web.post(f"{server}gradio_api/queue/join", content=body)
    assert answer.status_code == 404
    assert_refused(answer.json())


@pytest.mark.parametrize("session", [None, 7, "", MARK, "x" * 100, [], {}])
def test_odd_sessions_get_one_sentence(server: str, log: Callable, session: object):
    body = {"data": [], "fn_index": 1, "session_hash": session}
    assert_refused(web.post(f"{server}gradio_api/queue/join", json=body).json())
    for query in ("", "?session_hash=nobody", "?session_hash=a&b=c", f"?session_hash={'x' * 1000}"):
        assert_refused(web.get(f"{server}gradio_api/queue/data{query}").json())
    assert_refused(web.get(f"{server}gradio_api/call/compare/nobody").json())


@pytest.mark.parametrize("route", ["look", "row", "file"])
def test_wrong_requests_of_the_page_get_one_sentence_each(server: str, log: Callable, route: str):
    sound = {
        "image": PIXELS,
        "mechanisms": ["plain"],
        "target": "predicted",
        "cam": "GradCAM",
        "form": "json",
    }
    sound |= {"view": {}, "mechanism": "non_local", "tensor": "stage2.affinity", "query": 3}
    needed = {
        "look": ("image", "mechanisms", "target", "cam"),
        "row": ("image", "mechanism", "tensor", "query"),
        "file": ("image", "mechanisms", "target", "cam", "form", "view"),
    }[route]
    for key in needed:
        for value in ODD:
            if (key, value) in (("view", {}), ("query", 7), ("view", {MARK: MARK})):
                continue
            answer = web.post(server + route, json=sound | {key: value}, timeout=60)
            assert answer.status_code == 400, (key, value)
            assert_refused(answer.json())
    for content in (b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000):
        assert_refused(web.post(server + route, content=content).json())
    for route in ("card", "evidence"):
        assert_refused(web.get(f"{server}{route}/{'mark'}").json())


def test_too_many_networks_at_once_get_a_sentence(server: str, client: Client):
    names = [row["key"] for row in client.predict(api_name="/mechanisms")]
    refused = web.post(f"{server}look", json={"image": PIXELS, "mechanisms": names})
    assert refused.status_code == 400 and "at most 32 networks" in refused.json()["error"]
    with pytest.raises(AppError, match="at most 32 networks"):
        client.predict(handle_file(EXAMPLE), names, api_name="/compare")


def test_a_picture_that_was_deleted_is_told_so(server: str, client: Client):
    (path,) = upload(server, EXAMPLE.read_bytes() + b"deleted").json()
    os.remove(path)
    with pytest.raises(AppError) as refused:
        client.predict({"path": path}, ["plain"], api_name="/compare")
    assert "deleted" in str(refused.value) and SENTENCE.fullmatch(str(refused.value))


def test_hostile_files_give_the_right_picture_or_a_sentence(tmp_path: Path):
    assert wrong_files(tmp_path) == []


# What the process sets.


def python(code: str, *arguments: str, **environment: str) -> str:
    """What a program prints, in this source tree."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAPS = """
import ctypes, re, resource, sys, threading
if sys.argv[1] == "flat":
    from visualize.server import flatten_memory
    flatten_memory()
libc = ctypes.CDLL(None)
libc.open_memstream.restype = ctypes.c_void_p
barrier = threading.Barrier(17)
def work():
    kept = [bytes(1000) for _ in range(1000)]
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(16)]
[thread.start() for thread in threads]
barrier.wait()
large = [bytes(2_000_000) for _ in range(50)]
del large  # glibc would now raise its threshold and keep blocks of this size
kept = [bytes(2_000_000) for _ in range(50)]
text, size = ctypes.c_char_p(), ctypes.c_size_t()
file = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
libc.malloc_info(0, file)
libc.fclose(file)
report = text.value.decode()
faults = -resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):  # pictures, each with forty feature maps
    maps = [bytearray(b"1") * 2**18 for _ in range(40)]
    del maps
faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(len(re.findall("<heap nr", report)), re.search(r'type="mmap" count="(\\d+)"', report)[1], faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="another allocator than glibc's")
def test_memory_is_taken_from_few_arenas_and_large_blocks_are_given_back():
    usual, usual_blocks, _ = map(int, python(HEAPS, "usual").split())
    heaps, blocks, faults = map(int, python(HEAPS, "flat").split())
    assert heaps <= 2 < usual
    assert blocks >= 50 > usual_blocks  # each is given back to the system when it is freed
    assert faults < 2 * 40 * 64  # pages of ten pictures: the memory of the first is used again


PREPARED = """
import logging, resource, sys, torch
from visualize.server import prepare
prepare()
print(torch.get_num_threads(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
assert not torch.backends.cudnn.allow_tf32
logging.basicConfig(stream=sys.stdout, format="%(message)s")
for _ in range(100):
    logging.getLogger("asyncio").error("socket.accept() out of system resource")
logging.getLogger("asyncio").error("something else")
"""


def test_threads_open_files_and_the_log_are_set_however_it_is_started(tmp_path: Path):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n" + PREPARED
    first, *logged = python(code, TMPDIR=str(tmp_path), OMP_NUM_THREADS="4").strip().split("\n")
    assert first == f"1 {min(4096, hard if hard > 0 else 4096)}"
    assert logged == ["something else"]  # and not the other hundred


SILENT = """
import asyncio, logging, socket, sys, threading, time, urllib.request
import uvicorn
from visualize import server
server.FIRST_REQUEST = 60
def received(one):
    try:
        return one.recv(1)
    except ConnectionResetError:
        return b""
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})
config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off")
config.load()
server.bound_connections(config, most=5)
running = uvicorn.Server(config)
threading.Thread(target=running.run, daemon=True).start()
while not running.started:
    time.sleep(0.01)
port = running.servers[0].sockets[0].getsockname()[1]
silent = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(9)]
ended = [received(one) for one in silent[5:]]  # hung up on at once
print(len(ended), all(part == b"" for part in ended))
for one in silent[:5]:
    one.shutdown(socket.SHUT_WR)
print(all(received(one) == b"" for one in silent[:5]))  # these have left
server.FIRST_REQUEST = 0.5
print(received(socket.create_connection(("127.0.0.1", port), 10)) == b"")  # it has said nothing
print(urllib.request.urlopen(f"http://127.0.0.1:{port}/").read())
"""


KEPT = """
import gc
import app
made, frozen = app.make_app(), gc.get_freeze_count()
print(frozen > len(gc.get_objects()), gc.isenabled())
gc.disable()
app.make_app()
print(gc.get_freeze_count() > frozen, gc.isenabled())
"""


def test_what_is_made_at_the_start_is_never_looked_through_for_rubbish(tmp_path: Path):
    told = python(KEPT, TMPDIR=str(tmp_path))
    assert told.split("\n")[:2] == ["True True", "True False"]  # and for what comes it is as it was


def test_silent_connections_are_hung_up_on_and_so_are_too_many():
    told = python(SILENT)
    assert told.split("\n")[:4] == ["4 True", "True", "True", "b'here'"]


def test_a_port_that_is_taken_ends_the_start_with_a_sentence(tree: Path, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        environment = {**os.environ, "GRADIO_SERVER_PORT": port, "TMPDIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "app.py"], cwd=tree, env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 1 and list(tmp_path.iterdir()) == []
    assert done.stderr == f"Port {port} of 127.0.0.1 is taken: set GRADIO_SERVER_PORT to a free one.\n"


def test_a_host_that_is_none_is_not_called_taken(tree: Path, tmp_path: Path):
    environment = {**os.environ, "GRADIO_SERVER_NAME": "no.such.host", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tree, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Port 7860 of no.such.host cannot be used: ")


def test_host_and_port_are_gradios(monkeypatch):
    from gradio.http_server import INITIAL_PORT_VALUE, LOCALHOST_NAME

    import app

    assert app.where() == (LOCALHOST_NAME, INITIAL_PORT_VALUE)
    for wrong in ("many", "70000"):
        monkeypatch.setenv("GRADIO_SERVER_PORT", wrong)
        with pytest.raises(SystemExit, match=r"^GRADIO_SERVER_PORT must be a number up to 65535\.$"):
            app.main()


@pytest.mark.parametrize("path", ["\ud800", "/tmp" + "/a" * 400_000], ids=["half a character", "endless"])
def test_a_path_that_none_can_be_is_refused_at_once(server: str, path: str):
    """To look up all parts of an endless one takes minutes, in which nobody would be answered."""
    _, answer = called(server, "compare", [{"path": path}, ["plain"]])
    assert answer["error"] == "The picture must be a file that was uploaded to this page."


# What stays behind.

FOLDERS = """
import os, sys, time
from pathlib import Path
from visualize.server import FOLDER, TemporaryFolder, prepare
parent = Path(os.environ["TMPDIR"])
"""


def test_a_lock_says_whose_folder_it_is(tmp_path: Path):
    """Another server's start deletes what is left of killed servers, however young, and nothing else."""
    abandoned, foreign, trial = (
        tmp_path / f"attnscope-{name}" for name in ("server-killed", "notes", "trial-1")
    )
    for folder in (abandoned, foreign, trial):
        folder.mkdir()
        (folder / "cat.png").write_text("picture")
    first = FOLDERS + "print(TemporaryFolder().path, flush=True); sys.stdin.read()"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", first], cwd=ROOT, env=environment, text=True, stdin=-1, stdout=-1
    ) as running:
        ours = Path(running.stdout.readline().strip())
        assert ours.parent == tmp_path.resolve() and not abandoned.exists() and (foreign / "cat.png").exists()
        os.utime(ours, (0, 0))  # nobody has used it for years
        python(FOLDERS + "TemporaryFolder()", TMPDIR=str(tmp_path))
        assert ours.exists()
        running.stdin.close()
    assert {*tmp_path.iterdir()} == {foreign, trial}


def test_where_nothing_can_be_written_the_start_ends_with_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    environment = {**os.environ, "TMPDIR": "", "GRADIO_TEMP_DIR": str(tmp_path / "file" / "uploads")}
    code = FOLDERS + "TemporaryFolder()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.fullmatch(
        r"Nothing can be written to .*uploads \(Not a directory\): see GRADIO_TEMP_DIR\.\n", done.stderr
    )


def test_sweep_deletes_what_is_old(tmp_path: Path):
    code = (
        FOLDERS
        + """
folder = TemporaryFolder()
for name in ("hash/cat.png", "empty/x", "matplotlib/fonts.json"):
    (folder.path / name).parent.mkdir()
    (folder.path / name).write_text("picture")
folder.sweep()
print(len(list(folder.path.rglob("*"))))
folder.sweep(age=-1)
folder.sweep(age=-1)  # the folders that were emptied
print(sorted(path.name for path in folder.path.rglob("*")))
"""
    )
    assert python(code, TMPDIR=str(tmp_path)).split("\n")[:2] == ["6", "['fonts.json', 'matplotlib']"]
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_folder_is_made_again(server: str, scratch: Path, client: Client, log: Callable):
    for folder in (scratch / "temporary").iterdir():
        shutil.rmtree(folder)
    assert upload(server, EXAMPLE.read_bytes()).status_code == 200
    check(client.predict(handle_file(EXAMPLE), ["plain"], api_name="/compare"), ["plain"])
    for folder in (scratch / "temporary").iterdir():
        shutil.rmtree(folder)
    assert web.post(f"{server}decode", content=EXAMPLE.read_bytes(), timeout=60).status_code == 200


def test_stopped_while_it_starts_it_leaves_nothing(tmp_path: Path):
    code = """
import os, signal, time
import app
from visualize.server import TemporaryFolder

def start():
    print(len(list(TemporaryFolder().path.parent.iterdir())), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

app.make_server = start
app.main()
"""
    assert python(code, TMPDIR=str(tmp_path), GRADIO_SERVER_PORT="0") == "1\n"
    assert list(tmp_path.iterdir()) == []


# In other places.

ELSEWHERE = """
import sys, threading, time
import fastapi, uvicorn
import app

parent = fastapi.FastAPI()
parent.mount("/deep/attnscope", app.make_app())
mounted = uvicorn.Server(uvicorn.Config(parent, port=0, log_level="warning"))
threading.Thread(target=mounted.run, daemon=True).start()
threading.Thread(target=app.main, daemon=True).start()  # as in a notebook
while not mounted.started:
    time.sleep(0.05)
print("mounted", mounted.servers[0].sockets[0].getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def elsewhere(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The app inside another one, and in a thread of the same process: where -> address.

    Its temporary files go where the operator says; in the usual place is something of another user's.
    """
    usual, chosen = (tmp_path_factory.mktemp(name) for name in ("usual", "chosen"))
    (usual / "gradio").write_text("somebody else's")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "TMPDIR": str(usual), "GRADIO_TEMP_DIR": str(chosen)}
    environment["GRADIO_SERVER_PORT"] = str(port)
    with subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE], cwd=tree, env=environment, text=True, stdin=-1, stdout=-1
    ) as running:
        told = ""
        while "mounted" not in told or "Running" not in told:
            line = running.stdout.readline()
            assert line, "it has ended"
            told += line
        assert [path.name[:17] for path in chosen.iterdir()] == ["attnscope-server-"]
        inside = re.search(r"mounted (\d+)", told)[1]
        yield {
            "mounted": f"http://127.0.0.1:{inside}/deep/attnscope/",
            "thread": f"http://127.0.0.1:{port}/",
        }
        running.stdin.close()
    assert list(chosen.iterdir()) == [] and [path.name for path in usual.iterdir()] == ["gradio"]


@pytest.mark.parametrize("where", ["mounted", "thread"])
def test_it_works_inside_another_app_and_in_a_thread(elsewhere: dict[str, str], where: str):
    address = elsewhere[where]
    assert goes_through(address) == ["plain", "cbam"]
    check(client_of(address).predict(handle_file(EXAMPLE), ["plain"], api_name="/compare"), ["plain"])


def goes_through(address: str) -> list[str]:
    """What a visitor's browser asks for: page, script, a comparison; the networks that answered."""
    assert start_of(address)["record"]["mechanisms"]
    assert "EngineError" in web.get(f"{address}page/engine.js").text
    assert "<svg" in web.get(f"{address}card/se").json()["placement"]
    return [column["key"] for column in asked(address, ["plain", "cbam"])["column"]]


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx: apt install nginx")
def test_behind_nginx_under_a_path_with_the_readmes_lines(server: str, tmp_path: Path, client: Client):
    lines = readme("nginx", "proxy_pass").replace("http://127.0.0.1:7860/", server)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(
        f"""user {getpass.getuser()}; worker_processes 1; daemon off;
        pid {tmp_path}/pid; error_log {tmp_path}/errors;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
            fastcgi_temp_path {tmp_path}/1; uwsgi_temp_path {tmp_path}/2; scgi_temp_path {tmp_path}/3;
            server {{ listen 127.0.0.1:{port}; {lines} }}
        }}"""
    )
    address = f"http://127.0.0.1:{port}/attnscope/"
    with subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]) as nginx:
        try:
            give_up = time.monotonic() + 20
            while time.monotonic() < give_up:
                with suppress(httpx.TransportError):
                    web.get(address)
                    break
            assert goes_through(address) == ["plain", "cbam"]
            sent = web.post(f"{address}decode", content=photograph_of(3 * MB), timeout=60)
            assert sent.status_code == 200 and sent.content.startswith(b"\x89PNG")
            too_large = web.post(f"{address}decode", content=bytes(20 * MB + 1), timeout=60)
            assert too_large.json() == {"error": "This file is larger than 20 MB."}
            (tmp_path / "photograph.jpg").write_bytes(photograph_of(3 * MB))
            public = client_of(address).predict(
                handle_file(tmp_path / "photograph.jpg"), ["plain"], api_name="/compare"
            )
            assert public["mechanisms"]
        finally:
            nginx.terminate()


def photograph_of(size: int) -> bytes:
    """A JPEG of about so many bytes."""
    file, side = io.BytesIO(), int((size / 1.2) ** 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG", quality=95)
    assert 0.9 * size < len(file.getvalue()) < 1.2 * size
    return file.getvalue()


# A Hugging Face Space.


def test_front_matter_is_what_the_hub_takes():
    head = re.match(r"---\n(.*?)\n---\n", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    facts = dict(line.split(": ", 1) for line in head.split("\n"))
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert facts["sdk"] == "gradio" and (ROOT / facts["app_file"]).is_file()
    assert {facts["colorFrom"], facts["colorTo"]} <= colours
    assert len(facts["short_description"]) <= 60
    assert facts["python_version"] in ('"3.11"', '"3.12"', '"3.13"')  # a string: 3.10 would be 3.1


# The end.


def test_stopped_under_load_it_ends_within_five_seconds_and_leaves_nothing(
    running: tuple[subprocess.Popen, str], tree: Path, scratch: Path, home: Path, log: Callable
):
    """Nothing is written outside the folder for temporary files. The last test of this server."""
    (app, address), before, answers = running, written_in(tree), []

    def ask() -> None:
        with suppress(httpx.HTTPError):  # once the server is gone
            while True:
                answers.append(asked(address, ["plain", "cbam"]))

    client = client_of(address)

    def ask_publicly() -> None:
        with suppress(Exception):  # of many kinds, once the server is gone
            while True:
                answers.append(client.predict(handle_file(EXAMPLE), ["plain"], api_name="/compare"))

    for work in (ask, ask, ask, ask_publicly):
        threading.Thread(target=work, daemon=True).start()
    give_up = time.monotonic() + 30
    while len(answers) < 8 and time.monotonic() < give_up:
        time.sleep(0.05)
    assert len(answers) >= 8
    assert stop(app, scratch) < 5
    assert written_in(tree) == before
    assert [path for path in home.rglob("*") if path.is_file()] == []
