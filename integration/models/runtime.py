"""LiteLLM, imported and configured once. Every other module takes it from here.

The import costs seconds of CPU and 150 MB: this module is only ever imported by `integration.app`,
off the event loop.
"""

from __future__ import annotations

import logging
import sys
from types import ModuleType
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


class _NoMcp:
    """LiteLLM's proxy may run MCP tools on its own; here tools are the platform's."""

    @staticmethod
    def should_use_litellm_mcp_gateway(tools: object) -> bool:
        """Never."""
        del tools
        return False


# Each call of the Responses API imports this part of LiteLLM's proxy only to ask that, and with it the proxy and
# libraries that are not installed.
_NAME = "litellm.responses.mcp.litellm_proxy_mcp_handler"
_module = ModuleType(_NAME)
_module.LiteLLM_Proxy_MCP_Handler = _NoMcp  # type: ignore[attr-defined]
sys.modules.setdefault(_NAME, _module)

__all__ = ["litellm"]
