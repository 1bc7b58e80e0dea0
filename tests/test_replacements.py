"""Replacements of attention: gates stay gates, shares stay shares, and each does what its name says."""

import math

import pytest
import torch
from conftest import pictures
from networks import randomised
from torch import nn

from models import build
from models.recording import record, recording
from models.replacements import (
    NEEDS,
    REPLACEMENTS,
    Attention,
    applies,
    attention_of,
    derangement,
    in_scope,
    replace,
)

BATCH = 3
KINDS = [  # axes, role, over, bounds, shape without the batch: every kind that the catalogue records
    ("b c 1 1", "gate", "", (0, 1), (6, 1, 1)),
    ("b 1 h w", "gate", "", (0, 1), (1, 3, 4)),
    ("b c h w", "gate", "", (1, 2), (5, 3, 4)),
    ("b c h 1", "gate", "", (0, 1), (5, 3, 1)),
    ("b 1 h c", "gate", "", (0, 1), (1, 3, 5)),
    ("b head k", "gate", "", (0, math.inf), (2, 5)),
    ("b k h w", "gate", "", (-math.inf, math.inf), (2, 3, 4)),
    ("b k", "share", "k", (0, 1), (4,)),
    ("b branch c 1 1", "share", "branch", (0, 1), (2, 5, 1, 1)),
    ("b 1 h w", "share", "h w", (0, 1), (1, 3, 4)),
    ("b k h w", "share", "h w", (0, 1), (2, 3, 4)),
    ("b k h w", "share", "k", (0, 1), (5, 3, 4)),
    ("b g k h w", "share", "k", (0, 1), (2, 5, 3, 4)),
    ("b q h w", "share", "h w", (0, 1), (12, 3, 4)),
    ("b head q h w", "share", "h w", (0, 1), (2, 12, 3, 4)),
    ("b q k", "share", "k", (0, 1), (12, 7)),
    ("b c c", "share", "c", (0, 1), (6, 6)),
    ("b h w cross", "share", "cross", (0, 1), (3, 4, 7)),
]
ASKING = {  # axes and over -> the axes of those who ask
    ("b q h w", "h w"): (-3,),
    ("b head q h w", "h w"): (-3,),
    ("b q k", "k"): (-2,),
    ("b c c", "c"): (-2,),
    ("b h w cross", "cross"): (-3, -2),
    ("b g k h w", "k"): (-2, -1),
    ("b k h w", "k"): (-2, -1),
}


def made_up(kind: tuple, count: int = BATCH, seed: int = 0) -> tuple[Attention, torch.Tensor]:
    """A description and tensors that go with it, in every corner of what their bounds allow."""
    axes, role, over, bounds, shape = kind
    each = Attention("layer1.0.refine.it", axes, role, over, bounds, shape)
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    if role == "share":
        noise = (4 * noise).exp()
        return each, noise / noise.sum(each.over_dims, keepdim=True)
    low, high = (max(bounds[0], -9), min(bounds[1], 9))
    return each, low + (high - low) * torch.sigmoid(4 * noise)


def edited(each: Attention, t: torch.Tensor, replacement: str, **more) -> torch.Tensor:
    mean = t.mean(0).half()
    others = made_up((each.axes, each.role, each.over, each.bounds, each.shape), len(t), seed=1)[1]
    given = {"averages": mean, "others": others, "constants": mean, "by_hand": torch.full(each.shape, 7.0)}
    given = {key: {each.path: value} for key, value in given.items()} | more
    return replace(replacement, "all", {each.path: each}, **given)[each.path](t)


# Each kind of tensor.


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]} {kind[1]} {kind[2]}")
def test_gates_keep_to_their_bounds_and_shares_sum_to_one(kind):
    each, t = made_up(kind)
    assert each.query_dims == (ASKING.get((each.axes, each.over), ()) if each.role == "share" else ())
    for replacement in REPLACEMENTS:
        for strength in (0.0, 0.5, 2.0) if replacement == "strength" else (1.0,):
            if replacement == "as trained" or not applies(replacement, each):
                continue
            found = edited(each, t, replacement, strength=strength)
            assert found.shape == t.shape and found.dtype == t.dtype and found.isfinite().all()
            if each.role == "share":
                assert found.min() >= 0, replacement
                torch.testing.assert_close(found.sum(each.over_dims), torch.ones_like(t.sum(each.over_dims)))
            elif replacement != "factor 1":
                assert found.min() >= each.bounds[0] and found.max() <= each.bounds[1], replacement


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]} {kind[1]} {kind[2]}")
def test_strength_goes_from_the_average_through_the_tensor_itself_and_beyond(kind):
    each, t = made_up(kind)
    assert torch.equal(edited(each, t, "strength", strength=0.0), edited(each, t, "average"))
    assert torch.equal(edited(each, t, "strength", strength=1.0), t)
    mean = edited(each, t, "average")
    torch.testing.assert_close(edited(each, t, "strength", strength=0.5), (mean + t) / 2)
    assert not torch.allclose(edited(each, t, "strength", strength=1.9), t, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]} {kind[1]} {kind[2]}")
def test_shuffled_moves_every_value_and_loses_none(kind):
    each, t = made_up(kind)
    found = edited(each, t, "shuffled")
    torch.testing.assert_close(found.flatten(1).sort()[0], t.flatten(1).sort()[0])
    assert (found != t).double().mean() > 0.9
    assert torch.equal(found, edited(each, t, "shuffled"))


def test_places_are_shuffled_alike_for_all_queries():
    each, t = made_up(("b q h w", "share", "h w", (0, 1), (12, 3, 4)))
    one_map = t[:, :1].expand_as(t)
    found = edited(each, one_map, "shuffled")
    assert torch.equal(found, found[:, :1].expand_as(found))


def test_shares_of_branches_are_shuffled_among_the_channels():
    each, t = made_up(("b branch c 1 1", "share", "branch", (0, 1), (2, 16, 1, 1)))
    found = edited(each, t, "shuffled")
    torch.testing.assert_close(found.sum(1), torch.ones(len(t), 16, 1, 1))  # those of a channel stay together
    torch.testing.assert_close(found.mean(2), t.mean(2))  # and each branch counts as much as before
    assert (found != t).all()


def test_level_is_one_number_or_equal_shares():
    each, t = made_up(("b c 1 1", "gate", "", (0, 1), (6, 1, 1)))
    torch.testing.assert_close(
        edited(each, t, "level"), torch.full_like(t, float(t.mean(0).half().float().mean()))
    )
    each, t = made_up(("b q h w", "share", "h w", (0, 1), (12, 3, 4)))
    assert torch.equal(edited(each, t, "level"), torch.full_like(t, 1 / 12))


def test_query_ignored_gives_every_query_the_mean_row():
    each, t = made_up(("b head q h w", "share", "h w", (0, 1), (2, 12, 3, 4)))
    torch.testing.assert_close(edited(each, t, "query ignored")[1, 1, 5], t[1, 1].mean(0))


def test_by_hand_leaves_what_is_not_painted():
    each, t = made_up(("b 1 h w", "gate", "", (0, 1), (1, 3, 4)))
    painted = torch.full((1, 3, 4), torch.nan)
    painted[0, 1, 2] = 0.25
    found = edited(each, t, "by hand", by_hand={each.path: painted})
    assert (found[:, 0, 1, 2] == 0.25).all() and int((found != t).sum()) == BATCH


def test_a_short_average_stands_for_all_along_its_axis():
    each, t = made_up(("b g k h w", "share", "k", (0, 1), (2, 5, 3, 4)))
    short = t.mean((0, 3, 4)).unsqueeze(-1).unsqueeze(-1).half()  # (2, 5, 1, 1)
    found = edited(each, t, "average", averages={each.path: short})
    torch.testing.assert_close(found[0, 1, :, 2, 3], short[1, :, 0, 0].float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.sum(2), torch.ones(BATCH, 2, 3, 4))


@pytest.mark.parametrize("count", [2, 3, 7, 250])
def test_a_derangement_has_no_fixed_point_and_repeats(count):
    order = derangement(count)
    assert sorted(order.tolist()) == list(range(count))
    assert not (order == torch.arange(count)).any()
    assert torch.equal(order, derangement(count))


def test_an_order_drawn_without_gradients_serves_those_who_need_them():
    derangement.cache_clear()
    with torch.inference_mode():
        derangement(5)
    assert not derangement(5).is_inference()


def test_shares_painted_beyond_all_measure_still_sum_to_one():
    each, t = made_up(("b q k", "share", "k", (0, 1), (2, 4)))
    painted = torch.full((2, 4), torch.nan)
    painted[0, :2] = 3e38
    found = edited(each, t, "by hand", by_hand={each.path: painted})
    torch.testing.assert_close(found[0, 0], torch.tensor([0.5, 0.5, 0, 0]))


def test_one_alone_cannot_be_deranged():
    with pytest.raises(ValueError, match="two or more"):
        derangement(1)


# Whole networks.


class Gated(nn.Module):
    """Two blocks that each multiply by a gate of the picture, so small that a test can follow it."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.ModuleList([Gate(), Gate()])
        self.fc = nn.Linear(3, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for block in self.layer1:
            images = block(images)
        return self.fc(images.mean((2, 3)))


class Gate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = record(self, "gate", torch.sigmoid(x.mean((2, 3), keepdim=True)), "b c 1 1", role="gate")
        return record(self, "output", x * gate, "b c h w", role="features")


def logits(model: nn.Module, images: torch.Tensor, edits: dict) -> torch.Tensor:
    with torch.inference_mode(), recording(model, edits):
        return model(images)


def test_scopes():
    attention = attention_of(Gated().eval())
    assert list(attention) == ["layer1.0.gate", "layer1.1.gate"]
    assert attention["layer1.1.gate"].block == "layer1.1" and attention["layer1.1.gate"].shape == (3, 1, 1)
    assert [each.path for each in in_scope("all", attention)] == list(attention)
    assert [each.path for each in in_scope("layer1.1", attention)] == ["layer1.1.gate"]
    assert [each.path for each in in_scope("layer1.0.gate", attention)] == ["layer1.0.gate"]
    assert list(replace("shuffled", "layer1.1", attention)) == ["layer1.1.gate"]
    assert replace("as trained", "all", attention) == {} == replace("as trained", "all", {})


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("nothing", "all"), "There is no replacement 'nothing'"),
        (("shuffled", "layer9.0"), "'layer9.0' is no gate, no share and no block"),
        (("shuffled", "layer1.0.output"), "'layer1.0.output' is no gate, no share"),
        (("query ignored", "all"), "has no meaning"),
        *(((name, "all"), f"needs {needed}") for name, needed in NEEDS.items()),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(arguments, said):
    with pytest.raises(ValueError, match=said) as error:
        replace(*arguments, attention_of(Gated().eval()))
    assert str(error.value).endswith(".") and str(error.value).count(". ") == 0


def test_strength_has_ends_and_training_mode_is_refused():
    attention = attention_of(Gated().eval())
    for strength in (-0.1, 2.1, math.nan):
        with pytest.raises(ValueError, match="from 0 to 2"):
            replace("strength", "all", attention, strength=strength)
    with pytest.raises(ValueError, match="training mode"):
        attention_of(Gated().train())


def test_a_network_without_attention():
    model = build("plain").eval()
    assert attention_of(model) == {}
    with pytest.raises(ValueError, match="no attention"):
        replace("average", "all", {})


@pytest.mark.parametrize("name", ["cbam", "self_attention"])
def test_a_tensor_in_its_own_place_changes_no_bit(name):
    """And strength 1 neither, in whole networks; another picture's tensor does change the answer."""
    model, images = randomised(name), pictures(2)
    attention = attention_of(model)
    with torch.inference_mode(), recording(model) as records:
        expected = model(images)
    own = {path: records[path].tensor for path in attention}
    averages = {path: t.mean(0).half() for path, t in own.items()}
    assert torch.equal(
        logits(model, images, replace("another picture's", "all", attention, others=own)), expected
    )
    edits = replace("strength", "all", attention, averages)
    assert list(edits) == list(attention)
    assert torch.equal(logits(model, images, edits), expected)
    others = {path: t[derangement(2)] for path, t in own.items()}
    edits = replace("another picture's", "all", attention, others=others)
    assert not torch.allclose(logits(model, images, edits), expected, atol=1e-4)


def test_constant_gates_fold_into_the_norm_before_them():
    """A gate that is the same for every picture is no attention: the plain network computes the same."""
    model, images = randomised("se"), pictures(3)
    attention = attention_of(model)
    with torch.inference_mode(), recording(model) as records:
        model(images)
    constants = {path: records[path].tensor.mean(0) for path in attention}  # (C, 1, 1) each
    state = {key: value.clone() for key, value in model.state_dict().items() if ".refine." not in key}
    for path, gate in constants.items():
        norm = path.replace("refine.gate", "bn2")
        for part in ("weight", "bias"):
            state[f"{norm}.{part}"] *= gate.flatten()
    plain = build("plain").eval()
    plain.load_state_dict(state, strict=True)
    assert sum(parameter.numel() for parameter in plain.parameters()) == 11_173_962
    edits = replace("best constant", "all", attention, constants=constants)
    folded = logits(plain, images, {})
    torch.testing.assert_close(folded, logits(model, images, edits), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(folded, logits(model, images, {}), atol=1e-3)
