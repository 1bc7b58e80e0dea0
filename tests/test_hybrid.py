"""The hybrid mechanisms and their relatives: formulas and oracles in float64, and what each module must do.

As in test_mechanisms.py every module is randomised first, sees a batch of maps that are not square, and must
change its input.
"""

import math
from functools import partial

import pytest
import timm.layers
import timm.layers.coord_attn
import torch
import torch.nn.functional as F
from conftest import pictures, randomise
from rows.hybrid import ROWS
from torch import nn

import models
from models.attention.context_gating import ContextGating
from models.attention.coord_attention import CoordinateAttention
from models.attention.dca import DeepConnectedAttention
from models.attention.feature_fusion import (
    AttentionalFeatureFusion,
    IterativeAttentionalFeatureFusion,
    MultiScaleChannelAttention,
)
from models.attention.global_context import GlobalContext
from models.attention.residual_attention import ResidualAttention, Unit
from models.attention.self_calibrated_conv import SelfCalibratedConv
from models.attention.split_attention import SplitAttention
from models.attention.triplet_attention import TripletAttention
from models.attention.ulsam import SubspaceAttention
from models.catalogue import BLOCKS, Site
from models.recording import recording
from tests import forms
from tests.forms import agree, copy_state, is_about, randomised, run

BATCH, CHANNELS, HEIGHT, WIDTH = 3, 32, 5, 7

features = partial(forms.features, channels=CHANNELS)


def lies_between(gate: torch.Tensor, low: float, high: float) -> None:
    assert gate.min() > low and gate.max() < high and gate.std() > 0.01


def norm(x: torch.Tensor, bn: nn.Module) -> torch.Tensor:
    """A BatchNorm in eval mode, from its definition; channels on axis 1."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean, variance, weight, bias = (
        value.view(shape) for value in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def linear(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """A 1x1 convolution or a linear layer along axis 1, from its definition."""
    y = torch.einsum("oi,bi...->bo...", layer.weight.flatten(1), x)
    return y if layer.bias is None else y + layer.bias.view(1, -1, *[1] * (x.ndim - 2))


# Triplet Attention.


def test_triplet_rotates_gates_and_rotates_back():
    """The authors' way: turn the box, gate it from the front, turn it back, and average the three."""
    module, x = randomised(TripletAttention(CHANNELS)), features()
    y, records = run(module, x)
    expected = torch.zeros_like(x)
    for name, order in (("hw", (0, 1, 2, 3)), ("cw", (0, 2, 1, 3)), ("hc", (0, 3, 2, 1))):
        turned = x.permute(order)
        conv, bn = getattr(module, name)
        summary = torch.cat([turned.max(1, True).values, turned.mean(1, True)], dim=1)
        gate = torch.sigmoid(norm(F.conv2d(summary, conv.weight, padding=3), bn))
        agree(records[f"{name}_gate"], gate)
        lies_between(gate, 0, 1)
        expected += (turned * gate).permute(order) / 3  # each of the three turns is its own inverse
    agree(y, expected)


def test_triplet_gates_forget_the_axis_they_pool():
    module, x = randomised(TripletAttention(CHANNELS)), features()
    _, before = run(module, x)
    for name, axis in (("hw_gate", 1), ("cw_gate", 2), ("hc_gate", 3)):
        _, after = run(module, x.flip(axis))
        agree(after[name], before[name])
        for other in {"hw_gate", "cw_gate", "hc_gate"} - {name}:
            assert (after[other] - before[other]).abs().max() > 0.01


# Coordinate Attention.


def test_coordinate_attention_equals_timm():
    ours = randomised(CoordinateAttention(CHANNELS))
    theirs = timm.layers.coord_attn.CoordAttn(CHANNELS, rd_channels=8, bias=True)
    names = {"squeeze.0": "conv1", "squeeze.1": "bn1", "excite_h": "conv_h", "excite_w": "conv_w"}
    copy_state(theirs, ours, names)
    y, _ = run(ours, features())
    agree(y, theirs(features()))


@pytest.mark.parametrize("channels, width", [(64, 8), (128, 8), (256, 8), (512, 16)])
def test_coordinate_attention_has_the_authors_widths(channels, width):
    with torch.device("meta"):
        assert CoordinateAttention(channels).squeeze[0].out_channels == width


def test_coordinate_attention_draws_patterns_of_rank_one():
    module, x = randomised(CoordinateAttention(CHANNELS)), features()
    y, records = run(module, x)
    lies_between(records["h_gate"], 0, 1)
    lies_between(records["w_gate"], 0, 1)
    agree(y, x * records["h_gate"] * records["w_gate"])
    singular = torch.linalg.svdvals(y / x)  # (B, C, 5)
    assert (singular[..., 1:] < 1e-10 * singular[..., :1]).all()


def test_coordinate_attention_keeps_rows_and_columns_apart():
    """What is shuffled inside the rows leaves the row gates alone and changes the column gates."""
    module, x = randomised(CoordinateAttention(CHANNELS)), features()
    _, before = run(module, x)
    _, after = run(module, x.flip(3))
    agree(after["h_gate"], before["h_gate"])
    agree(after["w_gate"], before["w_gate"].flip(3))
    assert (after["w_gate"] - before["w_gate"]).abs().max() > 0.01


# Global Context.


def test_global_context_equals_timm():
    ours = randomised(GlobalContext(CHANNELS))
    theirs = timm.layers.GlobalContext(CHANNELS, fuse_add=True, fuse_scale=False, rd_ratio=1 / 16)
    names = {"score": "conv_attn", "squeeze": "mlp_add.fc1", "norm": "mlp_add.norm", "excite": "mlp_add.fc2"}
    copy_state(theirs, ours, names)
    theirs.mlp_add.norm.eps = 1e-5  # the authors'; timm has 1e-6
    y, _ = run(ours, features())
    agree(y, theirs(features()))


def test_global_context_adds_one_vector_everywhere():
    module, x = randomised(GlobalContext(CHANNELS)), features()
    y, records = run(module, x)
    mask, added = records["context_mask"], records["channel_add"]
    assert mask.min() > 0 and mask.std() > 1e-3
    agree(mask.sum((2, 3)), torch.ones(BATCH, 1, dtype=torch.float64))
    agree(y - x, added.expand_as(x))
    scores = linear(x, module.score)
    agree(mask, scores.exp() / scores.exp().sum((2, 3), keepdim=True))
    context = (mask * x).sum((2, 3))
    hidden = linear(context, module.squeeze)
    hidden = (hidden - hidden.mean(1, True)) / (hidden.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    hidden = hidden * module.norm.weight.flatten() + module.norm.bias.flatten()
    agree(added[:, :, 0, 0], linear(hidden.relu(), module.excite))


@pytest.mark.parametrize("training", [True, False])
def test_global_context_starts_as_the_identity(training):
    x = features()
    module = GlobalContext(CHANNELS).double().train(training)
    assert torch.equal(module(x), x)
    module.excite.bias.data[0] = 1
    assert not torch.equal(module(x), x)


# Attentional Feature Fusion.


def opinion(x: torch.Tensor, layers: nn.Sequential) -> torch.Tensor:
    hidden = norm(linear(x, layers[0]), layers[1]).relu()
    return norm(linear(hidden, layers[3]), layers[4])


def weight_of(x: torch.Tensor, module: MultiScaleChannelAttention) -> torch.Tensor:
    """M(x), cell by cell."""
    whole = opinion(x.flatten(2).mean(2), module.whole)
    weight = torch.zeros_like(x)
    for i in range(HEIGHT):
        for j in range(WIDTH):
            weight[:, :, i, j] = torch.sigmoid(opinion(x[:, :, i, j], module.local) + whole)
    return weight


def test_ms_cam_equals_its_formula():
    module, x = randomised(MultiScaleChannelAttention(CHANNELS)), features()
    y, records = run(module, x)
    lies_between(records["full_gate"], 0, 1)
    agree(records["full_gate"], weight_of(x, module))
    agree(y, x * weight_of(x, module))
    agree(records["full_gate"].logit(), records["global_logit"] + records["local_logit"])


def test_aff_equals_its_formula():
    module, identity, residual = randomised(AttentionalFeatureFusion(CHANNELS)), features(), features(1)
    y, records = run(module, identity, residual)
    weight = weight_of(residual + identity, module)
    agree(records["fuse_gate"], weight)
    agree(y, 2 * residual * weight + 2 * identity * (1 - weight))


def test_aff_at_one_half_is_the_plain_sum():
    module, identity, residual = randomised(AttentionalFeatureFusion(CHANNELS)), features(), features(1)
    y, _ = run(module, identity, residual, edits={"fuse_gate": lambda gate: torch.full_like(gate, 0.5)})
    agree(y, identity + residual)


@pytest.mark.parametrize(
    "fusion, gate, factor",
    [(AttentionalFeatureFusion, "fuse_gate", 2), (IterativeAttentionalFeatureFusion, "fuse_gate2", 1)],
)
def test_a_high_fusion_gate_takes_the_residual(fusion, gate, factor):
    """The second argument is the residual: at gate 1 it wins, at gate 0 the shortcut does."""
    module, identity, residual = randomised(fusion(CHANNELS)), features(), features(1)
    agree(run(module, identity, residual, edits={gate: torch.ones_like})[0], factor * residual)
    agree(run(module, identity, residual, edits={gate: torch.zeros_like})[0], factor * identity)


def test_iaff_equals_its_formula():
    module = randomised(IterativeAttentionalFeatureFusion(CHANNELS))
    identity, residual = features(), features(1)
    y, records = run(module, identity, residual)
    first = weight_of(residual + identity, module.first)
    mixed = residual * first + identity * (1 - first)
    second = weight_of(mixed, module.second)
    agree(records["fuse_gate1"], first)
    agree(records["fuse_gate2"], second)
    agree(y, residual * second + identity * (1 - second))
    assert (first - second).abs().max() > 0.01


def test_iaff_uses_the_second_global_branch():
    """The authors' PyTorch file calls the first one twice and never the second."""
    module = randomised(IterativeAttentionalFeatureFusion(CHANNELS))
    identity, residual = features(), features(1)
    before, _ = run(module, identity, residual)
    with torch.no_grad():
        module.second.whole[0].weight.mul_(-1)
    after, _ = run(module, identity, residual)
    assert (after - before).abs().max() > 0.01


# Split Attention.


@pytest.mark.parametrize("stride, channels", [(1, 32), (2, 64)])
@pytest.mark.parametrize("radix, cardinality", [(2, 1), (2, 2), (4, 2), (1, 2)])
def test_split_attention_equals_timm(stride, channels, radix, cardinality):
    ours = randomised(SplitAttention(CHANNELS, channels, stride, radix, cardinality))
    theirs = timm.layers.SplitAttn(
        CHANNELS, channels, stride=stride, radix=radix, groups=cardinality, norm_layer=nn.BatchNorm2d
    )
    names = {"conv": "conv", "bn": "bn0", "squeeze.0": "fc1", "squeeze.1": "bn1", "select": "fc2"}
    copy_state(theirs, ours, names)
    y, _ = run(ours, features())
    assert y.shape == (BATCH, channels, -(-HEIGHT // stride), -(-WIDTH // stride))
    assert y.min() >= 0
    agree(y, theirs(features()))


def test_split_attention_shares_sum_to_one_for_each_channel():
    module = randomised(SplitAttention(CHANNELS, CHANNELS))
    y, records = run(module, features())
    weights = records["weights"]
    agree(weights.sum(1), torch.ones_like(weights[:, 0]))
    assert weights.min() > 0 and (weights[:, 0] - weights[:, 1]).abs().max() > 0.01
    first, second = module.bn(module.conv(features())).relu().chunk(2, dim=1)
    agree(y, weights[:, 0] * first + weights[:, 1] * second)


def test_each_split_sees_its_half_of_the_input():
    module, x = randomised(SplitAttention(CHANNELS, CHANNELS)), features()
    changed = x.clone()
    changed[:, : CHANNELS // 2] = features(1)[:, : CHANNELS // 2]
    first, second = (module.conv(changed) - module.conv(x)).chunk(2, dim=1)
    assert first.abs().max() > 0.1 and second.abs().max() == 0


@pytest.mark.parametrize("channels_in, width", [(64, 32), (128, 64), (256, 128), (512, 256)])
def test_split_attention_takes_its_width_from_the_input(channels_in, width):
    with torch.device("meta"):
        assert SplitAttention(channels_in, 512).squeeze[0].out_channels == width


# Self-calibrated convolution.


@pytest.mark.parametrize("size", [(8, 12), (4, 8), (9, 13)])
def test_self_calibrated_conv_equals_its_formula(size):
    module, x = randomised(SelfCalibratedConv(CHANNELS)), features(size=size)
    y, records = run(module, x)
    plain, calibrated = x[:, : CHANNELS // 2], x[:, CHANNELS // 2 :]

    def layer(name, x):
        conv, bn = getattr(module, name)
        return norm(F.conv2d(x, conv.weight, padding=1), bn)

    rows, columns = size[0] // 4, size[1] // 4  # what is left over at the edge is not pooled
    pooled = calibrated[:, :, : rows * 4, : columns * 4]
    pooled = pooled.reshape(BATCH, -1, rows, 4, columns, 4).mean((3, 5))
    coarse = layer("context", pooled)
    row = torch.arange(size[0]) * rows // size[0]  # nearest: rounded down
    column = torch.arange(size[1]) * columns // size[1]
    gate = torch.sigmoid(calibrated + coarse[:, :, row][:, :, :, column])
    lies_between(gate, 0, 1)
    agree(records["calibration_gate"], gate)
    agree(y, torch.cat([layer("plain", plain), layer("out", layer("detail", calibrated) * gate)], dim=1))


@pytest.mark.parametrize("size", [(2, 2), (3, 3)])
def test_self_calibrated_conv_averages_all_of_a_map_smaller_than_its_window(size):
    module, x = randomised(SelfCalibratedConv(CHANNELS)), features(size=size)
    _, records = run(module, x)
    calibrated = x[:, CHANNELS // 2 :]
    coarse = module.context(calibrated.mean((2, 3), keepdim=True))
    agree(records["calibration_gate"], torch.sigmoid(calibrated + coarse))


def test_self_calibrated_conv_ends_without_activation():
    y, _ = run(randomised(SelfCalibratedConv(CHANNELS)), features(size=(8, 12)))
    assert y[:, : CHANNELS // 2].min() < 0 and y[:, CHANNELS // 2 :].min() < 0


# Residual Attention.


def enlarged(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear, the corners stay in the corners: written as one matrix for each axis."""

    def matrix(fine: int, coarse: int) -> torch.Tensor:
        weights = torch.zeros(fine, coarse, dtype=torch.float64)
        for i in range(fine):
            place = i * (coarse - 1) / (fine - 1)
            low = min(math.floor(place), max(coarse - 2, 0))
            weights[i, low] += 1 - (place - low)
            if coarse > 1:
                weights[i, low + 1] += place - low
        return weights

    return matrix(size[0], x.shape[2]) @ x @ matrix(size[1], x.shape[3]).T


def pooled(x: torch.Tensor) -> torch.Tensor:
    """The largest of 3x3 cells, beginning at every second cell; the last window is cut off at the edge."""
    height, width = x.shape[2:]
    padded = F.pad(x, (0, 1 - width % 2, 0, 1 - height % 2), value=-math.inf)
    windows = padded.unfold(2, 3, 2).unfold(3, 3, 2)
    return windows.amax((4, 5))


def hourglass(module: ResidualAttention, x: torch.Tensor, level: int = 0) -> torch.Tensor:
    """What comes back to the size of x from the levels below it: the wiring, told from the inside."""
    here = module.down[level](pooled(x))
    if level == len(module.down) - 1:
        return enlarged(module.deepest(here), x.shape[2:])
    inside = hourglass(module, here, level + 1)
    return enlarged(module.up[level](inside + module.skip[level](here)), x.shape[2:])


@pytest.mark.parametrize("depth, size", [(3, (16, 24)), (2, (8, 12)), (1, (8, 12)), (2, (9, 13))])
def test_residual_attention_equals_its_formula(depth, size):
    module, x = randomised(ResidualAttention(CHANNELS, depth)), 0.3 * features(size=size)
    y, records = run(module, x)

    def layer(x, norm_at, layers):
        return F.conv2d(norm(x, layers[norm_at]).relu(), layers[norm_at + 2].weight)

    t = module.before(x)
    trunk = module.trunk[1](module.trunk[0](t))
    mask = torch.sigmoid(layer(layer(hourglass(module, t), 0, module.mask), 3, module.mask))
    lies_between(mask, 0, 1)
    agree(records["soft_mask"], mask)
    agree(y, norm(module.after(trunk + mask * trunk), module.bn).relu())


def test_residual_attention_hourglass_without_units_only_pools_and_adds():
    """With the residuals off: up(pool + up(pool pool)), and the last enlargement adds nothing."""
    module, x = randomised(ResidualAttention(CHANNELS, depth=2)), features(size=(8, 12))
    with torch.no_grad():
        for unit in (module for module in module.modules() if isinstance(module, Unit)):
            unit.residual[-1].weight.zero_()
        once = pooled(x)
        agree(module.hourglass(x), enlarged(once + enlarged(pooled(once), (4, 6)), (8, 12)))


def test_residual_attention_amplifies_and_never_erases():
    """The mask at 1 doubles the trunk, at 0 it leaves it: seen before the last unit."""
    module, x = randomised(ResidualAttention(CHANNELS, depth=1)), features(size=(8, 12))
    trunk = module.trunk(module.before(x))
    for edit, factor in ((torch.ones_like, 2), (torch.zeros_like, 1)):
        y, _ = run(module, x, edits={"soft_mask": edit})
        agree(y, module.bn(module.after(factor * trunk)).relu())


def test_a_unit_is_a_bottleneck_that_norms_first():
    unit, x = randomised(Unit(CHANNELS)), features()
    inner = x
    for at, padding in ((0, 0), (3, 1), (6, 0)):
        bn, _, conv = unit.residual[at : at + 3]
        inner = F.conv2d(norm(inner, bn).relu(), conv.weight, padding=padding)
    agree(unit(x), x + inner)
    assert [conv.out_channels for conv in unit.residual[2::3]] == [CHANNELS // 4, CHANNELS // 4, CHANNELS]


@pytest.mark.parametrize("stage, size, depth, units", [(1, 32, 3, 12), (2, 16, 2, 9), (3, 8, 1, 6)])
def test_residual_attention_goes_down_to_four_cells(stage, size, depth, units):
    with torch.device("meta"):
        module = ResidualAttention.at(Site(64, 64, size, stage=stage))
    assert len(module.down) == depth
    assert sum(isinstance(part, Unit) for part in module.modules()) == units
    sizes = []
    for unit in (*module.down, module.deepest):
        unit.register_forward_hook(lambda unit, inputs, y: sizes.append(y.shape[2:]))
    module.hourglass(torch.zeros(1, 64, size, size, device="meta"))
    assert sizes == [(size >> level, size >> level) for level in range(1, depth + 1)] + [(4, 4)]


# Deep Connected Attention.


@pytest.mark.parametrize("before", [CHANNELS, CHANNELS // 2])
def test_dca_equals_its_formula(before):
    module, x = randomised(DeepConnectedAttention(CHANNELS, before)), features()
    carry = features(1, channels=before).mean((2, 3))
    (y, handed_on), records = run(module, x, carry)

    def layer_norm(x, layer):
        centred = x - x.mean(1, keepdim=True)
        spread = (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return centred / spread * layer.weight + layer.bias

    p = carry
    if before != CHANNELS:
        p = layer_norm(linear(carry, module.translate[0]), module.translate[1]).relu()
    ((alpha, beta),), (shift,) = module.connect.weight, module.connect.bias
    pooled = x.flatten(2).mean(2)
    heard = layer_norm(alpha * pooled + beta * p + shift, module.norm).relu()
    gate = torch.sigmoid(linear(linear(heard, module.squeeze).relu(), module.excite))
    lies_between(gate, 0, 1)
    agree(records["gate"][:, :, 0, 0], gate)
    agree(records["connection"], torch.stack([alpha, beta]))
    agree(y, x * gate[:, :, None, None])
    agree(handed_on, pooled * gate)  # the averages behind the gate, not the gate
    assert (y - x).abs().max() > 0.01


def test_the_first_dca_is_squeeze_and_excitation():
    module, x = randomised(DeepConnectedAttention(CHANNELS)), features()
    (y, handed_on), records = run(module, x)
    theirs = timm.layers.SEModule(CHANNELS, rd_channels=CHANNELS // 16)
    copy_state(theirs, module, {"squeeze": "fc1", "excite": "fc2"})
    agree(y, theirs(x))
    agree(handed_on, y.mean((2, 3)))  # average and gate may change places
    assert list(records) == ["gate"]


def test_dca_starts_with_the_authors_weights_of_its_own_and_the_handed_down():
    """Kaiming, fan-out, of a layer with one output: standard deviation sqrt(2)."""
    torch.manual_seed(0)
    modules = [m for m in models.build("dca_se").modules() if isinstance(m, DeepConnectedAttention)]
    started = torch.cat([module.connect.weight.flatten() for module in modules[1:]])
    assert started.numel() == 2 * 7 and is_about(started, 2**0.5)


def test_dca_hands_down_through_the_network():
    """What the first block attends to reaches the gate of the last, but for the features: by p alone."""
    model, images = randomise(models.build("dca_se")), pictures(1)
    with torch.no_grad(), recording(model) as before:
        model(images)
    edits = {f"{block}.output": lambda _, at=block: before[f"{at}.output"].tensor for block in BLOCKS}
    edits["layer1.0.refine.gate"] = torch.ones_like
    with torch.no_grad(), recording(model, edits) as after:
        model(images)
    for block in BLOCKS[1:]:
        gates = (records[f"{block}.refine.gate"].tensor for records in (before, after))
        assert not torch.equal(*gates), block
    assert torch.equal(after["layer4.1.output"].tensor, before["layer4.1.output"].tensor)


# ULSAM.


def test_ulsam_equals_its_formula_pack_by_pack():
    module, x = randomised(SubspaceAttention(CHANNELS)), features()
    y, records = run(module, x)
    assert records["subspace_map"].shape == (BATCH, 4, HEIGHT, WIDTH)
    (stretch, bn), (point, bn_point) = module.each, module.gather
    for n in range(4):
        pack = slice(n * CHANNELS // 4, (n + 1) * CHANNELS // 4)
        moved = x[:, pack] * stretch.weight[pack].view(1, -1, 1, 1) + stretch.bias[pack].view(1, -1, 1, 1)
        mean, variance, weight, bias = (
            value[pack].view(1, -1, 1, 1) for value in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
        )
        moved = ((moved - mean) / (variance + 1e-5).sqrt() * weight + bias).relu()
        peaks = torch.zeros_like(moved)
        for i in range(HEIGHT):
            for j in range(WIDTH):
                window = moved[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
                peaks[:, :, i, j] = window.amax((2, 3))
        score = (peaks * point.weight[n].view(1, -1, 1, 1)).sum(1) + point.bias[n]
        score = (score - bn_point.running_mean[n]) / (bn_point.running_var[n] + 1e-5).sqrt()
        score = (score * bn_point.weight[n] + bn_point.bias[n]).relu()
        share = score.exp() / score.exp().sum((1, 2), keepdim=True)
        agree(records["subspace_map"][:, n], share)
        agree(y[:, pack], x[:, pack] * (1 + share[:, None]))
    agree(records["subspace_map"].sum((2, 3)), torch.ones(BATCH, 4, dtype=torch.float64))
    assert records["subspace_map"].std() > 1e-3


def test_ulsam_puts_all_negative_evidence_on_one_floor():
    module, x = randomised(SubspaceAttention(CHANNELS)), features()
    _, records = run(module, x)
    maps = records["subspace_map"].flatten(2)  # (B, 4, N)
    floor = maps.amin(2, keepdim=True)
    assert ((maps == floor).sum(2) > 1).any() and (maps > floor).any()


# Context gating.


def filled(shape: tuple[int, ...], rate: float, scale: float = 1.0) -> torch.Tensor:
    """scale sin(rate n), n running over the elements: the fill rule of the numeric fixtures."""
    return scale * torch.sin(rate * torch.arange(math.prod(shape), dtype=torch.float64)).view(shape)


def test_context_gating_gives_the_numbers_of_loupe():
    module, c = ContextGating(16).double().eval(), torch.arange(16, dtype=torch.float64)
    with torch.no_grad():
        module.linear.weight.copy_(filled((16, 16), 0.37, 1 / 16**0.5).T)  # the fixture writes x W
        module.bn.weight.copy_(1 + 0.1 * torch.sin(c))
        module.bn.bias.copy_(0.1 * torch.cos(c))
        module.bn.running_mean.copy_(0.05 * torch.sin(2 * c))
        module.bn.running_var.copy_(1 + 0.5 * torch.sin(c) ** 2)
        y = module([filled((3, 16), 0.11)[:, :, None, None]])
    numbers = torch.stack([y.sum(), y.abs().mean(), y[0, 0], y[-1, -1]])
    expected = torch.tensor([2.423524, 0.328112, 0, -0.320487], dtype=torch.float64)
    torch.testing.assert_close(numbers, expected, rtol=0, atol=1e-6)


def test_context_gating_equals_its_formula():
    module = randomised(ContextGating(CHANNELS))
    stages = [features(seed, channels=CHANNELS // 2**seed) for seed in (3, 2, 1, 0)]
    y, records = run(module, stages)
    pooled = stages[-1].flatten(2).mean(2)
    gate = torch.sigmoid(norm(pooled @ module.linear.weight.T, module.bn))
    lies_between(gate, 0, 1)
    agree(records["gate"], gate)
    agree(y, pooled * gate)
    assert (y - pooled).abs().max() > 0.01


def test_context_gating_starts_with_variance_one_over_n():
    torch.manual_seed(0)
    assert ContextGating(512).linear.weight.std().item() == pytest.approx(512**-0.5, rel=0.01)


# All of them.

entries = pytest.mark.parametrize("name", ROWS)
# a softmax over cells and a LayerNorm over channels do not see what is added to all of them
NO_EFFECT = {"global_context": {"score.bias"}, "dca_se": {"connect.bias"}}


def built(name: str) -> nn.Module:
    """The module at its first site, or, for the connected one, at the first site with a forerunner."""
    entry = models.CATALOGUE[name]
    site = Site(32, 32, 4) if entry.slot == "head" else Site(64, 64, 32, 1, 1, int(name == "dca_se"))
    return randomise(entry.build(site)).double()


def inputs_of(name: str, batch: int = BATCH) -> tuple:
    slot = models.CATALOGUE[name].slot
    channels, size = (32, (4, 6)) if slot == "head" else (64, (8, 12))
    x, other = (features(seed, channels=channels, size=size)[:batch] for seed in (0, 1))
    if slot == "head":
        return ([x],)
    if slot == "fuse":
        return (x, other)
    return (x, other.mean((2, 3))) if name == "dca_se" else (x,)


def outputs_of(module: nn.Module, inputs: tuple) -> torch.Tensor:
    y = module(*inputs)
    return torch.cat([part.flatten(1) for part in y], dim=1) if isinstance(y, tuple) else y


@entries
def test_one_picture_alone_gives_what_it_gives_in_a_batch(name):
    module = built(name)
    with torch.no_grad():
        together, alone = outputs_of(module, inputs_of(name)), outputs_of(module, inputs_of(name, 1))
    agree(alone, together[:1])
    assert (together[0] - together[1]).abs().max() > 0.01


@entries
def test_recorded_and_unrecorded_outputs_are_equal(name):
    module = built(name)
    with torch.no_grad():
        expected = outputs_of(module, inputs_of(name))
        with recording(module) as records:
            y = outputs_of(module, inputs_of(name))
    assert records
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


@entries
def test_the_gradient_reaches_every_parameter_and_record_of_the_module(name):
    module = built(name)
    with recording(module) as records:
        y = outputs_of(module, inputs_of(name))
    wanted = dict(module.named_parameters())
    wanted |= {path: entry.tensor for path, entry in records.items() if not entry.static}
    gradients = torch.autograd.grad(y.square().sum(), list(wanted.values()), allow_unused=True)
    for path, gradient in zip(wanted, gradients):
        assert gradient is not None and gradient.isfinite().all(), path
        assert (gradient.abs().max() > 1e-9) == (path not in NO_EFFECT.get(name, ())), path


@entries
def test_an_edit_of_any_record_changes_the_output(name):
    module = built(name)
    with torch.no_grad(), recording(module) as records:
        expected = outputs_of(module, inputs_of(name))
    for path in (path for path, entry in records.items() if not entry.static):
        with torch.no_grad(), recording(module, {path: lambda tensor: 0.5 * tensor}):
            y = outputs_of(module, inputs_of(name))
        assert (y - expected).abs().max() > 1e-4, path
