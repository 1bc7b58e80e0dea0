"""Convolutions as matrix products equal those of PyTorch, and a training takes them."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.networks import build
from models.train import convolution
from models.train.convolution import AsProducts


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [(3, 1, 1, (2, 2)), (3, 2, 1, (4, 4)), ((3, 1), (1, 2), (1, 0), (3, 5)), (2, 1, 0, (2, 3))],
)
def test_products_equal_convolutions(kernel, stride, padding, size, bias):
    layer = nn.Conv2d(3, 200, kernel, stride, padding, bias=bias).double()
    x = torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True)
    found = []
    for product in (False, True):
        y = (
            convolution.product(x, layer.weight, layer.bias, layer.stride, layer.padding)
            if product
            else layer(x)
        )
        towards = torch.linspace(-1, 1, y.numel(), dtype=torch.double).view_as(y)
        found.append((y, *torch.autograd.grad((y * towards).sum(), [x, *layer.parameters()])))
    for usual, ours in zip(*found):
        torch.testing.assert_close(ours, usual)


@pytest.mark.parametrize(
    ("about", "size", "suited"),
    [
        ({}, 4, True),
        ({}, 16, False),  # too many places
        ({"kernel_size": 1, "padding": 0}, 4, False),  # a product already
        ({"groups": 2}, 4, False),
        ({"dilation": 2, "padding": 2}, 4, False),
        ({"padding": "same"}, 4, False),
    ],
)
def test_only_ordinary_convolutions_on_few_places_become_products(about, size, suited, monkeypatch):
    layer = nn.Conv2d(4, 256, **{"kernel_size": 3, "padding": 1, **about})
    taken = []
    monkeypatch.setattr(convolution, "CHANNELS_A_PLACE", 16)
    monkeypatch.setattr(convolution, "product", lambda *args: taken.append(True) or F.conv2d(*args))
    with AsProducts():
        layer(torch.randn(1, 4, size, size))
    assert taken == [True] * suited


@pytest.mark.parametrize("settings", [(), (None, 1, 1), (None, 1, 1, 1, 1), (None, (1, 1), (1, 1))])
def test_what_a_mechanism_asks_for_itself_is_what_pytorch_makes_of_it(settings, monkeypatch):
    monkeypatch.setattr(convolution, "CHANNELS_A_PLACE", 1)
    x, weight = torch.randn(1, 4, 4, 4), torch.randn(256, 4, 3, 3)
    with AsProducts():
        found = F.conv2d(x, weight, *settings)
    torch.testing.assert_close(found, F.conv2d(x, weight, *settings))


def test_a_network_learns_the_same(monkeypatch):
    network = build("plain").double().train()
    pictures, found, count = torch.randn(4, 3, 16, 16, dtype=torch.double), [], 0

    def counted(*args, usual=convolution.product):
        nonlocal count
        count += 1
        return usual(*args)

    monkeypatch.setattr(convolution, "product", counted)
    monkeypatch.setattr(convolution, "CHANNELS_A_PLACE", 16)
    for way in (nullcontext, AsProducts):
        network.zero_grad()
        with way():
            network(pictures).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in network.parameters()])
    assert count == 8  # those of layer3 and layer4
    torch.testing.assert_close(*found)
