"""What control pushes and services keep: layered settings, and the resources (models, policies, keys, tenants).

`merge_layers` is the one pure function that merges layers; `SettingsCache` is what a service asks; `watch_settings` is
the task that fills it.
"""

from kit.settings.cache import SettingsCache
from kit.settings.globs import model_allowed
from kit.settings.layers import Effective, merge_layers, validate_layer
from kit.settings.schema import TenantSettings
from kit.settings.watch import watch_settings

__all__ = [
    "Effective",
    "SettingsCache",
    "TenantSettings",
    "merge_layers",
    "model_allowed",
    "validate_layer",
    "watch_settings",
]
