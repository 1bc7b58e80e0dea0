"""Every network of the catalogue, built once: a new file is tested the moment it exists, and needs one row.

What takes the time is to build a network, so all that needs one of each stands here.
"""

import json
import math

import numpy as np
import pytest
import torch
from conftest import pictures, randomise
from rows import ROWS, Row, Rows
from rows.row import check_parameters, check_records
from torch import nn

import models
from models import catalogue, checkpoint
from models.catalogue import BLOCK_SLOTS, BLOCKS, FAMILIES, SLOTS, Entry, Site
from models.losses import collecting_losses
from models.networks import shapes_only
from models.preprocessing import normalise
from models.recording import record, recording
from models.resnet import BasicBlock, ResNet18
from tests.forms import WITHOUT_EFFECT
from tests.networks import picture, settled
from visualize.inspection.network import Inspection, inspect
from visualize.record.encoding import pack_map
from visualize.record.kinds import KINDS, sharers

WIDTHS, SIZES = (64, 128, 256, 512), (32, 16, 8, 4)
OUTPUTS = {f"{block}.output": "b c h w" for block in BLOCKS}


NETWORKS = [name for name, entry in models.CATALOGUE.items() if name == "plain" or entry.slot is not None]


@pytest.fixture(scope="module", params=NETWORKS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def row(name: str) -> Row:
    return ROWS[name]


@pytest.fixture(scope="module")
def started(name: str) -> tuple[nn.Module, list[float]]:
    """A network of this entry, the only one, and its losses in the first three steps of its training.

    The pictures have 16 pixels, as those that the recipe for CPUs begins with.
    """
    torch.manual_seed(0)
    network = models.build(name).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.002, momentum=0.9)
    images, labels, losses = pictures(4)[:, :, ::2, ::2], torch.arange(4), []
    while True:
        with collecting_losses() as extras:
            logits = network(images)
        loss = nn.functional.cross_entropy(logits, labels) + sum(extra(labels) for extra in extras)
        losses.append(loss.item())
        if len(losses) == 3:  # what a third step would change is overwritten below
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    return network, losses


@pytest.fixture(scope="module")
def built(started) -> nn.Module:
    """That network with random parameters and settled statistics, for all tests that follow."""
    network, _ = started
    return settled(randomise(network), 4)


@pytest.fixture(scope="module")
def seen(built) -> Inspection:
    """What it makes of one picture."""
    return inspect(built, picture())


# The catalogue.


def test_every_row_has_its_network():
    assert not set(ROWS) - set(NETWORKS)


def test_an_entry_without_a_row_says_what_to_do():
    with pytest.raises(LookupError, match=r"^cbam has no row: add .* to ROWS in tests/rows/hybrid\.py\.$"):
        Rows({"se": ROWS["se"]})["cbam"]


def test_the_catalogue_starts_with_the_plain_network_and_goes_by_family():
    entries = list(models.CATALOGUE.values())
    assert entries[0].name == "plain"
    families = [FAMILIES.index(entry.family) for entry in entries[1:]]
    assert families == sorted(families)


@pytest.mark.parametrize("name", models.CATALOGUE)
def test_an_entry_says_what_the_page_shows(name):
    entry = models.CATALOGUE[name]
    assert entry.name == name and entry.title
    assert entry.family in FAMILIES and entry.slot in (*SLOTS, None)
    assert "https://" in entry.paper
    sentence, *rest = entry.explanation.split("\n\n")
    assert sentence.endswith(".") and "\n" not in sentence  # one sentence
    assert rest[0].startswith("$$") and rest[0].endswith("$$")  # one formula
    assert "**What to look for.**" in entry.explanation


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"family": "magic"}, "magic"),
        ({"slot": "everywhere"}, "everywhere"),
        ({"sites": ("layer5.0",)}, "no layer5.0 in the network"),
        ({"name": "taken"}, "two mechanisms are called 'taken'"),
        ({"doc": None}, "docstring"),
    ],
)
def test_a_wrong_entry_is_refused(monkeypatch, change, complaint):
    monkeypatch.setattr(catalogue, "_entries", {"taken": None})
    right = {"name": "new", "family": "channel", "slot": "refine", "doc": "Text.", "sites": ()}

    def enter(name, family, slot, doc, sites):
        decorator = catalogue.mechanism(name, title="New", family=family, slot=slot, paper="", sites=sites)
        return decorator(type("New", (nn.Module,), {"__doc__": doc}))

    with pytest.raises(ValueError, match=complaint):
        enter(**{**right, **change})
    enter(**right)
    assert catalogue._entries["new"].sites == BLOCKS


def test_a_mechanism_gets_its_channels_or_asks_for_its_site(monkeypatch):
    monkeypatch.setattr(catalogue, "_entries", {})
    enter = catalogue.mechanism("narrow", title="", family="channel", slot="refine", paper="")

    @enter
    class Narrow(nn.Module):
        """Text."""

        def __init__(self, channels):
            super().__init__()
            self.given = channels

    enter = catalogue.mechanism(
        "aware", title="", family="kernel", slot="conv", paper="", sites=("layer2.0",)
    )

    @enter
    class Aware(Narrow):
        """Text."""

        @classmethod
        def at(cls, site):
            return cls(site)

    site = Site(64, 128, 16, 2, 2, 0, 1)
    assert catalogue._entries["narrow"].build(site).given == 128
    assert catalogue._entries["aware"].build(site).given == site
    assert catalogue._entries["aware"].sites == ("layer2.0",)


@pytest.mark.parametrize("call", [models.build, models.load])
@pytest.mark.parametrize(
    "wrong, near", [("non_locall", "non_local"), ("see", "se"), ("cbma", "cbam"), ("CBAM", "cbam")]
)
def test_an_unknown_name_lists_near_names(call, wrong, near):
    with pytest.raises(KeyError, match=rf"no mechanism '{wrong}'; did you mean .*\b{near}\b"):
        call(wrong)
    with pytest.raises(KeyError, match="no mechanism 'zzzzzzzz'"):
        call("zzzzzzzz")


def test_a_module_without_a_place_makes_no_network(monkeypatch):
    entry = Entry("fold", "Fold", "module", None, (), "", None, "Text.")
    monkeypatch.setitem(models.CATALOGUE, "fold", entry)
    for call in (models.build, models.load):
        with pytest.raises(ValueError, match="fold has no place in a classifier"):
            call("fold")


# Every network.


def test_two_steps_of_training_lower_the_loss(started):
    _, losses = started
    assert losses[2] < losses[0]


def test_parameters(name, row, built):
    check_parameters(row, models.CATALOGUE[name], built)
    with shapes_only():
        assert len(models.build(name, num_classes=100).fc.weight) == 100


def test_records_have_the_expected_paths_and_true_axes(row, built):
    check_records(row, built)


def test_the_gradient_reaches_every_parameter_and_record(name, built):
    before = {path: value.clone() for path, value in built.named_buffers()}
    built.train().requires_grad_(True)  # as in training: batch statistics
    with recording(built) as records:
        logits = built(pictures(4)[:, :, ::2, ::2])
    wanted = dict(built.named_parameters())
    wanted |= {path: entry.tensor for path, entry in records.items() if not entry.static}
    loss = nn.functional.cross_entropy(logits, torch.arange(4))
    gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    built.eval().requires_grad_(False)
    for path, value in built.named_buffers():
        value.copy_(before[path])
    for path, gradient in zip(wanted, gradients):
        assert gradient is not None, path
        low, high = (end.item() for end in gradient.aminmax())  # NaN where one is
        assert math.isfinite(low) and math.isfinite(high), path
        if not path.endswith(WITHOUT_EFFECT.get(name, ())):
            assert low < 0 or high > 0, path


def test_a_recorded_forward_gives_the_same_logits(name, built):
    images = pictures(2)
    with torch.inference_mode():
        expected = built(images)
        with recording(built) as records:
            logits = built(images)
        alone = built(images[1:])  # a batch of one
        with recording(built) as others:
            built(images[1:])
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (alone - expected[1:]).abs().max() <= 1e-4 * expected.abs().max()
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()  # it looks at its picture
    for path, entry in records.items():
        if entry.static:
            assert torch.equal(entry.tensor, others[path].tensor), f"{path} is not the same for every picture"
        else:
            assert not torch.equal(entry.tensor[0], entry.tensor[1]), f"{path} does not depend on the picture"
    static = [path for path, entry in records.items() if entry.static]
    for path in static[:1]:
        with (
            torch.inference_mode(),
            pytest.raises(ValueError, match=f"^{path} is the same for every picture"),
            recording(built, {path: torch.zeros_like}),
        ):
            built(pictures(1))


class Reached(Exception):
    """Far enough: what comes after it in the network is not asked for."""


def test_it_compiles_to_one_graph_and_records_nothing_there(name, built):
    """Traced is the first block that the mechanism touches, or the module itself where it stands outside."""
    entry, calls = models.CATALOGUE[name], []

    def reached(_: nn.Module, given: tuple) -> None:
        calls.append(given)
        raise Reached

    path = entry.slot if entry.slot in ("input", "head") else (entry.sites or BLOCKS)[0]
    module = built.get_submodule(path)
    hook = module.register_forward_pre_hook(reached)
    with torch.inference_mode(), pytest.raises(Reached):
        built(pictures(2))
    hook.remove()

    graphs = []

    def keep(graph, inputs):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(module, backend=keep, fullgraph=True)
    with torch.inference_mode():
        expected = module(*calls[0])
        with recording(module) as records:
            given = compiled(*calls[0])
    assert len(graphs) == 1 and records == {}
    if isinstance(expected, tuple):  # a block's output and what it hands on
        expected, given = expected[0], given[0]
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_it_can_be_inspected(built, seen):
    image = normalise(torch.tensor(np.array(picture())).permute(2, 0, 1)[None])
    with torch.no_grad(), recording(built) as records:
        logits = built(image)

    assert np.array_equal(seen.pixels, np.array(picture()))
    assert np.allclose(seen.probabilities, logits.softmax(1)[0], atol=1e-5)
    assert seen.target == int(logits.argmax())
    assert {block: cam.shape for block, cam in seen.cams.items()} == {
        block: (SIZES[int(block[5]) - 1],) * 2 for block in BLOCKS
    }
    assert list(seen.maps) == [path for path in records if not path.endswith(".output")]
    for path, shown in seen.maps.items():
        record = records[path]
        tensor = record.tensor[0] if record.axes.startswith("b ") else record.tensor
        assert np.allclose(shown.values, tensor, atol=1e-5), path
        assert shown.values.ndim == len(shown.axes.split())
        assert "b" not in shown.axes.split()
        assert (shown.role, shown.over, shown.bounds) == (record.role, record.over, record.bounds)
    for array in (seen.probabilities, *seen.cams.values(), *(m.values for m in seen.maps.values())):
        assert array.dtype == np.float32


def test_its_maps_have_kinds_scales_and_a_bound(name, seen):
    """Every record: a kind, a scale that its values keep to, not too much of it."""
    packed = {path: pack_map(path, shown) for path, shown in seen.maps.items()}
    assert len(json.dumps(packed)) < 150_000
    for path, shown in seen.maps.items():
        values, found = shown.values, packed[path]
        assert found["kind"] in KINDS.values(), (path, shown.axes)
        assert (found["role"], found["static"]) == (shown.role, shown.role == "static")
        low, high = {"0-1": (0, 1), "1-2": (1, 2), "uniform=1": (0, 1)}.get(found["scale"], (-np.inf, np.inf))
        assert low <= values.min() and values.max() <= high + 1e-6, path
        if found["scale"] == "uniform=1":  # the page divides by it
            given = values[values > 0] if found["kind"] == "cross" else values  # itself a cell gives nothing
            assert given.mean() == pytest.approx(1 / sharers(shown), rel=1e-3), path
    scales = {path.rsplit(".", 1)[-1]: found["scale"] for path, found in packed.items()}
    assert SCALES.get(name, {}).items() <= scales.items()


SCALES = {  # of the values that need a second look
    "bam": {"full_gate": "1-2", "channel_logit": "signed"},
    "fpt": {"affinity": "uniform=1", "weights": "0-1", "gate": "signed"},
    "ocr": {"regions": "uniform=1", "pixel_region": "uniform=1"},
    "a2_net": {"gather": "uniform=1", "distribute": "uniform=1"},
    "efficient_attention": {"key_maps": "uniform=1", "query_weights": "uniform=1"},
    "generalized_attention": {"affinity": "uniform=1", "e1": "signed", "e4": "signed"},
    "non_local_concatenation": {"affinity": "signed"},
    "non_local_dot_product": {"affinity": "signed"},
    "light_nl": {"affinity": "signed"},
    "san_pairwise": {"weights": "uniform=1"},
    "san_patchwise": {"weights": "signed"},
    "ccnet": {"affinity_1": "uniform=1", "affinity_2": "uniform=1"},
    "iau": {"edges": "uniform=1", "channel": "uniform=1", "parts": "0-1", "update": "signed"},
    "global_context": {"context_mask": "uniform=1", "channel_add": "signed"},
    "ulsam": {"subspace_map": "uniform=1"},
    "iaff": {"fuse_gate1": "0-1", "fuse_gate2": "0-1", "local_logit": "signed"},
    "condconv": {"gate": "0-1"},
    "weighted_fusion": {"weights": "0-1"},
    "self_calibrated_conv": {"calibration_gate": "0-1"},
    "rnan": {"mask": "0-1", "affinity": "uniform=1"},
    "seb": {"mask": "signed"},
    "triplet_attention": {"hw_gate": "0-1", "cw_gate": "0-1", "hc_gate": "0-1"},
}


def test_stored_and_restored(name, built, tmp_path):
    checkpoint.save(built, name, {}, tmp_path)
    restored = checkpoint.restore_with_facts(name, tmp_path)[0]
    assert not restored.training and not any(p.requires_grad for p in restored.parameters())
    images = pictures(1)
    with torch.inference_mode():
        logits, expected = restored(images), built(images)
    assert not torch.equal(logits, expected)
    before = built.state_dict()
    for key, value in restored.state_dict().items():  # int8 rounds by half a step of its 127 at most
        assert (value - before[key]).abs().max() <= 0.501 / 127 * before[key].abs().max(), key

    built.load_state_dict(restored.state_dict())  # nothing that the forward needs stands anywhere else
    with torch.inference_mode():
        assert torch.equal(logits, built(images))


# Every slot, with mechanisms made for the purpose. Each notes what it was called with.


class Fake(nn.Module):
    """Keeps its site and what its forward was given, and answers by `answer`."""

    def __init__(self, site: Site, answer, **attributes):
        super().__init__()
        self.site, self.answer, self.calls = site, answer, []
        for key, value in attributes.items():
            setattr(self, key, value)

    def forward(self, *tensors, **named):
        self.calls.append((tensors, named))
        return self.answer(*tensors, **named)


def network_with(slot, answer, sites=None, **attributes) -> tuple[ResNet18, dict[str, Fake]]:
    """A network with fakes in one slot, and these by path."""
    sites = sites or (BLOCKS if slot in BLOCK_SLOTS else ())
    fake = Entry("fake", "", "channel", slot, sites, "", lambda site: Fake(site, answer, **attributes), "")
    network = ResNet18(10, fake).eval()
    return network, {path: m for path, m in network.named_modules() if isinstance(m, Fake)}


def run(network: ResNet18, images: torch.Tensor | None = None):
    images = pictures(2) if images is None else images
    with torch.no_grad(), recording(network) as records:
        logits = network(images)
    return logits, {path: entry.tensor for path, entry in records.items()}


def plain_twin(network: ResNet18) -> ResNet18:
    """The plain network with the same weights."""
    twin = ResNet18(10).eval()
    twin.load_state_dict(network.state_dict())
    return twin


def site_of(block: str) -> Site:
    stage, number = int(block[5]), int(block[7])
    shrinks = stage > 1 and number == 0
    width_in = WIDTHS[stage - 2] if shrinks else WIDTHS[stage - 1]
    return Site(width_in, WIDTHS[stage - 1], SIZES[stage - 1], 2 if shrinks else 1, stage, number)


def same_but(site: Site, **changes) -> Site:
    return Site(**{**site.__dict__, **changes})


def test_slot_refine_stands_on_the_residual_before_the_sum():
    network, fakes = network_with("refine", lambda residual: torch.zeros_like(residual))
    logits, records = run(network)
    assert list(fakes) == [f"{block}.refine" for block in BLOCKS]
    for block in BLOCKS:
        site = site_of(block)
        assert fakes[f"{block}.refine"].site == same_but(site, channels_in=site.channels, stride=1)
        (((residual,), named),) = fakes[f"{block}.refine"].calls
        assert residual.shape == (2, site.channels, site.size, site.size) and not named
        assert residual.min() < 0  # before the activation
    # with the residual gone, a block without a projection hands on what it was given
    assert torch.equal(records["layer3.1.output"], records["layer3.0.output"])
    assert not torch.equal(records["layer3.0.output"], records["layer2.1.output"])


def test_slot_refine_with_the_blocks_input():
    network, fakes = network_with(
        "refine",
        lambda residual, block_input: residual,
        needs=("block_input",),
        sites=("layer2.0", "layer2.1"),
    )
    logits, records = run(network)
    assert list(fakes) == ["layer2.0.refine", "layer2.1.refine"]
    for block, before in (("layer2.0", "layer1.1"), ("layer2.1", "layer2.0")):
        ((_, named),) = fakes[f"{block}.refine"].calls
        assert list(named) == ["block_input"]
        assert torch.equal(named["block_input"], records[f"{before}.output"])
    assert torch.equal(logits, run(plain_twin(network))[0])


def test_slot_refine_hands_on_from_block_to_block():
    def answer(residual, carry):
        return residual, (carry or ()) + (tuple(residual.shape[1:]),)

    network, fakes = network_with("refine", answer, needs=("carry",))
    logits, _ = run(network)
    carried = [fakes[f"{block}.refine"].calls[0][1]["carry"] for block in BLOCKS]
    shapes = [(site_of(block).channels, site_of(block).size, site_of(block).size) for block in BLOCKS]
    assert carried == [None] + [tuple(shapes[:index]) for index in range(1, 8)]
    assert torch.equal(logits, run(plain_twin(network))[0])


def shrunk(x: torch.Tensor, site: Site) -> torch.Tensor:
    """(B, C_in, H, W) -> (B, C, H/stride, W/stride), as a convolution would."""
    return x[:, :1, :: site.stride, :: site.stride].expand(-1, site.channels, -1, -1)


class FakeConv(Fake):
    def forward(self, x):
        self.calls.append(((x,), {}))
        return shrunk(x, self.site)


@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize("slot, which", [("conv1", (1,)), ("conv2", (2,)), ("conv", (1, 2))])
def test_slots_of_the_convolutions(slot, which, has_norm):
    fake = Entry(
        "fake", "", "kernel", slot, BLOCKS, "", lambda site: FakeConv(site, None, has_norm=has_norm), ""
    )
    network = ResNet18(10, fake).eval()
    _, records = run(network)
    for block in BLOCKS:
        here, site = network.get_submodule(block), site_of(block)
        for position, conv, norm in ((1, here.conv1, here.bn1), (2, here.conv2, here.bn2)):
            if position not in which:
                assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
                continue
            if position == 1:
                assert conv.site == same_but(site, position=1)
            else:
                assert conv.site == same_but(site, channels_in=site.channels, stride=1, position=2)
            assert isinstance(norm, nn.Identity if has_norm else nn.BatchNorm2d)
            (((x,), _),) = conv.calls
            side = site.size * conv.site.stride
            assert x.shape == (2, conv.site.channels_in, side, side)
    if 1 in which:
        (((x,), _),) = network.layer2[0].conv1.calls
        assert torch.equal(x, records["layer1.1.output"])


def test_slot_fuse_gets_the_identity_first():
    network, fakes = network_with("fuse", lambda identity, residual: identity)
    _, records = run(network)
    assert list(fakes) == [f"{block}.fuse" for block in BLOCKS]
    (((identity, residual), _),) = fakes["layer3.1.fuse"].calls
    assert torch.equal(identity, records["layer3.0.output"])  # no projection in a second block
    assert residual.shape == identity.shape and residual.min() < 0
    assert torch.equal(records["layer3.1.output"], identity)  # what it returns is what goes on
    network, _ = network_with("fuse", lambda identity, residual: identity + residual)
    assert torch.equal(run(network)[0], run(plain_twin(network))[0])


def test_slot_stage_stands_between_two_stages():
    network, fakes = network_with("stage", lambda x: x + 1, sites=("stage2", "stage3"))
    _, records = run(network)
    assert list(fakes) == ["stage2", "stage3"]
    for stage in (2, 3):
        width, size = WIDTHS[stage - 1], SIZES[stage - 1]
        assert fakes[f"stage{stage}"].site == Site(width, width, size, 1, stage)
        (((x,), _),) = fakes[f"stage{stage}"].calls
        assert torch.equal(x, records[f"layer{stage}.1.output"])
        assert torch.equal(records[f"stage{stage}.output"], x + 1)
    # no further activation on the way into the next stage
    with torch.no_grad():
        after = network.layer3[0](records["stage2.output"])
    assert torch.equal(after, records["layer3.0.output"])


def test_slot_cross_also_reads_the_stage_before():
    network, fakes = network_with("cross", lambda high, low: high * 2, sites=("stage2", "stage3"))
    _, records = run(network)
    assert list(fakes) == ["stage2", "stage3"]
    (((high, low), _),) = fakes["stage2"].calls
    assert torch.equal(high, records["layer2.1.output"]) and torch.equal(low, records["layer1.1.output"])
    (((high, low), _),) = fakes["stage3"].calls
    assert torch.equal(high, records["layer3.1.output"]) and torch.equal(low, records["stage2.output"])
    assert torch.equal(records["stage2.output"], 2 * records["layer2.1.output"])


def test_slot_input_stands_before_the_stem():
    network, fakes = network_with("input", lambda images: images.flip(3))
    images = pictures(2)
    logits, _ = run(network, images)
    assert list(fakes) == ["input"] and fakes["input"].site == Site(3, 3, 32)
    assert torch.equal(fakes["input"].calls[0][0][0], images)
    assert torch.equal(logits, run(plain_twin(network), images.flip(3))[0])


def test_slot_head_gets_the_four_stages():
    network, fakes = network_with("head", lambda stages: stages[3].mean((2, 3)))
    logits, records = run(network)
    assert list(fakes) == ["head"] and fakes["head"].site == Site(512, 512, 4)
    (((stages,), _),) = fakes["head"].calls
    assert [stage.shape for stage in stages] == [(2, w, s, s) for w, s in zip(WIDTHS, SIZES)]
    for stage, tensor in enumerate(stages, start=1):
        assert torch.equal(tensor, records[f"layer{stage}.1.output"])
    assert torch.equal(logits, run(plain_twin(network))[0])


def test_slot_act_stands_for_every_activation():
    network, fakes = network_with("act", torch.relu)
    logits, _ = run(network)
    acts = [f"{block}.act{number}" for block in BLOCKS for number in (1, 2)]
    assert list(fakes) == ["act1", *acts]
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())
    for path, fake in fakes.items():
        (((x,), _),) = fake.calls
        assert x.shape[1:] == (fake.site.channels, fake.site.size, fake.site.size), path
    assert torch.equal(logits, run(plain_twin(network))[0])


def test_slot_block_replaces_the_block():
    fake = Entry("fake", "", "module", "block", BLOCKS[2:], "", lambda site: FakeConv(site, None), "")
    network = ResNet18(10, fake).eval()
    _, records = run(network)
    assert list(records) == list(OUTPUTS)  # recorded like any other block
    for block in BLOCKS[2:]:
        own = [m for m in network.get_submodule(block).modules() if isinstance(m, Fake)]
        assert [m.site for m in own] == [site_of(block)]
        (((x,), _),) = own[0].calls
        assert torch.equal(records[f"{block}.output"], shrunk(x, own[0].site))
    assert isinstance(network.layer1[0], BasicBlock)


def test_a_mechanism_records_under_its_own_path():
    class Gate(nn.Module):
        def forward(self, x):
            return x * record(self, "gate", x.mean((2, 3), keepdim=True).sigmoid(), "b c 1 1", role="gate")

    fake = Entry("fake", "", "channel", "refine", ("layer4.1",), "", lambda site: Gate(), "")
    _, records = run(ResNet18(10, fake).eval())
    assert set(records) == {"layer4.1.refine.gate", *OUTPUTS}
