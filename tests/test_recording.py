"""Recording: what a network shows, to whom, and that nothing of it remains."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import pictures, randomise
from torch import nn

import models
from models.attention.cbam import CBAM
from models.attention.non_local import NonLocal
from models.attention.se import SqueezeExcitation
from models.recording import attend, dims_of, is_recording, record, recording


def small() -> nn.Sequential:
    """Three mechanisms in a row, randomised: `0.gate`, `1.channel_gate`, `1.spatial_gate`, `2.affinity`."""
    return randomise(nn.Sequential(SqueezeExcitation(32), CBAM(32), NonLocal(32)))


def features(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 32, 5, 7, generator=torch.Generator().manual_seed(seed))


def test_records_stand_under_their_path_in_the_order_of_computation():
    model = small()
    with recording(model) as records:
        model(features())
    assert list(records) == ["0.gate", "1.channel_gate", "1.spatial_gate", "2.affinity"]
    assert [entry.axes for entry in records.values()] == ["b c 1 1", "b c 1 1", "b 1 h w", "b q h w"]
    assert not any(entry.static for entry in records.values())
    with recording(model[0]) as records:  # paths start at the model that is observed
        model[0](features())
    assert list(records) == ["gate"]


class Showing(nn.Module):
    """Adds ones, and says of them what it was made with."""

    def __init__(self, axes="h w", **said):
        super().__init__()
        self.axes, self.said = axes, said

    def forward(self, x):
        return x + record(self, "ones", torch.ones(5, 7), self.axes, **self.said)


@pytest.mark.parametrize(
    "said",
    [
        {"role": "gate"},
        {"role": "gate", "bounds": (1, 2)},
        {"role": "share", "over": "w"},
        {"role": "share", "over": "h w"},
        {"role": "features"},
        {"role": "static"},
        {"role": "static", "over": "w"},
    ],
)
def test_a_record_holds_what_was_said_of_it(said):
    module = Showing(**said)
    with recording(module) as records:
        module(features())
    found = records["ones"]
    assert {"role": found.role, "over": found.over, "bounds": found.bounds} == {
        "over": "",
        "bounds": (0, 1),
        **said,
    }
    assert found.static == (said["role"] == "static") and found.axes == "h w"


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"role": "attention"}, "no role 'attention': choose one of gate, share, features, static"),
        ({"role": ""}, "no role ''"),
        ({"role": "share"}, "over which axes"),
        ({"role": "share", "over": "k"}, "'h w' has no axis k"),
        ({"role": "share", "over": "h c b"}, "'h w' has no axis b, c"),
        ({"role": "static", "over": "k"}, "'h w' has no axis k"),
        ({"role": "gate", "over": "w"}, "only shares"),
        ({"role": "features", "over": "w"}, "only shares"),
        ({"role": "share", "over": "w", "bounds": (1, 2)}, "bounds are for gates"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(said, complaint):
    module = Showing(**said)
    with pytest.raises(ValueError, match=complaint), recording(module):
        module(features())
    assert not is_recording()


@pytest.mark.parametrize(
    ("axes", "over", "dims"),
    [("b q h w", "h w", (-2, -1)), ("q k", "k", (-1,)), ("b branch c 1 1", "branch", (-4,))]
    + [("b c c", "c", (-1,)), ("b g k h w", "k", (-3,)), ("k", "", ())],
)
def test_where_the_axes_stand_that_a_share_sums_over(axes, over, dims):
    assert dims_of(axes, over) == dims


@pytest.mark.parametrize("heads", [(), (3,)])
@pytest.mark.parametrize("size", [None, (2, 5)])
@pytest.mark.parametrize("scale", [None, 1.0, 0.3])
def test_attention_is_the_same_whether_somebody_looks_or_not(heads, size, scale):
    class Reader(nn.Module):
        def forward(self, query, key, value):
            return attend(self, query, key, value, size, scale, name="shares")

    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 6), (10, 6), (10, 4)]  # of queries, keys and values
    tokens = [torch.randn(2, *heads, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    module = Reader()
    lean = module(*tokens)
    with recording(module) as records:
        explicit = module(*tokens)
    torch.testing.assert_close(explicit, lean, rtol=1e-12, atol=1e-12)
    found = records["shares"]
    assert found.axes == ("b head q " if heads else "b q ") + ("h w" if size else "k")
    assert found.tensor.shape == (2, *heads, 7, *(size or (10,)))
    sums = found.tensor.sum(dims_of(found.axes, found.over))
    torch.testing.assert_close(sums, torch.ones_like(sums))

    with recording(module, {"shares": torch.zeros_like}):  # what is recorded is what is used
        assert not module(*tokens).any()


def test_an_edit_of_what_is_static_is_refused():
    module = Showing(role="static")
    with (
        pytest.raises(ValueError, match=r"^ones is the same for every picture and cannot be edited\.$"),
        recording(module, {"ones": torch.zeros_like}),
    ):
        module(features())
    assert not is_recording()


def test_without_a_recording_record_is_the_identity():
    tensor = torch.ones(3)
    assert record(nn.Identity(), "gate", tensor, "b", role="gate") is tensor
    assert not is_recording()


def test_records_are_part_of_the_graph():
    model, x = small(), features()
    with recording(model) as records:
        y = model(x)
    gradients = torch.autograd.grad(y.sum(), [entry.tensor for entry in records.values()])
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_records_without_gradients(context):
    model = small()
    with recording(model) as expected:
        model(features())
    with context(), recording(model) as records:
        model(features())
    for path in expected:
        assert torch.equal(records[path].tensor, expected[path].tensor.detach()), path


def test_eight_threads_share_one_network():
    network = randomise(models.build("danet")).requires_grad_(False)
    images = [pictures(1, seed) for seed in range(16)]

    def look(image: torch.Tensor) -> dict[str, torch.Tensor]:
        with recording(network) as records:
            logits = network(image)
        return {"logits": logits} | {path: entry.tensor for path, entry in records.items()}

    expected = [look(image) for image in images]
    together = threading.Barrier(8)

    def look_together(image: torch.Tensor) -> dict[str, torch.Tensor]:
        torch.set_num_threads(1)
        together.wait(60)
        return look(image)

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(look_together, images))
    for ours, alone in zip(seen, expected):
        assert list(ours) == list(alone)
        for path in alone:
            assert torch.equal(ours[path], alone[path]), path
    assert not torch.equal(expected[0]["logits"], expected[1]["logits"])


def test_threads_do_not_see_each_others_edits_and_records():
    """One thread stands in the middle of its recording while another runs the same network."""
    model, x = small(), features()
    expected = model(x)
    inside, done = threading.Event(), threading.Event()

    def edited():
        def switch_off(gate):
            inside.set()
            assert done.wait(60)
            return torch.zeros_like(gate)

        with recording(model, {"0.gate": switch_off}) as records:
            return model(x), records

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(edited)
        assert inside.wait(60)
        assert not is_recording()
        assert torch.equal(model(x), expected)
        with recording(model) as records:
            model(x)
        done.set()
        changed, their_records = other.result(60)
    assert records["0.gate"].tensor.min() > 0 and not their_records["0.gate"].tensor.any()
    assert not torch.equal(changed, expected)


def test_an_exception_leaves_no_observer():
    model = small()
    with pytest.raises(RuntimeError), recording(model):
        assert is_recording()
        model(torch.ones(2, 31, 5, 7))  # a wrong number of channels, in mid-forward
    assert not is_recording()
    with pytest.raises(ZeroDivisionError), recording(model, {"0.gate": lambda gate: 1 / 0}):
        model(features())
    assert not is_recording()
    with recording(model) as records:
        model(features())
    assert len(records) == 4


def test_a_recording_inside_a_recording():
    outer, inner = small(), small()
    with recording(outer) as first:
        outer[0](features())
        with recording(inner) as second:
            inner(features())
        outer[1](features())
    assert list(first) == ["0.gate", "1.channel_gate", "1.spatial_gate"]
    assert len(second) == 4 and not is_recording()


EDITS = {
    "se": "layer3.1.refine.gate",
    "cbam": "layer4.0.refine.spatial_gate",
    "sk": "layer2.0.conv1.weights",
    "self_attention": "stage2.affinity",
    "non_local": "stage3.affinity",
    "danet": "stage3.channel",
    "plain": "layer1.0.output",
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_the_logits_and_nothing_after(name):
    network, image = randomise(models.build(name)).requires_grad_(False), pictures(1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    path = EDITS[name]
    expected = network(image)
    with recording(network) as plain:
        same = network(image)
    with recording(network, {path: torch.zeros_like}) as records:
        edited = network(image)
    assert not records[path].tensor.any()  # the record shows what the network went on with
    assert (edited - same).abs().max() > 1e-4 * same.abs().max()
    paths = list(plain)
    for earlier in paths[: paths.index(path)]:
        assert torch.equal(records[earlier].tensor, plain[earlier].tensor), earlier
    with recording(network, {path: lambda tensor: tensor}):
        assert torch.equal(network(image), same)
    assert torch.equal(network(image), expected)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    for module in network.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks


def test_an_edit_may_use_what_the_tensor_holds():
    model, x = small(), features()
    mean = {"0.gate": lambda gate: gate.mean(1, keepdim=True).expand_as(gate)}
    with recording(model, mean) as records:
        model(x)
    gate = records["0.gate"].tensor
    assert (gate == gate[:, :1]).all() and gate.min() > 0


def test_an_edit_of_an_unknown_record_is_refused():
    model = small()
    with (
        pytest.raises(KeyError, match="9.gate, layer1"),
        recording(model, dict.fromkeys(["layer1", "9.gate"])),
    ):
        model(features())
    assert not is_recording()


def test_two_forwards_in_one_recording_are_refused():
    model = small()
    with pytest.raises(ValueError, match="0.gate was recorded twice"), recording(model):
        model(features())
        model(features())
    assert not is_recording()


def test_modules_of_another_network_are_left_alone():
    model, other = small(), small()
    expected = other(features())
    with recording(model, {"0.gate": torch.zeros_like}) as records:
        torch.testing.assert_close(other(features()), expected)
        assert records == {}
        model(features())
    assert len(records) == 4


def test_compiled_code_records_nothing_and_ignores_edits():
    torch.compiler.reset()
    model, x = small(), features()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        expected = compiled(x)
        with recording(model) as records:
            assert torch.equal(compiled(x), expected)
        assert records == {}
        with pytest.raises(KeyError), recording(model, {"0.gate": torch.zeros_like}):
            assert torch.equal(compiled(x), expected)  # and says at the end that the edit did nothing
