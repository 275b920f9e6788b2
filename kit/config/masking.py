"""What `config show` hides: values of secret fields, and passwords inside URLs."""

import re
from typing import Any

MASK = "**********"
_SECRET_NAME = re.compile(r"(^|_)(api_key|key|secret|password|token|credentials?|authorization)$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s/@:]*):[^\s/@]*@", re.IGNORECASE)


def mask_url(text: str) -> str:
    """The text with the password of every URL in it replaced."""
    return _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", text)


def mask(value: Any, name: str = "") -> Any:
    """A copy of a JSON-like value without secrets.

    A string is hidden when its field's name says that it is a secret; "env:NAME" references stay, since they tell
    where the secret is and not what it is.
    """
    if isinstance(value, dict):
        return {key: mask(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [mask(item, name) for item in value]
    if isinstance(value, str):
        if _SECRET_NAME.search(name) and value and not value.startswith("env:"):
            return MASK
        return mask_url(value)
    return value
