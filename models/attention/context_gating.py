import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "context_gating",
    title="Context Gating",
    family="channel",
    slot="head",
    paper="Miech et al., Learnable Pooling with Context Gating for Video Classification, "
    "YouTube-8M workshop at CVPR 2017, https://arxiv.org/abs/1706.06905",
)
class ContextGating(nn.Module):
    r"""Turns each feature of the whole picture up or down by what all the others say, before the vote.

    $$z = \mathrm{avg}_{hw}\,x, \quad g = \sigma\big(\mathrm{bn}(W z)\big), \quad y = g\,z$$

    After the last stage the picture has become a list of 512 numbers. This layer looks at all of them
    together and turns each one up or down before the classifier adds them up: a feature that fits a tree
    can count less when others say snow and ski, for then the tree is mere background.

    **What to look for.** There is no map, only the gates: which features are the most open and the most
    closed for this picture, and do pictures of the same class agree? Take two classes that are often
    confused: *Pin as A* a cat, then a dog. Which gates are closed for both, which for one?

    **Shapes.** The last stage's (B, C, H, W) to (B, C), in place of plain average pooling; `gate` (B,
    C), between 0 and 1. One full matrix, no bottleneck and no bias, for the BatchNorm has one; the
    matrix starts with variance 1/C. The paper gates the class scores too; here only the features.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, channels, bias=False)
        self.bn = nn.BatchNorm1d(channels)
        nn.init.normal_(self.linear.weight, std=channels**-0.5)

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        pooled = stages[-1].mean((2, 3))  # (B, C)
        gate = torch.sigmoid(self.bn(self.linear(pooled)))
        return pooled * record(self, "gate", gate, "b c", role="gate")
