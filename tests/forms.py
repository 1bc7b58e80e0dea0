"""What the tests of the formulas share: inputs, parameters, a run under observation, and comparisons.

Everything is in float64, so that two ways to compute the same agree to many digits.
"""

import math

import torch
from conftest import randomise
from torch import nn

from models.recording import Edit, recording

# Parameters whose gradient is zero by mathematics, for a softmax or a norm that follows ignores a shift; what
# is left is rounding, which is zero on some processors and not on others.
WITHOUT_EFFECT = {
    "global_context": ("score.bias",),
    "dca_se": ("connect.bias",),
    "iau": ("compare.0.bias", "compare.1.bias"),
}


def features(
    seed: int = 0, channels: int = 64, size: tuple[int, int] = (5, 7), batch: int = 3, apart: bool = False
) -> torch.Tensor:
    """Random maps (batch, channels, height, width) of both signs; `apart`: each with a mean of its own."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    if apart:
        x = x + torch.randn(batch, channels, 1, 1, generator=generator, dtype=torch.float64)
    return x


def randomised(module: nn.Module) -> nn.Module:
    """The module in eval mode, in float64, with a random value for every parameter and statistic."""
    return randomise(module.double())


def run(
    module: nn.Module, *inputs: torch.Tensor | list[torch.Tensor], edits: dict[str, Edit] | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The output and the records by name.

    The inputs are left as they were, and without an edit the output is neither constant nor one of them.
    """
    tensors = [x for x in inputs if torch.is_tensor(x)]
    kept = [x.clone() for x in tensors]
    with torch.no_grad(), recording(module, edits) as records:
        y = module(*inputs)
    for x, before in zip(tensors, kept):
        assert torch.equal(x, before)
        if edits is None and torch.is_tensor(y) and y.shape == x.shape:
            assert y.std() > 0 and (y - x).abs().max() > 0.01 * x.abs().max()
    return y, {name: entry.tensor for name, entry in records.items()}


def agree(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def copy_state(target: nn.Module, source: nn.Module, names: dict[str, str]) -> nn.Module:
    """Gives `target` the state of `source`, part by part; every part of both must be named.

    A 1x1 convolution and a linear layer count as the same part.
    """
    state = {
        f"{theirs}{key.removeprefix(ours)}": value
        for ours, theirs in names.items()
        for key, value in source.state_dict().items()
        if key.startswith(f"{ours}.")
    }
    assert len(state) == len(source.state_dict())
    state = {key: value.view_as(target.state_dict()[key]) for key, value in state.items()}
    target.double().eval().load_state_dict(state)
    return target


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def is_about(tensor: torch.Tensor, std: float) -> bool:
    """Whether the spread is the wanted one; three standard errors of a normal sample, at least."""
    return abs(tensor.std().item() / std - 1) < max(0.02, 3 / (2 * tensor.numel()) ** 0.5)


# What stored outputs of the authors' code, or of a library, were computed with.


def filled(module: nn.Module) -> nn.Module:
    """The module in eval mode, with weights that anybody can write down in any language."""
    with torch.no_grad():
        for part in module.double().modules():
            for key, value in part.named_parameters(recurse=False):
                n = torch.arange(value.numel(), dtype=torch.float64).view_as(value)
                if isinstance(part, nn.BatchNorm2d):
                    value.copy_(1 + 0.1 * n.sin() if key == "weight" else 0.1 * n.cos())
                elif key == "bias":
                    value.copy_(0.1 * n.cos())
                else:
                    value.copy_((0.37 * n).sin() / value[0].numel() ** 0.5)
            if isinstance(part, nn.BatchNorm2d):
                n = torch.arange(part.num_features, dtype=torch.float64)
                part.running_mean.copy_(0.05 * (2 * n).sin())
                part.running_var.copy_(1 + 0.5 * n.sin() ** 2)
    return module.eval()


def wave(*shape: int) -> torch.Tensor:
    """Inputs of this shape: a sine along all of it."""
    return (0.11 * torch.arange(math.prod(shape), dtype=torch.float64)).sin().view(shape)
