"""The profiles `oss` and `enterprise`: each is the defaults layer of the settings."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

import yaml

from kit.config import ConfigError
from kit.settings import validate_layer

PROFILES: Final = ("oss", "enterprise")


def defaults(profile: str) -> dict[str, Any]:
    """The profile's defaults layer. ConfigError for a profile that does not exist."""
    if profile not in PROFILES:
        raise ConfigError(f"mesh.profile: {profile!r} is not a profile; profiles are {', '.join(PROFILES)}")
    text = resources.files("control").joinpath("defaults", f"{profile}.yaml").read_text(encoding="utf-8")
    return validate_layer(yaml.safe_load(text))
