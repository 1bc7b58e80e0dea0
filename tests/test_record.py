"""The page's record: what it holds, that its numbers are the recorded tensors, and what it refuses."""

import base64
import importlib.util
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio
import numpy as np
import pytest
import torch
from PIL import Image

from models import CATALOGUE, CLASSES, CheckpointError, build, metadata
from models.recording import recording
from tests.networks import compare_record, network, picture, randomised, stand_in
from visualize.inspection import engine, untrained
from visualize.inspection.cache import Cache
from visualize.inspection.cam import METHODS
from visualize.inspection.engine import Question
from visualize.inspection.network import Map, NotFiniteError
from visualize.inspection.network import inspect as inspect_network
from visualize.record import compare as record
from visualize.record.compare import affinity_row
from visualize.record.display import description
from visualize.record.encoding import decode, pack, pack_map, picture_of
from visualize.record.kinds import KINDS, kind_of, scale_of, sharers, stays
from visualize.record.requests import RequestError

SEVEN = ["plain", "se", "cbam", "sk", "self_attention", "non_local", "danet"]
FACTS = {"accuracy": 93.0, "recipe": "cpu"}


@pytest.fixture(autouse=True)
def checkpoints(monkeypatch):
    """Every network is "trained", with random weights. Returns the names of those that were loaded."""
    monkeypatch.setattr(record, "_held", Cache())
    return stand_in(monkeypatch, network, dict.fromkeys(metadata.networks(), FACTS))


@pytest.fixture(scope="module")
def seven():
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, network, dict.fromkeys(SEVEN, FACTS))
        return compare_record(picture(), SEVEN)


def test_fields(seven):
    assert list(seven) == [
        *("version", "classes", "image", "target", "cam", "replace", "mechanisms", "unavailable", "unlike"),
    ]
    assert seven["version"] == 1
    assert seven["classes"] == list(CLASSES)
    assert base64.b64decode(seven["image"]) == np.array(picture()).tobytes()
    assert (seven["target"], seven["cam"], seven["unavailable"]) == ("predicted", "GradCAM", [])
    assert [column["key"] for column in seven["mechanisms"]] == SEVEN
    for column in seven["mechanisms"]:
        entry = CATALOGUE[column["key"]]
        assert (column["name"], column["family"]) == (entry.title, entry.family)
        assert sum(column["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert column["parameters"] == sum(p.numel() for p in network(column["key"]).parameters())
        assert column["accuracy"] == {"value": 93.0, "low": 92.48, "high": 93.48, "recipe": "cpu"}
        assert set(column["strength"]) == ({"stage2", "stage3"} if entry.slot == "stage" else set())
        assert [m["tensor"] for m in column["maps"]][:8] == [
            f"layer{stage}.{block}.cam" for stage in (1, 2, 3, 4) for block in (0, 1)
        ]
        for shown in column["maps"]:
            assert set(shown) - {"raw"} == {
                *("tensor", "block", "kind", "role", "axes", "shape", "data", "lo", "hi", "scale", "static")
            }


def test_is_json_and_small(seven):
    text = json.dumps(seven, allow_nan=False)
    assert json.loads(text) == seven
    assert len(text) < 400_000
    assert '"path"' not in text  # which gradio_client would take for a file


def test_decoded_maps_are_the_recorded_tensors(seven):
    on_request = set()
    for column in seven["mechanisms"]:
        expected = inspect_network(network(column["key"]), picture())
        for shown in column["maps"]:
            if not shown["data"]:
                on_request.add((column["key"], shown["tensor"]))
                continue
            block, _, last = shown["tensor"].rpartition(".")
            values = expected.cams[block] if last == "cam" else expected.maps[shown["tensor"]].values
            error = np.abs(decode(shown) - values).max()
            assert error <= 1e-4 * (shown["hi"] - shown["lo"]) + 1e-7, shown["tensor"]
            assert np.ptp(values) == pytest.approx(shown["hi"] - shown["lo"], abs=1e-6)
    assert on_request == {
        ("self_attention", "stage2.affinity"),
        ("non_local", "stage2.affinity"),
        ("danet", "stage2.position"),
        ("danet", "stage3.channel"),
    }


def test_kinds_blocks_and_scales(seven):
    found = {
        (column["key"], shown["tensor"]): (shown["block"], shown["kind"], shown["scale"])
        for column in seven["mechanisms"]
        for shown in column["maps"]
    }
    assert found["plain", "layer3.1.cam"] == ("layer3.1", "cam", "relative")
    assert found["se", "layer3.1.refine.gate"] == ("layer3.1", "channel", "0-1")
    assert found["cbam", "layer1.0.refine.spatial_gate"] == ("layer1.0", "spatial", "0-1")
    assert found["sk", "layer2.0.conv1.weights"] == ("layer2.0", "branch", "0-1")
    assert found["self_attention", "stage3.affinity"] == ("layer3.1", "pairwise", "uniform=1")
    assert found["danet", "stage2.position"] == ("layer2.1", "pairwise", "uniform=1")
    assert found["danet", "stage2.channel"] == ("layer2.1", "matrix", "uniform=1")


@pytest.mark.parametrize(
    ("axes", "said", "scale"),
    [
        ("c h w", {"role": "gate", "bounds": (1, 2)}, "1-2"),  # 1 + sigmoid
        ("c h w", {"role": "gate"}, "0-1"),
        ("c 1 1", {"role": "gate"}, "0-1"),
        ("c 1 1", {"role": "gate", "bounds": (0, np.inf)}, "signed"),  # a ReLU, which may stay below one
        ("c h w", {"role": "gate", "bounds": (-np.inf, np.inf)}, "signed"),
        ("c 1 1", {"role": "features"}, "signed"),
        ("h w cross", {"role": "share", "over": "cross"}, "uniform=1"),
        ("q h w", {"role": "share", "over": "h w"}, "uniform=1"),
        ("q h w", {"role": "features"}, "signed"),  # an affinity without a softmax
        ("k h w", {"role": "share", "over": "k"}, "uniform=1"),
        ("c c", {"role": "share", "over": "c"}, "uniform=1"),
        ("branch c 1 1", {"role": "share", "over": "branch"}, "0-1"),
        ("k", {"role": "share", "over": "k"}, "0-1"),
        ("k", {"role": "static", "over": "k"}, "0-1"),  # learnt weights of a fusion
        ("k", {"role": "static"}, "signed"),
        ("h w", {}, "relative"),
    ],
)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_scale_follows_from_the_role_and_the_axes_whatever_the_values(axes, said, scale, value):
    values = np.full([2] * len(axes.split()), value, np.float32)
    assert scale_of(Map(axes, values, **said)) == scale


@pytest.mark.parametrize(
    ("axes", "over", "count"),
    [("q h w", "h w", 35), ("g k h w", "k", 3), ("h w cross", "cross", 2), ("c c", "c", 7), ("q k", "k", 7)],
)
def test_as_many_share_as_the_role_says(axes, over, count):
    shape = (2, 3, 5, 7) if axes == "g k h w" else (2, 5, 3) if "cross" in axes else (2, 5, 7)
    values = np.zeros(shape[-len(axes.split()) :], np.float32)
    assert sharers(Map(axes, values, "share", over)) == count


def test_axes_that_nobody_draws_are_refused():
    with pytest.raises(ValueError, match="'w h'"):
        pack_map("layer1.0.refine.gate", Map("w h", np.zeros((2, 2), np.float32), "gate"))


def test_kinds_are_those_that_have_a_section_and_a_way_of_drawing():
    sections = [kind for section in description()["sections"] for kind in section["kinds"]]
    assert {*sections} == {*description()["kinds"]} == {*KINDS.values(), "filters"}
    assert len(sections) == len({*sections})
    square = np.zeros((3, 3), np.float32)
    assert kind_of(Map("k k", square, "static")) == "filters"
    assert kind_of(Map("k k", square, "features")) == kind_of(Map("k k", square, "share", "k")) == "matrix"


def test_the_server_gives_out_what_the_record_leaves_out(seven, checkpoints):
    expected = inspect_network(network("self_attention"), picture()).maps["stage2.affinity"].values
    row = affinity_row(picture_of(seven), "self_attention", "stage2.affinity", 17)
    assert set(row) == {"data", "lo", "hi", "shape"}
    assert np.abs(decode(row) - expected[:, 17]).max() <= 1e-4 * (row["hi"] - row["lo"])
    assert decode(row).sum((1, 2)) == pytest.approx(np.ones(4), abs=0.01)

    assert affinity_row(picture(), "non_local", "stage2.affinity", 255)["shape"] == [16, 16]
    matrix = decode(affinity_row(picture(), "danet", "stage3.channel"))
    assert np.allclose(decode(affinity_row(picture(), "danet", "stage3.channel", 9)), matrix[9], atol=1e-4)
    assert matrix.shape == (256, 256)


def test_the_server_gives_out_parts_of_windows_and_branches():
    seen = inspect_network(network("san_pairwise"), picture())
    weights = seen.maps["stage2.weights"].values  # (4, 49, 16, 16)
    row = affinity_row(picture(), "san_pairwise", "stage2.weights", 3 * 16 + 5)
    assert np.abs(decode(row) - weights[:, :, 3, 5]).max() <= 1e-4 * np.ptp(weights)
    views = inspect_network(network("aspp"), picture()).maps["stage3.views"].values  # (5, 256, 8, 8)
    mean = decode(affinity_row(picture(), "aspp", "stage3.views", "mean"))
    assert mean.shape == (5, 8, 8)
    assert np.abs(mean - np.abs(views).mean(1)).max() <= 1e-4 * np.ptp(views)
    with pytest.raises(RequestError):
        affinity_row(picture(), "san_pairwise", "stage2.weights", "mean")


def test_a_click_after_a_comparison_runs_no_network(checkpoints):
    compare_record(picture(), ["non_local"])
    affinity_row(picture(), "non_local", "stage2.affinity", 3)
    assert checkpoints == ["non_local"]
    affinity_row(picture(1), "non_local", "stage2.affinity", 3)
    affinity_row(picture(1), "non_local", "stage2.affinity", 4)
    assert checkpoints == ["non_local"] * 2


def test_what_the_server_holds_is_bounded():
    held = Cache(10_000)
    for index in range(20):
        held.put(index, f"value {index}", 2000)
    assert held.size == sum(size for _, size in held.entries.values()) == 10_000
    assert (held.get(14), held.get(15)) == (None, "value 15")
    held.put(20, "value 20", 2000)
    assert (held.get(15), held.get(16)) == ("value 15", None)  # used last
    held.put(21, "value 21", 20_000)
    assert (held.size, len(held.entries)) == (0, 0)  # larger than the whole cache


@pytest.mark.parametrize(
    ("name", "path", "query"),
    [
        ("non_local", "stage2.affinity", 256),
        ("non_local", "stage2.affinity", -1),
        ("non_local", "stage2.affinity", True),
        ("non_local", "stage2.affinity", 1.0),
        ("non_local", "stage2.affinity", "3"),
        ("non_local", "stage2.affinity", None),
        ("non_local", "stage3.affinity", 3),  # small: it is in the record
        ("non_local", "stage9.affinity", 3),
        ("non_local", ["stage2.affinity"], 3),
        ("danet", "stage3.channel", 256),
        ("se", "layer1.0.refine.gate", 0),
        ("nonlocal", "stage2.affinity", 3),
        (None, "stage2.affinity", 3),
        ({}, "stage2.affinity", 3),
    ],
)
def test_a_row_that_does_not_exist_is_refused(name, path, query):
    with pytest.raises(RequestError) as refusal:
        affinity_row(picture(), name, path, query)
    assert_plain_sentence(refusal)


def test_order_target_and_method_are_as_asked():
    target = int(inspect_network(network("sk"), picture()).probabilities.argmin())  # not the predicted class
    found = compare_record(picture(), ("sk", "plain"), CLASSES[target], "LayerCAM")
    assert [column["key"] for column in found["mechanisms"]] == ["sk", "plain"]
    assert (found["target"], found["cam"]) == (CLASSES[target], "LayerCAM")
    expected = inspect_network(network("sk"), picture(), target, "LayerCAM")
    shown = found["mechanisms"][0]["maps"][7]
    assert np.abs(decode(shown) - expected.cams["layer4.1"]).max() < 1e-4
    assert shown["raw"] == list(expected.cam_ranges["layer4.1"])


def test_two_visitors_at_once_get_their_own_records():
    pictures = [picture(seed) for seed in range(4)]
    expected = [compare_record(image, ["se", "non_local"]) for image in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: compare_record(image, ["se", "non_local"]), pictures * 2))
    assert found == expected * 2


def test_a_broken_checkpoint_is_named_and_the_rest_works(monkeypatch):
    def load(name, device):
        if name == "se":
            raise CheckpointError("The weights of se are an empty file.")
        return (broken if name == "cbam" else network(name)), FACTS

    broken = randomised("cbam")
    broken.fc.bias[3] = float("inf")
    monkeypatch.setattr(engine, "load_with_facts", load)
    found = compare_record(picture(), ["se", "plain", "cbam"])
    assert [column["key"] for column in found["mechanisms"]] == ["plain"]
    assert found["unavailable"] == [
        {"key": "se", "name": "Squeeze-and-Excitation", "reason": "The weights of se are an empty file."},
        {"key": "cbam", "name": "CBAM", "reason": "The network gives no finite numbers for this picture."},
    ]


@pytest.fixture
def one_trained(monkeypatch, checkpoints):
    """Only `plain` has a checkpoint. Returns the names of the networks that were loaded."""
    return stand_in(monkeypatch, network, {"plain": FACTS})


def test_random_weights_only_when_asked_and_labelled(one_trained):
    found = compare_record(picture(), ["plain", "se"])
    assert [column["key"] for column in found["mechanisms"]] == ["plain"]
    assert found["unavailable"][0]["reason"] == "se is not trained yet."
    plain, se = compare_record(picture(), ["plain", "se"], random_weights=True)["mechanisms"]
    assert (plain["random"], plain["accuracy"]["value"]) == (False, 93.0)
    assert se["random"] is True
    assert se["accuracy"] == {"value": None, "low": None, "high": None, "recipe": None}
    assert one_trained == ["plain", "plain"]  # the other was never loaded


def test_random_weights_are_the_same_every_time_and_leave_no_trace(one_trained):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = compare_record(picture(), ["aspp"], random_weights=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    untrained._untrained.cache_clear()
    assert compare_record(picture(), ["aspp"], random_weights=True) == first
    views = affinity_row(picture(), "aspp", "stage3.views", "mean")
    record._held.entries.clear()
    assert affinity_row(picture(), "aspp", "stage3.views", "mean") == views  # also from scratch


def test_few_random_networks_are_kept():
    for name in ("plain", "se", "eca", "sse", "cse"):
        model = untrained.untrained(name)
        assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert untrained._untrained.cache_info().currsize == 4


@pytest.mark.parametrize(
    "error, said",
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), "memory was full"),
        (torch.AcceleratorError("CUDA error: out of memory"), "The GPU failed"),  # that others have filled
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "The GPU failed"),
    ],
)
def test_a_gpu_that_fails_means_the_cpu_and_a_note(monkeypatch, error, said):
    def load(name, device):
        if device == "cuda":
            raise error
        return network(name), FACTS

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engine, "load_with_facts", load)
    (column,) = compare_record(picture(), ["plain"])["mechanisms"]
    assert said in column["note"] and "computed on the CPU" in column["note"]
    assert len(column["maps"]) == 8


def test_no_gpu_to_lend_means_the_cpu_and_a_note(monkeypatch):
    """As on a Space, where whatever goes wrong with a lent GPU, or in the call, is an `Error` of Gradio's."""
    asked = []

    def lent(duration):
        def refused(*_):
            asked.append(duration)
            raise gradio.Error("You have exceeded your GPU quota")

        return lambda function: refused

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lent))
    there = importlib.util.spec_from_file_location("visualize.inspection.on_a_space", engine.__file__)
    on_a_space = importlib.util.module_from_spec(there)
    monkeypatch.setitem(sys.modules, there.name, on_a_space)
    there.loader.exec_module(on_a_space)
    monkeypatch.setattr(on_a_space, "load_with_facts", lambda name, device: (network(name), FACTS))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seen, _, note = on_a_space.inspect_by_name("plain", Question(picture()))
    assert asked == [10] and note == "No GPU could be lent, so this one was computed on the CPU."
    assert len(seen.probabilities) == len(CLASSES)


def assert_plain_sentence(refusal):
    text = str(refusal.value)
    assert re.fullmatch(r"[A-Z][^\n<>{}]{10,400}\.", text), text


@pytest.mark.parametrize(
    "arguments",
    [
        {"image": None},
        {"image": "picture.png"},
        {"image": np.zeros((32, 32, 3), np.uint8)},
        {"image": Image.new("RGB", (33, 32))},
        {"image": Image.new("RGBA", (32, 32))},
        {"mechanisms": None},
        {"mechanisms": "se"},
        {"mechanisms": {"se": 1}},
        {"mechanisms": True},
        {"mechanisms": []},
        {"mechanisms": ["se", "se"]},
        {"mechanisms": ["se", "resnet"]},
        {"mechanisms": ["se", None]},
        {"mechanisms": ["se", ["cbam"]]},
        {"mechanisms": [float("nan")]},
        {"mechanisms": [{"se": "se"}]},
        {"mechanisms": ["se"] * 1000},
        {"mechanisms": ["<img src=x onerror=alert(1)>"]},
        {"mechanisms": ["x" * 1_000_000]},
        {"target": None},
        {"target": True},
        {"target": 3},
        {"target": float("nan")},
        {"target": "tiger"},
        {"target": ["cat"]},
        {"cam": None},
        {"cam": "ScoreCAM"},
        {"cam": {"name": "GradCAM"}},
        {"cam": float("inf")},
    ],
)
def test_each_wrong_argument_gets_one_plain_sentence(arguments, checkpoints):
    with pytest.raises(RequestError) as refusal:
        compare_record(**{"image": picture(), "mechanisms": ["plain"], **arguments})
    assert_plain_sentence(refusal)
    assert checkpoints == []


@pytest.mark.parametrize(
    "sent",
    [None, [], {}, {"image": None}, {"image": 7}, {"image": ""}, {"image": "!" * 4096}, {"image": "é" * 4096}]
    + [{"image": "A" * 4095 + "="}, {"image": "A" * 5000}],
)
def test_a_record_that_came_back_without_picture_is_refused(sent):
    with pytest.raises(RequestError, match="no picture"):
        picture_of(sent)


def test_the_picture_of_a_record_comes_back(seven):
    assert picture_of(seven).tobytes() == picture().tobytes()


def test_the_bytes_of_a_map():
    """What a reader in any language must find: row by row, little-endian, 0 for the lowest value."""
    packed = pack(np.float32([[-1, 1], [0, 1]]))
    assert base64.b64decode(packed["data"]) == bytes([0, 0, 255, 255, 0, 128, 255, 255])
    assert (packed["lo"], packed["hi"], packed["shape"]) == (-1, 1, [2, 2])


@pytest.mark.parametrize("value", [0.0, 0.5, -3e38])
def test_a_constant_map_stays_constant(value):
    packed = pack(np.full((1, 8, 8), value, np.float32))
    assert packed["lo"] == packed["hi"] == np.float32(value)
    assert (decode(packed) == np.float32(value)).all()


def test_numbers_at_the_ends_of_float32():
    values = np.float32([[-3e38, 3e38, 0.0, 1e-30]])
    assert np.abs(decode(pack(values)).astype(float) - values).max() <= 1e-4 * 6e38
    for bad in (np.nan, np.inf):
        with pytest.raises(NotFiniteError):
            pack(np.float32([0, bad]))


def test_large_maps_stay_on_the_server_and_say_so():
    shown = Map("q h w", np.random.default_rng(0).random((65, 2, 2), np.float32))
    assert stays(shown)
    packed = pack_map("stage1.affinity", shown)
    assert packed["data"] == ""
    assert packed["shape"] == [65, 2, 2]
    assert 0 < packed["lo"] < packed["hi"] < 1
    with pytest.raises(ValueError, match="affinity_row"):
        decode(packed)
    assert not stays(Map("q h w", np.zeros((64, 8, 8), np.float32)))


def test_an_edit_is_in_the_maps_of_the_record():
    """The maps show what the network went on with, not what it would have computed."""
    gate = "layer2.0.refine.gate"
    seen = inspect_network(network("se"), picture(), edits={gate: torch.ones_like})
    assert (decode(pack_map(gate, seen.maps[gate])) == 1).all()
    with recording(network("se")) as records:
        network("se")(torch.zeros(1, 3, 32, 32))
    assert not (records[gate].tensor == 1).any()


def test_methods_are_those_of_the_contract():
    assert METHODS == ("GradCAM", "GradCAM++", "HiResCAM", "LayerCAM", "XGradCAM", "EigenCAM")


@pytest.mark.parametrize("target", ["predicted", "cat", "truck"])
def test_weights_for_other_classes_are_refused_whatever_is_asked(monkeypatch, target):
    five = build("plain", num_classes=5).eval().requires_grad_(False)
    stand_in(monkeypatch, lambda name: five, {"plain": FACTS})
    (column,) = compare_record(picture(), ["plain"], target)["unavailable"]
    assert column["reason"] == "The weights of plain were trained for other classes."
