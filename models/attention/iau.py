import torch
from torch import nn

from ..catalogue import mechanism
from ..recording import record


@mechanism(
    "iau",
    title="IAU",
    family="hybrid",
    slot="stage",
    sites=("stage2", "stage3"),
    paper="Hou et al., IAUnet: Global Context-Aware Feature Learning for Person Re-Identification, "
    "TNNLS 2020, https://arxiv.org/abs/2009.01035",
)
class InteractionAggregationUpdate(nn.Module):
    r"""Adds to each channel the one it matches most, then lets four parts confer and tells every cell.

    $$x' = x + \mathrm{bn}\big(W_1\,\mathrm{softmax}(X X^\top)\, X\big), \quad
    p_k = \textstyle\sum_i \sigma(\mathrm{bn}\,W_a x'_i)_k\, x'_i, \quad u = \mathrm{avg}_i\, x'_i$$
    $$w_{kl} = \mathrm{softmax}_{l \ne k}\big(\mathrm{bn}\,W_e[|g p_k - g p_l|;\, g u]\big), \quad
    s_k = \mathrm{relu}\big(\mathrm{bn}\,W_s[g p_k;\, \textstyle\sum_l w_{kl}\, g p_l]\big)$$
    $$y_i = x'_i + \mathrm{bn}\big(W_2[\mathrm{avg}_k\, s_k;\, g u]\big)$$

    Four spotlights each sum up what they see. Parts of an object make sense together, so the four
    summaries exchange notes along the edges of a tiny graph, and the conclusion is told to every cell
    equally. Before that, each channel (a row of the matrix X) draws on the one whose product with it is
    largest.

    **What to look for.** Do the four spotlights lie on different places, or have they become the same
    map? The authors taught them head, upper body, lower body and shoes; here nobody tells them what a
    part is.

    **Shapes.** (B, C, H, W) to the same; `channel` (B, C, C), rows sum to one, each nearly all on a
    single channel, for the scores are not scaled; `parts` (B, 4, H, W) between 0 and 1; `edges` (B, 4,
    4), rows sum to one and the diagonal is 0; `update` (B, C), signed, what is added to every cell. As
    in the authors' code for still images, a part is a sum over cells and not a mean, and g halves the
    channels. All convolutions have biases, left out above. Both outer BatchNorms start at weight 0: the
    untrained block changes nothing.
    """

    def __init__(self, channels: int, parts: int = 4):
        super().__init__()
        inner = channels // 2
        self.pool_channels = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.find_parts = nn.Sequential(nn.Conv2d(channels, parts, 1), nn.BatchNorm2d(parts))
        self.reduce = nn.Conv1d(channels, inner, 1)
        self.compare = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.BatchNorm2d(1))
        self.talk = nn.Sequential(nn.Conv1d(channels, inner, 1), nn.BatchNorm1d(inner), nn.ReLU())
        self.tell = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        for conv in (module for module in self.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d))):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")  # as the authors start them
        nn.init.zeros_(self.pool_channels[1].weight)
        nn.init.zeros_(self.tell[1].weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.pool_channels(self.between_channels(x))
        update = record(self, "update", self.between_parts(x), "b c", role="features")
        return x + update[:, :, None, None]

    def between_channels(self, x: torch.Tensor) -> torch.Tensor:
        detectors = x.flatten(2)  # (B, C, N)
        with torch.autocast(x.device.type, enabled=False):  # the energies overflow half precision
            wide = detectors.to(torch.promote_types(x.dtype, torch.float32))
            channel = (wide @ wide.transpose(1, 2)).softmax(-1)  # (B, C, C)
        channel = record(self, "channel", channel, "b c c", role="share", over="c")
        return (channel.to(x.dtype) @ detectors).view_as(x)

    def between_parts(self, x: torch.Tensor) -> torch.Tensor:
        parts = record(self, "parts", torch.sigmoid(self.find_parts(x)), "b k h w", role="gate")
        cells, spots = x.flatten(2), parts.flatten(2)  # (B, C, N), (B, P, N)
        # transposed only afterwards: else PyTorch's BatchNorm gives a wrong gradient for a single picture
        seen = (spots @ cells.transpose(1, 2)).transpose(1, 2)  # (B, C, P)
        summaries = torch.cat([seen, cells.mean(2, keepdim=True)], dim=2)  # (B, C, P + 1)
        nodes, whole = self.reduce(summaries).split([spots.shape[1], 1], dim=2)  # (B, C/2, P), (B, C/2, 1)

        differences = (nodes[..., None] - nodes[:, :, None]).abs()  # (B, C/2, P, P)
        pairs = torch.cat([differences, whole[..., None].expand_as(differences)], dim=1)
        itself = torch.eye(nodes.shape[2], dtype=torch.bool, device=x.device)
        scores = self.compare(pairs)[:, 0].masked_fill(itself, float("-inf"))  # (B, P, P)
        edges = record(self, "edges", scores.softmax(-1), "b k k", role="share", over="k")

        heard = nodes @ edges.transpose(1, 2)  # (B, C/2, P)
        states = self.talk(torch.cat([nodes, heard], dim=1))
        conclusion = torch.cat([states.mean(2, keepdim=True), whole], dim=1)  # (B, C, 1)
        return self.tell(conclusion[..., None]).flatten(1)  # (B, C)
