"""What maps are worth: measured on networks of which we know what they look at."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from conftest import pictures
from networks import randomised
from scipy.stats import spearmanr
from torch import nn
from torchcam.metrics import DeletionInsertionMetric
from torchvision.transforms.functional import gaussian_blur

from models.networks import start_of
from models.preprocessing import normalise
from models.recording import record
from models.replacements import Attention, attention_of
from models.results import maps
from visualize.inspection.cam import class_map


def pixels(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


class Corner(nn.Module):
    """Answers by a fine pattern in the upper left quarter; one of its maps says so, one the contrary."""

    def __init__(self):
        super().__init__()
        pattern = 400 * torch.randn(32, 32, generator=torch.Generator().manual_seed(1)).sign()
        self.pattern = nn.Parameter(pattern, requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        corner = torch.zeros(len(images), 1, 32, 32)
        corner[:, :, :16, :16] = 1
        corner = record(self, "right", corner, "b 1 h w", role="gate")
        record(self, "wrong", 1 - corner, "b 1 h w", role="gate")
        found = (corner * self.pattern * images).mean((1, 2, 3))
        return torch.stack([found, -found], dim=1)


def test_a_map_of_what_the_answer_rests_on_is_faithful():
    model, images = Corner().eval(), pixels(8)
    attention = attention_of(model)
    assert maps.maps_of(attention) == ["Grad-CAM", "right", "wrong", "random", "centre", "Sobel"]
    found = {
        shown: {
            kind: value["mean"] for kind, value in maps.faithfulness(model, attention, shown, images).items()
        }
        for shown in ("right", "random", "wrong")
    }
    right, random, wrong = found.values()
    assert right["road"] > random["road"] > wrong["road"]
    assert right["deletion"] < random["deletion"] < wrong["deletion"]
    assert right["insertion"] > random["insertion"] > wrong["insertion"]
    again = maps.faithfulness(model, attention, "right", images)
    assert {kind: value["mean"] for kind, value in again.items()} == right


class Given:
    """What torchcam takes for a method: a network, and maps that are there already."""

    def __init__(self, model: nn.Module, drawn: torch.Tensor):
        self.model, self.drawn = model, drawn

    def __call__(self, *_: object, **__: object) -> list[torch.Tensor]:
        return [self.drawn]

    def fuse_cams(self, cams: list[torch.Tensor]) -> torch.Tensor:
        return cams[0]

    def _hooks_off(self) -> nullcontext:
        return nullcontext()


class Bright(nn.Module):
    """Answers by the brightness of three stripes, seen through a gate that no two pixels share."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        gate = record(self, "gate", torch.sigmoid(images.sum(1, keepdim=True)), "b 1 h w", role="gate")
        return 20 * (gate * images).mean((1, 2)).unflatten(1, (4, 8)).mean(2)[:, :3]


def test_deletion_and_insertion_are_torchcams(monkeypatch):
    monkeypatch.setattr(maps, "STEPS", 4)  # into 1,024 pixels a whole number of times, so that both cut alike
    monkeypatch.setattr(maps, "road", lambda *arguments: np.zeros(1))
    model = Bright().eval()
    images, shown = pixels(6), "gate"
    pictures = normalise(images)
    found = maps.faithfulness(model, attention_of(model), shown, images)
    drawn = maps.observe(model, pictures)[1][shown][:, 0]
    for kind, baseline in {"deletion": None, "insertion": lambda x: gaussian_blur(x, 11, 5.0)}.items():
        given = Given(model, drawn)
        metric = DeletionInsertionMetric(given, lambda logits: logits.softmax(1), steps=4, baseline=baseline)
        metric.update(pictures)
        assert found[kind]["mean"] == pytest.approx(metric.summary()[f"{kind}_auc"], rel=1e-4)
    assert abs(found["deletion"]["mean"] - found["insertion"]["mean"]) > 0.01


def test_grad_cam_is_the_packages():
    model, images = randomised("plain"), pictures(2)
    logits, records, cams = maps.observe(model, images, ["layer3.1", "layer4.1"])
    activations = records["layer3.1.output"].clone().requires_grad_()
    gradients = torch.randn(activations.shape, generator=torch.Generator().manual_seed(0))
    ours = maps.grad_cam(activations.detach(), gradients)
    for index in range(2):
        theirs = class_map("GradCAM", activations[index].detach().numpy(), gradients[index].numpy())
        np.testing.assert_allclose(ours[index].numpy(), theirs, rtol=1e-4, atol=1e-6)
    alone = maps.observe(model, images[1:], ["layer4.1"])
    torch.testing.assert_close(cams["layer4.1"][1:], alone[2]["layer4.1"], rtol=1e-3, atol=1e-5)
    assert cams["layer3.1"].shape == (2, 8, 8) and torch.equal(logits.argmax(1)[1:], alone[0].argmax(1))


@pytest.mark.parametrize(
    "axes, role, over, shape, expected",
    [
        ("b 1 h w", "gate", "", (1, 3, 4), (2, 3, 4)),
        ("b c h w", "gate", "", (5, 3, 4), (2, 3, 4)),
        ("b head q h w", "share", "h w", (2, 12, 3, 4), (2, 3, 4)),
        ("b k h w", "share", "k", (5, 3, 4), None),  # the same sum everywhere
        ("b c 1 1", "gate", "", (5, 1, 1), None),
        ("b c h 1", "gate", "", (5, 3, 1), None),
        ("b q k", "share", "k", (12, 3), None),
    ],
)
def test_which_tensors_are_maps(axes, role, over, shape, expected):
    t = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    found = maps.spatial_map(Attention("it", axes, role, over, (0, 1), shape), t)
    assert (None if found is None else tuple(found.shape)) == expected
    if expected:
        torch.testing.assert_close(found.mean((1, 2)), t.flatten(1).mean(1))


def test_an_order_of_pixels():
    drawn = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(0))
    ranks = maps.order_of(drawn, 0)
    for one, rank in zip(drawn, ranks):
        assert spearmanr(one.flatten(), rank.flatten()).statistic == pytest.approx(1)
    flat = maps.order_of(torch.zeros(2, 4, 4), 0)
    assert len(set(flat[0].flatten().tolist())) == 1024 and torch.equal(
        flat, maps.order_of(torch.zeros(2, 4, 4), 0)
    )
    rows = torch.arange(32.0)[:, None].expand(32, 32).flatten()
    assert abs(spearmanr(rows, flat[0].flatten()).statistic) < 0.15  # ties fall by lot


def test_rank_correlation_is_spearmans():
    one = torch.randint(0, 4, (3, 2, 5, 5), generator=torch.Generator().manual_seed(0)).float()  # with ties
    other = one + torch.rand(one.shape, generator=torch.Generator().manual_seed(1)) * 3
    found = maps.rank_correlation(one, other)
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(one, other)]
    np.testing.assert_allclose(found, expected)
    assert np.isnan(maps.rank_correlation(one, torch.ones_like(one))).all()
    assert maps.summary(np.array([np.nan])) is None


def test_a_summary_is_the_mean_and_its_interval():
    found = maps.summary(np.array([1.0, 2.0, 3.0, np.nan]))
    assert found["mean"] == 2 and found["images"] == 3
    assert found["high"] - 2 == pytest.approx(1.96 / 3**0.5, abs=1e-3) == 2 - found["low"]


def test_few_pictures_do_not_stand_for_all():
    """Most maps of a block may be flat: the few others are no sample of the pictures."""
    flat = [np.nan] * 3
    assert maps.summary(np.array([0.1, 0.2, 0.3, *flat]))["images"] == 3
    assert maps.summary(np.array([0.1, 0.2, *flat])) is maps.summary(np.array([])) is None


@pytest.mark.slow
def test_a_network_that_learned_nothing_is_its_own_twin():
    images = pixels(4)
    fresh = start_of("cbam", normalise(images), seed=3)
    found = maps.compare_maps("cbam", fresh, attention_of(fresh), images, seed=3)
    # Before training, the spatial gates are one half everywhere, and have no order.
    assert set(found["twin"]) == {path for path in attention_of(fresh) if path.endswith("channel_gate")}
    assert all(value["mean"] == pytest.approx(1) for value in found["twin"].values())
    other = maps.compare_maps("cbam", randomised("cbam"), attention_of(fresh), images, seed=3)
    assert all(value["mean"] < 0.9 for value in other["twin"].values())
    assert set(other["agreement"]) == {path for path in attention_of(fresh) if path.endswith("spatial_gate")}
