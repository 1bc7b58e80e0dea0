"""What a comparison may be asked for; everything else is refused in one sentence."""

import base64
import binascii
import re
from collections.abc import Mapping
from difflib import get_close_matches

from PIL import Image

from models import CLASSES
from models.metadata import networks
from models.replacements import EVERYWHERE, REPLACEMENTS

from ..inspection.cam import METHODS
from ..inspection.replaced import Replacement

PIXELS = 32 * 32 * 3  # bytes of a picture
PATH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")  # "all", a block, or a tensor's
LONGEST_PATH = 100
INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
MOST_TENSORS, MOST_VALUES = 64, 4096  # changed by hand
LARGEST = 3e38  # about the end of float32


class RequestError(ValueError):
    """The request makes no sense; the message is one sentence for whoever sent it."""


def check_request(image: object, mechanisms: object, target: object, cam: object) -> None:
    """What a comparison is asked for.

    Raises:
        RequestError: one of the arguments makes no sense.
    """
    check_image(image)
    check_mechanisms(mechanisms)
    check_choice(target, ("predicted", *CLASSES), "class to explain")
    check_choice(cam, METHODS, "CAM method")


def check_image(image: object) -> None:
    if not isinstance(image, Image.Image) or image.size != (32, 32) or image.mode != "RGB":
        raise RequestError("Choose a picture first: the networks look at 32 x 32 pixels in RGB.")


def check_mechanisms(names: object) -> None:
    """A list of ids of networks, without repeats.

    Raises:
        RequestError: anything else.
    """
    known = networks()
    if not isinstance(names, list | tuple):
        raise RequestError("The mechanisms must be a list of ids, such as plain and se.")
    if not names:
        raise RequestError("Choose at least one mechanism.")
    if len(names) > len(known):
        raise RequestError(f"Choose at most {len(known)} mechanisms, each once.")
    for name in names:
        if not isinstance(name, str) or name not in known:
            near = get_close_matches(str(name)[:40].lower(), known) or ["plain", "se"]
            raise RequestError(f"One of the mechanisms does not exist: try {' or '.join(near)}.")
    if len(set(names)) < len(names):
        raise RequestError("Each mechanism may be chosen once.")


def check_choice(value: object, choices: tuple[str, ...], what: str) -> None:
    if not isinstance(value, str) or value not in choices:
        raise RequestError(f"There is no such {what}: choose from {', '.join(choices)}.")


def pixels_of(text: object, refusal: str) -> bytes:
    """The bytes of a picture of 32 x 32 pixels in RGB, from base64.

    Raises:
        RequestError: it is something else; `refusal` says what.
    """
    try:
        if isinstance(text, str) and len(text) == PIXELS * 4 // 3:
            found = base64.b64decode(text, validate=True)
            if len(found) == PIXELS:  # not padded to fewer
                return found
    except (binascii.Error, ValueError):  # not base64, not ASCII
        pass
    raise RequestError(refusal)


def replacement_of(request: object) -> Replacement | None:
    """What a request wants in the place of attention: null, or {name, scope, strength, other, by_hand, only}.

    What a replacement does not need is left out. A scope that is missing or null means everywhere, such a
    strength 1.

    Raises:
        RequestError: anything else.
    """
    if request is None:
        return None
    if not isinstance(request, Mapping):
        raise RequestError("The replacement must be null or an object with a name.")
    name, scope, strength = (request.get(key) for key in ("name", "scope", "strength"))
    scope, strength = EVERYWHERE if scope is None else scope, 1.0 if strength is None else strength
    check_choice(name, tuple(REPLACEMENTS), "replacement")
    if not isinstance(scope, str) or len(scope) > LONGEST_PATH or not PATH.fullmatch(scope):
        raise RequestError(f"The scope must be {EVERYWHERE}, a block such as layer2.1, or a tensor in one.")
    if not is_number(strength, 0, 2):
        raise RequestError("The strength must be a number from 0 to 2.")
    if request.get("only") is not None:
        check_mechanisms([request["only"]])
    if name == "as trained":
        return None
    return Replacement(
        name,
        scope,
        float(strength) if name == "strength" else 1.0,
        pixels_of(request.get("other"), "Another picture of 32 x 32 pixels must come with this replacement.")
        if name == "another picture's"
        else None,
        changes_of(request.get("by_hand")) if name == "by hand" else (),
        request.get("only"),
    )


def changes_of(request: object) -> tuple[tuple[str, tuple[tuple[int, float], ...]], ...]:
    """What was changed by hand: {tensor: {index, as text: value}}. Tensors without a change are left out.

    Raises:
        RequestError: anything else, or too much of it.
    """
    if not isinstance(request, Mapping) or not all(
        isinstance(values, Mapping) for values in request.values()
    ):
        raise RequestError("What is changed by hand must be an object with an object for each tensor.")
    if len(request) > MOST_TENSORS or sum(map(len, request.values())) > MOST_VALUES:
        raise RequestError(
            f"Change at most {MOST_VALUES:,} values in at most {MOST_TENSORS} tensors by hand."
        )
    for path, values in request.items():
        if len(path) > LONGEST_PATH or not PATH.fullmatch(path):
            raise RequestError("A tensor that is changed by hand has a name such as layer2.1.refine.gate.")
        if not all(map(INDEX.fullmatch, values)):
            raise RequestError("The places of what is changed by hand must be whole numbers from 0, as text.")
        if not all(is_number(value, -LARGEST, LARGEST) for value in values.values()):
            raise RequestError("What is changed by hand must be changed to finite numbers.")
    return tuple(
        (path, tuple((int(at), float(value)) for at, value in values.items()))
        for path, values in request.items()
        if values
    )


def is_number(value: object, least: float, most: float) -> bool:
    """A number within two ends, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
