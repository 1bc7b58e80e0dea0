"""What a comparison may be asked for; everything else is refused in one sentence."""

from difflib import get_close_matches

from PIL import Image

from models import CLASSES
from models.metadata import networks

from ..inspection.cam import METHODS


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
            near = get_close_matches(str(name)[:40], known) or ["plain", "se"]
            raise RequestError(f"One of the mechanisms does not exist: try {' or '.join(near)}.")
    if len(set(names)) < len(names):
        raise RequestError("Each mechanism may be chosen once.")


def check_choice(value: object, choices: tuple[str, ...], what: str) -> None:
    if not isinstance(value, str) or value not in choices:
        raise RequestError(f"There is no such {what}: choose from {', '.join(choices)}.")
