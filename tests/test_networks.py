"""Every network of the catalogue: a new file is tested the moment it exists, and needs one row in ROWS."""

import re

import pytest
import torch
from conftest import pictures, randomise
from rows import ROWS
from torch import nn

import models
from models import catalogue, checkpoint
from models.catalogue import BLOCK_SLOTS, BLOCKS, FAMILIES, SLOTS, Entry, Site
from models.losses import collecting_losses
from models.recording import dims_of, record, recording
from models.resnet import BasicBlock, ResNet18

WIDTHS, SIZES = (64, 128, 256, 512), (32, 16, 8, 4)
OUTPUTS = {f"{block}.output": "b c h w" for block in BLOCKS}


NETWORKS = [name for name, entry in models.CATALOGUE.items() if name == "plain" or entry.slot is not None]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module", params=NETWORKS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def built(name: str) -> nn.Module:
    """One randomised network for all tests of an entry: building it is what takes the time."""
    return randomise(models.build(name))


# The catalogue.


def test_every_network_has_a_row_here():
    assert sorted(ROWS) == sorted(NETWORKS), "give the new mechanism its row in ROWS"


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
@pytest.mark.parametrize("wrong, near", [("non_locall", "non_local"), ("see", "se"), ("cbma", "cbam")])
def test_an_unknown_name_lists_near_names(call, wrong, near):
    with pytest.raises(KeyError, match=rf"no mechanism '{wrong}'; did you mean .*\b{near}\b"):
        call(wrong)
    with pytest.raises(KeyError, match="no mechanism 'zzzzzzzz'"):
        call("zzzzzzzz")


def test_a_module_without_a_place_makes_no_network(monkeypatch):
    entry = Entry("fold", "Fold", "module", None, (), "", None, "Text.")
    monkeypatch.setitem(models.CATALOGUE, "fold", entry)
    with pytest.raises(ValueError, match="fold has no place in a classifier"):
        models.build("fold")


# Every network.


def test_parameters(name):
    row, entry = ROWS[name], models.CATALOGUE[name]
    with torch.device("meta"):
        assert count(models.build(name)) == row.total
        if row.module is not None:
            assert count(entry.build(Site(64, 64, 32, stage=1))) == row.module
        assert len(models.build(name, num_classes=100).fc.weight) == 100


def test_records_have_the_expected_paths_and_true_axes(name, built):
    with torch.inference_mode(), recording(built) as records:
        assert built(pictures(3)).shape == (3, 10)
    assert {path: entry.axes for path, entry in records.items()} == OUTPUTS | ROWS[name].records
    for path, entry in records.items():
        letters, shape = entry.axes.split(), entry.tensor.shape
        assert len(letters) == len(shape), path
        sizes = dict(zip(letters, shape))
        assert [sizes[letter] for letter in letters] == list(shape), f"{path}: a letter has two sizes"
        assert all(sizes.get(digit, int(digit)) == int(digit) for digit in "123"), path
        assert sizes["b"] == 3 if "b" in sizes else entry.static, path
        if entry.over:
            sums = entry.tensor.sum(dims_of(entry.axes, entry.over))
            assert entry.tensor.min() >= 0 and (sums - 1).abs().max() < 1e-3, path
        if entry.role == "gate":
            low, high = entry.bounds
            assert low <= entry.tensor.min() and entry.tensor.max() <= high, path
        if "q" in sizes and "h" in sizes:
            assert sizes["q"] == sizes["h"] * sizes["w"], path
        if place := re.match(r"(layer|stage)(\d)", path):
            stage = int(place[2])
            assert sizes.get("h", SIZES[stage - 1]) == SIZES[stage - 1], path
            assert sizes.get("c", WIDTHS[stage - 1]) == WIDTHS[stage - 1], path


# Parameters whose gradient is zero by mathematics: a softmax or a LayerNorm that follows ignores a shift.
WITHOUT_EFFECT = {"global_context": "refine.score.bias", "dca_se": "refine.connect.bias"}


def test_the_gradient_reaches_every_parameter_and_record(name, built):
    built.train()  # as in training: batch statistics
    with recording(built) as records:
        logits = built(pictures(4))
    built.eval()
    wanted = dict(built.named_parameters())
    wanted |= {path: entry.tensor for path, entry in records.items() if not entry.static}
    loss = nn.functional.cross_entropy(logits, torch.arange(4))
    gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    for path, gradient in zip(wanted, gradients):
        assert gradient is not None and gradient.isfinite().all(), path
        if not path.endswith(WITHOUT_EFFECT.get(name, "nothing")):
            assert gradient.abs().max() > 0, path


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


def test_two_steps_of_training_lower_the_loss(name):
    torch.manual_seed(0)
    network = models.build(name).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.002, momentum=0.9)
    images, labels, losses = pictures(8), torch.arange(8), []
    for _ in range(3):
        with collecting_losses() as extras:
            logits = network(images)
        losses.append(nn.functional.cross_entropy(logits, labels) + sum(extra(labels) for extra in extras))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[2] < losses[0]


def test_it_compiles_to_one_graph_and_records_nothing_there(name, built):
    """Traced is the first block that the mechanism touches, or the module itself where it stands outside."""
    entry, calls = models.CATALOGUE[name], []
    path = entry.slot if entry.slot in ("input", "head") else (entry.sites or BLOCKS)[0]
    module = built.get_submodule(path)
    hook = module.register_forward_pre_hook(lambda _, args: calls.append(args))
    with torch.inference_mode():
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


def test_stored_and_restored(name, built, tmp_path):
    checkpoint.save(built, name, {}, tmp_path)
    restored = checkpoint.restore(name, tmp_path)
    assert not restored.training and not any(p.requires_grad for p in restored.parameters())
    images = pictures(2)
    with torch.inference_mode():
        logits, expected = restored(images), built(images)
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()  # int8 rounds
    assert not torch.equal(logits, expected)

    parameters = {key for key, _ in built.named_parameters()}
    built.load_state_dict(checkpoint.dequantise(checkpoint.quantise(built.state_dict(), parameters)))
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
        after, _ = network.layer3[0](records["stage2.output"])
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


def test_slot_head_may_bring_its_own_classifier():
    network, _ = network_with("head", lambda stages: stages[0].mean((2, 3))[:, :10], has_classifier=True)
    logits, records = run(network)
    assert torch.equal(logits, records["layer1.1.output"].mean((2, 3))[:, :10])
    assert not [key for key, _ in network.named_parameters() if key.startswith("fc")]


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
