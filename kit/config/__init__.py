"""Configuration of a process: defaults < YAML file < environment, with the origin of every value.

A section is a pydantic model. `load` validates all sections at once, and an error names the file, the line and the
dotted field (or the environment variable) that is wrong, so that a process refuses to start with one clear sentence.
"""

from kit.config.loaded import RAW_SECTIONS, Loaded, load
from kit.config.masking import mask, mask_url
from kit.config.section import ConfigError, Section

__all__ = ["RAW_SECTIONS", "ConfigError", "Loaded", "Section", "load", "mask", "mask_url"]
