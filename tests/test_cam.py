"""Our class activation maps are those of the package grad-cam, called the usual way."""

from functools import cache

import cv2
import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

from models.catalogue import BLOCKS
from models.preprocessing import normalise
from tests.networks import picture, randomised
from visualize.inspection.cam import METHODS, class_map, principal_map, relative
from visualize.inspection.network import Observation, explain, observe


@cache
def network(name):
    """Its logits are spread out, as after training: the package's small constants then do not count."""
    model = randomised(name)
    model.fc.weight.mul_(1000)
    return model


@cache
def seen(name: str, seed: int, target: int | None, block: str) -> Observation:
    """One serves every method."""
    return observe(network(name), picture(seed), target, stage=block)


CHECKED = ("layer1.0", "layer2.1", "layer3.0", "layer4.1")


@cache
def usual_call(name: str, method: str, target: int) -> dict[str, np.ndarray]:
    """Block -> (32, 32) from 0 to 1: the package, with its hooks on the activations that end the blocks."""
    model, found = network(name), []
    layers = [model.get_submodule(f"{block}.act2") for block in CHECKED]
    inputs = normalise(torch.tensor(np.array(picture())).permute(2, 0, 1)[None]).requires_grad_()
    with getattr(pytorch_grad_cam, method.replace("++", "PlusPlus"))(model, layers) as cam:
        mean = cam.aggregate_multi_layers
        cam.aggregate_multi_layers = lambda maps: found.extend(maps) or mean(maps)  # before it mixes them
        cam(inputs, [ClassifierOutputTarget(target)])
    return {block: scale_cam_image(np.maximum(cam[:, 0], 0))[0] for block, cam in zip(CHECKED, found)}


@pytest.mark.parametrize("block", CHECKED)
@pytest.mark.parametrize("method", [method for method in METHODS if method != "EigenCAM"])
def test_equals_the_usual_call(method, block):
    contrasts = []
    for name, target in (("plain", 3), ("plain", 7), ("self_attention", 2), ("self_attention", 8)):
        expected = usual_call(name, method, target)[block]
        found = explain(seen(name, 0, target, block), method).cams[block]
        enlarged = scale_cam_image([cv2.resize(found, (32, 32))])[0]  # what the package does after scaling
        assert np.abs(enlarged - expected).max() < 1e-5, (name, target)
        contrasts.append(expected.std())
    assert max(contrasts) > 0.05  # where all evidence is against the class, both are 0 everywhere


@pytest.mark.parametrize("block", ["layer1.0", "layer2.1", "layer3.0", "layer4.1"])
def test_eigen_cam_equals_the_package_up_to_its_sign(block):
    for name, seed in (("plain", 0), ("se", 1), ("self_attention", 2)):
        activations = seen(name, seed, None, block).activations[block]
        (package,) = get_2d_projection(activations[None])
        ours = principal_map(activations)
        assert min(np.abs(ours - package).max(), np.abs(ours + package).max()) < 1e-4 * package.std()
        mean = activations.mean(0)
        assert (ours * (mean - mean.mean())).sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_channels_changes_nothing_and_a_mirror_mirrors(method):
    """Results that a decomposition or a sort leaves to chance would differ."""
    shuffle = np.random.default_rng(0).permutation
    for seed in range(4):
        whole = seen("se", seed, None, BLOCKS[0])
        for block in BLOCKS:
            arrays = whole.activations[block], whole.gradients[block]
            cam = relative(class_map(method, *arrays))
            order = shuffle(len(arrays[0]))
            shuffled = relative(class_map(method, *(array[order] for array in arrays)))
            mirrored = relative(class_map(method, *(array[:, :, ::-1] for array in arrays)))
            assert np.abs(shuffled - cam).max() < 1e-4, (seed, block)
            assert np.abs(mirrored[:, ::-1] - cam).max() < 1e-4, (seed, block)


def test_a_component_without_a_more_active_side_is_no_map():
    """Two channels that take turns: their mean is the same everywhere."""
    wave = np.sin(np.arange(30, dtype=np.float32)).reshape(5, 6)
    assert (principal_map(np.stack([2 + wave, 2 - wave])) == 0).all()
    assert (principal_map(np.stack([2 + wave, 2 - 0.9 * wave])) != 0).all()


def test_eigen_cam_of_what_is_not_finite_is_not_finite():
    activations = np.ones((3, 2, 2), np.float32)
    activations[1, 0, 0] = np.inf
    assert np.isnan(class_map("EigenCAM", activations, activations)).all()
    assert np.isfinite(class_map("EigenCAM", np.float32(1e30) * np.random.rand(3, 2, 2), activations)).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_target_changes_the_map(method):
    first, second = (explain(seen("se", 0, target, BLOCKS[0]), method) for target in (0, 1))
    moved = [np.abs(first.cams[block] - second.cams[block]).max() for block in BLOCKS]
    if method == "EigenCAM":
        assert max(moved) == 0  # it looks at no class
    else:
        assert moved[-1] > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_maps_go_from_zero_to_one(method):
    found = explain(seen("cbam", 0, None, BLOCKS[0]), method)
    assert list(found.cams) == list(BLOCKS)
    for block, cam in found.cams.items():
        low, high = found.cam_ranges[block]
        assert 0 <= low <= high
        assert (cam.min(), cam.max()) == ((0, 1) if high > low else (0, 0))


def test_relative_keeps_the_proportions():
    assert np.allclose(relative(np.float32([[2, 3], [4, 6]])), [[0, 0.25], [0.5, 1]])


@pytest.mark.parametrize("value", [0.0, 1e-30, 0.5, 1e30])
def test_a_constant_map_stays_flat(value):
    cam = np.full((8, 8), value, np.float32)
    assert (relative(cam) == 0).all()
    assert (relative(cam * np.linspace(1, 1 + 1e-6, 64, dtype=np.float32).reshape(8, 8)) == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_activation_is_no_evidence(method):
    gradients = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    cam = class_map(method, np.zeros_like(gradients), gradients)
    assert cam.shape == (5, 6)
    assert (relative(cam) == 0).all()


def test_grad_cam_by_hand():
    """relu(sum_c mean_hw(gradient_c) * activation_c), with a height that differs from the width."""
    rng = np.random.default_rng(1)
    activations, gradients = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = sum(gradients[c].mean() * activations[c] for c in range(3)).clip(min=0)
    assert np.allclose(class_map("GradCAM", activations, gradients), expected, atol=1e-6)


def test_unknown_method_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"GradCAM, GradCAM\+\+, HiResCAM"):
        class_map("gradcam", np.zeros((1, 2, 2)), np.zeros((1, 2, 2)))
