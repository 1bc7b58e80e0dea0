"""What chance can do to an accuracy, and to the difference of two: Wilson, McNemar, Holm, and the verdict.

Card, table, chart and README take their intervals and verdicts from here, and put them into words here.
"""

import math

import numpy as np

Z = 1.959964  # of a 95 % interval
SIGNIFICANCE = 0.05  # of the corrected p values
UNUSUAL = 5  # percent of the test images that a network by definition finds unusual
UNKNOWN = {"kind": "unknown", "p": None, "better": None, "worse": None}  # the verdict where nobody compared


def wilson(percent: float, count: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of an accuracy, in percent.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    z, p = Z, percent / 100
    centre = p + z * z / (2 * count)
    spread = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return tuple(100 * (centre + sign * spread) / (1 + z * z / count) for sign in (-1, 1))


def interval(percent: float | None, count: int) -> dict | None:
    """An accuracy in percent of `count` images, and its 95 % interval: {"value", "low", "high"}, rounded.

    It is about chance in the choice of these images, not about another seed. None where nobody measured.
    """
    if percent is None:
        return None
    low, high = wilson(percent, count)
    return {"value": round(percent, 2), "low": round(low, 2), "high": round(high, 2)}


def paired_interval(more: int, fewer: int, count: int) -> dict:
    """A difference of two accuracies on the same images, in points, and its 95 % interval, as by `interval`.

    Args:
        more, fewer: images that only the first network gets right, and only the second one.
        count: images that both answered.

    Source: Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions based
    on paired data, 2012.
    """
    p, q = (more + 1) / (count + 2), (fewer + 1) / (count + 2)
    spread = Z * math.sqrt((p + q - (p - q) ** 2) / (count + 2))
    low, high = (100 * max(-1.0, min(1.0, p - q + sign * spread)) for sign in (-1, 1))
    value = round(100 * (more - fewer) / count, 2)
    return {"value": value, "low": min(value, round(low, 2)), "high": max(value, round(high, 2))}


def mcnemar(better: int, worse: int) -> float:
    """The two-sided exact p value that two networks differ, from the images that only one gets right.

    If they were equally good, each such image would fall to either like a fair coin.

    Args:
        better: images that the first network gets right and the second one wrong.
        worse: the other way round.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    count = better + worse
    tail = sum(math.comb(count, k) for k in range(min(better, worse) + 1))  # an exact integer
    return min(1.0, 2 * tail / 2**count)


def holm(values: list[float]) -> list[float]:
    """p values corrected for their number, so that one false alarm among all is as rare as with one test.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    corrected, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(np.argsort(values, kind="stable")):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected


def verdict(better: int, worse: int, p: float) -> dict:
    """What may be said of a network beside another one: {"kind", "p", "better", "worse"}.

    `kind` is "better", "worse" or "same" (no difference was measured); see `UNKNOWN` for the fourth one.

    Args:
        better, worse: as for `mcnemar`.
        p: its p value, corrected.
    """
    kind = "same" if p >= SIGNIFICANCE else "better" if better > worse else "worse"
    return {"kind": kind, "p": p, "better": better, "worse": worse}


def in_words(found: dict) -> str:
    """A verdict for people; `kind` is for programs."""
    if found["kind"] == "unknown":
        return "not compared with plain"
    if found["kind"] == "same":
        return "no measurable difference"
    chance = "p < 0.001" if found["p"] < 0.001 else f"p = {found['p']:.3f}"
    return f"{found['kind']} than plain ({chance})"


def use_in_words(found: dict, images: int, taken_away: bool = True) -> str:
    """What a replacement of attention shows, for people.

    Args:
        found: a verdict on the network as trained beside the one with the replacement.
        images: that both answered.
        taken_away: whether the replacement leaves out something that the attention says; else a loss is no
            sign of use.
    """
    if found["kind"] == "same":
        return "no measurable use" if taken_away else "no measurable difference"
    points = f"{100 * abs(found['better'] - found['worse']) / images:.1f} points are"
    if found["kind"] == "worse":
        return f"{points} won"
    return f"used: {points} lost" if taken_away else f"{points} lost"
