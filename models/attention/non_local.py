import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import attend, is_recording, record

PAPER = "Wang et al., Non-local Neural Networks, CVPR 2018, https://arxiv.org/abs/1711.07971"


@mechanism(
    "non_local",
    title="Non-local",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper=PAPER,
)
class NonLocal(nn.Module):
    r"""Adds to each cell an average of all cells, weighted by how well they match it (embedded Gaussian).

    $$A_{ij} = \frac{\exp(\theta_i^\top \phi_j / \sqrt{C'})}{\sum_k \exp(\theta_i^\top \phi_k / \sqrt{C'})},
    \quad y_i = x_i + \mathrm{bn}\big(W \textstyle\sum_j A_{ij}\, g_j\big)$$

    A convolution sees a small window. Here every cell asks all cells, however far and itself included, "do
    you have what I look for?" and takes over a share of what the best matches hold. The name comes from an
    old denoising method that averaged look-alike patches; the network learns what to look for instead, and
    does not denoise.

    **What to look for.** Click the object, then the background. If the map hardly changes, the block has
    found one answer for every question. Read the line *changes the features by* first: a sharp map that
    changes nothing does nothing.

    **Shapes.** (B, C, H, W) to the same; `affinity` (B, N, H, W): for each of the N = HW queries a map over
    the keys that sums to one. C' = C/2. The scale 1/sqrt(C') is the authors' code (the paper's formula has
    none). The last BatchNorm starts at weight 0, as in the paper: the untrained block changes nothing.
    """

    scaled = True  # by 1/sqrt(C'), before the softmax

    def __init__(self, channels: int, reduction: int = 2):
        super().__init__()
        inner = channels // reduction
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.project = nn.Conv2d(inner, channels, 1)
        self.bn = nn.BatchNorm2d(channels)
        for conv in (self.query, self.key, self.value, self.project):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            conv(x).flatten(2).transpose(1, 2) for conv in (self.query, self.key, self.value)
        )  # (B, N, C')
        gathered = self.gather(query, key, value, x.shape[2:])
        gathered = gathered.transpose(1, 2).unflatten(2, x.shape[2:])  # (B, C', H, W)
        return x + self.bn(self.project(gathered))

    def gather(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, size: torch.Size
    ) -> torch.Tensor:
        """Tokens (B, N, C') to the same; `size` is (H, W)."""
        return attend(self, query, key, value, size, scale=None if self.scaled else 1.0)


@mechanism(
    "non_local_gaussian",
    title="Non-local, Gaussian",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper=PAPER,
)
class NonLocalGaussian(NonLocal):
    r"""Adds to each cell an average of all cells, weighted by how well raw features match (Gaussian).

    $$A_{ij} = \frac{\exp(x_i^\top x_j)}{\sum_k \exp(x_i^\top x_k)},
    \quad y_i = x_i + \mathrm{bn}\big(W \textstyle\sum_j A_{ij}\, g_j\big)$$

    The oldest way to compare two cells: multiply their features as they are, with no learned question or
    answer between them. Strong features match strongly: a cell with large values can be the best match
    of many others, better than they are for themselves.

    **What to look for.** Click several places: do they find themselves, or the same few strong cells?
    Compare with the embedded form (`non_local`), which learns what to compare: two projections and a
    scale make the difference.

    **Shapes.** (B, C, H, W) to the same; `affinity` (B, N, H, W): for each of the N = HW queries a map
    over the keys that sums to one. Not scaled, as in the paper, so that nearly all weight may lie on one
    cell. The last BatchNorm starts at weight 0, so the untrained block changes nothing.
    """

    scaled = False

    def __init__(self, channels: int, reduction: int = 2):
        super().__init__(channels, reduction)
        self.query, self.key = nn.Identity(), nn.Identity()


@mechanism(
    "non_local_dot_product",
    title="Non-local, dot product",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper=PAPER,
)
class NonLocalDotProduct(NonLocal):
    r"""Adds to each cell a sum over all cells, each with the sign and size of its match (dot product).

    $$A_{ij} = \frac{1}{N}\, \theta_i^\top \phi_j,
    \quad y_i = x_i + \mathrm{bn}\big(W \textstyle\sum_j A_{ij}\, g_j\big)$$

    Without a softmax nothing forces the weights to compete: a cell may listen to many others, to none,
    or subtract what it finds in them. And the order of the products is free: summarise all cells first,
    then ask, and the large table of pairs need not be built.

    **What to look for.** Zero is the middle of the colours: features of lighter places are added, those
    of darker ones subtracted. Each map is stretched to its own largest value: how strong it is, only the
    range below it says.

    **Shapes.** (B, C, H, W) to the same; `affinity` (B, N, H, W), of both signs and without bounds: for
    each of the N = HW queries a map over the keys, divided by their number. The last BatchNorm starts at
    weight 0, so the untrained block changes nothing.
    """

    def gather(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, size: torch.Size
    ) -> torch.Tensor:
        keys, inner = key.shape[1:]
        if inner < keys and not is_recording():  # the cheaper order
            return query @ (key.transpose(1, 2) @ value / keys)
        affinity = (query @ key.transpose(1, 2) / keys).unflatten(2, size)  # (B, N, H, W)
        # Without a softmax the weights of a query sum to anything: no shares.
        affinity = record(self, "affinity", affinity, "b q h w", role="features")
        return affinity.flatten(2) @ value


@mechanism(
    "non_local_concatenation",
    title="Non-local, concatenation",
    family="pairwise",
    slot="stage",
    sites=("stage2", "stage3"),
    paper=PAPER,
)
class NonLocalConcatenation(NonLocal):
    r"""Adds to each cell a sum over all cells, weighted by a learned judge of each pair (concatenation).

    $$A_{ij} = \frac{1}{N}\, \mathrm{relu}\big(w^\top [\theta_i;\, \phi_j]\big),
    \quad y_i = x_i + \mathrm{bn}\big(W \textstyle\sum_j A_{ij}\, g_j\big)$$

    Both cells of a pair are laid side by side and judged by one weight vector. Since the judge adds up,
    it sees one number of the asker and one of the asked: the sum decides, and what is negative counts as
    nothing. It cannot ask whether two cells are alike, only whether both together are strong enough.

    **What to look for.** Click several places: every map is the same picture, cut off at a higher or
    lower level. The weights are not negative and do not sum to one.

    **Shapes.** (B, C, H, W) to the same; `affinity` (B, N, H, W), from 0 without upper bound: for each
    of the N = HW queries a map over the keys, divided by their number. The last BatchNorm starts at
    weight 0, so the untrained block changes nothing.
    """

    def __init__(self, channels: int, reduction: int = 2):
        super().__init__(channels, reduction)
        self.compare = nn.Linear(2 * (channels // reduction), 1, bias=False)

    def gather(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, size: torch.Size
    ) -> torch.Tensor:
        ours, theirs = self.compare.weight.view(2, -1)  # w is a part for the query and a part for the key
        scores = (query * ours).sum(2)[:, :, None] + (key * theirs).sum(2)[:, None]  # (B, N, 1) + (B, 1, N)
        affinity = (torch.relu(scores) / key.shape[1]).unflatten(2, size)  # (B, N, H, W)
        # Without a softmax the weights of a query sum to anything: no shares.
        affinity = record(self, "affinity", affinity, "b q h w", role="features")
        return affinity.flatten(2) @ value
