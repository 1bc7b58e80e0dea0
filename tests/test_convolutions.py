"""The modules in place of a convolution, an activation or a block: formulas in float64, and theorems.

Every module is randomised first (a gamma of zero makes any comparison true) and sees a batch of maps that are
not square. Every comparison also checks that the module does change its input.
"""

from functools import partial

import pytest
import timm.layers
import torch
import torch.nn.functional as F
from conftest import pictures, randomise
from rows.convolutions import ROWS
from timm.models._efficientnet_blocks import DepthwiseSeparableConv as TimmSeparable
from timm.models.ghostnet import GhostModule as TimmGhost
from torch import nn

import models
from models.catalogue import BLOCKS, Site
from models.losses import collecting_losses
from models.modules.acblock import AsymmetricConvBlock
from models.modules.blazeblock import BlazeBlock
from models.modules.condconv import CondConv
from models.modules.dgc import DynamicGroupConv
from models.modules.doconv import DepthwiseOverparameterizedConv
from models.modules.dwsep_conv import DepthwiseSeparableConv
from models.modules.dynamic_conv import DynamicConv
from models.modules.effnet import EffNetBlock
from models.modules.fuse_conv_bn import FuseConvBN, fold_modules, fuse_network
from models.modules.ghost import GhostModule
from models.modules.mish import Mish
from models.modules.mixconv import MixConv
from models.modules.psconv import PolyScaleConv
from models.modules.pyconv import PYRAMIDS, PyConv
from models.modules.slimconv import SlimConv
from models.modules.spconv import SPConv
from models.modules.swish import Swish
from models.recording import recording
from tests import forms
from tests.forms import agree, copy_state, count, filled, is_about, randomised, run, wave

CHANNELS, HEIGHT, WIDTH = 64, 5, 7

features = partial(forms.features, apart=True)

strides = pytest.mark.parametrize("stride, channels", [(1, 64), (2, 128)])
all_of_them = pytest.mark.parametrize("name", [*ROWS, "fuse_conv_bn"])


def half(size: int, stride: int) -> int:
    """The side of a map after a convolution with this stride."""
    return -(-size // stride)


# Numbers computed once by the authors' code or by timm, and again from the equations.


def filled_doconv() -> nn.Module:
    module = filled(DepthwiseOverparameterizedConv(16, 16))
    with torch.no_grad():
        matrices = module.depthwise
        n = torch.arange(matrices.numel(), dtype=torch.float64).view_as(matrices)
        matrices.copy_(0.1 * (0.37 * n).sin())
    return module


def filled_dgc() -> DynamicGroupConv:
    module = filled(DynamicGroupConv(16, 16, kept=0.25, reduction=4))
    with torch.no_grad():  # the four heads' small networks are alike but for the last bias
        for conv in (module.squeeze, module.excite):
            conv.weight.copy_(conv.weight.chunk(4)[0].repeat(4, 1, 1, 1))
        module.excite.bias.add_(1)
    module.set_progress(1.0)
    return module


def filled_dynamic_conv(temperature: float) -> DynamicConv:
    module = filled(DynamicConv(16, 24, 2))
    with torch.no_grad():
        module.excite.bias.zero_()
    module.temperature.fill_(temperature)
    return module


def with_norm(module: nn.Module, channels: int) -> nn.Module:
    return filled(nn.Sequential(module, nn.BatchNorm2d(channels)))


def slim(x: torch.Tensor) -> torch.Tensor:
    return filled(SlimConv(64)).slim(x)


def mixed_depthwise(x: torch.Tensor) -> torch.Tensor:
    _, records = run(filled(MixConv(16, 16, 2)), x)
    return torch.cat([records[f"kernel_{size}"] for size in (3, 5, 7)], dim=1)


SQUARE = wave(2, 16, 8, 8)
NUMBERS = {  # make, input, shape of the output, its sum, mean size, first and last element
    "acblock": (
        lambda: filled(AsymmetricConvBlock(16, 16)),
        SQUARE,
        (2, 16, 8, 8),
        (32.232695, 0.458046, -0.110960, 0.133925),
    ),
    "acblock, stride 2": (
        lambda: filled(AsymmetricConvBlock(16, 24, 2)),
        SQUARE,
        (2, 24, 4, 4),
        (-9.506567, 0.463395, -0.110960, -1.088742),
    ),
    "ghost": (
        lambda: filled(GhostModule(16, 24, 2, activation=False)),
        SQUARE,
        (2, 24, 4, 4),
        (6.504363, 0.175010, 0.039363, -0.099916),
    ),
    "slimconv": (
        lambda: slim,
        wave(2, 64, 4, 4),
        (2, 48, 4, 4),
        (4.342343, 0.067557, 0.127705, -0.008324),
    ),
    "spconv": (
        lambda: filled(SPConv(16, 24, 2)),
        SQUARE,
        (2, 24, 4, 4),
        (-0.136411, 0.511850, -0.126217, -0.529352),
    ),
    "dgc": (filled_dgc, SQUARE, (2, 16, 8, 8), (11.645742, 0.192240, -0.060449, 0.237675)),
    "pyconv": (
        lambda: filled(PyConv(16, 16, 2, PYRAMIDS[2])),
        SQUARE,
        (2, 16, 4, 4),
        (32.387567, 0.210037, -0.060638, -0.166821),
    ),
    "psconv": (
        lambda: filled(PolyScaleConv(16, 16)),
        SQUARE,
        (2, 16, 8, 8),
        (-0.440449, 0.220036, -0.032511, -0.355847),
    ),
    "doconv": (filled_doconv, SQUARE, (2, 16, 8, 8), (-0.945756, 0.194413, -0.061730, -0.213825)),
    "condconv": (
        lambda: filled(CondConv(16, 24, 2)),
        1 + SQUARE,
        (2, 24, 4, 4),
        (0.129688, 0.028371, 0.020529, 0.006288),
    ),
    "dynamic_conv, T = 30": (
        lambda: filled_dynamic_conv(30.0),
        1 + SQUARE,
        (2, 24, 4, 4),
        (0.057581, 0.013153, 0.009489, 0.002901),
    ),
    "dynamic_conv, T = 1": (
        lambda: filled_dynamic_conv(1.0),
        1 + SQUARE,
        (2, 24, 4, 4),
        (0.127745, 0.012103, 0.009584, 0.003006),
    ),
    "mixconv": (
        lambda: mixed_depthwise,
        SQUARE,
        (2, 16, 4, 4),
        (-16.508113, 0.542587, 0.220137, -0.582483),
    ),
    "dwsep_conv": (
        lambda: with_norm(DepthwiseSeparableConv(16, 24, 2), 24),
        SQUARE,
        (2, 24, 4, 4),
        (-6.525041, 0.129713, -0.108261, 0.047438),
    ),
    "blazeblock": (
        lambda: filled(BlazeBlock(16, 24, 2, double=False)),
        SQUARE,
        (2, 24, 4, 4),
        (251.811519, 0.327880, 0.895008, 0.0),
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_the_numbers_of_the_references(name):
    make, x, shape, numbers = NUMBERS[name]
    with torch.no_grad():
        y = make()(x)
    assert y.shape == shape
    found = torch.stack([y.sum(), y.abs().mean(), y.flatten()[0], y.flatten()[-1]])
    agree(found, torch.tensor(numbers, dtype=torch.float64), 1e-6)


# Asymmetric convolution.


@strides
@pytest.mark.parametrize("size", [3, 5])
def test_acblock_folds_into_one_convolution(stride, channels, size):
    module, x = randomised(AsymmetricConvBlock(CHANNELS, channels, stride, size)), features()
    y, _ = run(module, x)
    folded = module.fold()
    assert y.shape == (3, channels, half(HEIGHT, stride), half(WIDTH, stride))
    assert type(folded) is nn.Conv2d and count(folded) == size**2 * CHANNELS * channels + channels
    agree(folded(x), y)


def test_acblock_is_the_sum_of_three_normed_convolutions():
    module, x = randomised(AsymmetricConvBlock(CHANNELS, CHANNELS)), features()
    y, records = run(module, x)
    expected = []
    for branch, padding in ((module.square, (1, 1)), (module.vertical, (1, 0)), (module.horizontal, (0, 1))):
        z = F.conv2d(x, branch[0].weight, padding=padding)
        bn = branch[1]
        expected.append(
            F.batch_norm(z, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, eps=bn.eps)
        )
    agree(records["views"], torch.stack(expected, dim=1))
    agree(y, sum(expected))


def test_acblock_adds_a_column_and_a_row_to_the_skeleton():
    module = randomised(AsymmetricConvBlock(CHANNELS, CHANNELS))
    _, records = run(module, features())
    agree(records["skeleton"], module.fold().weight.abs().mean((0, 1)))
    with torch.no_grad():
        module.square[1].weight.zero_()
    _, records = run(module, features())
    corners, cross = records["skeleton"][::2, ::2], records["skeleton"][1]
    assert not corners.any() and cross.min() > 0


# Activations.


@pytest.mark.parametrize(
    "make, formula, lowest, at",
    [
        (Swish, lambda x: x / (1 + (-x).exp()), -0.27846, -1.2785),
        (Mish, lambda x: x * (1 + x.exp()).log().tanh(), -0.30884, -1.1924),
    ],
)
def test_an_activation_equals_its_formula(make, formula, lowest, at):
    x = torch.linspace(-9, 9, 180_001, dtype=torch.float64).view(1, 1, 1, -1)
    y, records = run(make(), x)
    agree(y, formula(x))
    agree(records["preactivation"], x)
    assert abs(y.min().item() - lowest) < 1e-5 and abs(x.flatten()[y.argmin()].item() - at) < 1e-3
    x.requires_grad_()
    (slope,) = torch.autograd.grad(make()(x).sum(), x)
    assert (slope[x < -2] < 0).all() and (slope[x > -1] > 0).all()  # nowhere dead, unlike ReLU


def test_swish_may_learn_its_beta():
    learned, x = Swish(trainable=True).double(), features()
    agree(learned(x), Swish()(x))
    with torch.no_grad():
        learned.beta.fill_(1e4)
    agree(learned(x), torch.relu(x), 1e-4)
    assert count(learned) == 1 and count(Swish()) == 0


@pytest.mark.parametrize("name, kind", [("swish", Swish), ("mish", Mish)])
def test_no_relu_is_left(name, kind):
    modules = list(models.build(name).modules())
    assert sum(isinstance(m, kind) for m in modules) == 17
    assert not any(isinstance(m, nn.ReLU) for m in modules)


# Depthwise separable convolutions.


@strides
def test_dwsep_conv_equals_timm(stride, channels):
    ours = randomised(DepthwiseSeparableConv(CHANNELS, channels, stride))
    theirs = TimmSeparable(CHANNELS, channels, 3, stride, noskip=True, act_layer=nn.ReLU)
    theirs.bn2 = nn.Identity()  # the block's, in ours
    copy_state(theirs, ours, {"depthwise": "conv_dw", "bn": "bn1", "pointwise": "conv_pw"})
    y, _ = run(ours, features())
    assert y.shape == (3, channels, half(HEIGHT, stride), half(WIDTH, stride))
    agree(y, theirs(features()))


def test_dwsep_conv_is_a_convolution_whose_kernels_are_products():
    module, x = randomised(DepthwiseSeparableConv(CHANNELS, 128)), features().abs()
    module.bn = nn.Identity()
    with torch.no_grad():
        module.depthwise.weight.abs_()  # nothing negative, so the ReLU in between does nothing
    kernel = module.pointwise.weight * module.depthwise.weight[:, 0]  # (128, 64, 3, 3)
    y, records = run(module, x)
    agree(y, F.conv2d(x, kernel, padding=1))
    agree(records["filters"], module.depthwise.weight[:, 0])


@pytest.mark.parametrize("stride", [1, 2])
def test_mixconv_equals_timm(stride):
    ours, x = randomised(MixConv(CHANNELS, 128, stride)), features()
    theirs = timm.layers.MixedConv2d(CHANNELS, CHANNELS, [3, 5, 7], stride=stride, depthwise=True)
    theirs.double().load_state_dict(dict(ours.depthwise.state_dict()))
    y, records = run(ours, x)
    mixed = torch.cat([records[f"kernel_{size}"] for size in (3, 5, 7)], dim=1)
    assert [records[f"kernel_{size}"].shape[1] for size in (3, 5, 7)] == [22, 21, 21]
    agree(mixed, theirs(x))
    agree(y, F.conv2d(torch.relu(ours.bn(mixed)), ours.pointwise.weight))


# Ghosts.


@strides
@pytest.mark.parametrize("activation", [True, False])
def test_ghost_equals_timm(stride, channels, activation):
    ours = randomised(GhostModule(CHANNELS, channels, stride, activation=activation))
    act = nn.ReLU if activation else nn.Identity
    theirs = TimmGhost(CHANNELS, channels, kernel_size=3, stride=stride, act_layer=act)
    names = {"primary": "primary_conv.0", "bn1": "primary_conv.1"}
    copy_state(theirs, ours, names | {"cheap": "cheap_operation.0", "bn2": "cheap_operation.1"})
    y, records = run(ours, features())
    agree(y, theirs(features()))
    agree(torch.cat([records["intrinsic"], records["ghost"]], dim=1), y)


def test_a_ghost_is_made_from_its_own_original_alone():
    module, x = randomised(GhostModule(CHANNELS, CHANNELS)), features()
    _, records = run(module, x)

    def without_third(intrinsic: torch.Tensor) -> torch.Tensor:
        return intrinsic * (torch.arange(32) != 3).view(1, -1, 1, 1)

    with torch.no_grad(), recording(module, {"intrinsic": without_third}) as edited:
        module(x)
    changed = (edited["ghost"].tensor - records["ghost"]).abs().amax((0, 2, 3)) > 0
    assert changed.nonzero().flatten().tolist() == [3]


def test_ghost_keeps_an_odd_number_of_channels():
    assert run(randomised(GhostModule(CHANNELS, 25)), features())[0].shape[1] == 25


def test_ghost_has_no_activation_before_the_addition():
    site = {"channels_in": 64, "channels": 64, "size": 8}
    first, second = (models.CATALOGUE["ghost"].build(Site(**site, position=i)) for i in (1, 2))
    assert run(randomised(first), features())[0].min() == 0
    assert run(randomised(second), features())[0].min() < 0


# SlimConv.


def test_slimconv_equals_its_formula():
    module, x = randomised(SlimConv(CHANNELS)), features()
    y, records = run(module, x)
    gate = records["gate"][:, :, 0, 0]  # (3, 64)
    hidden = x.mean((2, 3)) @ module.squeeze.weight.flatten(1).T
    hidden = torch.relu(module.squeeze_bn(hidden[..., None, None]))[..., 0, 0]
    agree(gate, torch.sigmoid(hidden @ module.excite.weight.flatten(1).T + module.excite.bias))
    assert gate.min() > 0 and gate.max() < 1 and gate.std() > 0.01
    p = torch.stack([gate[:, c, None, None] * x[:, c] for c in range(64)], dim=1)
    q = torch.stack([gate[:, 63 - c, None, None] * x[:, c] for c in range(64)], dim=1)
    p, q = p[:, :32] + p[:, 32:], q[:, :32] + q[:, 32:]
    slimmed = torch.cat([module.top(p), module.bottom(q)], dim=1)
    assert slimmed.shape[1] == 48
    agree(y, F.conv2d(torch.relu(slimmed), module.project.weight))
    assert module.squeeze.out_channels == 2


# EffNet.


def test_effnet_equals_its_formula():
    module, x = randomised(EffNetBlock(CHANNELS, 128, 2)), features(size=(6, 8))

    def normed(z: torch.Tensor, bn: nn.BatchNorm2d) -> torch.Tensor:
        return bn(torch.where(z > 0, z, 0.3 * z))

    z = normed(F.conv2d(x, module.expand.weight), module.bn1)
    z = normed(F.conv2d(z, module.row.weight, padding=(0, 1), groups=64), module.bn2)
    z = torch.maximum(z[:, :, ::2], z[:, :, 1::2])  # the height is halved
    z = normed(F.conv2d(z, module.column.weight, padding=(1, 0), groups=64), module.bn3)
    kernel = module.project.weight  # (128, 64, 1, 2)
    y = torch.einsum("oc,bchw->bohw", kernel[..., 0, 0], z[..., ::2])  # and the width
    y = y + torch.einsum("oc,bchw->bohw", kernel[..., 0, 1], z[..., 1::2])
    agree(run(module, x)[0], y)


# DO-Conv.


@strides
def test_doconv_equals_its_formula_and_folds(stride, channels):
    module, x = randomised(DepthwiseOverparameterizedConv(CHANNELS, channels, stride)), features()
    kernel = torch.zeros(channels, CHANNELS, 9, dtype=torch.float64)
    for i in range(CHANNELS):
        for s in range(9):
            column = module.depthwise[i, :, s] + torch.eye(9, dtype=torch.float64)[:, s]
            kernel[:, i] += column * module.weight[:, i, s, None]
    folded = module.fold()
    agree(folded.weight, kernel.view_as(folded.weight))
    assert count(folded) == 9 * CHANNELS * channels and folded.bias is None
    y, _ = run(module, x)
    agree(y, F.conv2d(x, kernel.view(channels, CHANNELS, 3, 3), stride=stride, padding=1))
    agree(y, folded(x))


def test_doconv_starts_as_a_plain_convolution():
    module, x = DepthwiseOverparameterizedConv(CHANNELS, CHANNELS).double(), features()
    assert torch.equal(module(x), F.conv2d(x, module.weight.view(64, 64, 3, 3), padding=1))
    plain = nn.Conv2d(CHANNELS, CHANNELS, 3)
    assert abs(module.weight.std() / plain.weight.std() - 1) < 0.05


# Folding whole networks.


@pytest.mark.parametrize("name, folded_count", [("acblock", 11_170_122), ("doconv", 11_173_962)])
def test_a_network_of_foldable_modules_folds(name, folded_count):
    network, images = randomise(models.build(name)), pictures(2)
    folded = fold_modules(network)
    assert count(folded) == folded_count and count(network) == ROWS[name].total
    with torch.no_grad(), recording(folded) as records:
        logits = folded(images)
    with torch.no_grad(), recording(network) as expected:
        agree(logits, network(images), 1e-5)
    assert sorted(records) == [f"{block}.output" for block in BLOCKS]
    for path, entry in records.items():
        scale = expected[path].tensor.abs().max()
        assert (entry.tensor - expected[path].tensor).abs().max() < 1e-5 * scale


def test_fuse_conv_bn_equals_its_formula():
    module, x = randomised(FuseConvBN(CHANNELS)), features()
    y, _ = run(module, x)
    folded, bn = module.fold(), module.bn
    factor = bn.weight / (bn.running_var + bn.eps).sqrt()
    agree(folded.weight, module.conv.weight * factor.view(-1, 1, 1, 1))
    agree(folded.bias, bn.bias - factor * bn.running_mean)
    agree(folded(x), y)


def test_fuse_conv_bn_leaves_no_norm_in_the_plain_network():
    network, images = randomise(models.build("plain")).train(), pictures(2)
    fused = fuse_network(network)
    assert network.training  # the network itself is left alone
    assert count(fused) == 11_169_162 and count(network) == 11_173_962
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    with torch.no_grad():
        agree(fused(images), network.eval()(images), 1e-5)


def test_fuse_conv_bn_makes_no_network():
    with pytest.raises(ValueError, match="fuse_conv_bn has no place in a classifier"):
        models.build("fuse_conv_bn")


# Pyramids and poly-scale.


def impulse(size: int = 19) -> torch.Tensor:
    x = torch.zeros(1, CHANNELS, size, size, dtype=torch.float64)
    x[:, :, size // 2, size // 2] = 1
    return x


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_pyconv_follows_the_plan_of_its_stage(stage):
    widths = {1: (16, 16, 16, 16), 2: (16, 16, 32), 3: (32, 32), 4: (64,)}[stage]
    module = models.CATALOGUE["pyconv"].build(Site(64, 64, 32, stage=stage))
    _, records = run(randomised(module), impulse())
    assert list(records) == [f"kernel_{size}" for size in (3, 5, 7, 9)[: 5 - stage]]
    for (name, answer), width, level in zip(records.items(), widths, module.levels):
        size = int(name.removeprefix("kernel_"))
        assert answer.shape[1] == width and level.groups == {3: 1, 5: 4, 7: 8, 9: 16}[size]
        reached = (answer[0] != 0).any(0).nonzero()
        assert (reached.amin(0).tolist(), reached.amax(0).tolist()) == (
            [9 - size // 2] * 2,
            [9 + size // 2] * 2,
        )


@strides
def test_pyconv_stacks_grouped_convolutions(stride, channels):
    module, x = randomised(PyConv(CHANNELS, channels, stride)), features()
    y, _ = run(module, x)
    expected = []
    for level in module.levels:
        size, width = level.kernel_size[0], level.weight.shape[1]  # channels that a filter reads
        for group, filters in enumerate(level.weight.chunk(CHANNELS // width)):
            part = x[:, group * width : (group + 1) * width]
            expected.append(F.conv2d(part, filters, stride=stride, padding=size // 2))
    agree(y, torch.cat(expected, dim=1))


def test_psconv_reaches_as_far_as_its_pattern_says():
    table = torch.tensor([[2, 1, 4, 1], [1, 2, 1, 4], [4, 1, 2, 1], [1, 4, 1, 2]])
    module = randomised(PolyScaleConv(CHANNELS, CHANNELS))
    _, records = run(module, features())
    assert torch.equal(records["pattern"], table)
    for i in range(4):
        x = impulse()
        x[:, torch.arange(64) // 16 != i] = 0  # one fourth of the input channels
        with torch.no_grad():
            y = module(x)[0]
        for o, part in enumerate(y.chunk(4)):
            reached = (part != 0).any(0).nonzero()
            assert reached.amax().item() - 9 == 9 - reached.amin().item() == table[o, i]


@strides
def test_psconv_equals_its_formula_in_loops(stride, channels):
    module, x = randomised(PolyScaleConv(CHANNELS, channels, stride)), features()
    y, records = run(module, x)
    expected = torch.zeros_like(y)
    rows, columns = channels // 4, CHANNELS // 4
    for o in range(4):
        for i in range(4):
            spread = 2 if o == i else 4 if (o - i) % 4 == 2 else 1
            block = module.conv.weight[o * rows : (o + 1) * rows, i * columns : (i + 1) * columns]
            part = x[:, i * columns : (i + 1) * columns]
            expected[:, o * rows : (o + 1) * rows] += F.conv2d(
                part, block, stride=stride, padding=spread, dilation=spread
            )
    agree(y, expected)
    agree(records["views"].sum(1), y)
    assert records["views"].abs().amax((0, 2, 3, 4)).min() > 0.01


def test_psconv_refuses_channels_that_do_not_divide():
    with pytest.raises(ValueError, match="do not divide into 4 parts"):
        PolyScaleConv(62, 64)


# Dynamic group convolution.


@pytest.mark.parametrize(
    "progress, expected", [(0, 0), (1 / 12, 0), (0.2, 17), (0.5, 60), (0.75, 96), (1, 96)]
)
def test_dgc_lets_go_of_channels_as_training_goes_on(progress, expected):
    module = randomised(DynamicGroupConv(128, 128, kept=0.25))
    module.set_progress(progress)
    assert module.inactive == expected and "inactive" in module.state_dict()
    with torch.no_grad():
        module.excite.bias.fill_(3)  # every channel is rated above zero
    _, records = run(module, features(channels=128))
    assert ((records["saliency"] > 0).sum(2) == 128 - expected).all()


def test_dgc_keeps_the_channels_of_the_reference():
    with collecting_losses() as losses:
        _, records = run(filled_dgc(), SQUARE)
    kept = [[0, 1, 6, 13], [3, 4, 9, 10], [0, 5, 6, 13], [2, 8, 9, 14]]
    for picture in records["saliency"]:
        assert [row.nonzero().flatten().tolist() for row in picture] == kept
    (loss,) = losses
    assert abs(loss(torch.zeros(2)).item() - 1e-5 * 4.015226) < 1e-11


@strides
def test_dgc_equals_its_formula_in_loops(stride, channels):
    module, x = randomised(DynamicGroupConv(CHANNELS, channels, stride)), features()
    module.set_progress(0.6)
    inactive = round(64 * 0.55 * 1.5 * (0.6 - 1 / 12))
    assert module.inactive == inactive > 20
    y, records = run(module, x)
    x = torch.relu(module.bn(x))
    pooled = x.mean((2, 3))
    answers = []
    for h in range(4):
        hidden = torch.relu(pooled @ module.squeeze.weight[8 * h : 8 * h + 8, :, 0, 0].T)
        rows = slice(64 * h, 64 * h + 64)
        ratings = torch.relu(hidden @ module.excite.weight[rows, :, 0, 0].T + module.excite.bias[rows])
        ratings = ratings.detach()
        for rating in ratings:
            rating[rating.sort().indices[:inactive]] = 0
        agree(records["saliency"][:, h], ratings)
        kernel = module.conv.weight.chunk(4)[h]  # (C/4, 64, 3, 3)
        answers.append(F.conv2d(x * ratings[..., None, None], kernel, stride=stride, padding=1))
    shuffled = [answers[c % 4][:, c // 4] for c in range(channels)]
    agree(y, torch.stack(shuffled, dim=1))
    kept = records["saliency"] > 0
    assert (kept[0] != kept[1]).any() and (kept[:, 0] != kept[:, 1]).any()


def test_dgc_learns_through_the_channels_it_keeps():
    module, x = randomised(DynamicGroupConv(CHANNELS, CHANNELS)), features()
    with torch.no_grad():
        module.squeeze.weight.zero_()
        module.excite.bias.copy_(torch.linspace(1, 2, 256))  # each head keeps its last channels
    module.set_progress(1.0)
    (gradient,) = torch.autograd.grad(module(x).square().sum(), module.excite.bias)
    gradient = gradient.view(4, 64)
    assert module.inactive == 35
    assert not gradient[:, :35].any() and (gradient[:, 35:] != 0).all()


def test_dgc_starts_with_the_authors_ratings():
    torch.manual_seed(0)
    found = [module for module in models.build("dgc").modules() if isinstance(module, DynamicGroupConv)]
    for module in found:  # Kaiming, fan-in: of each head, as it has layers of its own
        assert is_about(module.squeeze.weight, (2 / module.squeeze.in_channels) ** 0.5)
        assert is_about(module.excite.weight, (2 / (module.squeeze.out_channels / 4)) ** 0.5)
    assert len(found) == 16


def test_dgc_starts_with_all_channels_and_a_small_penalty_in_each_layer():
    module = DynamicGroupConv(CHANNELS, CHANNELS)
    assert (module.excite.bias == 1).all() and module.inactive == 0
    assert module.squeeze.out_channels == 4 * 8
    assert DynamicGroupConv(128, 128).squeeze.out_channels == 4 * 8
    with collecting_losses() as losses:
        models.build("dgc")(pictures(2))
    assert len(losses) == 16
    loss = sum(loss(torch.zeros(2, dtype=torch.long)) for loss in losses)
    assert loss.requires_grad and 16 * 4 * 0.8e-5 < loss < 16 * 4 * 1.5e-5


# Kernels mixed for each picture.


@strides
@pytest.mark.parametrize("kind", [DynamicConv, CondConv])
def test_mixed_kernels_equal_timm(kind, stride, channels):
    module, x = randomised(kind(CHANNELS, channels, stride)), features()
    theirs = timm.layers.CondConv2d(CHANNELS, channels, 3, stride=stride, padding=1, num_experts=4).double()
    banks = module.banks if kind is DynamicConv else module.experts
    with torch.no_grad():
        theirs.weight.copy_(banks.weight.view(4, -1))
    pooled = x.mean((2, 3))
    if kind is DynamicConv:
        hidden = torch.relu(pooled @ module.squeeze.weight.T)
        scores = hidden @ module.excite.weight.T + module.excite.bias
        shares = (scores / module.temperature).softmax(1)
        agree(shares.sum(1), torch.ones(3, dtype=torch.float64))
        name = "weights"
    else:
        shares = torch.sigmoid(pooled @ module.route.weight.T + module.route.bias)
        assert (shares.sum(1) - 1).abs().max() > 0.1  # no competition
        name = "gate"
    assert shares.std() > 0.01
    y, records = run(module, x)
    agree(records[name], shares)
    agree(y, theirs(x, shares))
    alone, _ = run(module, x[1:2])  # a batch of one mixes the kernels, not the answers
    agree(alone, y[1:2])
    banks = banks.weight.view(4, channels, CHANNELS, 3, 3)
    for picture, share, expected in zip(x, shares, y):
        kernel = sum(share[k] * banks[k] for k in range(4))
        agree(F.conv2d(picture[None], kernel, stride=stride, padding=1)[0], expected)


def test_the_mixtures_of_the_references():
    _, records = run(filled(CondConv(16, 24, 2)), 1 + SQUARE)
    expected = [(0.547996, 0.554768, 0.543890, 0.535426), (0.547201, 0.553652, 0.542590, 0.534113)]
    agree(records["gate"], torch.tensor(expected, dtype=torch.float64), 2e-6)
    for temperature, expected in (
        (30.0, [(0.251715, 0.252256, 0.248608, 0.247421), (0.251675, 0.252197, 0.248640, 0.247488)]),
        (1.0, [(0.298307, 0.318143, 0.205522, 0.178028), (0.297312, 0.316356, 0.206603, 0.179729)]),
    ):
        _, records = run(filled_dynamic_conv(temperature), 1 + SQUARE)
        agree(records["weights"], torch.tensor(expected, dtype=torch.float64), 2e-6)


def test_dynamic_conv_cools_down_and_stays_cool():
    module = DynamicConv(CHANNELS, CHANNELS)
    assert module.temperature == 30
    for progress, expected in ((0.0, 30.0), (0.05, 15.5), (0.1, 1.0), (0.5, 1.0), (1.0, 1.0)):
        module.set_progress(progress)
        assert abs(module.temperature.item() - expected) < 1e-5
    other = DynamicConv(CHANNELS, CHANNELS)
    other.load_state_dict(module.state_dict())
    assert other.temperature == 1  # it travels with the weights


@pytest.mark.parametrize("kind", [DynamicConv, CondConv])
def test_each_filter_bank_starts_like_a_plain_convolution(kind):
    module = kind(CHANNELS, CHANNELS)
    banks = module.banks if kind is DynamicConv else module.experts
    for bank in banks.weight.chunk(4):
        assert abs(bank.std().item() * (3 * 9 * CHANNELS) ** 0.5 - 1) < 0.03
    assert banks.weight.chunk(4)[0].ne(banks.weight.chunk(4)[1]).all()


# SPConv.


@strides
def test_spconv_equals_its_formula(stride, channels):
    module, x = randomised(SPConv(CHANNELS, channels, stride)), features(size=(6, 8))
    y, records = run(module, x)
    a, b = x[:, :32], x[:, 32:]
    window = torch.cat(
        [
            F.conv2d(a[:, 16 * g : 16 * g + 16], weight, stride=stride, padding=1)
            for g, weight in enumerate(module.window.weight.chunk(2))
        ],
        dim=1,
    )
    if stride == 2:  # averages of 2x2 cells
        a, b = (
            (z[..., ::2, ::2] + z[..., ::2, 1::2] + z[..., 1::2, ::2] + z[..., 1::2, 1::2]) / 4
            for z in (a, b)
        )
    u = module.bn1(window + F.conv2d(a, module.point.weight))
    v = module.bn2(F.conv2d(b, module.quick.weight, module.quick.bias))
    odds = (u.mean((2, 3)) - v.mean((2, 3))).exp()
    share = (odds / (1 + odds))[..., None, None]
    agree(records["weights"], torch.stack([share, 1 - share], dim=1))
    agree(y, share * u + (1 - share) * v)
    assert share.std() > 0.01


# BlazeBlock.


@strides
@pytest.mark.parametrize("double", [True, False])
def test_blazeblock_equals_its_formula(stride, channels, double):
    module = randomised(BlazeBlock(CHANNELS, channels, stride, double=double))
    x = features(size=(6, 8))
    depthwise, bn1, pointwise, bn2, *rest = module.residual
    z = bn2(F.conv2d(bn1(F.conv2d(x, depthwise.weight, None, stride, 2, 1, 64)), pointwise.weight))
    if double:
        _, depthwise, bn1, pointwise, bn2 = rest
        z = bn1(F.conv2d(torch.relu(z), depthwise.weight, None, 1, 2, 1, channels))
        z = bn2(F.conv2d(z, pointwise.weight))
    else:
        assert not rest
    skip = torch.zeros_like(z)
    corners = [x[..., i::stride, j::stride] for i in range(stride) for j in range(stride)]
    skip[:, :64] = torch.stack(corners).amax(0)
    y, _ = run(module, x)
    agree(y, torch.relu(z + skip))
    assert count(module) == sum(
        25 * i + 2 * i + i * channels + 2 * channels for i in (64, channels)[: 1 + double]
    )


def test_blazeblock_refuses_fewer_channels():
    with pytest.raises(ValueError, match="128 channels cannot be padded to 64"):
        BlazeBlock(128, 64)


def test_a_network_of_single_blazeblocks():
    with torch.device("meta"):
        network = models.build("blazeblock")
        for block in BLOCKS:
            conv = network.get_submodule(f"{block}.block").residual[0]
            channels = network.get_submodule(f"{block}.block").residual[-1].num_features
            network.set_submodule(f"{block}.block", BlazeBlock(conv.in_channels, channels, double=False))
    assert count(network) == 574_858


# All of them, as modules and in a network.


def built(name: str, channels: int = CHANNELS, stride: int = 1) -> nn.Module:
    """The module at the entry's first site, in float32, but for a narrow map."""
    entry = models.CATALOGUE[name]
    stage = int(entry.sites[0].removeprefix("layer")[0]) if entry.sites else 0
    return randomise(entry.build(Site(CHANNELS, channels, 8, stride, stage, position=1)))


@all_of_them
def test_a_batch_of_one(name):
    module, x = built(name), features().float()
    with torch.inference_mode():
        agree(module(x[:1]), module(x)[:1], 1e-5)


@all_of_them
def test_a_recorded_forward_gives_the_same(name):
    module, x = built(name), features().float()
    with torch.inference_mode():
        expected = module(x)
        agree(run(module, x)[0], expected, 1e-5)


@all_of_them
def test_the_gradient_reaches_every_parameter_and_record(name):
    module, x = built(name).train(), features().float()
    with recording(module) as records:
        y = module(x)
    wanted = dict(module.named_parameters())
    wanted |= {
        path: entry.tensor
        for path, entry in records.items()
        if not entry.static and entry.tensor.requires_grad
    }
    if name in ("swish", "mish"):
        assert not wanted
        return
    target = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(((y - target) ** 2).sum(), list(wanted.values()), allow_unused=True)
    for path, gradient in zip(wanted, gradients):
        assert gradient is not None and gradient.isfinite().all() and gradient.abs().max() > 0, path


@pytest.mark.parametrize("name", [name for name in ROWS if models.CATALOGUE[name].slot in ("conv", "block")])
def test_a_stride_fits_the_shortcut(name):
    """Maps of any size: half of 5 and 7 is 3 and 4, as a strided 3x3 or 1x1 convolution has it."""
    with torch.inference_mode():
        assert built(name, 128, stride=2)(features().float()).shape == (3, 128, 3, 4)


@all_of_them
def test_the_docstring_fits_the_page(name):
    sentence, formula, *paragraphs = models.CATALOGUE[name].explanation.split("\n\n")
    assert sentence.endswith(".") and "\n" not in sentence
    assert formula.startswith("$$") and formula.endswith("$$")
    assert [p.split("**")[1] for p in paragraphs[-2:]] == ["What to look for.", "Shapes."]
