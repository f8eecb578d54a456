"""Values as plain JSON, with credentials blanked."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")

_SECRET_KEY = re.compile(r"password|secret|token|credential|api_?key|access_?key", re.IGNORECASE)

_SECRET_QUERY = re.compile(rf"(?i)\b(\w*(?:{_SECRET_KEY.pattern})\w*)=[^&\s]+")


def plain(value: Any) -> Any:
    """Return `value` as JSON types: NaN becomes null, credentials become `***`."""
    if isinstance(value, Mapping):
        return {str(key): _entry(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, str | Path):
        return _SECRET_QUERY.sub(r"\1=***", _CREDENTIALS.sub("***", str(value)))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _entry(key: str, value: Any) -> Any:
    secret = isinstance(value, str) and value and _SECRET_KEY.search(key)
    return "***" if secret else plain(value)
