"""What chance can do to an accuracy, and to the difference of two: Wilson, McNemar, Holm, and the verdict."""

import math

import numpy as np

SIGNIFICANCE = 0.05  # of the corrected p values
SAME = "no measurable difference"


def wilson(percent: float, count: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of an accuracy, in percent.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    z, p = 1.959964, percent / 100
    centre = p + z * z / (2 * count)
    spread = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return tuple(100 * (centre + sign * spread) / (1 + z * z / count) for sign in (-1, 1))


def mcnemar(better: int, worse: int) -> float:
    """The two-sided exact p value that two networks differ, from the images that only one gets right.

    If they were equally good, each such image would fall to either like a fair coin.

    Args:
        better: images that the first network gets right and the second one wrong.
        worse: the other way round.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    count = better + worse
    term = total = 1  # binomial coefficients (count, 0) and their sum, in exact integers
    for k in range(min(better, worse)):
        term = term * (count - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / 2**count)


def holm(values: list[float]) -> list[float]:
    """p values corrected for their number, so that one false alarm among all is as rare as with one test.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    corrected, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(np.argsort(values, kind="stable")):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected


def verdict(difference: int, p: float) -> str:
    """What a corrected p value allows to say of a network with so many more images right than plain."""
    if p >= SIGNIFICANCE:
        return SAME
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"{'better' if difference > 0 else 'worse'} than plain ({chance})"
