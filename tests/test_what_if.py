"""What if: what a network answers with something else in the place of its attention, and how it is asked."""

import base64
import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from models import CLASSES
from models.preprocessing import normalise
from models.recording import recording
from models.replacements import REPLACEMENTS, attention_of, derangement
from models.results import averages
from models.results.averages import Averages
from tests.networks import compare_record, network, picture, randomised, stand_in
from visualize.answers import other_example, replacement_in_call
from visualize.export import figure as drawing
from visualize.export.files import export
from visualize.inspection import replaced
from visualize.inspection.cache import Cache
from visualize.inspection.engine import Question
from visualize.inspection.replaced import Replacement, ReplacementError
from visualize.record import compare
from visualize.record.compare import affinity_row
from visualize.record.encoding import decode
from visualize.record.requests import RequestError, replacement_of
from visualize.record.view import View

NAMES = ("plain", "se", "non_local")
TRAINED = (*NAMES, "efficient_attention")
LOAD = averages.load
OTHER = picture(1).tobytes()
GATE = "layer2.1.refine.gate"  # of se: (128, 1, 1)


def constants_of(name: str, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        path: torch.rand(each.shape, generator=generator)
        for path, each in attention_of(network(name)).items()
    }


@pytest.fixture(autouse=True)
def checkpoints(monkeypatch):
    """Three networks are "trained", with random weights, and of se the averages are measured."""
    monkeypatch.setattr(replaced, "_trained", Cache())
    monkeypatch.setattr(compare, "_held", Cache())

    def load(name: str, sha256: str) -> Averages | None:
        return Averages(100, constants_of(name, 1), {}, constants_of(name, 2)) if name == "se" else None

    monkeypatch.setattr(averages, "load", load)
    stand_in(
        monkeypatch, network, {name: {"accuracy": 93.0, "recipe": "cpu", "sha256": name} for name in TRAINED}
    )


def column_of(name: str, replacement: Replacement | None) -> dict:
    return compare.column(name, Question(picture(), replacement=replacement))


def answer_of(model: nn.Module, image=None, edits: dict | None = None) -> tuple[np.ndarray, dict]:
    """Probabilities and records of one pass."""
    pixels = torch.from_numpy(np.array(image or picture())).permute(2, 0, 1)[None]
    with torch.no_grad(), recording(model, edits or {}) as records:
        return model(normalise(pixels))[0].softmax(0).numpy(), records


# What is computed.


def mean(name: str, seed: int = 1) -> torch.Tensor:
    return constants_of("se", seed)[name]


BY_HAND = {  # replacement -> network, tensor, and what its tensor becomes
    Replacement("average", GATE): lambda t: mean(GATE)[None],
    Replacement("strength", GATE, 0.5): lambda t: (t + mean(GATE)) / 2,
    Replacement("strength", GATE, 2.0): lambda t: (2 * t - mean(GATE)).clamp(0, 1),
    Replacement("level", GATE): lambda t: torch.full_like(t, float(mean(GATE).mean())),
    Replacement("best constant", GATE): lambda t: mean(GATE, 2)[None],
    Replacement("another picture's", GATE, other=OTHER): lambda t: (
        answer_of(network("se"), picture(1))[1][GATE].tensor
    ),
    Replacement("shuffled", GATE): lambda t: t[:, derangement(128)],
    Replacement("factor 1", GATE): torch.ones_like,
    Replacement("by hand", GATE, by_hand=((GATE, ((0, 0.0), (100, 7.0))),)): lambda t: torch.cat(
        [0 * t[:, :1], t[:, 1:100], 0 * t[:, :1] + 1, t[:, 101:]], 1
    ),
    Replacement("query ignored", "stage3.affinity"): lambda t: t.mean(1, keepdim=True).expand_as(t),
}


@pytest.mark.parametrize("replacement", BY_HAND, ids=lambda one: one.words)
def test_a_replaced_network_answers_as_with_the_edit_by_hand(replacement):
    name = "non_local" if replacement.name == "query ignored" else "se"
    expected, _ = answer_of(network(name), edits={replacement.scope: BY_HAND[replacement]})
    found = column_of(name, replacement)
    assert found["probabilities"] == pytest.approx(expected, abs=2e-6)
    assert found["before"] == pytest.approx(answer_of(network(name))[0], abs=2e-6)
    assert found["probabilities"] != found["before"] and found["replace_note"] is None
    assert found["replaced"] == [replacement.scope]


def test_a_replacement_leaves_alone_what_it_has_no_meaning_for():
    """Of Efficient Attention's two softmaxes only one is of places that ask."""
    maps = [shown for shown in column_of("efficient_attention", None)["maps"] if shown["role"] == "share"]
    found = column_of("efficient_attention", Replacement("query ignored"))["replaced"]
    assert {shown["tensor"].split(".")[-1] for shown in maps} == {"query_weights", "key_maps"}
    assert found == [shown["tensor"] for shown in maps if shown["tensor"].endswith("query_weights")]
    assert column_of("efficient_attention", Replacement("shuffled"))["replaced"] == [
        shown["tensor"] for shown in maps
    ]


def test_what_is_not_known_yet_comes_from_one_pass(monkeypatch):
    passes, usual = [], replaced.recording
    monkeypatch.setattr(replaced, "recording", lambda *args: passes.append(args) or usual(*args))
    wanted = Replacement("another picture's", other=OTHER)
    found = column_of("se", wanted)
    assert len(passes) == 1
    assert column_of("se", wanted) == found and len(passes) == 1
    column_of("se", Replacement("another picture's", other=picture(2).tobytes()))
    assert len(passes) == 2


def test_every_replacement_is_among_them():
    assert {one.name for one in BY_HAND} == {*REPLACEMENTS} - {"as trained"}


def test_a_strength_of_one_changes_no_bit():
    plain, found = column_of("se", None), column_of("se", Replacement("strength"))
    assert found.pop("before") == plain["probabilities"] and found.pop("replace_note") is None
    assert found.pop("replaced") == [*attention_of(network("se"))]
    assert found == plain and "before" not in plain


@pytest.mark.parametrize("looked_at_before", [False, True])
def test_before_is_what_the_plain_column_answers(monkeypatch, looked_at_before):
    plain = column_of("non_local", None)
    if looked_at_before:  # then no second pass is needed
        monkeypatch.setattr(replaced, "recording", None)
    else:
        monkeypatch.setattr(replaced, "_trained", Cache())
    found = column_of("non_local", Replacement("shuffled"))
    assert found["before"] == pytest.approx(plain["probabilities"], abs=0 if looked_at_before else 1e-5)


def test_what_is_kept_is_of_these_very_weights_and_of_this_picture(monkeypatch):
    asked = Replacement("shuffled")
    first = column_of("se", asked)["before"]
    assert compare.column("se", Question(picture(1), replacement=asked))["before"] != first
    other = randomised("se")
    other.fc.bias.data[3] += 5
    stand_in(monkeypatch, lambda name: other, {"se": {"accuracy": 93.0, "recipe": "cpu", "sha256": "new"}})
    assert column_of("se", asked)["before"] == pytest.approx(answer_of(other)[0], abs=2e-6)


def test_the_averages_are_read_once_and_again_when_their_file_is_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr(averages, "load", partial(LOAD, folder=tmp_path))

    def measured(seed: int) -> None:
        constants = {path: t.half() for path, t in constants_of("se", seed).items()}
        averages.write("se", Averages(100 + seed, constants, {}), "se", tmp_path)

    measured(1)
    first = column_of("se", Replacement("average"))
    with monkeypatch.context() as patch:
        patch.setattr(averages, "safe_open", None)  # nothing can be read
        assert column_of("se", Replacement("average")) == first
        column_of("se", Replacement("level", "layer2.1"))
    measured(2)
    assert column_of("se", Replacement("average"))["probabilities"] != first["probabilities"]
    averages.file_of("se", tmp_path).unlink()
    assert column_of("se", Replacement("average"))["replace_note"].startswith("The average attention of")


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("plain", Replacement("shuffled"), "has no attention that could be replaced"),
        ("se", Replacement("shuffled", "stage3"), "has no attention there"),
        (
            "se",
            Replacement("query ignored"),
            "This replacement does not apply to the attention that",
        ),
        ("non_local", Replacement("average"), "The average attention of Non-local is not measured yet"),
        ("non_local", Replacement("best constant"), "The best constants of Non-local are not measured yet"),
        ("se", Replacement("by hand"), "has nothing that was changed by hand"),
    ],
)
def test_a_network_for_which_it_has_no_meaning_answers_as_trained_and_says_so(name, asked, said):
    plain, found = column_of(name, None), column_of(name, asked)
    note = found.pop("replace_note")
    assert said in note and note.endswith("it answers as trained.")
    assert found.pop("before") == found["probabilities"] and found.pop("replaced") == []
    assert found == plain


def test_the_record_says_what_was_replaced():
    found = compare_record(picture(), [*NAMES], replacement=Replacement("strength", "layer2.1", 0.5))
    assert found["replace"] == {"name": "strength", "scope": "layer2.1", "strength": 0.5}
    assert all(len(column["before"]) == len(CLASSES) for column in found["mechanisms"])
    json.dumps(found, allow_nan=False)
    assert compare_record(picture(), ["se"])["replace"] is None


@pytest.mark.parametrize("first", ["column", "row"])
def test_a_row_is_that_of_the_replaced_network(first):
    where, asked = ("non_local", "stage2.affinity"), Replacement("query ignored")
    expected = answer_of(network("non_local"))[1]["stage2.affinity"].tensor[0]  # (256, 16, 16)
    own = decode(affinity_row(picture(), *where, 7))
    if first == "column":
        column_of("non_local", asked)
    found = decode(affinity_row(picture(), *where, 7, asked))
    assert np.abs(found - expected.mean(0).numpy()).max() < 1e-4 * np.ptp(found)
    assert np.abs(own - expected[7].numpy()).max() < 1e-4 * np.ptp(own)
    assert np.array_equal(decode(affinity_row(picture(), *where, 7)), own)


def test_what_is_kept_of_replaced_networks_is_counted_whatever_was_changed():
    changes = ((GATE, tuple((at, 0.5) for at in range(100))),)
    column_of("se", Replacement("by hand", by_hand=changes))
    column_of("se", Replacement("another picture's", other=OTHER))
    assert compare._held.size > 2 * 3072 + 100 * 10 + 3072


# What is asked for.


def asked(**change) -> dict:
    return {"name": "average", "scope": "all", "strength": 1, "other": None, "by_hand": None} | change


PIXELS = base64.b64encode(OTHER).decode()


def test_a_request_becomes_a_replacement_without_what_it_does_not_need():
    by_hand = {GATE: {"0": 0, "127": 0.5}, "layer1.0.refine.gate": {}}
    more = {"other": PIXELS, "by_hand": by_hand, "strength": 0.5}
    changes = ((GATE, ((0, 0.0), (127, 0.5))),)
    assert replacement_of(None) is None and replacement_of(asked(name="as trained")) is None
    assert replacement_of({"name": "average"}) == replacement_of(asked(**more)) == Replacement("average")
    assert replacement_of(asked(name="strength", **more)) == Replacement("strength", strength=0.5)
    assert replacement_of(asked(name="another picture's", **more)) == Replacement(
        "another picture's", other=OTHER
    )
    assert replacement_of(asked(name="by hand", **more)) == Replacement("by hand", by_hand=changes)
    assert replacement_of(asked(scope="layer2.1.refine.gate")).scope == GATE


def by_hand(found: object) -> dict:
    return asked(name="by hand", by_hand=found)


@pytest.mark.parametrize(
    "request_",
    [
        "average",
        ["average"],
        True,
        {},
        asked(name=None),
        asked(name="nothing"),
        asked(name=["average"]),
        asked(scope=3),
        asked(scope=""),
        asked(scope="layer2.1."),
        asked(scope="layer2 1"),
        asked(scope="<b>"),
        asked(scope="läyer"),
        asked(scope="all\n"),
        asked(scope="a" * 101),
        asked(scope=["all"]),
        asked(strength=-0.1),
        asked(strength=2.1),
        asked(strength=10**400),
        asked(strength=float("nan")),
        asked(strength=float("inf")),
        asked(strength=True),
        asked(strength="1"),
        asked(name="another picture's"),
        asked(name="another picture's", other=PIXELS[:-4]),
        asked(name="another picture's", other="é" * 4096),
        asked(name="another picture's", other="!" * 4096),
        asked(name="another picture's", other="A" * 4095 + "="),
        asked(name="another picture's", other=[PIXELS]),
        by_hand(None),
        by_hand([]),
        by_hand({GATE: [0.5]}),
        by_hand({GATE: 0.5}),
        by_hand({"no path": {"0": 0.5}}),
        by_hand({"a" * 101: {"0": 0.5}}),
        by_hand({GATE: {"-1": 0.5}}),
        by_hand({GATE: {"1.0": 0.5}}),
        by_hand({GATE: {"": 0.5}}),
        by_hand({GATE: {"01": 0.5}}),
        by_hand({GATE: {"²": 0.5}}),
        by_hand({GATE: {"9" * 10: 0.5}}),
        by_hand({GATE: {"0": None}}),
        by_hand({GATE: {"0": True}}),
        by_hand({GATE: {"0": "0.5"}}),
        by_hand({GATE: {"0": float("nan")}}),
        by_hand({GATE: {"0": float("inf")}}),
        by_hand({GATE: {"0": 10**400}}),
        by_hand({GATE: {"0": 1e39}}),
        by_hand({f"layer1.{i}": {"0": 0.5} for i in range(65)}),
        by_hand({GATE: {str(i): 0.5 for i in range(4097)}}),
    ],
    ids=lambda request: str(request)[:60],
)
def test_anything_else_is_refused_in_a_sentence(request_):
    with pytest.raises(RequestError) as refused:
        replacement_of(request_)
    assert re.fullmatch(r"[A-Z0-9][^\n/\\<>{}]{10,240}\.", str(refused.value))


def test_a_change_beyond_the_end_of_a_tensor_is_refused():
    with pytest.raises(ReplacementError, match="has 128 values"):
        column_of("se", Replacement("by hand", by_hand=((GATE, ((128, 0.5),)),)))


def test_a_call_takes_another_picture_from_the_examples():
    found = replacement_in_call(picture(), "another picture's", "layer2.1", 1.0)
    assert found == Replacement("another picture's", "layer2.1", other=other_example(picture()))
    itself = replaced.Image.frombytes("RGB", (32, 32), found.other)
    assert other_example(itself) not in (found.other, picture().tobytes())
    assert replacement_in_call(picture(), "as trained", "all", 1.0) is None
    with pytest.raises(RequestError, match="on the page"):
        replacement_in_call(picture(), "by hand", "all", 1.0)


# What is taken along.


def test_numbers_and_report_say_what_was_replaced_and_what_was_answered_before(tmp_path):
    wanted = picture(), [*NAMES], "predicted", "GradCAM", View(), tmp_path
    replacement = Replacement("strength", "layer2.1", 0.5)
    with np.load(export("npz", *wanted, replacement=replacement), allow_pickle=False) as stored:
        arrays = dict(stored)
    found = json.loads(export("json", *wanted, replacement=replacement).read_text())
    assert arrays["replaced"] == "strength 0.5, in layer2.1"
    asked = {"name": "strength", "scope": "layer2.1", "strength": 0.5}
    assert found["settings"]["replace"] == asked | {"only": None, "by_hand": None, "other_sha256": None}
    assert Replacement("by hand", only="cbam").words == "by hand, in CBAM alone"
    assert Replacement("level", "stage2").words == "level, after layer2"
    for said in found["networks"]:
        name = said["id"]
        before, _ = answer_of(network(name))
        assert arrays[f"{name}/before"] == pytest.approx(before, abs=2e-6)
        assert list(said["before"].values()) == arrays[f"{name}/before"].tolist()
        assert (said["before"] == said["probabilities"]) == (name != "se") == bool(said["replace_note"])
        assert bool(said["replaced"]) == (name == "se")

    plain = json.loads(export("json", *wanted).read_text())
    assert plain["settings"]["replace"] is None and "before" not in plain["networks"][1]
    with np.load(export("npz", *wanted)) as stored:
        assert not [key for key in stored if "before" in key or "replaced" in key]


def words_of(made: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in made.texts).split()).replace(
        "\N{NO-BREAK SPACE}", " "
    )


def test_the_figure_says_so_too(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(drawing, "save", lambda figure, file: made.append(figure))
    wanted = picture(), [*NAMES], "predicted", "GradCAM", View(), tmp_path
    export("png", *wanted, replacement=Replacement("average"))
    words = words_of(made.pop())
    assert "attention replaced: average, everywhere" in words
    assert "Plain ResNet18 has no attention that could be replaced" in words
    now, before = (
        np.array(column_of("se", Replacement("average"))[key]) for key in ("probabilities", "before")
    )
    first = now.argmax()
    share = drawing.percent
    assert f"{CLASSES[first]} {share(now[first])} (as trained {share(before[first])}" in words
    export("png", *wanted)
    assert "as trained" not in words_of(made.pop())


@pytest.mark.parametrize(
    ("before", "said"),
    [(3, "cat 75 % (as trained 50 %)"), (5, "cat 75 % (as trained 25 %, behind dog with 50 %)")],
)
def test_the_answer_names_the_class_that_was_first(before, said):
    def spread(first: int, second: int, share: float) -> np.ndarray:
        found = np.zeros(10, np.float32)
        found[[first, second]] = share, (1 - share) / 2
        return found

    model = network("plain")
    seen = replaced.inspect(model, picture(), stage="layer4.1")
    cat = CLASSES.index("cat")
    old = spread(cat, 0, 0.5) if before == cat else spread(before, cat, 0.5)
    seen = replaced.dataclasses.replace(seen, probabilities=spread(cat, 0, 0.75), before=old)
    assert drawing.change_of(seen) == said
