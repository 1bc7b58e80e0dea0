"""The spatial and pairwise mechanisms: their formulas in slow loops, as theorems, and against libraries.

As in test_mechanisms.py every module is randomised first, sees a batch of maps that are not square, in
float64, and must change its input.
"""

import json
import math
from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as transforms
from conftest import randomise
from rows.spatial import ROWS
from torch import nn

import models
from models.attention.a2_net import DoubleAttention
from models.attention.asymmetric_non_local import AsymmetricFusionNonLocal, AsymmetricPyramidNonLocal
from models.attention.ccnet import CrissCrossAttention
from models.attention.efficient_attention import EfficientAttention
from models.attention.generalized_attention import GeneralizedAttention
from models.attention.iau import InteractionAggregationUpdate
from models.attention.light_nl import LightNonLocal
from models.attention.non_local import NonLocalConcatenation, NonLocalDotProduct, NonLocalGaussian
from models.attention.ocr import ObjectContext
from models.attention.rnan import ResidualNonLocalAttention
from models.attention.san import PairwiseSAN, PatchwiseSAN
from models.attention.stn import SpatialTransformer
from models.catalogue import Site
from models.losses import collecting_losses
from models.recording import recording
from models.train import run as train
from models.train.recipe import RECIPES, Recipe
from models.train.run import Run
from tests import forms
from tests.forms import WITHOUT_EFFECT, agree, is_about, randomised, run

CHANNELS, HEIGHT, WIDTH = 64, 5, 7
CELLS = HEIGHT * WIDTH
SIZE = (HEIGHT, WIDTH)

features = partial(forms.features, batch=2)


def tokens(x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, N, C)"""
    return x.flatten(2).transpose(1, 2)


def as_map(x: torch.Tensor, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """(B, N, C) -> (B, C, H, W)"""
    return x.transpose(1, 2).reshape(len(x), -1, *size)


def sums_to_one(weights: torch.Tensor, axes: int | tuple[int, ...]) -> None:
    assert weights.min() >= 0
    sums = weights.sum(axes)
    agree(sums, torch.ones_like(sums))


# Each of them.

# id -> how to make the inputs of its module at 64 channels
INPUTS = dict.fromkeys(ROWS, lambda seed, size: (features(seed, size=size),))
INPUTS["rnan"] = lambda seed, size: (features(seed, size=size), features(seed + 9, size=size))
INPUTS["afnb"] = lambda seed, size: (
    features(seed, size=size),
    features(seed + 9, CHANNELS // 2, (2 * size[0], 2 * size[1])),
)
INPUTS["stn"] = lambda seed, size: (features(seed, 3, (4 * size[0], 4 * size[1])),)
SITES = dict.fromkeys(ROWS, Site(CHANNELS, CHANNELS, 16, stage=2))
SITES["stn"] = Site(3, 3, 32)
NO_IDENTITY = ("apnb", "afnb", "ocr", "rnan")  # at the start

each = pytest.mark.parametrize("name", ROWS)


def built(name: str) -> nn.Module:
    return models.CATALOGUE[name].build(SITES[name])


@each
def test_axes_are_true(name):
    module, inputs = randomised(built(name)), INPUTS[name](0, (4, 6))
    _, values = run(module, *inputs)
    with torch.no_grad(), recording(module) as records:
        module(*inputs)
    for path, entry in records.items():
        letters, shape = entry.axes.split(), entry.tensor.shape
        assert len(letters) == len(shape), path
        sizes = dict(zip(letters, shape))
        assert [sizes[letter] for letter in letters] == list(shape), path
        assert entry.static == ("b" not in sizes), path
        assert sizes.get("b", 2) == 2 and sizes.get("c", CHANNELS) == CHANNELS, path
        if "h" in sizes:
            assert (sizes["h"], sizes["w"]) == inputs[0].shape[2:], path
        if "q" in sizes:
            assert sizes["q"] == 24, path
        assert values[path].std() > 0, path


@each
def test_one_picture_in_eval_is_as_good_as_two(name):
    module, inputs = randomised(built(name)), INPUTS[name](0, (4, 6))
    both, _ = run(module, *inputs)
    alone = module(*(part[1:] for part in inputs))
    agree(alone, both[1:])
    assert (both[0] - both[1]).abs().max() > 0.01


@each
def test_gradients_reach_every_parameter_and_record(name):
    module = randomise(built(name).double()).train()
    inputs = [part.requires_grad_() for part in INPUTS[name](0, (4, 6))]  # as from the layers before
    with collecting_losses() as losses, recording(module) as records:
        y = module(*inputs)
    loss = (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).sum()
    loss = loss + sum(extra(torch.tensor([1, 7])) for extra in losses)
    wanted = dict(module.named_parameters())
    wanted |= {path: entry.tensor for path, entry in records.items() if not entry.static}
    gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    for path, gradient in zip(wanted, gradients):
        assert gradient is not None and gradient.isfinite().all(), path
        if path not in WITHOUT_EFFECT.get(name, ()):
            assert gradient.abs().max() > 0, path


@each
def test_it_trains_in_half_precision_and_any_memory_format(name):
    module, inputs = randomise(built(name)).train(), INPUTS[name](0, (8, 8))
    inputs = tuple(part.float().contiguous(memory_format=torch.channels_last) for part in inputs)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(*inputs)
    y.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    for norm in (part for part in module.modules() if hasattr(part, "running_mean")):
        assert norm.running_mean.isfinite().all()
    module.eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        half = module(*inputs).float()
    with torch.no_grad():
        whole = module(*(part.contiguous() for part in inputs))
    tolerance = 0.2 if name == "stn" else 0.05  # noise changes within a hair's breadth
    assert (half - whole).norm() < tolerance * whole.norm()


@each
def test_it_works_on_the_small_maps_of_short_training(name):
    """The recipe for CPUs begins with pictures of 16 pixels: 8 and 4 cells after stage 2 and 3."""
    module = randomised(built(name))
    y, _ = run(module, *INPUTS[name](0, (4, 4)))
    assert y.isfinite().all()


@each
def test_what_it_changes_at_the_start(name):
    module = built(name).double().train()
    inputs = INPUTS[name](0, (8, 8))
    y = module(*inputs)
    if name in NO_IDENTITY:
        assert (y - inputs[0]).abs().max() > 0.01
    else:
        agree(y, inputs[0])  # stn: to rounding, for it reads every pixel at its own place


# Non-local, the three other modes.


def match_gaussian(module, x):
    scores = torch.einsum("bci,bcj->bij", x.flatten(2), x.flatten(2))
    return scores.exp() / scores.exp().sum(2, keepdim=True)


def match_dot_product(module, x):
    query, key = module.query(x).flatten(2), module.key(x).flatten(2)
    return torch.einsum("bci,bcj->bij", query, key) / key.shape[2]


def match_concatenation(module, x):
    query, key = tokens(module.query(x)), tokens(module.key(x))
    cells = query.shape[1]
    pairs = torch.cat(
        [query[:, :, None].expand(-1, -1, cells, -1), key[:, None].expand(-1, cells, -1, -1)], dim=-1
    )  # (B, N, N, 2C')
    return module.compare(pairs)[..., 0].relu() / cells


@pytest.mark.parametrize("size", [SIZE, (2, 3)])  # more cells than channels inside, and fewer
@pytest.mark.parametrize(
    "kind, match",
    [
        (NonLocalGaussian, match_gaussian),
        (NonLocalDotProduct, match_dot_product),
        (NonLocalConcatenation, match_concatenation),
    ],
)
def test_non_local_modes_equal_their_formulas(kind, match, size):
    module, x = randomised(kind(CHANNELS)), 0.3 * features(size=size)
    y, records = run(module, x)
    weights = match(module, x)
    agree(records["affinity"].flatten(2), weights)
    agree(y, x + module.bn(module.project(as_map(weights @ tokens(module.value(x)), size))))


def test_non_local_modes_have_their_ranges():
    x = 0.3 * features()
    affinity = {
        kind: run(randomised(kind(CHANNELS)), x)[1]["affinity"].flatten(2)
        for kind in (NonLocalGaussian, NonLocalDotProduct, NonLocalConcatenation)
    }
    sums_to_one(affinity[NonLocalGaussian], 2)
    assert affinity[NonLocalDotProduct].min() < 0 < affinity[NonLocalDotProduct].max()
    concatenation = affinity[NonLocalConcatenation]
    assert concatenation.min() == 0 < concatenation.max()
    assert (concatenation.sum(2) - 1).abs().min() > 1e-3
    # at full strength raw features match little but themselves
    _, records = run(randomised(NonLocalGaussian(CHANNELS)), features())
    assert records["affinity"].flatten(2).diagonal(dim1=1, dim2=2).mean() > 0.9


def test_non_local_modes_keep_the_parameters_of_the_paper():
    names = {name for name, _ in NonLocalGaussian(CHANNELS).named_parameters()}
    assert not any("query" in name or "key" in name for name in names)
    assert NonLocalConcatenation(CHANNELS).compare.weight.shape == (1, CHANNELS)


# Lightweight non-local.


@pytest.mark.parametrize("size", [SIZE, (9, 8)])  # explicit pairs are cheaper, and the summary
@pytest.mark.parametrize("stride", [1, 2])
def test_light_nl_equals_its_formula(stride, size):
    module, x = randomised(LightNonLocal(CHANNELS, stride=stride)), features(size=size)
    y, records = run(module, x)
    height, width = size
    gathered = torch.zeros_like(x)
    keys = [(row, column) for row in range(0, height, stride) for column in range(0, width, stride)]
    for row in range(height):
        for column in range(width):
            for index, (r, c) in enumerate(keys):
                match = (x[:, :16, row, column] * x[:, :16, r, c]).sum(1) / (height * width)
                agree(records["affinity"].flatten(2)[:, row * width + column, index], match)
                gathered[:, :, row, column] += match[:, None] * x[:, :, r, c]
    smoothed = F.conv2d(gathered, module.conv.weight, padding=1, groups=CHANNELS)
    agree(y, x + module.bn(smoothed))
    assert module.bn.eps == 1e-3 and module.bn.momentum == 0.01


def test_light_nl_agreement_is_symmetric():
    _, records = run(randomised(LightNonLocal(CHANNELS)), features())
    affinity = records["affinity"].flatten(2)
    agree(affinity, affinity.transpose(1, 2))


# Criss-cross attention.


def cross_mask() -> torch.Tensor:
    """Which pairs of cells share a row or a column: (N, N), boolean."""
    row, column = torch.arange(CELLS) // WIDTH, torch.arange(CELLS) % WIDTH
    return (row[:, None] == row) | (column[:, None] == column)


def scattered(cross: torch.Tensor) -> torch.Tensor:
    """(B, H, W, H + W) to a table of all pairs (B, N, N)."""
    table = torch.zeros(len(cross), HEIGHT, WIDTH, HEIGHT, WIDTH, dtype=cross.dtype)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            table[:, row, column, :, column] += cross[:, row, column, :HEIGHT]
            table[:, row, column, row, :] += cross[:, row, column, HEIGHT:]
    return table.view(-1, CELLS, CELLS)


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_ccnet_equals_attention_masked_to_the_cross(looks):
    module, x = randomised(CrissCrossAttention(CHANNELS, looks=looks)), features()
    y, records = run(module, x)
    expected = x
    for look in range(1, looks + 1):
        query, key, value = (tokens(conv(expected)) for conv in (module.query, module.key, module.value))
        scores = (query @ key.transpose(1, 2)).masked_fill(~cross_mask(), float("-inf"))
        agree(scattered(records[f"affinity_{look}"]), scores.softmax(2))
        gathered = F.scaled_dot_product_attention(query, key, value, attn_mask=cross_mask(), scale=1.0)
        expected = expected + module.gamma * as_map(gathered)
    agree(y, expected)
    assert len(records) == looks


def test_ccnet_counts_itself_once_and_reaches_everything_in_two_looks():
    _, records = run(randomised(CrissCrossAttention(CHANNELS)), features())
    first, second = records["affinity_1"], records["affinity_2"]
    for cross in (first, second):
        sums_to_one(cross, 3)
        for row in range(HEIGHT):
            assert not cross[:, row, :, row].any()  # itself, in the column
            assert cross[:, row, range(WIDTH), [HEIGHT + column for column in range(WIDTH)]].min() > 0
    reach = scattered(second) @ scattered(first)
    assert (scattered(first) == 0).any() and reach.min() > 0
    sums_to_one(reach, 2)


# Asymmetric non-local.


def regions(size: tuple[int, int], sizes: tuple[int, ...]) -> torch.Tensor:
    """What each summary is the average of: (S, N), rows sum to one. Bins as the paper's code counts them."""
    height, width = size
    rows = []
    for count in sizes:
        for row in range(count):
            for column in range(count):
                region = torch.zeros(height, width, dtype=torch.float64)
                region[
                    row * height // count : -(-(row + 1) * height // count),
                    column * width // count : -(-(column + 1) * width // count),
                ] = 1
                rows.append(region.flatten() / region.sum())
    return torch.stack(rows)


def test_the_regions_are_one_plus_nine_plus_and_so_on():
    assert regions((16, 16), (1, 3, 6, 8)).shape[0] == 110
    assert regions((8, 8), (1, 2, 4)).shape[0] == 21
    build = models.CATALOGUE["apnb"].build
    assert build(Site(128, 128, 16, stage=2)).sizes == (1, 3, 6, 8)
    assert build(Site(256, 256, 8, stage=3)).sizes == (1, 2, 4)
    afnb = models.CATALOGUE["afnb"].build(Site(256, 256, 8, stage=3))
    assert afnb.query[0].weight.shape[:2] == (64, 256) and afnb.key[0].weight.shape[:2] == (64, 128)


@pytest.mark.parametrize("name", ["apnb", "afnb"])
def test_asymmetric_non_local_equals_its_formula(name):
    x, low = features(), features(1, 32, (10, 13))
    sizes = (1, 3, 6, 8)
    if name == "apnb":
        module = randomised(AsymmetricPyramidNonLocal(CHANNELS))
        y, records = run(module, x)
        source, keys = x, module.query(x)
    else:
        module = randomised(AsymmetricFusionNonLocal(CHANNELS, 32))
        y, records = run(module, x, low)
        source, keys = low, module.key(low)
    bins = regions(source.shape[2:], sizes)
    query, value = tokens(module.query(x)), tokens(module.value(source))
    assert query.min() == 0  # after the ReLU
    affinity = (query @ (bins @ tokens(keys)).transpose(1, 2) / query.shape[2] ** 0.5).softmax(2)
    agree(records["affinity"], affinity)
    sums_to_one(affinity, 2)
    # attention to regions is attention to cells: A P(V) = (A M) V
    by_cell = affinity @ bins
    sums_to_one(by_cell, 2)
    context = module.project(as_map(by_cell @ value))
    conv, norm = module.fuse[:2]
    fused = norm(F.conv2d(torch.cat([context, x], 1), conv.weight, conv.bias))
    agree(y, fused.relu() if name == "apnb" else fused)
    assert fused.min() < 0


@pytest.mark.parametrize("name", ["apnb", "afnb"])
def test_asymmetric_non_local_starts_without_context(name):
    module = built(name).double().eval()
    high, *low = INPUTS[name](0, SIZE)
    _, *other = INPUTS[name](5, SIZE)
    if low:
        agree(module(high, *low), module(high, *other))
    assert not module.project.weight.any() and not module.project.bias.any()


# Double attention and efficient attention: the product of two thin tables.


def test_a2_net_equals_its_formula():
    module, x = randomised(DoubleAttention(CHANNELS)), features()
    y, records = run(module, x)
    gather, distribute = records["gather"].flatten(2), records["distribute"].flatten(2)
    sums_to_one(gather, 2)
    sums_to_one(distribute, 1)
    agree(gather, module.gather(x).flatten(2).softmax(2))
    agree(distribute, module.distribute(x).flatten(2).softmax(1))
    effective = distribute.transpose(1, 2) @ gather  # (B, N, N), the table that is never built
    sums_to_one(effective, 2)
    agree(y, x + module.bn(module.project(as_map(effective @ tokens(module.value(x))))))
    # board by board, cell by cell
    value = module.value(x).flatten(2)
    boards = [sum(value[:, :, i] * gather[:, n, i, None] for i in range(CELLS)) for n in range(16)]
    mixed = [sum(boards[n] * distribute[:, n, i, None] for n in range(16)) for i in range(CELLS)]
    agree(y, x + module.bn(module.project(torch.stack(mixed, 2).view(2, -1, *SIZE))))


@pytest.mark.parametrize("heads", [1, 4])
def test_efficient_attention_equals_the_explicit_product(heads):
    module, x = randomised(EfficientAttention(CHANNELS, heads=heads)), features()
    y, records = run(module, x)
    key, query, value = module.key(x).flatten(2), module.query(x).flatten(2), module.value(x).flatten(2)
    width = CHANNELS // 2 // heads
    gathered = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        templates, shares = key[:, part].softmax(2), query[:, part].softmax(1)
        agree(records["key_maps"].flatten(2)[:, part], templates)
        agree(records["query_weights"].flatten(2)[:, part], shares)
        table = shares.transpose(1, 2) @ templates  # (B, N, N)
        sums_to_one(table, 2)
        gathered.append(torch.einsum("bij,bcj->bci", table, value[:, part]))
    agree(y, x + module.project(torch.cat(gathered, 1).view(2, -1, *SIZE)))
    with pytest.raises(ValueError, match="3 heads"):
        EfficientAttention(CHANNELS, heads=3)


# Residual non-local attention.


def residual_block(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    hidden = F.conv2d(x, module.conv1.weight, module.conv1.bias, padding=1).relu()
    return x + F.conv2d(hidden, module.conv2.weight, module.conv2.bias, padding=1)


@pytest.mark.parametrize("size", [(4, 6), SIZE])
@pytest.mark.parametrize("non_local", [True, False])
def test_rnan_equals_its_formula(non_local, size):
    module = randomised(ResidualNonLocalAttention(CHANNELS, non_local=non_local))
    residual, x = features(size=size), features(1, size=size)
    y, records = run(module, residual, x)
    assert list(records) == ["non_local.affinity"] * non_local + ["mask"]
    near = module.enter(x)
    if non_local:
        part = module.non_local
        query, key, value = (tokens(conv(near)) for conv in (part.query, part.key, part.value))
        table = torch.einsum("bic,bjc->bij", query, key).softmax(2)
        agree(records["non_local.affinity"].flatten(2), table)
        near = near + part.project(as_map(table @ value, size))
    near = residual_block(module.before, near)
    far = F.conv2d(near, module.down.weight, module.down.bias, stride=2, padding=1)
    for block in module.below:
        far = residual_block(block, far)
    far = F.conv_transpose2d(far, module.up.weight, module.up.bias, stride=2, padding=2)
    if size == (4, 6):
        assert far.shape == near.shape
    mask = module.leave(residual_block(module.after, near + far[:, :, : size[0], : size[1]])).sigmoid()
    agree(records["mask"], mask)
    assert mask.std() > 0.01
    agree(y, residual * mask)


# Self-attention networks.


def neighbour(i: int, offset: int, length: int) -> int:
    """The place `offset` from i, reflected at both ends."""
    place = abs(i + offset)
    return place if place < length else 2 * (length - 1) - place


def footprint(row: int, column: int, size: tuple[int, int] = SIZE) -> list[tuple[int, int]]:
    reach = range(-3, 4)
    return [(neighbour(row, r, size[0]), neighbour(column, c, size[1])) for r in reach for c in reach]


@pytest.mark.parametrize("kind", [PairwiseSAN, PatchwiseSAN])
def test_san_equals_its_formula_in_loops(kind):
    module, x = randomised(kind(CHANNELS)), features()
    y, records = run(module, x)
    weights = records["weights"]  # (B, 2, 49, H, W)
    seen = module.bn(x).relu()
    query, key, value = module.query(seen), module.key(seen), module.value(seen)
    if kind is PairwiseSAN:
        grid = torch.stack(
            [
                torch.linspace(-1, 1, WIDTH, dtype=torch.float64).expand(SIZE),
                torch.linspace(-1, 1, HEIGHT, dtype=torch.float64)[:, None].expand(SIZE),
            ]
        )
        place = module.place(grid[None])[0]
    mixed = torch.zeros_like(value)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            around = footprint(row, column)
            if kind is PairwiseSAN:
                deltas = [
                    torch.cat(
                        [
                            query[:, :, row, column] - key[:, :, r, c],
                            (place[:, row, column] - place[:, r, c]).expand(2, -1),
                        ],
                        dim=1,
                    )
                    for r, c in around
                ]
                scores = torch.stack(
                    [module.compare(delta[:, :, None, None])[:, :, 0, 0] for delta in deltas], 2
                )
                alpha = scores.softmax(2)  # (B, 2, 49)
            else:
                patch = torch.stack([key[:, :, r, c] for r, c in around], 2).flatten(1)
                delta = torch.cat([query[:, :, row, column], patch], 1)[:, :, None, None]
                alpha = module.compare(delta).view(2, 2, 49)
            agree(weights[..., row, column], alpha)
            values = torch.stack([value[:, :, r, c] for r, c in around], 2)  # (B, channels, 49)
            shares = weights[:, torch.arange(value.shape[1]) % 2, :, row, column]
            mixed[:, :, row, column] = (shares * values).sum(2)
    agree(y, x + module.project(module.inner_bn(mixed).relu()))
    if kind is PairwiseSAN:
        sums_to_one(weights, 2)
    else:
        assert weights.min() < 0 < weights.max()


def test_san_footprints_fold_back_at_the_border():
    assert len(footprint(0, 0)) == 49 and len(set(footprint(0, 0))) == 16
    numbers = torch.arange(CELLS, dtype=torch.float64).view(1, 1, *SIZE)
    around = randomised(PairwiseSAN(CHANNELS)).neighbours(numbers)[0, 0]  # (49, N)
    for cell in range(CELLS):
        expected = [r * WIDTH + c for r, c in footprint(cell // WIDTH, cell % WIDTH)]
        assert around[:, cell].tolist() == expected


def test_san_has_groups_of_eight_channels():
    for kind in (PairwiseSAN, PatchwiseSAN):
        assert [kind(channels).groups for channels in (128, 256)] == [4, 8]
    parameters = [sum(p.numel() for p in PairwiseSAN(128, k).parameters()) for k in (3, 7)]
    assert parameters == [10_894, 10_894]


# Generalized attention.


@pytest.mark.parametrize("stride", [1, 2])
def test_generalized_attention_equals_its_formula_in_loops(stride):
    channels, heads, size = 16, 2, (3, 5)
    width = channels // heads
    module, x = (
        randomised(GeneralizedAttention(channels, heads, stride)),
        features(channels=channels, size=size),
    )
    y, records = run(module, x)
    asked = x[:, :, ::stride, ::stride]
    query, key, value = (
        conv(part).unflatten(1, (heads, width))
        for conv, part in ((module.query, x), (module.key, asked), (module.value, asked))
    )
    u, v = module.u.view(heads, width), module.v.view(heads, width)

    def embedded(distance: int) -> torch.Tensor:
        angles = [distance / 1000 ** (4 * t / channels) for t in range(channels // 4)]
        return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)

    gathered = torch.zeros_like(query)
    for row in range(size[0]):
        for column in range(size[1]):
            at = row * size[1] + column
            e = torch.zeros(4, 2, heads, *asked.shape[2:], dtype=torch.float64)
            for r in range(asked.shape[2]):
                for c in range(asked.shape[3]):
                    away = module.along_x(embedded(column - stride * c)) + module.along_y(
                        embedded(row - stride * r)
                    )
                    away = away.view(heads, width) / math.sqrt(2)
                    e[0, ..., r, c] = (query[..., row, column] * key[..., r, c]).sum(-1)
                    e[1, ..., r, c] = (query[..., row, column] * away).sum(-1)
                    e[2, ..., r, c] = (u * key[..., r, c]).sum(-1)
                    e[3, ..., r, c] = (v * away).sum(-1)
            agree(records["e1"][:, :, at], e[0])
            agree(records["e2"][:, :, at], e[1])
            agree(records["e3"], e[2])
            agree(records["e4"][None, :, at].expand(2, -1, -1, -1), e[3])
            affinity = e.sum(0).flatten(2).softmax(2)
            agree(records["affinity"][:, :, at].flatten(2), affinity)
            gathered[..., row, column] = torch.einsum("bhj,bhdj->bhd", affinity, value.flatten(3))
    agree(y, x + module.gamma * module.project(gathered.flatten(1, 2)))


def test_generalized_attention_knows_places_only_by_their_distance():
    _, records = run(randomised(GeneralizedAttention(CHANNELS)), features())
    table = records["e4"].unflatten(1, SIZE)  # (heads, H, W, H, W)
    agree(table[:, 1:, 1:, 1:, 1:], table[:, :-1, :-1, :-1, :-1])
    assert records["e4"].std() > 0.01
    assert torch.equal(records["e4"], run(randomised(GeneralizedAttention(CHANNELS)), features(3))[1]["e4"])


def test_generalized_attention_lets_the_viewer_take_out_a_term():
    module, x = randomised(GeneralizedAttention(CHANNELS)), features()
    nothing = dict.fromkeys(("e1", "e2"), torch.zeros_like)
    with torch.no_grad(), recording(module, nothing) as records:
        module(x)
    scores = records["e3"].tensor[:, :, None] + records["e4"].tensor
    agree(records["affinity"].tensor.flatten(3), scores.flatten(3).softmax(3))


def test_generalized_attention_wants_channels_that_heads_divide():
    with pytest.raises(ValueError, match="9 heads"):
        GeneralizedAttention(128, heads=9)


# Object context.


def test_ocr_equals_its_formula():
    module, x = randomised(ObjectContext(CHANNELS)), features()
    y, records = run(module, x)
    sketches = module.sketch(x).flatten(2)  # (B, 10, N)
    found = sketches.softmax(2)  # over places
    agree(records["regions"].flatten(2), found)
    objects = torch.stack(
        [sum(found[:, k, i, None] * x.flatten(2)[:, :, i] for i in range(CELLS)) for k in range(10)], 1
    )  # (B, 10, C)
    query = tokens(module.query(x))
    key, value = (tokens(part(as_map(objects, (10, 1)))) for part in (module.key, module.value))
    scores = query @ key.transpose(1, 2) / math.sqrt(CHANNELS // 2)
    agree(tokens(records["pixel_region"]), scores.softmax(2))
    sums_to_one(records["regions"], (2, 3))
    sums_to_one(records["pixel_region"], 1)
    advice = module.project(as_map(F.scaled_dot_product_attention(query, key, value)))
    conv, norm = module.fuse[:2]
    agree(y, norm(F.conv2d(torch.cat([advice, x], 1), conv.weight)).relu())


def test_ocr_brings_its_loss():
    module, x = randomise(ObjectContext(CHANNELS).double()), features()
    labels = torch.tensor([3, 8])
    with collecting_losses() as losses:
        module(x)
    (loss,) = losses
    logits = module.sketch(x).mean((2, 3))
    expected = -0.4 * logits.log_softmax(1)[[0, 1], labels].mean()
    torch.testing.assert_close(loss(labels).double(), expected, rtol=1e-5, atol=1e-5)
    # the sketches also learn from what is made of them
    (gradient,) = torch.autograd.grad(module(x).square().sum(), [module.sketch[0].weight])
    assert gradient.abs().max() > 0


# Interaction, aggregation, update.


def test_iau_equals_its_formula_in_loops():
    module, x = randomised(InteractionAggregationUpdate(CHANNELS)), 0.3 * features()
    y, records = run(module, x)
    detectors = x.flatten(2)
    channel = torch.stack([(each @ each.T).softmax(1) for each in detectors])
    agree(records["channel"], channel)
    middle = x + module.pool_channels((channel @ detectors).view_as(x))

    parts = module.find_parts(middle).sigmoid()  # (B, 4, H, W)
    agree(records["parts"], parts)
    weight, bias = module.reduce.weight[..., 0], module.reduce.bias
    whole = middle.mean((2, 3)) @ weight.T + bias  # (B, C/2)
    nodes = [(middle * parts[:, k, None]).sum((2, 3)) @ weight.T + bias for k in range(4)]
    edges = torch.zeros(2, 4, 4, dtype=torch.float64)
    for k in range(4):
        others = [other for other in range(4) if other != k]
        scores = [
            module.compare(torch.cat([(nodes[k] - nodes[other]).abs(), whole], 1)[:, :, None, None]).flatten()
            for other in others
        ]
        edges[:, k, others] = torch.stack(scores, 1).softmax(1)
    agree(records["edges"], edges)
    states = []
    for k in range(4):
        heard = sum(edges[:, k, other, None] * nodes[other] for other in range(4))
        states.append(module.talk(torch.cat([nodes[k], heard], 1)[..., None])[..., 0])
    update = module.tell(torch.cat([sum(states) / 4, whole], 1)[:, :, None, None])
    agree(records["update"], update.flatten(1))
    agree(y, middle + update)


def test_iau_edges_lead_to_others_and_the_update_is_everywhere_the_same():
    module, x = randomised(InteractionAggregationUpdate(CHANNELS)), 0.3 * features()
    y, records = run(module, x)
    assert not records["edges"].diagonal(dim1=1, dim2=2).any()
    sums_to_one(records["edges"], 2)
    sums_to_one(records["channel"], 2)
    assert records["parts"].min() > 0 and records["parts"].max() < 1
    with torch.no_grad(), recording(module, {"update": torch.zeros_like}):
        without = module(x)
    agree(y - without, records["update"][:, :, None, None].expand_as(y))


def test_iau_starts_as_the_authors_do():
    torch.manual_seed(0)
    found = [m for m in models.build("iau").modules() if isinstance(m, InteractionAggregationUpdate)]
    for module in found:
        convs = [part for part in module.modules() if isinstance(part, (nn.Conv1d, nn.Conv2d))]
        assert len(convs) == 6 and all(is_about(c.weight, (2 / c.out_channels) ** 0.5) for c in convs)
    assert len(found) == 2


def test_iau_energies_do_not_overflow_half_precision():
    module = randomise(InteractionAggregationUpdate(CHANNELS))
    x = 100 * features().float()  # energies of about 350,000; float16 ends at 65,504
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        y = module.between_channels(x)
    assert y.isfinite().all()


# Spatial transformer.


def transform(theta: list[list[float]], images: torch.Tensor) -> torch.Tensor:
    """The output for a given theta."""
    module = randomised(SpatialTransformer())
    given = torch.tensor(theta, dtype=images.dtype)
    with torch.no_grad(), recording(module, {"theta": lambda found: given.expand_as(found)}):
        return module(images)


def smooth_pictures() -> torch.Tensor:
    """(2, 3, 32, 40) in float64."""
    return F.interpolate(features(0, 3, (4, 5)), (32, 40), mode="bicubic")


@pytest.mark.parametrize(
    "angle, scale, shift", [(0, 1, (0, 0)), (30, 1, (0, 0)), (-20, 1.5, (0, 0)), (0, 1, (5, -3))]
)
def test_stn_equals_torchvision(angle, scale, shift):
    images = smooth_pictures()[..., :32]
    expected = transforms.affine(
        images, angle, list(shift), scale, [0.0, 0.0], transforms.InterpolationMode.BILINEAR
    )
    cos, sin = math.cos(math.radians(angle)) / scale, math.sin(math.radians(angle)) / scale
    theta = [[cos, sin, -2 * shift[0] / 32], [-sin, cos, -2 * shift[1] / 32]]
    torch.testing.assert_close(transform(theta, images), expected, rtol=0, atol=1e-5)
    assert (angle, scale, shift) == (0, 1, (0, 0)) or (expected - images).abs().max() > 0.1


def test_stn_equals_bilinear_sampling_in_loops():
    module, images = randomised(SpatialTransformer()), features(0, 3, (6, 9))
    y, records = run(module, images)
    theta, (height, width) = records["theta"], (6, 9)
    grid = torch.zeros(2, height, width, 2, dtype=torch.float64)
    expected = torch.zeros_like(images)
    for picture in range(2):
        for row in range(height):
            for column in range(width):
                target = [(2 * column + 1) / width - 1, (2 * row + 1) / height - 1, 1]
                target = torch.tensor(target, dtype=torch.float64)
                grid[picture, row, column] = theta[picture] @ target
                x, y_ = (
                    ((at + 1) * side - 1) / 2 for at, side in zip(grid[picture, row, column], (width, height))
                )
                for n in range(height):
                    for m in range(width):
                        share = max(0, 1 - abs(x.item() - m)) * max(0, 1 - abs(y_.item() - n))
                        expected[picture, :, row, column] += share * images[picture, :, n, m]
    agree(records["grid"], grid)
    agree(y, expected)


def test_stn_one_half_is_the_central_half():
    """A grid of half the size reads the middle: the picture is enlarged by two."""
    images = smooth_pictures()
    enlarged = transform([[0.5, 0, 0], [0, 0.5, 0]], images)
    expected = F.interpolate(images, scale_factor=2, mode="bilinear")[..., 16:48, 20:60]
    agree(enlarged, expected)


def test_stn_reads_nothing_outside():
    shifted = transform([[1, 0, 2.5], [0, 1, 0]], smooth_pictures())
    assert not shifted.any()


class Twins(nn.Module):
    """A spatial transformer and its localiser once more, outside of it; all parameters are pulled alike."""

    def __init__(self, pull: float):
        super().__init__()
        self.pull = pull
        self.inside = SpatialTransformer()
        self.outside = deepcopy(self.inside.locate)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pulled = self.pull * sum(parameter.sum() for parameter in self.parameters())
        return pulled * torch.arange(10.0).expand(len(images), 10)


@pytest.fixture
def train_twins(tiny_cifar, monkeypatch):
    """Makes the run of a recipe of two epochs at a rate of 0.1 on the twins."""

    def begin(pull: float, weight_decay: float) -> Run:
        recipe = Recipe(epochs=2, batch=64, lr=((0, 0.1), (2, 0.1)), weight_decay=weight_decay)
        monkeypatch.setitem(RECIPES, "toy", recipe)
        monkeypatch.setattr(train, "build", lambda name, classes: Twins(pull))
        return Run("stn", "toy")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return begin


@pytest.mark.parametrize("pull, weight_decay", [(1.0, 0.0), (0.0, 0.5)])
def test_stn_learns_and_decays_at_a_tenth_of_the_rate(train_twins, pull, weight_decay):
    run = train_twins(pull, weight_decay)
    before = [parameter.detach().clone() for parameter in run.model.outside.parameters()]
    run.data.start(0)
    run.train_step()
    with torch.no_grad():
        slow, fast = (
            [after - start for start, after in zip(before, part.parameters())]
            for part in (run.model.inside, run.model.outside)
        )
    for inside, outside in zip(slow, fast):
        torch.testing.assert_close(10 * inside, outside, rtol=1e-4, atol=1e-5)
    assert fast[0].abs().max() > 0.001
    if weight_decay:  # Nesterov's first step goes 1.9 times as far
        torch.testing.assert_close(fast[0], -1.9 * 0.1 * weight_decay * before[0], rtol=1e-4, atol=1e-6)


def test_stn_goes_on_with_its_own_rate(train_twins, monkeypatch):
    whole = train_twins(1.0, 0.5)
    whole.train(progress=False)
    whole.folder.rename(whole.folder.with_name("whole"))
    step = Run.train_step

    def crash_in_the_second_epoch(run: Run) -> None:
        if run.epoch == 1:
            raise InterruptedError
        step(run)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Run, "train_step", crash_in_the_second_epoch)
        train_twins(1.0, 0.5).train(progress=False)
    resumed = train_twins(1.0, 0.5)
    resumed.train(progress=False)
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters()):
        assert torch.equal(ours, theirs)
    lines = [json.loads(line) for line in (resumed.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in lines if "loss" in line] == [0.1, 0.1]  # the recipe's, not the localiser's


def test_stn_looks_at_pictures_of_any_size():
    module = randomised(SpatialTransformer())
    for size in ((16, 16), (24, 24), (32, 32)):
        assert module(features(0, 3, size)).shape == (2, 3, *size)


def test_ocr_sketches_as_many_regions_as_the_network_has_classes():
    with torch.device("meta"):
        network = models.build("ocr", num_classes=100)
    assert network.stage3.sketch[-1].out_channels == 100
