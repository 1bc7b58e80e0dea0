"""Context, strips, fusion and the heads over stages: fixtures, theorems, and each against its equations.

The fixtures are the sums and corners of outputs that the authors' code, or the library named, gave for a
module and an input filled by the rules of `fill` and `wave`.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import pictures, randomise
from rows.context import ROWS
from torch import nn
from torchvision.models.segmentation.deeplabv3 import ASPP

import models
from models.catalogue import Site
from models.modules.aspp import AtrousPyramid
from models.modules.border_align import BorderAlign
from models.modules.feature_tools import FeatureTools
from models.modules.fpt import Attention, FeaturePyramidTransformer, Rendering
from models.modules.psp import PyramidPooling
from models.modules.rfb import ReceptiveFieldBlock
from models.modules.seb import SemanticEmbeddingBranch
from models.modules.spp import SpatialPyramidPooling
from models.modules.ssh_context import SSHContext
from models.modules.strip_pooling import MixedPooling, StripPooling
from models.modules.weighted_fusion import WeightedFusion
from models.recording import recording
from tests import forms
from tests.forms import agree, filled, randomised, run, wave

IDS = [*ROWS, "feature_tools", "border_align"]
features = partial(forms.features, channels=16)

every = pytest.mark.parametrize("name", IDS)


# All of a kind: small modules at the entry's first site, with what they are called with.


def stages(batch: int, width: int = 64) -> list[torch.Tensor]:
    """Outputs of four stages, the last (batch, width, 3, 4)."""
    return [
        features(channels=width >> (3 - i), size=(3 << (3 - i), 4 << (3 - i)), batch=batch, seed=i).float()
        for i in range(4)
    ]


def small(name: str, batch: int = 3) -> tuple[nn.Module, tuple]:
    """An entry's module for 64 channels, randomised, and inputs that fit."""
    entry = models.CATALOGUE[name]
    stage = int(entry.sites[0].removeprefix("layer").removeprefix("stage")[0]) if entry.sites else 4
    module = randomise(entry.build(Site(64, 64, 8, 1, stage)))
    x = features(channels=64, batch=batch).float()
    if name == "border_align":
        corner = torch.tensor([[0.5, 0.0, 4.0, 3.5], [1.0, 2.0, 6.0, 2.5]])
        return module, (x, corner.expand(batch, 2, 4))
    if name == "feature_tools":
        return module, ([x, features(channels=8, batch=batch, seed=1).float()],)
    if entry.slot == "head":
        return module, (stages(batch),)
    if entry.slot == "fuse":
        return module, (x, features(channels=64, batch=batch, seed=1).float())
    return module, (x,)


@every
def test_the_gradient_reaches_every_parameter_and_record(name):
    module, inputs = small(name, batch=4)
    last = inputs[-1][-1] if isinstance(inputs[-1], list) else inputs[-1]
    last.requires_grad_()
    with recording(module.train()) as records:
        y = module(*inputs)
    wanted = {"the last input": last, **dict(module.named_parameters())}
    wanted |= {path: entry.tensor for path, entry in records.items() if not entry.static}
    loss = (y * torch.linspace(-1, 1, y.numel()).sin().view_as(y)).sum()
    gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    for path, gradient in zip(wanted, gradients):
        assert gradient is not None and gradient.isfinite().all(), path
        assert gradient.abs().max() > 0, path


@every
def test_a_recorded_forward_gives_the_same_output(name):
    module, inputs = small(name)
    with torch.inference_mode():
        expected = module(*inputs)
        with recording(module):
            recorded = module(*inputs)
    assert (recorded - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()


@every
def test_a_picture_does_not_depend_on_its_batch(name):
    module, inputs = small(name)
    alone = [[x[1:2] for x in given] if isinstance(given, list) else given[1:2] for given in inputs]
    with torch.inference_mode():
        expected, y = module(*inputs)[1:2], module(*alone)
    assert (y - expected).abs().max() <= 1e-4 * expected.abs().max()


# Numeric fixtures: outputs on a fixed wave, computed once with independent code.


def fused_by_given_weights() -> torch.Tensor:
    module, x = WeightedFusion(3).double(), wave(2, 16, 8, 8)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([1.5, -0.3, 0.7], dtype=torch.float64))
    return module(x, 2 * x, x**2)


BOXES = torch.tensor([[[0, 0, 5, 5], [1, 2, 4, 3.5], [0.5, 0.5, 2.25, 4.75]]], dtype=torch.float64)
MAPS = (2, 16, 8, 8)
FIXTURES = {
    "strip_pooling": (
        lambda: filled(StripPooling(16))(wave(*MAPS)),
        MAPS,
        (0.708736, 0.319528, 0, -0.405483),
    ),
    "mixed_pooling": (
        lambda: filled(MixedPooling(16))(wave(*MAPS)),
        MAPS,
        (690.170004, 0.336997, 0.214232, 0),
    ),
    "rfb": (
        lambda: filled(ReceptiveFieldBlock(32))(wave(2, 32, 8, 8)),
        (2, 32, 8, 8),
        (204.287824, 0.049875, 0.090828, 0.242293),
    ),
    "ssh_context": (
        lambda: filled(SSHContext(16))(wave(*MAPS)),
        MAPS,
        (351.112673, 0.171442, 0.150959, 0),
    ),
    "psp": (
        lambda: filled(PyramidPooling(16)).pyramid(wave(*MAPS)),
        (2, 32, 8, 8),
        (78.257651, 0.336783, 0, 0),
    ),
    "aspp": (
        lambda: filled(AtrousPyramid(16))(wave(*MAPS)),
        MAPS,
        (80.865927, 0.039485, 0.055794, 0.038842),
    ),
    "seb": (
        lambda: filled(SemanticEmbeddingBranch(16, 24)).fuse(wave(*MAPS), wave(2, 24, 4, 4)),
        MAPS,
        (-2.373340, 0.072085, 0, -0.002012),
    ),
    "weighted_fusion": (fused_by_given_weights, MAPS, (329.084347, 0.434842, 0, -0.350277)),
    "spp": (
        lambda: SpatialPyramidPooling(16)([wave(*MAPS)]),
        (2, 336),
        (290.737625, 0.689539, 0.999526, -0.854543),
    ),
    "border_align": (
        lambda: BorderAlign(4)(wave(1, 8, 6, 6), BOXES),
        (1, 2, 3, 4),
        (5.756689, 0.664487, 0.522687, -0.021870),
    ),
}


@pytest.mark.parametrize("name", FIXTURES)
def test_fixture(name):
    make, shape, expected = FIXTURES[name]
    with torch.no_grad():
        y = make()
    assert y.shape == shape
    flat = y.flatten()
    found = torch.stack([flat.sum(), flat.abs().mean(), flat[0], flat[-1]])
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


# ASPP.


def test_aspp_is_torchvisions():
    ours, x = randomised(AtrousPyramid(16)), features()
    theirs = ASPP(16, [1, 2, 4], 16).double().eval()
    theirs.load_state_dict(ours.state_dict())
    y, records = run(ours, x)
    agree(y, theirs(x))
    views = records["views"]
    assert views.shape == (3, 5, 16, 5, 7) and views.min() >= 0
    agree(views[:, 4], views[:, 4, :, :1, :1].expand(3, 16, 5, 7))  # one glance at the whole map


def test_aspp_has_no_dropout_unless_asked():
    assert AtrousPyramid(16).project[-1].p == 0
    assert AtrousPyramid(16, dropout=0.5).project[-1].p == 0.5


def reach(module: nn.Module, cells: int) -> set[tuple[int, int]]:
    """Offsets at which an impulse in the middle of an empty map of `cells` cells a side is felt."""
    x = torch.zeros(1, next(module.parameters()).shape[1], cells, cells, dtype=torch.float64)
    impulse = x.clone()
    middle = cells // 2
    impulse[:, :, middle, middle] = 1
    with torch.no_grad():
        felt = (module(impulse) - module(x)).abs().amax((0, 1)) > 1e-12
    return {(int(i) - middle, int(j) - middle) for i, j in felt.nonzero()}


def square(radius: int, step: int = 1) -> set[tuple[int, int]]:
    steps = range(-radius, radius + 1, step)
    return {(i, j) for i in steps for j in steps}


def test_aspp_reaches_as_far_as_its_rates():
    module = randomised(AtrousPyramid(16))
    found = [reach(conv[0], 11) for conv in module.convs[:4]]
    assert found == [{(0, 0)}, square(1), square(2, 2), square(4, 4)]


# PSP.


def test_psp_equals_its_formula():
    module, x = randomised(PyramidPooling(16)), features()
    y, records = run(module, x)
    summaries = [x]
    for n, branch in zip((1, 2, 3, 6), module.branches):
        fields = torch.empty(3, 16, n, n, dtype=torch.float64)
        for i in range(n):  # a field reaches from the cell that holds its first edge to that of its last
            top, bottom = i * 5 // n, -(-(i + 1) * 5 // n)
            for j in range(n):
                left, right = j * 7 // n, -(-(j + 1) * 7 // n)
                fields[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
        agree(records[f"grid_{n}"], fields.flatten(2))
        conv, bn, _ = branch
        small = torch.relu(bn(torch.einsum("bchw,dc->bdhw", fields, conv.weight[:, :, 0, 0])))
        large = torch.empty(3, 4, 5, 7, dtype=torch.float64)
        for i in range(5):
            for j in range(7):
                large[:, :, i, j] = bilinear(small, i * (n - 1) / 4, j * (n - 1) / 6)
        summaries.append(large)
    agree(y, module.fuse(torch.cat(summaries, 1)))


def bilinear(x: torch.Tensor, row: float, column: float) -> torch.Tensor:
    """The map (B, C, H, W) between its cells: (B, C)."""
    height, width = x.shape[2:]
    i, j = min(int(row), max(height - 2, 0)), min(int(column), max(width - 2, 0))
    below, right = min(i + 1, height - 1), min(j + 1, width - 1)
    s, t = row - i, column - j
    upper = (1 - t) * x[:, :, i, j] + t * x[:, :, i, right]
    lower = (1 - t) * x[:, :, below, j] + t * x[:, :, below, right]
    return (1 - s) * upper + s * lower


# RFB.


def test_rfb_equals_its_formula():
    module, x = randomised(ReceptiveFieldBlock(16, scale=0.3)), features()
    y, records = run(module, x)
    merged = module.merge(torch.cat([branch(x) for branch in module.branches], 1))
    agree(records["residual"], 0.3 * merged)
    agree(records["shortcut"], module.shortcut(x))
    agree(y, torch.relu(0.3 * merged + module.shortcut(x)))
    assert records["views"].shape == (3, 3, 4, 5, 7) and records["views"].min() < 0


@pytest.mark.parametrize("visual", [1, 2])
def test_rfb_branches_look_ever_further(visual):
    module = randomised(ReceptiveFieldBlock(32, visual=visual))
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.forward = lambda x: x  # so that nothing is cut off by chance
    near, middle, far = (reach(branch, 19) for branch in module.branches)
    assert near == square(visual, visual)
    assert middle == {(i + a, j + b) for i, j in square(visual + 1, visual + 1) for a, b in square(1)}
    outer = 2 * visual + 1
    assert far == {(i + a, j + b) for i, j in square(outer, outer) for a, b in square(2)}


def test_rfb_takes_the_authors_settings():
    norms = [part for part in ReceptiveFieldBlock(64).modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 11 and {norm.momentum for norm in norms} == {0.01}
    assert ReceptiveFieldBlock(64).scale == 0.1


# SEB.


def test_seb_with_a_centred_kernel_multiplies_by_a_constant():
    module = SemanticEmbeddingBranch(4, 4).double().eval()
    nn.init.dirac_(module.embed.weight)
    nn.init.zeros_(module.embed.bias)
    low = features(channels=4, size=(6, 10), batch=2)
    high = torch.tensor([-2.0, 0.0, 0.5, 3.0], dtype=torch.float64).view(1, 4, 1, 1).expand(2, 4, 3, 5)
    with torch.no_grad():
        agree(module.fuse(low, high), low * high[:, :, :1, :1])


def test_seb_equals_its_formula():
    module = randomised(SemanticEmbeddingBranch(8, 16))
    low, high = features(channels=8, size=(6, 10)), features(size=(3, 5), seed=1)
    y, records = run(module, [low, high])
    embedded = F.conv2d(high, module.embed.weight, module.embed.bias, padding=1)
    mask = torch.empty_like(low)
    for i in range(6):
        for j in range(10):
            mask[:, :, i, j] = bilinear(embedded, i * 2 / 5, j * 4 / 9)
    agree(records["mask"], mask)
    assert mask.min() < 0 and mask.max() > 0  # not a gate
    agree(y, torch.cat([high.mean((2, 3)), (low * mask).mean((2, 3))], 1))


# SSH.


def test_ssh_views_are_5x5_and_7x7():
    module = randomised(SSHContext(16))
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.forward = lambda x: x
    assert reach(nn.Sequential(module.stem, module.medium), 11) == square(2)
    assert reach(nn.Sequential(module.stem, module.wide), 11) == square(3)


def test_ssh_equals_its_formula():
    module, x = randomised(SSHContext(16)), features()
    y, records = run(module, x)

    def layer(part: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        conv, bn, _ = part
        x = F.conv2d(x, conv.weight, conv.bias, padding=1)
        mean, var, weight, bias = (
            t[:, None, None] for t in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
        )
        return (weight * (x - mean) / (var + 1e-5).sqrt() + bias).clamp(min=0)

    shared = layer(module.stem, x)
    medium = layer(module.medium, shared)
    wide = layer(module.wide[1], layer(module.wide[0], shared))
    agree(y, torch.cat([medium, wide], 1))
    agree(records["views"], torch.stack([medium, wide], 1))


# Feature tools.


def test_feature_tools_equal_their_formula_in_loops():
    maps = [
        features(channels=3, batch=2),
        features(channels=4, batch=2, seed=1),
        features(channels=2, batch=2, seed=2),
    ]
    gram, records = run(FeatureTools((2, 0)), maps)
    stacked = torch.cat([maps[2], maps[0]], 1)
    for picture in range(2):
        for c in range(5):
            for d in range(5):
                agree(gram[picture, c, d], (stacked[picture, c] * stacked[picture, d]).sum() / (5 * 5 * 7))
    agree(records["gram"], gram)
    assert FeatureTools()(maps).shape == (2, 9, 9)
    assert torch.linalg.eigvalsh(gram).min() > -1e-12


def test_feature_tools_forget_where_and_take_any_memory_layout():
    x = features()
    shuffled = x.flatten(2)[:, :, torch.randperm(35)].view_as(x)
    gram = FeatureTools()([x])
    agree(FeatureTools()([shuffled]), gram)
    agree(FeatureTools()([x.to(memory_format=torch.channels_last)]), gram)


# Weighted fusion.


def test_weighted_fusion_equals_its_formula():
    module = randomised(WeightedFusion(3))
    maps = [features(seed=seed) for seed in range(3)]
    y, records = run(module, *maps)
    w = [max(w, 0) for w in module.weight.tolist()]
    shares = [one / (1e-4 + sum(w)) for one in w]
    agree(records["weights"], torch.tensor(shares, dtype=torch.float64))
    agree(y, shares[0] * maps[0] + shares[1] * maps[1] + shares[2] * maps[2])
    assert 0.999 < sum(shares) < 1


def test_weighted_fusion_starts_with_the_average():
    x, residual = features(), features(seed=1)
    with torch.no_grad():
        y = WeightedFusion().double()(x, residual)
    torch.testing.assert_close(y, (x + residual) / 2, rtol=1e-4, atol=1e-4)


def test_weighted_fusion_closes_a_path_for_good():
    module = WeightedFusion().double()
    with torch.no_grad():
        module.weight[1] = -0.2
    y = module(features(), features(seed=1))
    torch.testing.assert_close(y, features(), rtol=1e-3, atol=1e-3)
    y.square().sum().backward()
    assert module.weight.grad[1] == 0 and module.weight.grad[0] != 0


def test_weighted_fusion_shares_are_the_shortcut_first():
    network = randomise(models.build("weighted_fusion"))
    with torch.no_grad(), recording(network) as records:
        network.get_submodule("layer3.1.fuse").weight.copy_(torch.tensor([1e6, 0.0]))  # epsilon is lost
        network(pictures(2))
    assert torch.equal(records["layer3.1.output"].tensor, records["layer3.0.output"].tensor)


# Strip pooling and mixed pooling.


def test_strip_pooling_equals_its_formula():
    module, x = randomised(StripPooling(16)), features()
    y, records = run(module, x)
    (down, bn_down), (along, bn_along) = module.vertical, module.horizontal
    strip = F.pad(x.mean(3), (1, 1))  # (B, C, H + 2)
    rows = sum(torch.einsum("bch,dc->bdh", strip[:, :, k : k + 5], down.weight[:, :, k, 0]) for k in range(3))
    strip = F.pad(x.mean(2), (1, 1))
    columns = sum(
        torch.einsum("bcw,dc->bdw", strip[:, :, k : k + 7], along.weight[:, :, 0, k]) for k in range(3)
    )
    rows, columns = bn_down(rows[..., None]), bn_along(columns[:, :, None])
    agree(records["rows"], rows)
    agree(records["columns"], columns)
    both = torch.relu(rows.expand_as(x) + columns.expand_as(x))
    gate = torch.sigmoid(F.conv2d(both, module.conv.weight, module.conv.bias))
    agree(records["gate"], gate)
    agree(y, x * gate)
    assert gate.min() > 0 and gate.max() < 1 and gate.std() > 0.01


def test_strip_pooling_sees_the_means_of_rows_and_columns_alone():
    module, x = randomised(StripPooling(16)), features()
    moved = x.clone()
    moved[:, :, 1, 2] += 1
    moved[:, :, 1, 5] -= 1
    moved[:, :, 3, 2] -= 1
    moved[:, :, 3, 5] += 1  # all four corners of a rectangle: every row and column keeps its mean
    agree(run(module, moved)[1]["gate"], run(module, x)[1]["gate"])


def test_mixed_pooling_equals_its_formula():
    module, x = randomised(MixedPooling(16)), features()
    y, records = run(module, x)
    short, long = module.reduce_short(x), module.reduce_long(x)
    views = [module.local(short)]
    views += [enlarge(grid(F.adaptive_avg_pool2d(short, n))) for n, grid in zip((3, 2), module.grids)]
    columns, rows = module.horizontal(long.mean(2, keepdim=True)), module.vertical(long.mean(3, keepdim=True))
    views += [columns.expand(-1, -1, 5, -1), rows.expand(-1, -1, -1, 7)]
    agree(records["views"], torch.stack(views, 1))
    a = module.merge_short(torch.relu(views[0] + views[1] + views[2]))
    b = module.merge_long(torch.relu(views[3] + views[4]))
    agree(y, torch.relu(x + module.project(torch.cat([a, b], 1))))
    assert records["views"].min() < 0


def enlarge(x: torch.Tensor, height: int = 5, width: int = 7) -> torch.Tensor:
    """(B, C, n, n) -> (B, C, height, width), bilinear, with the corners in place."""
    n = x.shape[2]
    rows = [
        torch.stack(
            [bilinear(x, i * (n - 1) / (height - 1), j * (n - 1) / (width - 1)) for j in range(width)], 2
        )
        for i in range(height)
    ]
    return torch.stack(rows, 2)


# BorderAlign.


def test_border_align_equals_its_formula_in_loops():
    x, (height, width) = features(channels=12, batch=2), (5, 7)
    corners = torch.rand(2, 6, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    corners = corners.sort(2).values * torch.tensor([width - 1, height - 1])
    boxes = corners.flatten(2)  # x1, y1, x2, y2
    y, _ = run(BorderAlign(3), x, boxes)
    assert y.shape == (2, 3, 6, 4)
    for picture in range(2):
        one = x[picture : picture + 1].unflatten(1, (4, 3))
        for n in range(6):
            x1, y1, x2, y2 = boxes[picture, n].tolist()
            for side in range(4):
                values = []
                for i in range(4):
                    u, v = x1 + (x2 - x1) * i / 3, y1 + (y2 - y1) * i / 3
                    place = ((y1, u), (v, x1), (y2, u), (v, x2))[side]
                    values.append(bilinear(one[:, side], *place)[0])
                agree(y[picture, :, n, side], torch.stack(values).amax(0))


def test_border_align_of_the_sheet():
    """Channel 0 of the fixture; rows are boxes, columns top, left, bottom, right."""
    expected = [
        [0.522687, 0.997822, 0.744939, 0.956262],
        [0.998195, 0.074708, -0.242803, 0.928380],
        [0.515872, 0.850154, 0.353421, 0.921124],
    ]
    y = BorderAlign(4)(wave(1, 8, 6, 6), BOXES)[0, 0]
    torch.testing.assert_close(y, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_border_align_reads_the_nearest_cell_outside_the_map():
    x = features(channels=4, batch=1)
    boxes = torch.tensor([[[-3.0, -2.0, 9.0, 8.0]]], dtype=torch.float64)
    values = BorderAlign(2).sample(x, boxes)[0, :, 0]  # (C, 4, 3)
    agree(values[0, 0], x[0, 0, 0, [0, 3, 6]])  # the upper edge: its corners and its middle
    agree(values[0, 3], x[0, 3, [0, 3, 4], 6])  # the right edge, whose middle is at y = 3


# SPP.


@pytest.mark.parametrize("levels", [(1, 2, 4), (1, 2, 3, 6)])
def test_spp_is_adaptive_max_pooling(levels):
    module, x = SpatialPyramidPooling(16, levels), features()
    y, records = run(module, [x])
    agree(y, torch.cat([nn.AdaptiveMaxPool2d(n)(x).flatten(1) for n in levels], 1))
    assert y.shape == (3, module.channels_out) == (3, 16 * sum(n * n for n in levels))
    agree(records["grid_1"][:, :, 0], x.amax((2, 3)))
    assert module([features(size=(9, 4), batch=2)]).shape == (2, module.channels_out)  # any size of map


# FPT.


@pytest.fixture
def fpt() -> FeaturePyramidTransformer:
    return randomised(FeaturePyramidTransformer((8, 16, 32), width=16))


def pyramid() -> list[torch.Tensor]:
    return [
        features(channels=8, size=(12, 20), batch=2),
        features(size=(6, 10), batch=2, seed=1),
        features(channels=32, size=(3, 5), batch=2, seed=2),
    ]


@pytest.mark.parametrize("grounding", [False, True])
def test_fpt_attention_equals_its_formula_in_loops(grounding):
    module = randomised(Attention(16, 2, grounding))
    x, other = features(size=(3, 4), batch=2), features(size=(2, 5), batch=2, seed=1)
    if not grounding:
        other = x
    y, records = run(module, x, other)
    query, key, value = (
        conv(source).flatten(2)
        for conv, source in zip((module.query, module.key, module.value), (x, other, other))
    )  # (B, 8, N)
    gathered = torch.zeros(2, 8, 12, dtype=torch.float64)
    for picture in range(2):
        shares = (module.mix.weight @ key[picture].mean(1)).softmax(0)
        agree(records["weights"][picture], shares)
        for i in range(12):
            row = torch.zeros(key.shape[2], dtype=torch.float64)
            for n, part in enumerate((slice(0, 4), slice(4, 8))):
                q, k = query[picture, part, i], key[picture, part]
                scores = -((q[:, None] - k) ** 2).sum(0) if grounding else (q[:, None] * k).sum(0) / 2
                row += shares[n] * scores.softmax(0)
            agree(records["affinity"][picture, i].flatten(), row)
            gathered[picture, :, i] = value[picture] @ row
    agree(y, module.bn(module.project(gathered.view(2, 8, 3, 4))))


def test_fpt_affinities_and_shares_sum_to_one(fpt):
    _, records = run(fpt, pyramid())
    for path, record in records.items():
        if path.endswith("affinity"):
            assert record.min() >= 0 and (record.flatten(2).sum(1) - 1).abs().max() > 0.01
            agree(record.flatten(2).sum(2), torch.ones(record.shape[:2], dtype=torch.float64))
        if path.endswith("weights"):
            agree(record.sum(1), torch.ones(2, dtype=torch.float64))
    assert records["own.2.affinity"].shape == (2, 240, 12, 20)
    assert records["grounding.2_4.affinity"].shape == (2, 240, 15)


def test_fpt_grounding_does_not_care_where_the_coarse_cells_are():
    module = randomised(Attention(16, 2, grounding=True))
    x, coarse = features(size=(4, 6), batch=2), features(size=(2, 3), batch=2, seed=1)
    shuffled = coarse.flatten(2)[:, :, torch.tensor([3, 0, 5, 1, 4, 2])].view_as(coarse)
    agree(module(x, shuffled), module(x, coarse))
    assert not torch.allclose(module(x, coarse + features(size=(2, 3), batch=2, seed=2)), module(x, coarse))


def test_fpt_rendering_equals_its_formula_and_sees_where():
    module = randomised(Rendering(16, 4))
    x, finer = features(size=(3, 5), batch=2), features(size=(12, 20), batch=2, seed=1)
    y, records = run(module, x, finer)
    gate = torch.relu(module.squeeze(finer.mean((2, 3), keepdim=True)))
    agree(records["gate"], gate)
    agree(y, torch.relu(module.same(x) * gate + module.shrink(finer)))
    assert module.shrink[0].stride == (4, 4) and y.shape == x.shape
    shuffled = finer.flatten(2)[:, :, torch.randperm(240)].view_as(finer)
    assert not torch.allclose(module(x, shuffled), y)  # the known mistake: only its average counts


def test_fpt_equals_its_formula(fpt):
    x = pyramid()
    y, _ = run(fpt, x)
    p2, p3, p4 = (lateral(one) for lateral, one in zip(fpt.lateral, x))
    own, ground, render = fpt.own, fpt.grounding, fpt.rendering
    views = [
        [p2, p2 + own["2"](p2, p2), ground["2_3"](p2, p3), ground["2_4"](p2, p4)],
        [p3, p3 + own["3"](p3, p3), render["3_2"](p3, p2), ground["3_4"](p3, p4)],
        [p4, p4 + own["4"](p4, p4), render["4_2"](p4, p2), render["4_3"](p4, p3)],
    ]
    agree(y, torch.cat([merge(torch.cat(v, 1)).mean((2, 3)) for merge, v in zip(fpt.merge, views)], 1))
    assert y.shape == (2, fpt.channels_out) == (2, 48)


def test_fpt_attention_starts_switched_off():
    found = [part for part in models.build("fpt").modules() if type(part) is Attention]
    assert len(found) == 6
    for module in found:
        x = torch.randn(2, 64, 3, 4)
        assert not module.bn.weight.any() and not module(x, x).any()
        assert randomise(module)(x, x).any()
