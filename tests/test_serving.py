"""A public server: what it takes in, what it refuses, what it leaves behind; broken networks at its start."""

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import torch
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as safetensors_bytes

from models.checkpoint import save
from tests.health import EXAMPLE, check, client_of, linked_tree, start, stop
from tests.hostile import wrong_files
from tests.networks import randomised
from tests.screenshots import ROOT
from visualize.picture import ImageError, load_image
from visualize.serving import FOLDER, refusal, sweep, temporary_folder

MB = 2**20
SENTENCE = re.compile(r"[A-Z][^\n/\\<>]{10,160}\.")
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}


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


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 11386776\n"
FAULTS: dict[str, tuple[Callable[[Path, bytes], None], str]] = {  # network: what is done to it, what is said
    "se": (lambda folder, sound: damaged(folder, "se", None), "missing"),
    "cbam": (lambda folder, sound: damaged(folder, "cbam", b""), "empty"),
    "sk": (lambda folder, sound: damaged(folder, "sk", sound[:5000]), "damaged"),
    "danet": (lambda folder, sound: damaged(folder, "danet", LFS), "Git LFS pointer"),
    "non_local": (lambda folder, sound: damaged(folder, "non_local", b"<!DOCTYPE html>"), "web page"),
    "eca": (lambda folder, sound: damaged(folder, "eca", sound[:-1] + b"!"), "damaged"),
    "bam": (lambda folder, sound: damaged(folder, "bam", sound, right_sum=True), "another version"),
    "sge": (lambda folder, sound: damaged(folder, "sge", with_nan(sound), right_sum=True), "not finite"),
    "scse": (lambda folder, sound: (folder / "scse.json").write_text('{"sha2'), "facts"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This source tree with other checkpoints: one sound network, and one for each fault of a file."""
    tree = tmp_path_factory.mktemp("tree")
    folder = linked_tree(tree)
    save(randomised("plain"), "plain", {"name": "plain", "recipe": "random", "accuracy": 10.0}, folder)
    sound = (folder / "plain.safetensors").read_bytes()
    for spoil, _ in FAULTS.values():
        spoil(folder, sound)
    return tree


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(tree: Path, scratch: Path) -> Iterator[str]:
    app, address = start(tree, scratch, NO_BYTECODE)
    yield address
    stop(app, scratch)


def test_broken_networks_are_listed_with_the_reason_and_the_rest_works(server: str):
    client = client_of(server)
    record = client.predict(handle_file(EXAMPLE), [*FAULTS, "plain"], api_name="/compare")
    rows = {
        row["key"]: row for row in client.predict(api_name="/mechanisms")
    }  # some faults show when loading
    assert [name for name, row in rows.items() if row["available"]] == ["plain"]
    assert {name for name, row in rows.items() if row["trained"]} == {"plain", *FAULTS}
    reasons = {entry["key"]: entry["reason"] for entry in record["unavailable"]}
    for name, (_, expected) in FAULTS.items():
        assert expected in rows[name]["reason"] and rows[name]["reason"] == reasons.pop(name)
        assert name in rows[name]["reason"] and rows[name]["reason"].endswith((".", "`."))
    assert not reasons
    check(record, ["plain"])
    page = httpx.get(server).text  # it names those that were known at the start; others show when loading
    late = {"eca", "bam", "sge"}
    assert all(json.dumps(rows[name]["reason"])[1:-1] in page for name in FAULTS.keys() - late)


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
        ("upload", 22, "This file is larger than 20 MB."),
        ("queue/join", 2, "This request is too large."),
        ("component_server", 2, "This request is too large."),
        ("call/compare", 2, "This request is too large."),
    ],
)
def test_a_body_that_is_too_large(server: str, route: str, megabytes: int, sentence: str, declared: bool):
    content = bytes(megabytes * MB) if declared else chunks(megabytes)
    kind = "multipart/form-data; boundary=b" if route == "upload" else "application/json"
    answer = httpx.post(f"{server}gradio_api/{route}", content=content, headers={"Content-Type": kind})
    assert (answer.status_code, answer.text) == (413, sentence)


def upload(server: str, content: bytes) -> httpx.Response:
    return httpx.post(f"{server}gradio_api/upload", files={"files": ("picture.png", content)}, timeout=30)


def test_a_file_of_20_mb_comes_in_and_one_byte_more_does_not(server: str):
    assert upload(server, bytes(20 * MB)).status_code == 200
    answer = upload(server, bytes(20 * MB + 1))
    assert (answer.status_code, answer.text) == (413, "This file is larger than 20 MB.")


@pytest.mark.parametrize(
    "route",
    ["file=http://127.0.0.1:9/cat.png", "file=HTTPS://example.com/", "deep_link?session_hash=a"],
)
def test_routes_that_the_page_does_not_use_are_closed(server: str, route: str):
    assert httpx.get(f"{server}gradio_api/{route}").status_code == 404
    assert httpx.post(f"{server}gradio_api/process_recording").status_code == 404


def test_the_queue_cannot_be_passed(server: str):
    body = {"data": [{"path": str(EXAMPLE)}, ["plain"], "predicted", "GradCAM"]}
    assert httpx.post(f"{server}gradio_api/run/compare", json=body).status_code == 404


def test_headers_of_every_answer(server: str):
    answers = [
        httpx.get(server),
        httpx.get(f"{server}no/such/page"),
        httpx.get(f"{server}gradio_api/info"),
        httpx.post(f"{server}gradio_api/call/compare", content=bytes(2 * MB)),
        httpx.get(f"{server}gradio_api/file={upload(server, EXAMPLE.read_bytes()).json()[0]}"),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 413, 200]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "x-frame-options" not in answer.headers  # a Space shows the page in a frame
        assert "frame-ancestors" not in answer.headers.get("content-security-policy", "")


def test_a_picture_that_was_deleted_is_told_so(server: str):
    (path,) = upload(server, EXAMPLE.read_bytes() + b"deleted").json()
    os.remove(path)
    with pytest.raises(AppError) as refused:
        client_of(server).predict({"path": path}, ["plain"], api_name="/compare")
    assert "deleted" in str(refused.value) and SENTENCE.fullmatch(str(refused.value))


def test_refusals_keep_their_own_words(tmp_path: Path):
    (tmp_path / "text.png").write_text("This is text.")
    with pytest.raises(ImageError) as caught:
        load_image(tmp_path / "text.png")
    assert refusal(caught.value).message == str(caught.value) != ""


def test_hostile_files_give_the_right_picture_or_a_sentence(tmp_path: Path):
    assert wrong_files(tmp_path) == []


# What stays behind.


def test_sweep_deletes_what_is_old_and_not_kept(tmp_path: Path):
    ours = tmp_path / f"{FOLDER}ours"
    for name in ("kept/cat.png", "loose/dog.png", "empty"):
        (ours / name).mkdir(parents=True) if "." not in name else (ours / name).parent.mkdir(parents=True)
        if "." in name:
            (ours / name).write_text("picture")
    (ours / "tmp1234").write_text("half a picture")
    abandoned, used, foreign = (tmp_path / name for name in (f"{FOLDER}old", f"{FOLDER}new", "other"))
    for folder in (abandoned, used, foreign):
        folder.mkdir()
        (folder / "cat.png").write_text("picture")
    for folder in (abandoned, foreign, ours):
        os.utime(folder, (0, 0))
    kept = {ours / "kept", ours / "kept" / "cat.png"}

    sweep(ours, kept)  # nothing is an hour old but the folders dated back
    assert len(list(ours.rglob("*"))) == 6
    assert not abandoned.exists() and (used / "cat.png").exists() and (foreign / "cat.png").exists()
    assert ours.stat().st_mtime > time.time() - 60  # no other server takes it for abandoned

    sweep(ours, kept, age=-1)
    sweep(ours, kept, age=-1)  # the folders that were emptied
    assert {*ours.rglob("*")} == kept


def test_the_temporary_folder_is_gone_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "another")
    with pytest.raises(SystemExit), temporary_folder() as folder:
        assert folder.parent == tmp_path.resolve() and os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "cat.png").write_text("picture")
        raise SystemExit
    assert list(tmp_path.iterdir()) == []


def test_stopped_under_load_it_ends_within_five_seconds_and_leaves_nothing(tree: Path, tmp_path: Path):
    """Nothing is written outside the folder for temporary files, but for matplotlib's list of fonts."""
    before = {path: path.lstat().st_mtime_ns for path in written_in(tree)}
    home = tmp_path / "home"
    home.mkdir()
    app, address = start(tree, tmp_path / "scratch", NO_BYTECODE | {"HOME": str(home)})
    clients = [client_of(address) for _ in range(4)]
    answers = []

    def ask(client) -> None:
        try:
            while True:
                answers.append(client.predict(handle_file(EXAMPLE), ["plain"], api_name="/compare"))
        except Exception:  # of many kinds, once the server is gone
            pass

    threads = [threading.Thread(target=ask, args=[client], daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    give_up = time.monotonic() + 30
    while len(answers) < 8 and time.monotonic() < give_up:
        time.sleep(0.05)
    assert len(answers) >= 8
    assert stop(app, tmp_path / "scratch") < 5
    assert "Traceback" not in (tmp_path / "scratch" / "output.txt").read_text()
    assert {path: path.lstat().st_mtime_ns for path in written_in(tree)} == before
    assert {path.parent.name for path in home.rglob("*") if path.is_file()} <= {"matplotlib"}


def written_in(tree: Path) -> list[Path]:
    """Files and folders of a source tree, those behind its links as well, without Python's own cache."""
    found = [
        path for folder in (tree, *(tree / name for name in os.listdir(tree))) for path in folder.rglob("*")
    ]
    return [path for path in found if "__pycache__" not in path.parts]


# A Hugging Face Space.


def test_front_matter_is_what_the_hub_takes():
    head = re.match(r"---\n(.*?)\n---\n", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    facts = dict(line.split(": ", 1) for line in head.split("\n"))
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert facts["sdk"] == "gradio" and (ROOT / facts["app_file"]).is_file()
    assert {facts["colorFrom"], facts["colorTo"]} <= colours
    assert len(facts["short_description"]) <= 60
    assert facts["python_version"] in ('"3.11"', '"3.12"', '"3.13"')  # a string: 3.10 would be 3.1
