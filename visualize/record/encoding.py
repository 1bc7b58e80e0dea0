"""Arrays as text: a map of the record in 65,536 steps, a picture as base64, and back."""

import base64
import math

import numpy as np
from PIL import Image

from ..inspection.network import Map, NotFiniteError
from .kinds import block_of, kind_of, scale_of, stays
from .requests import pixels_of

LEVELS = 65535


def pack_cam(block: str, values: np.ndarray, raw: tuple[float, float]) -> dict:
    return pack_map(f"{block}.cam", Map("h w", values)) | {"raw": list(raw)}


def pack_map(tensor: str, shown: Map) -> dict:
    """One entry of a column's `maps`."""
    packed = pack(shown.values, empty=stays(shown))
    return {
        "tensor": tensor,
        "block": block_of(tensor),
        "kind": kind_of(shown),
        "role": shown.role,
        "axes": shown.axes,
        **packed,
        "scale": scale_of(shown),
        "static": shown.static,
    }


def pack(values: np.ndarray, empty: bool = False) -> dict:
    """An array in 65,536 steps between its lowest and its highest value; `empty`: shape and range alone.

    Raises:
        NotFiniteError: NaN or infinity in it.
    """
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):
        raise NotFiniteError("The network gives no finite numbers for this picture.")
    data = ""
    if not empty:
        steps = (values.astype(np.float64) - low) / ((high - low) or 1.0) * LEVELS
        data = base64.b64encode(steps.round().astype("<u2").tobytes()).decode()
    return {"shape": list(values.shape), "data": data, "lo": low, "hi": high}


def decode(packed: dict) -> np.ndarray:
    """float32 values of a map of the record, or of what `affinity_row` returned.

    Raises:
        ValueError: the map stayed on the server.
    """
    if not packed["data"]:
        raise ValueError(f"{packed.get('tensor', 'this map')} stayed on the server: ask affinity_row for it")
    steps = np.frombuffer(base64.b64decode(packed["data"]), "<u2").reshape(packed["shape"])
    return (packed["lo"] + steps / LEVELS * (packed["hi"] - packed["lo"])).astype(np.float32)


def picture_of(record: dict) -> Image.Image:
    """The picture of a record, which may come back from anybody's browser.

    Raises:
        RequestError: it holds no picture.
    """
    text = record.get("image") if isinstance(record, dict) else None
    pixels = pixels_of(text, "The record holds no picture of 32 x 32 pixels.")
    return Image.frombytes("RGB", (32, 32), pixels)
