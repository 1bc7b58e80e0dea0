"""What the explanations say of a mechanism, computed: each sentence is looked up, and then found to be true.

Sentences that went wrong once stand here, so that neither the words nor the code can drift away again.
"""

import pytest
import torch
from forms import features, randomised, run
from torch import nn

from models.attention.dca import DeepConnectedAttention
from models.attention.feature_fusion import MultiScaleChannelAttention
from models.attention.non_local import NonLocalGaussian
from models.attention.shuffle_attention import ShuffleAttention
from models.catalogue import Site
from models.modules.effnet import EffNetBlock
from models.networks import CATALOGUE

LINEAR = nn.Linear | nn.Conv1d | nn.Conv2d


def says(name: str, sentence: str) -> bool:
    return sentence in " ".join(CATALOGUE[name].explanation.split())


def test_shuffle_attention_lays_the_first_eight_groups_and_the_last_eight_into_each_other():
    assert says("shuffle_attention", "channels of groups 1 and 9, 2 and 10, ... come to stand side by side")
    module = ShuffleAttention(32).double().eval()  # as it starts, all gates are alike; a channel a half
    group = torch.arange(16.0, dtype=torch.float64).repeat_interleave(2) + 1
    y = module(group.view(1, 32, 1, 1).expand(1, 32, 2, 2))[0, :, 0, 0]
    found = (y / y[0]).round().int().tolist()
    assert found[:4] == [1, 9, 1, 9] and found[4:8] == [2, 10, 2, 10]


def test_ms_cam_adds_its_two_opinions_and_neither_wins_by_being_larger():
    assert says(
        "ms_cam", "their sum decides the gate, so a strong yes of one can outvote the no of the other"
    )
    _, records = run(randomised(MultiScaleChannelAttention(8)), features(channels=8))
    total = records["global_logit"] + records["local_logit"]
    assert torch.equal(records["full_gate"] > 0.5, total > 0)
    larger_says_yes = torch.maximum(records["global_logit"], records["local_logit"]) > 0
    assert not torch.equal(records["full_gate"] > 0.5, larger_says_yes)


def test_in_dca_se_only_the_ratio_and_the_signs_of_alpha_and_beta_count():
    assert says("dca_se", "Only their ratio and their signs count, for the norm takes out a common positive")
    assert says("dca_se", "The scalar b is the authors', and has no effect")
    module, x, carry = randomised(DeepConnectedAttention(64, 64)), features(), features(1).mean((2, 3))
    module.norm.eps = 0.0
    before = module(x, carry)[0]
    with torch.no_grad():
        module.connect.weight.mul_(3)
        module.connect.bias.add_(2)
    torch.testing.assert_close(module(x, carry)[0], before)
    with torch.no_grad():
        module.connect.weight.neg_()
    assert not torch.allclose(module(x, carry)[0], before)
    with torch.no_grad():
        module.connect.weight.neg_()
        module.connect.weight[0, 0] *= 3
    assert not torch.allclose(module(x, carry)[0], before)


@pytest.mark.parametrize("name", ["dca_se", "split_attention", "gsop", "global_context", "iau"])
def test_biases_are_in_the_formula_or_said_to_be_left_out(name):
    entry = CATALOGUE[name]
    layers = entry.build(Site(64, 64, 16, stage=2, block=1)).modules()
    assert any(getattr(layer, "bias", None) is not None for layer in layers if isinstance(layer, LINEAR))
    formula = "".join(entry.explanation.split("$$")[1::2])
    assert "+ b" in formula or says(name, "All convolutions have biases, left out above")


@pytest.mark.parametrize(("name", "sides"), [("psp", (3, 6)), ("mixed_pooling", (3,))])
def test_fields_that_do_not_divide_a_map_of_eight_overlap(name, sides, monkeypatch):
    assert says(name, "overlap")
    asked, pool = [], nn.functional.adaptive_avg_pool2d
    monkeypatch.setattr(
        nn.functional,
        "adaptive_avg_pool2d",
        lambda x, side: asked.append((x.shape[-1], side)) or pool(x, side),
    )
    CATALOGUE[name].build(Site(256, 256, 8, stage=3)).eval()(torch.zeros(1, 256, 8, 8))
    assert {size for size, _ in asked} == {8}

    def fields(side: int) -> list[set[int]]:
        """The rows that reach each field, by the gradient of the pooling itself."""
        x = torch.zeros(1, 1, 8, 8, requires_grad=True)
        pooled = pool(x, side)[0, 0, :, 0]
        reached = [torch.autograd.grad(one, x, retain_graph=True)[0][0, 0] for one in pooled]
        return [set(grad.sum(1).nonzero().flatten().tolist()) for grad in reached]

    own = {side for _, side in asked if isinstance(side, int)}
    assert {side for side in own if any(a & b for a, b in zip(fields(side), fields(side)[1:]))} == {*sides}


def test_the_last_kernel_of_effnet_reads_every_column():
    assert says("effnet", "1x2 reads them all")
    block = EffNetBlock(8, 16, stride=2)
    assert block.project.kernel_size == (1, 2) and block.project.stride == (1, 2)
    x = features(channels=8, size=(4, 6)).requires_grad_()
    block.double().eval()(x).sum().backward()
    assert (x.grad.abs().sum((0, 1, 2)) > 0).all()


def test_a_cell_need_not_match_itself_best_in_the_gaussian_form():
    assert says("non_local_gaussian", "do they find themselves, or the same few strong cells?")
    _, records = run(randomised(NonLocalGaussian(16)), features(channels=16, apart=True))
    affinity = records["affinity"].flatten(2)  # (B, N, N)
    itself = affinity.argmax(2) == torch.arange(affinity.shape[1])
    assert not itself.all()
