"""What `inspect` returns, also when threads share a network, and that it leaves nothing behind."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models import CATALOGUE
from models.catalogue import BLOCKS
from models.preprocessing import normalise
from models.recording import Record, recording
from tests.networks import network, picture, randomised
from visualize import inspect
from visualize.inspection.cache import Cache
from visualize.inspection.network import NotFiniteError, explain, observe, without_batch


def as_input(image: Image.Image) -> torch.Tensor:
    return normalise(torch.tensor(np.array(image)).permute(2, 0, 1)[None])


def content(seen) -> bytes:
    """Everything in an inspection, to the bit."""
    arrays = [seen.pixels, seen.probabilities, *seen.cams.values(), *(m.values for m in seen.maps.values())]
    scalars = repr((seen.target, seen.strength, seen.cam_ranges))
    return b"".join(array.tobytes() for array in arrays) + scalars.encode()


def test_gradients_agree_with_backward_through_retained_tensors():
    """The plain way: keep the gradient of every block's output, and call backward."""
    model = deepcopy(network("danet"))
    seen = observe(model, picture(), target=3)
    with recording(model) as records:
        logits = model(as_input(picture()).requires_grad_())
    for block in BLOCKS:
        records[f"{block}.output"].tensor.retain_grad()
    logits[0, 3].backward()
    for block in BLOCKS:
        expected = records[f"{block}.output"].tensor.grad[0].numpy()
        assert np.abs(expected).max() > 0
        assert np.allclose(seen.gradients[block], expected, atol=1e-6 * np.abs(expected).max()), block


def test_strength_is_the_share_of_change():
    model = network("non_local")
    seen = inspect(model, picture(), stage="layer4.1")
    with torch.no_grad(), recording(model) as records:
        model(as_input(picture()))
        x = records["layer2.1.output"].tensor
        with recording(model.stage2):
            y = model.stage2(x)
    assert seen.strength.keys() == {"stage2", "stage3"}
    share = float(((y - x) ** 2).sum() / (x**2).sum()) ** 0.5
    assert seen.strength["stage2"] == pytest.approx(share, rel=1e-4)
    assert seen.strength["stage2"] > 0.01
    assert inspect(network("se"), picture()).strength == {}


def test_strength_of_what_adds_within_a_block():
    """Its map, too, may be lively and do nothing."""
    model = network("light_nl")
    seen = inspect(model, picture())
    given, returned = [], []
    block = model.layer3[1]
    with torch.no_grad():
        block.bn2.register_forward_hook(lambda module, x, y: given.append(y))
        block.refine.register_forward_hook(lambda module, x, y: returned.append(y))
        model(as_input(picture()))
    expected = float((returned[0] - given[0]).norm() / given[0].norm())
    assert seen.strength.keys() == {"layer2.1.refine", "layer3.1.refine"}
    assert seen.strength["layer3.1.refine"] == pytest.approx(expected, rel=1e-4) and expected > 0.001
    assert all(not path.endswith(".output") for path in seen.maps)


def test_stage_is_how_far_the_backward_pass_goes():
    whole = inspect(network("se"), picture())
    part = inspect(network("se"), picture(), stage="layer3.1")
    assert list(part.cams) == ["layer3.1", "layer4.0", "layer4.1"]
    for block, cam in part.cams.items():
        assert np.allclose(cam, whole.cams[block], atol=1e-5)
    assert part.maps.keys() == whole.maps.keys()


def test_one_observation_serves_every_method():
    seen = observe(network("cbam"), picture(), target=5)
    for method in ("GradCAM", "LayerCAM"):
        alone = inspect(network("cbam"), picture(), target=5, cam=method)
        assert content(explain(seen, method)) == content(alone)


def test_an_edit_changes_the_prediction_of_this_call_alone():
    before = inspect(network("se"), picture())
    gate = "layer3.1.refine.gate"
    edited = inspect(network("se"), picture(), edits={gate: torch.zeros_like})
    after = inspect(network("se"), picture())
    assert (edited.maps[gate].values == 0).all()
    assert not np.allclose(edited.probabilities, before.probabilities, atol=1e-4)
    assert content(after) == content(before)
    with pytest.raises(KeyError, match=r"layer9\.0"):
        inspect(network("se"), picture(), edits={"layer9.0.refine.gate": torch.zeros_like})


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_the_caller_switched_gradients_off(mode):
    expected = content(inspect(network("sk"), picture()))
    with mode():
        assert content(inspect(network("sk"), picture())) == expected


def test_eight_threads_on_one_network_see_what_one_thread_sees():
    model = randomised("self_attention")
    jobs = [(picture(seed), seed % 10, BLOCKS[4 + seed % 3]) for seed in range(6)] * 3
    expected = [content(inspect(model, image, target, stage=stage)) for image, target, stage in jobs[:6]] * 3
    assert len(set(expected)) == 6
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: content(inspect(model, job[0], job[1], stage=job[2])), jobs))
    assert found == expected


def test_nothing_is_left_behind():
    model = deepcopy(network("danet")).requires_grad_(True)  # worst case: weights that would take a gradient
    before = {key: value.clone() for key, value in model.state_dict().items()}
    attributes = {path: set(vars(module)) for path, module in model.named_modules()}
    inspect(model, picture(), cam="GradCAM++")
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for path, module in model.named_modules():
        assert set(vars(module)) == attributes[path]
        hooks = [value for key, value in vars(module).items() if "hooks" in key and value]
        assert not hooks, path


def test_writing_to_a_map_does_not_write_to_the_network():
    filters = torch.ones(3, 4)
    shown = without_batch(Record(filters, "k c", "static", over="k"))
    shown.values.fill(7)
    assert (filters == 1).all()
    assert (shown.axes, shown.role, shown.over, shown.bounds) == ("k c", "static", "k", (0, 1))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"target": 10}, "no class 10"),
        ({"target": -1}, "no class -1"),
        ({"target": True}, "index of a class"),
        ({"target": 1.0}, "index of a class"),
        ({"target": "cat"}, "index of a class"),
        ({"cam": "ScoreCAM"}, "GradCAM, "),
        ({"stage": "layer5.0"}, "layer1.0, "),
        ({"image": picture().resize((64, 64))}, "32 x 32"),
        ({"image": picture().convert("L")}, "RGB"),
        ({"image": np.array(picture())}, "RGB"),
        ({"image": None}, "RGB"),
    ],
)
def test_refuses_what_makes_no_sense(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        inspect(network("plain"), **{"image": picture(), **arguments})


def test_a_numpy_target_is_an_index_too():
    assert inspect(network("plain"), picture(), np.int64(4), stage="layer4.1").target == 4


def test_refuses_a_network_in_training_mode():
    with pytest.raises(ValueError, match="training mode"):
        inspect(deepcopy(network("plain")).train(), picture())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: torch.compile(model, backend="eager"),
        nn.DataParallel,
        lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
    ],
)
def test_looks_into_what_wraps_a_network(wrap):
    model = network("se")
    assert content(inspect(wrap(model), picture())) == content(inspect(model, picture()))
    with pytest.raises(ValueError, match="training mode"):
        inspect(wrap(deepcopy(network("plain")).train()), picture())


def test_refuses_a_network_that_records_nothing():
    compiled = deepcopy(network("plain"))
    compiled.compile(backend="eager")  # in place: there is nothing to unwrap
    foreign = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval()
    for model in (compiled, foreign):
        with pytest.raises(ValueError, match="records no blocks"):
            inspect(model, picture())


def test_of_equal_classes_the_first_is_explained():
    model = deepcopy(network("plain"))
    model.fc.weight.zero_()
    model.fc.bias.copy_(torch.tensor([0.0, 0, 3, 0, 0, 3, 3, 0, 0, 0]))
    assert inspect(model, picture(), stage="layer4.1").target == 2


def test_refuses_numbers_that_are_not_finite():
    model = deepcopy(network("plain"))
    model.conv1.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="no finite numbers"):
        inspect(model, picture())


def test_the_networks_of_these_tests_are_not_trivial():
    """An attention that is switched off, as it is before training, would make many of these tests empty."""
    for name in ("self_attention", "non_local", "danet"):
        assert name in CATALOGUE
        assert min(inspect(network(name), picture(), stage="layer4.1").strength.values()) > 0.01


def test_what_is_kept_is_the_newest():
    """Else the rows of a network that was trained meanwhile would be those of random weights."""
    cache = Cache()
    cache.put("key", "old", 300)
    cache.put("key", "new", 200)
    assert cache.get("key") == "new" and cache.size == 200
