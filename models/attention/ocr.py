from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import Site, mechanism
from ..losses import add_loss
from ..recording import record


@mechanism(
    "ocr",
    title="Object-contextual Representations",
    family="spatial",
    slot="stage",
    sites=("stage3",),
    paper="Yuan et al., Object-Contextual Representations for Semantic Segmentation, ECCV 2020, "
    "https://arxiv.org/abs/1909.11065",
)
class ObjectContext(nn.Module):
    r"""Sketches where each class might be, and lets every cell ask these sketches for advice.

    $$\tilde M_k = \mathrm{softmax}_{hw}(m_k), \quad f_k = \textstyle\sum_i \tilde M_{ki}\, x_i, \quad
    w_{ik} = \mathrm{softmax}_k\big(\varphi(x_i) \cdot \psi(f_k) / \sqrt{d}\big)$$
    $$y = \mathrm{relu}\big(\mathrm{bn}\,W\,[\rho(\textstyle\sum_k w_{ik}\,\delta(f_k));\; x]\big)$$

    A cell of a wing is easier to read if it knows what "bird" and "airplane" would look like in this
    very picture. So a small classifier on each cell first sketches ten regions, one for each class; the
    features under a sketch are averaged; then every cell compares itself with the ten averages and takes
    its share.

    **What to look for.** Each region map is the guess where one class would be, present or not; their
    numbers follow the order of the classes. For a cat, compare map 4, "cat", with map 6, "dog": classes
    that are easily confused tend to light the same cells.

    **Shapes.** (B, C, H, W) to the same, not negative; `regions` (B, 10, H, W), each sums to one over
    the picture; `pixel_region` (B, 10, H, W) sums to one over the classes at each cell. Phi and psi are
    two 1x1 convolutions each and delta and rho one, all with BatchNorm and ReLU; they compare in d = C/2
    channels. CIFAR has no labels for cells: our choice is to train the sketches m by the cross-entropy
    of their mean over the picture, with the authors' weight of 0.4. It does not start as the identity,
    for its last convolution mixes and replaces x.
    """

    def __init__(self, channels: int, classes: int = 10, reduction: int = 2, auxiliary_weight: float = 0.4):
        super().__init__()
        inner = channels // reduction
        self.auxiliary_weight = auxiliary_weight
        self.sketch = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, classes, 1),
        )
        self.query = nn.Sequential(*layer(channels, inner), *layer(inner, inner))
        self.key = nn.Sequential(*layer(channels, inner), *layer(inner, inner))
        self.value = nn.Sequential(*layer(channels, inner))
        self.project = nn.Sequential(*layer(inner, channels))
        self.fuse = nn.Sequential(*layer(2 * channels, channels), nn.Dropout2d(0.05))

    @classmethod
    def at(cls, site: Site) -> ObjectContext:
        return cls(site.channels, site.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        sketches = self.sketch(x)  # (B, 10, H, W)
        logits = sketches.mean((2, 3))
        add_loss(lambda labels: self.auxiliary_weight * F.cross_entropy(logits.float(), labels))
        regions = record(
            self,
            "regions",
            sketches.flatten(2).softmax(-1).unflatten(2, size),
            "b k h w",
            role="share",
            over="h w",
        )
        objects = (x.flatten(2) @ regions.flatten(2).transpose(1, 2))[..., None]  # (B, C, 10, 1)

        query, key, value = (
            part.flatten(2) for part in (self.query(x), self.key(objects), self.value(objects))
        )  # (B, d, N), (B, d, 10), (B, d, 10)
        scores = key.transpose(1, 2) @ query * query.shape[1] ** -0.5  # (B, 10, N)
        pixel_region = record(
            self, "pixel_region", scores.softmax(1).unflatten(2, size), "b k h w", role="share", over="k"
        )
        advice = self.project((value @ pixel_region.flatten(2)).unflatten(2, size))  # (B, C, H, W)
        return self.fuse(torch.cat([advice, x], dim=1))


def layer(channels_in: int, channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
