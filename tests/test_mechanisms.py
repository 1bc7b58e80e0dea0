"""The formulas: each mechanism against an independent implementation, in float64, and as theorems.

Every module is randomised first (a gamma of zero makes any comparison true) and sees a batch of maps that are
not square. Every comparison also checks that the module does change its input.
"""

import pytest
import timm.layers
import torch
import torch.nn.functional as F
import torchvision
from conftest import pictures, randomise
from torch import nn

import models
from models.attention.cbam import CBAM
from models.attention.danet import DualAttention
from models.attention.non_local import NonLocal
from models.attention.se import SqueezeExcitation
from models.attention.self_attention import SelfAttention
from models.attention.sk import SelectiveKernel
from models.recording import recording
from tests.forms import agree, copy_state, features, is_about, randomised, run

CHANNELS, HEIGHT, WIDTH = 64, 5, 7
CELLS = HEIGHT * WIDTH


# Squeeze-and-Excitation.


def test_se_equals_torchvision():
    ours = randomised(SqueezeExcitation(CHANNELS))
    theirs = torchvision.ops.SqueezeExcitation(CHANNELS, CHANNELS // 16)
    copy_state(theirs, ours, {"squeeze": "fc1", "excite": "fc2"})
    y, _ = run(ours, features())
    agree(y, theirs(features()))


def test_se_equals_timm():
    ours = randomised(SqueezeExcitation(CHANNELS, reduction=8))
    theirs = timm.layers.SEModule(CHANNELS, rd_channels=CHANNELS // 8)
    copy_state(theirs, ours, {"squeeze": "fc1", "excite": "fc2"})
    y, _ = run(ours, features())
    agree(y, theirs(features()))


def test_se_gate_is_what_each_channel_is_multiplied_by():
    x = features()
    y, records = run(randomised(SqueezeExcitation(CHANNELS)), x)
    assert records["gate"].min() > 0 and records["gate"].max() < 1 and records["gate"].std() > 0.01
    agree(y, x * records["gate"])


def test_se_does_not_see_where():
    module = randomised(SqueezeExcitation(CHANNELS))
    shuffled = features().flatten(2)[:, :, torch.randperm(CELLS)].view(3, CHANNELS, HEIGHT, WIDTH)
    agree(run(module, features())[1]["gate"], run(module, shuffled)[1]["gate"])


# Selective Kernel.


@pytest.mark.parametrize("stride, channels", [(1, 64), (2, 128)])
def test_sk_equals_timm(stride, channels):
    ours = randomised(SelectiveKernel(CHANNELS, channels, stride))
    theirs = timm.layers.SelectiveKernel(
        CHANNELS, channels, stride=stride, groups=2, rd_channels=32, split_input=False
    )
    names = {
        f"branches.{m}.{i}": f"paths.{m}.{part}" for m in (0, 1) for i, part in enumerate(("conv", "bn"))
    }
    names |= {"squeeze.0": "attn.fc_reduce", "squeeze.1": "attn.bn", "select": "attn.fc_select"}
    copy_state(theirs, ours, names)
    y, _ = run(ours, features())
    assert y.shape == (3, channels, -(-HEIGHT // stride), -(-WIDTH // stride))
    agree(y, theirs(features()))


def test_sk_mixes_its_branches_by_shares():
    module = randomised(SelectiveKernel(CHANNELS, CHANNELS))
    y, records = run(module, features())
    weights = records["weights"]
    agree(weights.sum(1), torch.ones_like(weights[:, 0]))
    assert weights.min() > 0 and (weights[:, 0] - weights[:, 1]).abs().max() > 0.01
    narrow, wide = (branch(features()) for branch in module.branches)
    agree(y, weights[:, 0] * narrow + weights[:, 1] * wide)
    assert y.min() >= 0


def test_sk_sees_five_cells_with_the_dilated_branch():
    module = randomised(SelectiveKernel(CHANNELS, CHANNELS))
    x = torch.zeros(1, CHANNELS, 7, 7, dtype=torch.float64)
    there = x.clone()
    there[:, :, 3, 3] = 1
    for branch, reach in zip(module.branches, (1, 2)):
        moved = (branch[0](there) != branch[0](x)).any(1)[0].nonzero()
        assert (moved.amin(0).tolist(), moved.amax(0).tolist()) == ([3 - reach] * 2, [3 + reach] * 2)


# CBAM.


def test_cbam_equals_timm():
    ours = randomised(CBAM(CHANNELS))
    theirs = timm.layers.cbam.CbamModule(CHANNELS, rd_ratio=1 / 16, mlp_bias=True)
    names = {"squeeze": "channel.fc1", "excite": "channel.fc2"}
    copy_state(theirs, ours, names | {"conv": "spatial.conv.conv", "bn": "spatial.conv.bn"})
    y, _ = run(ours, features())
    assert not torch.allclose(y, theirs(features()))
    with torch.no_grad():  # timm stacks (mean, max), the authors (max, mean)
        theirs.spatial.conv.conv.weight.copy_(ours.conv.weight.flip(1))
    agree(y, theirs(features()))


def test_cbam_gates_the_channels_first():
    x = features()
    module = randomised(CBAM(CHANNELS))
    y, records = run(module, x)
    channel, spatial = records["channel_gate"], records["spatial_gate"]
    for gate in (channel, spatial):
        assert gate.min() > 0 and gate.max() < 1 and gate.std() > 0.01
    agree(y, x * channel * spatial)
    gated = x * channel
    summary = torch.stack([gated.amax(1), gated.mean(1)], dim=1)
    agree(spatial, torch.sigmoid(module.bn(F.conv2d(summary, module.conv.weight, padding=3))))


# Self-attention.


@pytest.mark.parametrize("heads", [4, 2])
def test_self_attention_equals_torch(heads):
    ours = randomised(SelfAttention(CHANNELS, heads))
    theirs = nn.MultiheadAttention(CHANNELS, heads, batch_first=True).double().eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight.flatten(1))
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.project.weight.flatten(1))
        theirs.out_proj.bias.copy_(ours.project.bias)
    x = features()
    y, records = run(ours, x)
    tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
    gathered, weights = theirs(tokens, tokens, tokens, average_attn_weights=False)
    agree(y, x + ours.gamma * gathered.transpose(1, 2).view_as(x))
    assert records["affinity"].shape == (3, heads, CELLS, HEIGHT, WIDTH)
    agree(records["affinity"].flatten(3), weights)


# Non-local.


def test_non_local_equals_timm():
    ours = randomised(NonLocal(CHANNELS))
    theirs = timm.layers.NonLocalAttn(CHANNELS, rd_ratio=0.5)
    copy_state(theirs, ours, {"query": "t", "key": "p", "value": "g", "project": "z", "bn": "norm"})
    with torch.no_grad():  # timm scales by the width of the input, the authors by that of the query
        for parameter in theirs.t.parameters():
            parameter.mul_(2**0.5)
    y, _ = run(ours, features())
    agree(y, theirs(features()))


def test_non_local_equals_its_formula_in_loops():
    module, x = randomised(NonLocal(CHANNELS)), features()
    y, records = run(module, x)
    query, key, value = (
        conv(x).flatten(2) for conv in (module.query, module.key, module.value)
    )  # (B, C', N)
    gathered = torch.zeros_like(value)
    for picture in range(len(x)):
        for i in range(CELLS):
            match = torch.stack([query[picture, :, i] @ key[picture, :, j] for j in range(CELLS)])
            share = (match / (CHANNELS // 2) ** 0.5).exp()
            share = share / share.sum()
            agree(records["affinity"][picture, i].flatten(), share)
            gathered[picture, :, i] = sum(share[j] * value[picture, :, j] for j in range(CELLS))
    agree(y, x + module.bn(module.project(gathered.view(3, -1, HEIGHT, WIDTH))))


# DANet.


def position_part(module: DualAttention, x: torch.Tensor) -> torch.Tensor:
    """alpha S V by torch's attention, whose scale is switched off."""
    tokens = (conv(x).flatten(2).transpose(1, 2) for conv in (module.query, module.key, module.value))
    gathered = F.scaled_dot_product_attention(*tokens, scale=1.0)
    return module.alpha * gathered.transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("sign", [-1, 1])
def test_danet_equals_its_formula(sign):
    module, x = randomised(DualAttention(CHANNELS, channel_sign=sign)), features()
    y, records = run(module, x)
    expected = x + position_part(module, x)
    for picture in range(len(x)):
        detectors = x[picture].flatten(1)  # (C, N)
        for c in range(CHANNELS):
            energy = torch.stack([detectors[c] @ detectors[k] for k in range(CHANNELS)])
            # the authors' code: softmax(max - E); the paper's formula: softmax(E)
            share = (energy.max() - energy if sign == -1 else energy).softmax(0)
            torch.testing.assert_close(
                records["channel"][picture, c].double(), share, rtol=1e-4, atol=1e-6
            )  # computed in float32
            expected[picture, c] += module.beta * (share @ detectors).view(HEIGHT, WIDTH)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_danet_position_branch_equals_its_formula_in_loops():
    module, x = randomised(DualAttention(CHANNELS)), features()
    _, records = run(module, x)
    query, key = module.query(x).flatten(2), module.key(x).flatten(2)
    for picture in range(len(x)):
        for i in range(CELLS):
            match = torch.stack([query[picture, :, i] @ key[picture, :, j] for j in range(CELLS)])
            agree(records["position"][picture, i].flatten(), match.softmax(0))
    with torch.no_grad():
        module.beta.zero_()
    y, _ = run(module, x)
    agree(y, x + position_part(module, x))


def test_danet_channels_turn_away_from_themselves():
    """By the authors' sign a channel weighs itself least of all, by the paper's formula most."""
    x = features()
    for sign, extreme in ((-1, "amin"), (1, "amax")):
        _, records = run(randomised(DualAttention(CHANNELS, channel_sign=sign)), x)
        channel = records["channel"]
        agree(channel.diagonal(dim1=1, dim2=2), getattr(channel, extreme)(2))


def test_danet_energies_do_not_overflow_half_precision():
    module = randomise(DualAttention(CHANNELS))
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        y = module(100 * features().float())  # energies of about 350,000; float16 ends at 65,504
    assert y.isfinite().all()


# All of a kind.

PAIRWISE = {
    "self_attention": (lambda: SelfAttention(CHANNELS), ("affinity",)),
    "non_local": (lambda: NonLocal(CHANNELS), ("affinity",)),
    "danet": (lambda: DualAttention(CHANNELS), ("position",)),
}


@pytest.mark.parametrize("name", PAIRWISE)
def test_affinities_sum_to_one_over_the_keys(name):
    make, names = PAIRWISE[name]
    _, records = run(randomised(make()), features())
    for affinity in (records[name] for name in names):
        assert affinity.shape[-3:] == (CELLS, HEIGHT, WIDTH) and affinity.min() >= 0
        sums = affinity.sum((-1, -2))
        agree(sums, torch.ones_like(sums))
        # and not over the queries: the other reading of the same matrix
        received = affinity.sum(-3)
        assert (received - 1).abs().max() > 0.01
    if name == "danet":
        sums = records["channel"].double().sum(2)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PAIRWISE)
def test_the_lean_path_equals_the_explicit_one(name):
    module, x = randomised(PAIRWISE[name][0]()), features()
    with torch.no_grad():
        agree(module(x), run(module, x)[0])


@pytest.mark.parametrize("name", PAIRWISE)
def test_a_query_map_says_where_its_cell_reads(name):
    """A change at a place with weight zero changes nothing at the cell; a change elsewhere does."""
    module, x = randomised(PAIRWISE[name][0]()), features()
    key, query = (2, 6), (4, 1)
    local = PAIRWISE[name][1][0]
    only_there = torch.zeros(HEIGHT, WIDTH, dtype=torch.float64)
    only_there[key] = 1
    readings = []
    for picture in (x, x * only_there + features(1) * (1 - only_there)):  # the same at `key`, else all new
        picture[:, :, query[0], query[1]] = x[:, :, query[0], query[1]]
        with torch.no_grad(), recording(module, {local: lambda a: only_there.expand_as(a)}):
            y = module(picture)
        if name == "danet":
            y = y - module.beta * module.between_channels(picture)
        readings.append(y[:, :, query[0], query[1]])
    torch.testing.assert_close(readings[0], readings[1], rtol=1e-4, atol=1e-5)


# Beginnings.


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("training", [True, False])
def test_it_starts_as_the_identity(name, training):
    module, x = PAIRWISE[name][0]().double().train(training), features()
    assert torch.equal(module(x), x)
    assert not torch.equal(randomise(module)(x), x)


@pytest.mark.parametrize("name", PAIRWISE)
def test_an_untrained_network_starts_as_the_plain_one(name):
    network, plain = models.build(name).eval(), models.build("plain").eval()
    state = network.state_dict()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    with torch.no_grad():
        assert torch.equal(network(pictures(2)), plain(pictures(2)))


def inserted(name: str, kind: type[nn.Module]) -> list[nn.Module]:
    """The mechanism's modules in an untrained network: what the host does with them counts."""
    found = [module for module in models.build(name).modules() if type(module) is kind]
    assert len(found) == (2 if name in PAIRWISE else 8)
    return found


def test_cbam_starts_with_a_spatial_gate_of_one_half():
    for module in inserted("cbam", CBAM):
        assert module.bn.momentum == 0.01 and module.bn.eps == 1e-5
        assert not module.bn.weight.any() and not module.bn.bias.any()
        assert not module.squeeze.bias.any() and not module.excite.bias.any()
        assert is_about(module.conv.weight, (2 / 49) ** 0.5)  # kaiming, fan-out
        x = torch.randn(2, module.squeeze.in_channels, HEIGHT, WIDTH)
        _, records = run(module, x)
        assert (records["spatial_gate"] == 0.5).all()


def test_sk_starts_with_equal_shares():
    for module in inserted("sk", SelectiveKernel):
        assert is_about(module.squeeze[0].weight, 0.01) and is_about(module.select.weight, 0.01)
        assert module.squeeze[0].out_channels == 32
        _, records = run(module.eval(), torch.randn(2, module.branches[0][0].in_channels, HEIGHT, WIDTH))
        assert (records["weights"] - 0.5).abs().max() < 0.01


def test_non_local_starts_small_and_switched_off():
    for module in inserted("non_local", NonLocal):
        for conv in (module.query, module.key, module.value, module.project):
            assert is_about(conv.weight, 0.01) and not conv.bias.any()
        assert not module.bn.weight.any()


def test_self_attention_starts_switched_off():
    for module in inserted("self_attention", SelfAttention):
        channels = module.project.in_channels
        bound = (6 / (channels + 3 * channels)) ** 0.5  # Xavier, uniform
        assert module.qkv.weight.abs().max() <= bound and is_about(module.qkv.weight, bound / 3**0.5)
        assert not module.qkv.bias.any() and module.gamma == 0


def test_danet_starts_switched_off():
    for module in inserted("danet", DualAttention):
        assert module.alpha == 0 and module.beta == 0 and module.channel_sign == -1
