"""The formulas of the channel mechanisms and their kin, in float64, and as theorems.

Every module is randomised first (a weight of zero makes any comparison true) and sees a batch of maps that
are not square. Every comparison also checks that the module does change its input.
"""

import math
from functools import partial

import pytest
import timm.layers
import torch
import torch.nn.functional as F
import torchvision
from conftest import randomise
from rows.channel import ROWS
from torch import nn

import models
from models.attention.bam import BottleneckAttention
from models.attention.eca import EfficientChannelAttention
from models.attention.fca import FrequencyChannelAttention, dct_basis
from models.attention.gather_excite import GatherExcite, GatherExciteMinus, GatherExcitePlus
from models.attention.gsop import GlobalSecondOrderPooling
from models.attention.scse import ChannelSE, ConcurrentSE, SpatialSE
from models.attention.sge import SpatialGroupEnhance
from models.attention.shuffle_attention import ShuffleAttention
from models.catalogue import Site
from models.recording import recording
from tests import forms
from tests.forms import agree, copy_state, is_about, randomised, run

CHANNELS, HEIGHT, WIDTH = 64, 5, 7
CELLS = HEIGHT * WIDTH

features = partial(forms.features, apart=True)


def is_gate(gate: torch.Tensor, lowest: float = 0) -> bool:
    return gate.min() > lowest and gate.max() < lowest + 1 and gate.std() > 0.01


def shuffled_cells(x: torch.Tensor) -> torch.Tensor:
    order = torch.randperm(x[0, 0].numel(), generator=torch.Generator().manual_seed(5))
    return x.flatten(2)[:, :, order].view_as(x)


# All of them, as modules: whole networks are tested with the catalogue.

all_of_them = pytest.mark.parametrize("name", ROWS)


def built(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The module of the entry's first site, on a map of 8x8 in float32, and an input of both signs."""
    entry = models.CATALOGUE[name]
    stage = int(entry.sites[0].removeprefix("layer").removeprefix("stage")[0])
    module = entry.build(Site(CHANNELS, CHANNELS, 8, stage=stage))
    return randomise(module, seed=1), features(1, size=(8, 8)).float()


@all_of_them
def test_eval_needs_no_second_picture(name):
    module, x = built(name)
    with torch.no_grad():
        agree(module(x[1:2]), module(x)[1:2], 1e-5)


@all_of_them
def test_the_gradient_reaches_every_parameter_and_record(name):
    module, x = built(name)
    x.requires_grad_(True)
    with recording(module) as records:
        y = module(x)
    wanted = {"input": x} | dict(module.named_parameters())
    wanted |= {name: entry.tensor for name, entry in records.items() if not entry.static}
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    gradients = torch.autograd.grad((y * weights).sum(), list(wanted.values()), allow_unused=True)
    for path, gradient in zip(wanted, gradients):
        assert gradient is not None and gradient.isfinite().all() and gradient.abs().max() > 0, path


@all_of_them
def test_recorded_equals_unrecorded_and_edits_count(name):
    module, x = built(name)
    with torch.no_grad():
        expected = module(x)
        with recording(module) as records:
            agree(module(x), expected, 1e-5)
        for path, entry in records.items():
            if not entry.static:
                with recording(module, {path: lambda tensor: tensor * 0.5}):
                    assert (module(x) - expected).abs().max() > 1e-3, path


# Efficient channel attention.


def test_eca_equals_timm():
    ours, x = randomised(EfficientChannelAttention(CHANNELS)), features()
    theirs = copy_state(timm.layers.EcaModule(channels=CHANNELS), ours, {"conv": "conv"})
    y, records = run(ours, x)
    agree(y, theirs(x))
    assert is_gate(records["gate"])
    agree(y, x * records["gate"])


@pytest.mark.parametrize("channels, size", [(4, 3), (64, 3), (128, 5), (256, 5), (512, 5), (2048, 7)])
def test_eca_has_the_size_of_its_rule(channels, size):
    assert EfficientChannelAttention(channels).conv.weight.shape == (1, 1, size)
    assert timm.layers.EcaModule(channels=channels).conv.weight.shape == (1, 1, size)


def test_eca_hears_a_channel_and_its_neighbours_alone():
    module = randomised(EfficientChannelAttention(CHANNELS))
    louder = features()
    louder[:, 20] += 1
    (_, records), (_, moved) = run(module, features()), run(module, louder)
    changed = (records["gate"] != moved["gate"]).flatten(2).any(2)
    assert changed.nonzero()[:, 1].unique().tolist() == [19, 20, 21]
    means = features().mean((2, 3))
    left, middle, right = records["taps"]
    agree(
        records["gate"][:, 20, 0, 0],
        torch.sigmoid(left * means[:, 19] + middle * means[:, 20] + right * means[:, 21]),
    )
    agree(records["gate"][:, 0, 0, 0], torch.sigmoid(middle * means[:, 0] + right * means[:, 1]))


# Second-order pooling.


def test_gsop_equals_its_formula_in_loops():
    module, x = randomised(GlobalSecondOrderPooling(CHANNELS, width=6)), features()
    y, records = run(module, x)
    bn, row_bn = module.bn, module.row_bn
    reduced = F.conv2d(F.relu(x), module.reduce.weight, module.reduce.bias)
    reduced = F.relu(F.batch_norm(reduced, bn.running_mean, bn.running_var, bn.weight, bn.bias)).flatten(2)
    for picture in range(len(x)):
        table = torch.zeros(6, 6, dtype=torch.float64)
        for i in range(6):
            for j in range(6):
                a, b = reduced[picture, i], reduced[picture, j]
                table[i, j] = ((a - a.mean()) * (b - b.mean())).sum() / CELLS
        agree(records["covariance"][picture], table)
        numbers = []
        for i in range(6):
            row = (table[i] - row_bn.running_mean[i]) / (row_bn.running_var[i] + row_bn.eps).sqrt()
            row = row * row_bn.weight[i] + row_bn.bias[i]
            for n in range(4 * i, 4 * i + 4):
                numbers.append(module.row_conv.weight[n].flatten() @ row + module.row_conv.bias[n])
        scores = module.excite.weight.flatten(1) @ torch.stack(numbers) + module.excite.bias
        agree(records["gate"][picture].flatten(), torch.sigmoid(scores))
    assert is_gate(records["gate"])
    agree(y, x * records["gate"])  # x itself, with its negative values


def test_gsop_pools_a_covariance():
    module, x = randomised(GlobalSecondOrderPooling(CHANNELS)), features()
    _, records = run(module, x)
    covariance = records["covariance"]
    assert covariance.shape == (3, 32, 32)
    agree(covariance, covariance.transpose(1, 2))
    assert torch.linalg.eigvalsh(covariance).min() > -1e-12
    reduced = torch.relu(module.bn(module.reduce(torch.relu(x))))
    agree(covariance[1], torch.cov(reduced[1].flatten(1), correction=0))
    corner = run(module, x[:, :, :4, :4])[1]["covariance"]  # layer4: 16 cells for 32 dimensions
    assert torch.linalg.matrix_rank(corner).max() <= 15


def test_gsop_does_not_see_where():
    module, x = randomised(GlobalSecondOrderPooling(CHANNELS)), features()
    _, records = run(module, x)
    _, shuffled = run(module, shuffled_cells(x))
    agree(records["covariance"], shuffled["covariance"])
    agree(records["gate"], shuffled["gate"])


def test_gsop_starts_as_the_authors_network_does():
    torch.manual_seed(0)
    found = [m for m in models.build("gsop").modules() if isinstance(m, GlobalSecondOrderPooling)]
    for module in found:  # Kaiming, fan-out
        assert is_about(module.reduce.weight, (2 / 32) ** 0.5)
        assert is_about(module.row_conv.weight, (2 / (4 * 32 * 32)) ** 0.5)
        assert is_about(module.excite.weight, (2 / module.excite.out_channels) ** 0.5)
    assert len(found) == 4


def test_gsop_stands_in_the_last_block_of_each_stage():
    assert models.CATALOGUE["gsop"].sites == ("layer1.1", "layer2.1", "layer3.1", "layer4.1")


# Frequencies.

TOP16 = [
    *[(0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0)],
    *[(5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3), (3, 5), (2, 2)],
]
ALL_OF_4X4 = [
    *[(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2)],
    *[(2, 1), (3, 0), (1, 3), (2, 2), (3, 1), (2, 3), (3, 2), (3, 3)],
]


def spectral(height: int, width: int) -> FrequencyChannelAttention:
    """Random weights, but the true basis."""
    module = randomised(FrequencyChannelAttention(CHANNELS, height, width))
    module.basis.copy_(dct_basis(height, width))
    return module


def official_wave(position: int, frequency: int, size: int) -> float:
    """`build_filter` of the authors' code."""
    wave = math.cos(math.pi * frequency * (position + 0.5) / size) / math.sqrt(size)
    return wave if frequency == 0 else wave * math.sqrt(2)


@pytest.mark.parametrize(
    "height, width, frequencies",
    [
        (32, 32, [(4 * u, 4 * v) for u, v in TOP16]),
        (16, 16, [(2 * u, 2 * v) for u, v in TOP16]),
        (8, 8, TOP16),
        (4, 4, ALL_OF_4X4),
        (8, 14, [(u, 2 * v) for u, v in TOP16]),
    ],
)
def test_fca_basis_is_the_authors(height, width, frequencies):
    basis = dct_basis(height, width)
    expected = torch.tensor(
        [
            [[official_wave(h, u, height) * official_wave(w, v, width) for w in range(width)]
             for h in range(height)]
            for u, v in frequencies
        ]
    )  # fmt: skip
    agree(basis, expected, 2e-6)
    flat = basis.flatten(1)
    agree(flat @ flat.T, torch.eye(16), 1e-5)  # orthonormal: no frequency is the alias of another
    assert basis.abs().max() <= 2 / math.sqrt(height * width) + 1e-6


def test_fca_equals_its_formula_in_loops():
    module, x = spectral(8, 14), features(0, size=(8, 14))
    y, records = run(module, x)
    for picture in range(len(x)):
        spectrum = torch.stack(
            [(x[picture, c] * module.basis[c // (CHANNELS // 16)]).sum() for c in range(CHANNELS)]
        )
        agree(records["spectrum"][picture], spectrum)
        inner = (module.squeeze.weight @ spectrum).clamp(min=0)
        agree(records["gate"][picture].flatten(), torch.sigmoid(module.excite.weight @ inner))
    assert torch.equal(records["basis"], module.basis)
    agree(y, x * records["gate"])


@pytest.mark.parametrize("height, width", [(8, 8), (8, 14), (16, 32)])
def test_fca_hears_the_mirroring_in_odd_frequencies(height, width):
    """And so on 8x8 and 4x4 alone: on the larger maps every frequency is even."""
    module, x = spectral(height, width), features(0, size=(height, width))
    spectrum, mirrored, upside_down = (
        run(module, view)[1]["spectrum"].unflatten(1, (16, -1)) for view in (x, x.flip(3), x.flip(2))
    )
    for group, (u, v) in enumerate(TOP16):
        assert spectrum[:, group].abs().max() > 0.1
        agree(upside_down[:, group], (-1) ** (u * (height // 7)) * spectrum[:, group], 1e-5)
        agree(mirrored[:, group], (-1) ** (v * (width // 7)) * spectrum[:, group], 1e-5)


def test_fca_listens_to_the_average_times_the_root_of_the_cells_first():
    x = features(0, size=(8, 14))
    spectrum = run(spectral(8, 14), x)[1]["spectrum"]
    agree(spectrum[:, :4], x[:, :4].mean((2, 3)) * math.sqrt(8 * 14), 1e-5)


def test_fca_keeps_its_basis_in_the_state():
    """A network is restored on the meta device: what is not in the file is lost."""
    assert "basis" in FrequencyChannelAttention(CHANNELS, 8, 8).state_dict()


def test_fca_averages_a_map_of_another_size_to_that_of_its_basis():
    module, x = spectral(8, 14), features(0, size=(16, 28))
    y, records = run(module, x)
    _, smaller = run(module, F.avg_pool2d(x, 2))
    agree(records["spectrum"], smaller["spectrum"])
    agree(y, x * smaller["gate"])


# Gather-excite.


@pytest.mark.parametrize("extent", [0, 2, 4, 8])
def test_ge_theta_minus_equals_timm(extent):
    x = features(0, size=(12, 20))
    theirs = timm.layers.GatherExcite(CHANNELS, extent=extent, use_mlp=False)
    y, records = run(GatherExciteMinus(CHANNELS, extent), x)
    agree(y, theirs(x))
    assert is_gate(records["gate"])
    assert records["gate"].shape[2:] == ((-(-12 // extent), -(-20 // extent)) if extent else (1, 1))


def norm(bn: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias)


@pytest.mark.parametrize("kind", [GatherExcite, GatherExcitePlus])
def test_ge_gathers_with_a_filter_as_large_as_the_map(kind):
    module, x = randomised(kind(CHANNELS, HEIGHT)), features()
    module.filters = nn.Parameter(features(3)[0] / 6)  # (64, 5, 7)
    y, records = run(module, x)
    gathered = norm(module.bn, F.conv2d(x, module.filters.unsqueeze(1), groups=CHANNELS))
    if kind is GatherExcitePlus:
        inner = F.relu(F.conv2d(F.relu(gathered), module.squeeze.weight, module.squeeze.bias))
        gathered = F.conv2d(inner, module.expand.weight, module.expand.bias)
        assert module.squeeze.out_channels == CHANNELS // 16
    agree(records["gate"], torch.sigmoid(gathered))
    agree(y, x * torch.sigmoid(gathered))
    assert is_gate(records["gate"])
    assert torch.equal(records["gather_filter"], module.filters)


@pytest.mark.parametrize("kind", [GatherExcite, GatherExcitePlus])
def test_ge_repeats_the_cells_of_a_map_smaller_than_its_filters(kind):
    module, x = randomised(kind(CHANNELS, 16)), features(0, size=(8, 8))
    y, records = run(module, x)
    _, larger = run(module, x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    agree(y, x * larger["gate"])
    agree(records["gate"], larger["gate"])


@pytest.mark.parametrize("kind", [GatherExcite, GatherExcitePlus])
@pytest.mark.parametrize("extent, layers", [(2, 1), (4, 2), (8, 3)])
def test_ge_gathers_a_finite_extent_in_steps(kind, extent, layers):
    module, x = randomised(kind(CHANNELS, 8, extent)), features(0, size=(8, 16))
    y, records = run(module, x)
    convs = [part for part in module.steps if isinstance(part, nn.Conv2d)]
    norms = [part for part in module.steps if isinstance(part, nn.BatchNorm2d)]
    assert len(convs) == len(norms) == layers
    gathered = x
    for step in range(layers):
        gathered = F.relu(gathered) if step else gathered
        gathered = F.conv2d(gathered, convs[step].weight, None, 2, 1, groups=CHANNELS)
        gathered = norm(norms[step], gathered)
    if kind is GatherExcitePlus:
        inner = F.relu(F.conv2d(F.relu(gathered), module.squeeze.weight, module.squeeze.bias))
        gathered = F.conv2d(inner, module.expand.weight, module.expand.bias)
    gate = torch.sigmoid(gathered)
    agree(records["gate"], gate)
    agree(y, x * gate.repeat_interleave(extent, 2).repeat_interleave(extent, 3))
    assert "gather_filter" not in records


def test_ge_with_an_extent_of_four_costs_what_the_sheet_says():
    for kind, extra in ((GatherExciteMinus, 0), (GatherExcite, 42_240), (GatherExcitePlus, 131_320)):
        total = 0
        for channels, size in zip((64, 128, 256, 512), (32, 16, 8, 4)):
            places = (channels,) if kind is GatherExciteMinus else (channels, size)
            total += 2 * sum(p.numel() for p in kind(*places, extent=4).parameters())
        assert total == extra


def test_ge_begins_as_in_the_authors_network():
    torch.manual_seed(0)
    module = GatherExcitePlus(128, 16)
    assert is_about(module.filters, (2 / 256) ** 0.5)
    assert is_about(module.squeeze.weight, 0.01) and is_about(module.expand.weight, 0.01)
    assert not module.squeeze.bias.any() and not module.expand.bias.any()
    assert is_about(GatherExcite(512, 16, extent=4).steps[0].weight, (2 / 9) ** 0.5)


# Concurrent spatial and channel squeeze and excitation.


def test_cse_equals_torchvision():
    ours, x = randomised(ChannelSE(CHANNELS)), features()
    theirs = torchvision.ops.SqueezeExcitation(CHANNELS, CHANNELS // 2)
    copy_state(theirs, ours, {"squeeze": "fc1", "excite": "fc2"})
    y, records = run(ours, x)
    agree(y, theirs(x))
    assert is_gate(records["gate"])


def test_sse_weighs_each_place_by_what_is_there():
    module, x = randomised(SpatialSE(CHANNELS)), features()
    y, records = run(module, x)
    for picture in range(len(x)):
        for i in range(HEIGHT):
            for j in range(WIDTH):
                score = module.conv.weight.flatten() @ x[picture, :, i, j] + module.conv.bias[0]
                agree(records["spatial_gate"][picture, 0, i, j], torch.sigmoid(score))
                agree(y[picture, :, i, j], x[picture, :, i, j] * torch.sigmoid(score))
    assert is_gate(records["spatial_gate"])


@pytest.mark.parametrize("combine", ["max", "add"])
def test_scse_runs_both_side_by_side(combine):
    module, x = randomised(ConcurrentSE(CHANNELS, combine=combine)), features()
    state = module.state_dict()
    channel, spatial = ChannelSE(CHANNELS).double(), SpatialSE(CHANNELS).double()
    channel.load_state_dict({key: state[key] for key in channel.state_dict()})
    spatial.load_state_dict({key: state[key] for key in spatial.state_dict()})
    y, records = run(module, x)
    (by_channel, its), (by_place, theirs) = run(channel, x), run(spatial, x)
    agree(records["channel_gate"], its["gate"])
    agree(records["spatial_gate"], theirs["spatial_gate"])
    agree(y, torch.maximum(by_channel, by_place) if combine == "max" else by_channel + by_place)


def test_scse_keeps_the_larger_value_not_the_larger_gate():
    x = features()
    y, records = run(randomised(ConcurrentSE(CHANNELS)), x)
    channel, spatial = records["channel_gate"], records["spatial_gate"]
    assert 0.1 < (channel > spatial).double().mean() < 0.9
    agree(y, x * torch.where(x > 0, torch.maximum(channel, spatial), torch.minimum(channel, spatial)))


# Groups.


def test_sge_equals_its_formula_in_loops():
    module, x = randomised(SpatialGroupEnhance(CHANNELS)), features()
    y, records = run(module, x)
    width = CHANNELS // 16
    for picture in range(len(x)):
        for g in range(16):
            team = x[picture, g * width : (g + 1) * width]  # (4, 5, 7)
            mean = team.flatten(1).mean(1)
            match = torch.stack(
                [torch.stack([mean @ team[:, i, j] for j in range(WIDTH)]) for i in range(HEIGHT)]
            )
            deviation = ((match - match.mean()) ** 2).sum().div(CELLS - 1).sqrt()
            match = (match - match.mean()) / (deviation + 1e-5)
            gate = torch.sigmoid(module.weight[g] * match + module.bias[g])
            agree(records["group_gate"][picture, g], gate)
            agree(y[picture, g * width : (g + 1) * width], team * gate)
    assert is_gate(records["group_gate"])


def test_sge_adds_epsilon_to_the_deviation():
    """Of a weak map: with epsilon inside the root the contrast would be another."""
    module, x = randomised(SpatialGroupEnhance(CHANNELS)), features() * 1e-2
    _, records = run(module, x)
    groups = x.unflatten(1, (16, -1))
    match = torch.einsum("bgc,bgchw->bghw", groups.mean((3, 4)), groups)
    score = torch.logit(records["group_gate"]) - module.bias[:, None, None]
    contrast = (score / module.weight[:, None, None]).std((2, 3))
    deviation = match.std((2, 3))
    agree(contrast, deviation / (deviation + 1e-5), 1e-8)
    assert contrast.min() < 0.95


def test_sge_survives_a_map_without_contrast():
    module, x = randomised(SpatialGroupEnhance(CHANNELS)), torch.ones(2, CHANNELS, 4, 4).double()
    x.requires_grad_(True)
    y = module(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()


def test_shuffle_attention_equals_its_formula_in_loops():
    module, x = randomised(ShuffleAttention(CHANNELS, groups=8)), features()  # halves of four
    y, records = run(module, x)
    gated = torch.zeros_like(x)
    for g in range(8):
        for j in range(4):
            knob, mask, k = 8 * g + j, 8 * g + 4 + j, 4 * g + j
            first, second = x[:, knob], x[:, mask]
            score = module.channel_weight[j] * first.mean((1, 2)) + module.channel_bias[j]
            agree(records["channel_gate"][:, k, 0, 0], torch.sigmoid(score))
            gated[:, knob] = first * torch.sigmoid(score)[:, None, None]

            mean = second.mean((1, 2), keepdim=True)
            variance = ((second - mean) ** 2).mean((1, 2), keepdim=True)
            contrast = (second - mean) / (variance + 1e-5).sqrt()
            contrast = module.norm.weight[j] * contrast + module.norm.bias[j]
            mask_gate = torch.sigmoid(module.spatial_weight[j] * contrast + module.spatial_bias[j])
            agree(records["spatial_gate"][:, k], mask_gate)
            gated[:, mask] = second * mask_gate
    for i in range(CHANNELS // 2):
        agree(y[:, 2 * i], gated[:, i])
        agree(y[:, 2 * i + 1], gated[:, CHANNELS // 2 + i])
    assert is_gate(records["channel_gate"]) and is_gate(records["spatial_gate"])


def test_shuffle_attention_masks_are_copies_of_their_channels():
    module, x = randomised(ShuffleAttention(CHANNELS)), features()
    gate = run(module, x)[1]["spatial_gate"]
    masked = x.unflatten(1, (16, 2, -1))[:, :, 1].flatten(1, 2)  # (3, 32, 5, 7), the order of the input
    assert torch.equal(masked.flatten(2).argsort(2), gate.flatten(2).argsort(2))


@pytest.mark.parametrize(
    "name, kind", [("sge", SpatialGroupEnhance), ("shuffle_attention", ShuffleAttention)]
)
def test_gates_of_groups_begin_at_the_sigmoid_of_one(name, kind):
    found = [module for module in models.build(name).modules() if isinstance(module, kind)]
    assert len(found) == 8
    for module, channels in zip(found, (64, 64, 128, 128, 256, 256, 512, 512)):
        _, records = run(module, torch.randn(2, channels, HEIGHT, WIDTH))
        for gate in records.values():
            agree(gate, torch.full_like(gate, 0.7310586), 1e-6)


# BAM.


@pytest.mark.parametrize("combine", ["sum", "prod"])
def test_bam_equals_its_formula_layer_by_layer(combine):
    module, x = randomised(BottleneckAttention(CHANNELS, combine=combine)), features()
    y, records = run(module, x)

    first, bn, _, last = module.channel
    inner = F.relu(norm(bn, F.linear(x.mean((2, 3)), first.weight, first.bias)))
    channel = F.linear(inner, last.weight, last.bias)  # (B, C)

    convs = [part for part in module.spatial if isinstance(part, nn.Conv2d)]
    norms = [part for part in module.spatial if isinstance(part, nn.BatchNorm2d)]
    assert len(convs) == 4 and len(norms) == 3
    maps = F.relu(norm(norms[0], F.conv2d(x, convs[0].weight, convs[0].bias)))
    for conv, bn in zip(convs[1:3], norms[1:]):
        maps = F.relu(norm(bn, F.conv2d(maps, conv.weight, conv.bias, padding=4, dilation=4)))
    spatial = F.conv2d(maps, convs[3].weight, convs[3].bias)  # (B, 1, H, W)

    agree(records["channel_logit"], channel)
    agree(records["spatial_logit"], spatial)
    assert channel.std() > 0.01 and spatial.std() > 0.01
    channel = channel[:, :, None, None]
    gate = 1 + torch.sigmoid(channel + spatial if combine == "sum" else channel * spatial)
    agree(records["full_gate"], gate)
    agree(y, x * gate)
    assert is_gate(gate, lowest=1)


def test_bam_sees_eight_cells_far():
    """Two 3x3 convolutions of dilation 4 in a row."""
    module, x = randomised(BottleneckAttention(CHANNELS)), features(0, size=(19, 21))
    there = x.clone()
    there[:, :, 9, 10] += 10
    with torch.no_grad():
        changed = (module.spatial(there) != module.spatial(x))[:, 0].any(0).nonzero()
    assert (changed - torch.tensor([9, 10])).abs().max() == 8
    assert {abs(int(n)) for n in (changed - torch.tensor([9, 10])).flatten()} == {0, 4, 8}


def test_bam_starts_as_the_authors_network_does():
    torch.manual_seed(0)
    found = [module for module in models.build("bam").modules() if isinstance(module, BottleneckAttention)]
    for module in found:
        convs = [part for part in module.spatial if isinstance(part, nn.Conv2d)]
        for conv in convs:  # Kaiming, fan-out
            assert is_about(conv.weight, (2 / (conv.out_channels * conv.weight[0, 0].numel())) ** 0.5)
        assert not any(layer.bias.any() for layer in (module.channel[0], module.channel[-1], *convs))
    assert len(found) == 3


def test_bam_stands_before_each_shrinking_step():
    assert models.CATALOGUE["bam"].sites == ("stage1", "stage2", "stage3")
