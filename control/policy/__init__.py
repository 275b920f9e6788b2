"""Policy bundles in Cedar: the built-in one, and those that administrators write."""

from control.policy.bundles import BUILT_IN, Policies, built_in_text

__all__ = ["BUILT_IN", "Policies", "built_in_text"]
