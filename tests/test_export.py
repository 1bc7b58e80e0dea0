"""Files to take along: the numbers are the recorded ones, the report is true, odd requests are refused."""

import hashlib
import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from models import CLASSES, metadata
from tests.networks import compare_record, network, picture, stand_in
from visualize.export.files import FORMS, MOST_IN_FIGURE, export
from visualize.inspection.network import inspect
from visualize.record.requests import RequestError
from visualize.record.view import View, view_of

FACTS = {"accuracy": 93.0, "recipe": "cpu", "sha256": "5e" * 32}
NAMES = ["se", "danet", "stn"]


@pytest.fixture(autouse=True)
def checkpoints(monkeypatch):
    """Every network is "trained", with random weights, but for eca, which has no checkpoint."""
    names = [name for name in metadata.networks() if name != "eca"]
    stand_in(monkeypatch, network, dict.fromkeys(names, FACTS))


def test_a_look_without_wishes_is_the_default():
    assert view_of({}) == View() == view_of({"block": None, "query": None, "unknown": 3})


def test_a_look_takes_what_it_knows():
    wish = {"block": "layer1.0", "pairwise_block": "layer2.1", "query": [3, 28.9], "head": "2", "overlay": 1}
    wish |= {"colours": "grey", "cells": "smooth", "scale": "own"}
    assert view_of(wish) == View("layer1.0", "layer2.1", (3, 28), 2, 1.0, "grey", "smooth", "own")


@pytest.mark.parametrize(
    ("wish", "field", "value"),
    [
        ({"query": [-5, 10**400]}, "query", (0, 31)),
        ({"query": (31.99, 1e308)}, "query", (31, 31)),
        ({"overlay": -(10**400)}, "overlay", 0.0),
        ({"overlay": 7}, "overlay", 1.0),
        ({"head": 10**9}, "head", 63),
        ({"head": -1}, "head", 0),
        ({"head": "mean"}, "head", "mean"),
    ],
)
def test_numbers_beyond_their_ends_are_moved(wish, field, value):
    assert getattr(view_of(wish), field) == value


@pytest.mark.parametrize(
    "wish",
    [
        None,
        [],
        "layer1.0",
        {"block": "layer5.0"},
        {"block": 5},
        {"block": True},
        {"block": ["layer1.0"]},
        {"pairwise_block": "head"},
        {"pairwise_block": {}},
        {"query": 16},
        {"query": "16"},
        {"query": [1]},
        {"query": [1, 2, 3]},
        {"query": [True, 2]},
        {"query": [math.nan, 2]},
        {"query": [2, math.inf]},
        {"query": [None, 2]},
        {"query": [[1], 2]},
        {"overlay": math.nan},
        {"overlay": -math.inf},
        {"overlay": False},
        {"overlay": "0.5"},
        {"head": "second"},
        {"head": "9" * 400},
        {"head": "²"},
        {"head": math.nan},
        {"head": True},
        {"head": []},
        {"colours": "jet"},
        {"colours": 1},
        {"cells": "bicubic"},
        {"scale": "x" * 10_000},
    ],
)
def test_what_makes_no_look_is_refused_in_a_sentence(wish):
    with pytest.raises(RequestError) as refused:
        view_of(wish)
    assert re.fullmatch(r"[A-Z][\w \",:.-]{20,160}", str(refused.value), re.ASCII)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"form": "svg"}, "png, pdf, npz, json"),
        ({"form": None}, "png, pdf, npz, json"),
        ({"picture": picture().resize((64, 64))}, "32 x 32"),
        ({"mechanisms": []}, "at least one"),
        ({"mechanisms": ["se", "se"]}, "once"),
        ({"mechanisms": ["../se"]}, "does not exist"),
        ({"target": "lion"}, "class to explain"),
        ({"cam": "ScoreCAM"}, "CAM method"),
        ({"mechanisms": ["eca"]}, "None of these networks"),
    ],
)
def test_odd_requests_are_refused_and_leave_no_file(tmp_path, change, sentence):
    request = {"form": "npz", "picture": picture(), "mechanisms": ["se"], "target": "predicted"}
    with pytest.raises(RequestError, match=sentence):
        export(**{**request, "cam": "GradCAM", "view": View(), "folder": tmp_path, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_figure_has_room_for_so_many_networks(tmp_path):
    many = metadata.networks()[: MOST_IN_FIGURE + 1]
    with pytest.raises(RequestError, match="room for 24"):
        export("png", picture(), many, "predicted", "GradCAM", View(), tmp_path)


ABOUT = {"pixels", "classes", "target", "cam"}  # all networks of a file of numbers


def test_the_numbers_are_the_recorded_ones(tmp_path):
    file = export("npz", picture(), NAMES, "cat", "HiResCAM", View(), tmp_path)
    assert file == tmp_path / f"attnscope-se-danet-stn-{View().block}.npz"
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)

    columns = compare_record(picture(), NAMES, "cat", "HiResCAM")["mechanisms"]
    names = {f"{column['key']}/{shown['tensor']}" for column in columns for shown in column["maps"]}
    names |= {f"{name}_range" for name in names if name.endswith(".cam")}
    assert arrays.keys() == names | {f"{name}/probabilities" for name in NAMES} | ABOUT
    assert arrays["classes"].tolist() == list(CLASSES)
    assert np.array_equal(arrays["pixels"], np.array(picture()))
    for name in NAMES:
        seen = inspect(network(name), picture(), CLASSES.index("cat"), "HiResCAM")
        expected = {f"{name}/{path}": shown.values for path, shown in seen.maps.items()}
        expected |= {f"{name}/{block}.cam": values for block, values in seen.cams.items()}
        for block, ends in seen.cam_ranges.items():
            expected[f"{name}/{block}.cam_range"] = np.array(ends, np.float32)
        expected[f"{name}/probabilities"] = seen.probabilities
        for path, values in expected.items():
            assert arrays[path].dtype == np.float32
            assert arrays[path].shape == values.shape and np.array_equal(arrays[path], values), path


def read_report(tmp_path, names=NAMES, **wishes):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    file = export("json", picture(), [*names], "predicted", "GradCAM", view_of(wishes), tmp_path)
    return json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_report_is_true(tmp_path):
    found = read_report(tmp_path, query=[3, 4], scale="own")
    assert found["picture"]["sha256"] == hashlib.sha256(np.array(picture()).tobytes()).hexdigest()
    assert found["settings"]["query"] == [3, 4] and found["settings"]["scale"] == "own"
    assert found["settings"]["cam"] == "GradCAM" and found["settings"]["target"] == "predicted"
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["date"].endswith("+00:00")
    assert [entry["id"] for entry in found["networks"]] == NAMES
    for entry in found["networks"]:
        seen = inspect(network(entry["id"]), picture())
        assert entry["checkpoint_sha256"] == "5e" * 32 and not entry["random_weights"]
        assert entry["accuracy"] == {"value": 93.0, "low": 92.48, "high": 93.48, "recipe": "cpu"}
        assert list(entry["probabilities"].values()) == seen.probabilities.tolist()
        assert entry["predicted"] == entry["target"] == CLASSES[seen.target]
        assert [m["tensor"] for m in entry["maps"]][8:] == list(seen.maps)
        for said in entry["maps"][8:]:
            values = seen.maps[said["tensor"]].values
            assert said["axes"] == seen.maps[said["tensor"]].axes and said["shape"] == list(values.shape)
            assert (said["least"], said["most"]) == (values.min(), values.max())
            assert values[tuple(said["strongest"])] == values.max()
            assert said["mean"] == pytest.approx(values.mean(), abs=1e-5)


def test_other_pictures_have_other_hashes(tmp_path):
    file = export("json", picture(1), ["plain"], "predicted", "GradCAM", View(), tmp_path)
    other = json.loads(file.read_text())["picture"]["sha256"]
    assert other != read_report(tmp_path, ["plain"])["picture"]["sha256"]


def test_a_network_that_cannot_be_shown_is_named(tmp_path):
    found = read_report(tmp_path, ["eca", "se"])
    assert found["unavailable"] == {"eca": "eca is not trained yet."}
    assert [entry["id"] for entry in found["networks"]] == ["se"]


def test_random_weights_are_labelled(tmp_path):
    file = export("json", picture(), ["eca"], "predicted", "GradCAM", View(), tmp_path, random_weights=True)
    (entry,) = json.loads(file.read_text())["networks"]
    assert entry["random_weights"] and entry["checkpoint_sha256"] is None
    assert entry["accuracy"]["value"] is None
    file = export("npz", picture(), ["eca", "se"], "cat", "GradCAM", View(), tmp_path, random_weights=True)
    with np.load(file) as found:
        assert found["eca/random_weights"] and "se/random_weights" not in found
        assert (str(found["target"]), str(found["cam"])) == ("cat", "GradCAM")


@pytest.mark.parametrize("form", FORMS)
def test_files_are_of_the_kind_that_their_names_say(tmp_path, form):
    file = export(form, picture(), ["plain", "se", "sk", "eca"], "dog", "GradCAM", View(), tmp_path)
    assert file == tmp_path / f"attnscope-4-networks-{View().block}.{form}"
    start = {"png": b"\x89PNG", "pdf": b"%PDF-", "npz": b"PK", "json": b"{"}[form]
    assert file.read_bytes().startswith(start)
    if form == "png":
        with Image.open(file) as image:
            assert image.info.keys() <= {"Software", "dpi"}
