"""Whether a picture is unlike those a network knows.

A network that knows ten classes calls any picture one of them. What it finds in the picture, its evidence, is
the logsumexp of its logits: large where some class is well supported, small where none is. A network finds a
picture unusual where its evidence lies below that of 95 % of the test images. This threshold stands in the
facts of its checkpoint (`models.results.evaluate` measures it); without one a network does not say. One
network is wrong about five test images in a hundred by definition, so the page speaks only when a majority
agrees.

Evidence is the negative energy of Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020. It
was chosen over the largest probability on pictures of none of the ten classes. A majority of plain, se and
non_local found unusual, by the one and by the other: 58 % and 52 % of 25 photographs in both crops, 58 % and
41 % of 192 textures and details, 80 % and 44 % of 50 plain colours, 42 % and 50 % of 50 pieces of text. With
the first percentile in place of the fifth it was 26 % of the photographs. Many are missed either way,
portraits and single digits nearly always: silence proves nothing.
"""

from models.statistics import UNUSUAL


def is_unusual(evidence: float, facts: dict) -> bool | None:
    """Whether a network finds less in a picture than in most test images.

    Args:
        evidence: logsumexp of its logits (`Inspection.evidence`).
        facts: of the weights that gave it.

    Returns:
        None where nobody measured this network.
    """
    threshold = facts.get("unusual_below")
    return None if threshold is None else evidence < threshold


def sentence(unusual: list[bool | None]) -> str | None:
    """What the page says when most networks find a picture unusual; None when there is nothing to say.

    Args:
        unusual: what each network finds (see `is_unusual`); None takes no part.
    """
    known = [finding for finding in unusual if finding is not None]
    if 2 * sum(known) <= len(known):
        return None
    them, who = "these networks know", f"{sum(known)} of {len(known)} find"
    if len(known) == 1:
        them, who = "this network knows", "it finds"
    return (
        f"This picture is unlike most that {them}: {who} less evidence for any class in it than in "
        f"{100 - UNUSUAL} % of the test pictures."
    )
