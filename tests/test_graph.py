"""What PyTorch's operations become on the way to a browser: the same numbers, in operations that ONNX has."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.fx.experimental.proxy_tensor import make_fx

from models.catalogue import BLOCKS
from models.metadata import networks
from models.preprocessing import normalise
from models.recording import recording
from models.replacements import Attention, applies, attention_in, replace
from tests.networks import picture, randomised
from visualize.inspection.untrained import untrained
from visualize.site.graph import RULES, fold_norms, give_each_its_own, joint, traced

WEIGHT = torch.linspace(-1, 1, 6 * 4 * 3 * 3).view(6, 4, 3, 3)
OPERATIONS = {
    "adaptive average": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "average": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average, windows side by side": lambda x: F.avg_pool2d(x, 4),
    "nearest": lambda x: F.interpolate(x, (8, 24)),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear, corners": lambda x: F.interpolate(x, (5, 7), mode="bilinear", align_corners=True),
    "largest": lambda x: F.max_pool2d(x, 3, 1, 1),
    "largest of a part": lambda x: F.adaptive_max_pool2d(x, (4, 3)),
    "largest of four": lambda x: F.max_pool2d(x, 2),
    "convolution": lambda x: F.conv2d(x, WEIGHT, stride=2, padding=1),
    "convolution with kernels of the picture": lambda x: F.conv2d(x, WEIGHT * x.mean(), stride=2, padding=1),
    "larger of two": lambda x: torch.maximum(x, x.flip(1)) + torch.minimum(x, x.flip(1)) * 2,
    "transposed convolution": lambda x: F.conv_transpose2d(
        x, WEIGHT.transpose(0, 1), stride=2, output_padding=1
    ),
}


def gradient(operation: Callable) -> Callable:
    def function(x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = operation(x)
            return torch.autograd.grad((y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum(), x)[0]

    return function


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_gradient_is_written_in_other_operations(name: str):
    x = torch.randn(1, 4, 8, 12)
    function = gradient(OPERATIONS[name])
    graph = traced(function, torch.zeros_like(x))
    used = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    assert used and not [name for name in used if "backward" in name]
    torch.testing.assert_close(graph(x), function(x))


FAULTY = ("acblock", "iau")  # once: one graph held kernels, one gradient of PyTorch's was wrong
KINDS = {True: pytest.mark.slow, False: pytest.mark.long}


@pytest.mark.parametrize("name", [pytest.param(name, marks=KINDS[name in FAULTY]) for name in networks()])
def test_a_graph_is_the_network(name: str):
    """In double precision, where rounding neither hides a fault nor looks like one. It holds no weights."""
    network, pixels = randomised(name).double(), torch.tensor(np.array(picture())).permute(2, 0, 1)[None]
    state = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    with recording(network) as records:
        images = normalise(pixels).double().requires_grad_()
        logits = network(images)
    outputs = [records[f"{block}.output"].tensor for block in BLOCKS]
    gradients = torch.autograd.grad(logits.max(), outputs)
    attention = attention_in(records)
    inputs, function = joint(network, state, attention, logits)
    inputs["pixels"] = pixels
    graph = fold_norms(traced(function, *inputs.values()), len(inputs) - len(state))
    for found, wanted in zip(graph(*inputs.values()), (logits, *outputs, *gradients)):
        assert (found - wanted).abs().max() <= 1e-10 * wanted.abs().max()
    constants = [getattr(graph, node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    assert sum(constant.numel() for constant in constants) < 100_000

    for setting, replacement in (("shuffled", "shuffled"), ("ignored", "query ignored")):
        changed = {i: each for i, each in enumerate(attention.values()) if applies(replacement, each)}
        if not changed:
            continue
        settings = inputs | {f"keep.{i}": torch.zeros_like(inputs[f"keep.{i}"]) for i in changed}
        settings[setting] = torch.tensor([float(i in changed) for i in range(len(attention))])
        with recording(network, replace(replacement, "all", attention)):
            wanted = network(images)
        assert not torch.allclose(wanted, logits)  # it does something
        found = graph(*settings.values())[0]
        # DGC's gates are unbounded: with random weights they grow from layer to layer until they overflow
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10, equal_nan=name == "dgc")


def test_averages_over_oblong_windows_are_refused():
    with pytest.raises(Exception, match="oblong"):
        make_fx(gradient(lambda x: F.avg_pool2d(x, (2, 4))), decomposition_table=RULES)(
            torch.zeros(1, 4, 8, 12)
        )


def test_equal_records_have_a_name_each():
    graph = make_fx(lambda x: (x.sum(), x, x.sum(), x))(torch.ones(3))
    graph.graph.output_node().args = (tuple(graph.graph.output_node().args[0][i] for i in (0, 1, 0, 1)),)
    give_each_its_own(graph)
    found = graph.graph.output_node().args[0]
    assert len(set(found)) == 4
    assert [one.tolist() for one in graph(torch.ones(3))] == [3, [1, 1, 1], 3, [1, 1, 1]]


def test_bounds_are_floats_for_the_exporter():
    """It takes whole numbers for tensors, and cannot limit values from one of these to infinity."""
    attention = Attention("gate", "b c 1 1", "gate", (), (0, float("inf")), (2, 1, 1))
    graph = make_fx(lambda x: attention.fit(x))(torch.ones(1, 2, 1, 1))
    (clamp,) = [node for node in graph.graph.nodes if "clamp" in str(node.target)]
    assert [type(bound) for bound in clamp.args[1:]] == [float, float]


def test_records_of_whole_numbers_leave_as_floats():
    """PSConv's pattern says how far each channel's taps are spread."""
    network = untrained("psconv")
    state = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    inputs, function = joint(network, state, {}, torch.zeros(1, 10))
    assert {found.dtype for found in function(*inputs.values())} == {torch.float32}
