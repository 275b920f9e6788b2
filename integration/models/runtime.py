"""LiteLLM, imported and configured once. Every other module takes it from here.

The import costs seconds of CPU and 150 MB: this module is only ever imported by `integration.app`,
off the event loop.
"""

from __future__ import annotations

import logging
from typing import Any

import litellm as _litellm

# Its type information misses half of what it exports.
litellm: Any = _litellm

litellm.disable_hf_tokenizer_download = True
litellm.suppress_debug_info = True
litellm.telemetry = False
litellm.turn_off_message_logging = True
litellm.drop_params = False
litellm.modify_params = False
litellm.num_retries = 0
for _name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
    # its records hold request bodies; what matters is in our own log, without content
    logging.getLogger(_name).setLevel(logging.CRITICAL)

__all__ = ["litellm"]
