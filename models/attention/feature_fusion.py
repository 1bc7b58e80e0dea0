import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record

PAPER = "Dai et al., Attentional Feature Fusion, WACV 2021, https://arxiv.org/abs/2009.14082"


@mechanism("ms_cam", title="MS-CAM", family="channel", slot="refine", paper=PAPER)
class MultiScaleChannelAttention(nn.Module):
    r"""Gates every channel at every place by two opinions: the whole picture's and the place's own.

    $$M(x) = \sigma\big(L(x) + G(\mathrm{avg}_{hw}\,x)\big), \quad
    L, G:\ t \mapsto \mathrm{bn}(W_2\,\mathrm{relu}(\mathrm{bn}(W_1 t))), \quad y = M(x)\,x$$

    Squeeze-and-excitation judges a channel by its average over the picture, and a small object drowns in
    an average. Here a second network of the same form, with weights of its own, judges each cell by
    itself, and the two judgements are added before the gate. The "scales" are these two: one cell, and
    everything.

    **What to look for.** Compare the ranges (colours are stretched) of `global_logit`, one number per
    channel, and `local_logit`, one per channel and cell: their sum decides the gate, so a strong yes of
    one can outvote the no of the other.
    Where the local one is flat, the module has become squeeze-and-excitation.

    **Shapes.** (B, C, H, W) to the same; `full_gate` (B, C, H, W) between 0 and 1; `global_logit` (B, C,
    1, 1) and `local_logit` (B, C, H, W), signed, before the sigmoid. As in the authors' code the 1x1
    convolutions have biases; the reduction of 4 is theirs for CIFAR.
    """

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        self.whole, self.local = (
            nn.Sequential(
                nn.Conv2d(channels, channels // reduction, 1),
                nn.BatchNorm2d(channels // reduction),
                nn.ReLU(),
                nn.Conv2d(channels // reduction, channels, 1),
                nn.BatchNorm2d(channels),
            )
            for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * record(self, "full_gate", self.weigh(x), "b c h w", role="gate")

    def weigh(self, x: torch.Tensor) -> torch.Tensor:
        """M(x), (B, C, H, W)."""
        global_logit = record(
            self, "global_logit", self.whole(x.mean((2, 3), keepdim=True)), "b c 1 1", role="features"
        )
        local_logit = record(self, "local_logit", self.local(x), "b c h w", role="features")
        return torch.sigmoid(global_logit + local_logit)


@mechanism("aff", title="Attentional Feature Fusion", family="hybrid", slot="fuse", paper=PAPER)
class AttentionalFeatureFusion(MultiScaleChannelAttention):
    r"""Replaces the sum of shortcut and residual by a choice between them, for each channel and place.

    $$w = M(s + r), \quad y = 2\,w\,r + 2\,(1 - w)\,s, \quad
    M(t) = \sigma\big(L(t) + G(\mathrm{avg}_{hw}\,t)\big)$$

    A ResNet adds the old (the shortcut s) and the new (the residual r) one to one, whatever they hold.
    Here a small network looks at the sum and says how much to take of each. At w = 1/2 the result is the
    plain sum again.

    **What to look for.** A map of who wins: above one half the new features of the block, below it the
    old ones that were handed through. A block that stays near 0 everywhere contributes little.

    **Shapes.** Two (B, C, H, W) to one; `fuse_gate` (B, C, H, W) between 0 and 1, the share of the
    residual; `global_logit` (B, C, 1, 1) and `local_logit` (B, C, H, W), signed, are the two opinions
    behind it. The factor 2 is in the authors' code, not in the paper's formula.
    """

    def forward(self, identity: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        gate = record(self, "fuse_gate", self.weigh(identity + residual), "b c h w", role="gate")
        return 2 * (residual * gate + identity * (1 - gate))


@mechanism("iaff", title="Iterative Attentional Feature Fusion", family="hybrid", slot="fuse", paper=PAPER)
class IterativeAttentionalFeatureFusion(nn.Module):
    r"""Chooses between shortcut and residual twice: the second choice looks at the outcome of the first.

    $$w_1 = M_1(s + r), \quad q = w_1\,r + (1 - w_1)\,s, \quad w_2 = M_2(q), \quad
    y = w_2\,r + (1 - w_2)\,s$$

    To choose well between the old (the shortcut s) and the new (the residual r), a network must look at
    both; but to look at both it must first mix them, and a plain sum is a poor mixture. So it mixes by a
    first choice, looks at that, and chooses again.

    **What to look for.** The difference of the two gates: where the second choice corrects the first. If
    there is none, one choice would have done.

    **Shapes.** Two (B, C, H, W) to one; `fuse_gate1` and `fuse_gate2` (B, C, H, W) between 0 and 1, the
    share of the residual; under `first` and `second` the logits of each choice, as in AFF. No factor 2
    here, in paper and code alike. The two choices share no weights, as in the authors' MXNet code; their
    PyTorch file uses one global branch twice, by mistake.
    """

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        self.first = MultiScaleChannelAttention(channels, reduction)
        self.second = MultiScaleChannelAttention(channels, reduction)

    def forward(self, identity: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        gate = record(self, "fuse_gate1", self.first.weigh(identity + residual), "b c h w", role="gate")
        mixed = residual * gate + identity * (1 - gate)
        gate = record(self, "fuse_gate2", self.second.weigh(mixed), "b c h w", role="gate")
        return residual * gate + identity * (1 - gate)
