import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "stn",
    title="Spatial Transformer",
    family="spatial",
    slot="input",
    paper="Jaderberg et al., Spatial Transformer Networks, NeurIPS 2015, https://arxiv.org/abs/1506.02025",
)
class SpatialTransformer(nn.Module):
    r"""Moves the camera before the network looks: predicts how to shift, turn and zoom the picture.

    $$\theta = \mathrm{loc}(x) \in \mathbb{R}^{2 \times 3}, \quad
    (x_s,\; y_s)^\top = \theta\, (x_t,\; y_t,\; 1)^\top, \quad
    y(x_t, y_t) = \mathrm{bilinear}\big(x;\; x_s, y_s\big)$$

    This is no heat map. A small network looks at the picture and answers with six numbers; they tell for
    each pixel of the new picture from where in the old one to read it. How to shift, turn or zoom is
    learned from the class labels alone.

    **What to look for.** The lattice lies where the network reads: half the size of the picture means
    that it zooms in by two. CIFAR's objects are centred already; upload a shifted or turned picture and
    see whether the lattice follows.

    **Shapes.** (B, 3, H, W) to the same; `theta` (B, 2, 3), from the output's coordinates to the
    source's, both from -1 to 1 over the picture; `grid` (B, H, W, 2), for each output pixel the x and y
    to read. What lies outside is 0, the mean colour, not black. The localiser is that of PyTorch's
    tutorial, for 32 pixels; it learns at a tenth of the network's rate and starts with the identity.
    """

    lr_scale = 0.1  # of the network's learning rate: the localiser learns, and decays, a tenth as fast

    def __init__(self, channels: int = 3, side: int = 32):
        super().__init__()
        self.side = (side, side)
        left = ((side - 6) // 2 - 4) // 2  # cells a side after both convolutions
        self.locate = nn.Sequential(
            nn.Conv2d(channels, 8, 7),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(8, 10, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(10 * left**2, 32),
            nn.ReLU(),
            nn.Linear(32, 6),
        )
        nn.init.zeros_(self.locate[-1].weight)
        with torch.no_grad():
            self.locate[-1].bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = images
        if seen.shape[2:] != self.side:  # training may begin on smaller pictures
            seen = F.interpolate(seen, self.side, mode="bilinear")
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 moves in eighths of a pixel
            theta = self.locate(seen).unflatten(1, (2, 3))
            theta = theta.to(torch.promote_types(images.dtype, torch.float32))
            theta = record(self, "theta", theta, "b 2 3", role="features")
            grid = F.affine_grid(theta, list(images.shape), align_corners=False)
            grid = record(self, "grid", grid, "b h w 2", role="features")
            return F.grid_sample(images.to(grid.dtype), grid, align_corners=False)
