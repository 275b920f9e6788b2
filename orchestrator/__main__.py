"""Run the orchestrator alone: `python -m orchestrator`."""

import sys

from kit.process import main
from orchestrator.app import build
from orchestrator.config import OrchestratorConfig

if __name__ == "__main__":
    sys.exit(main({"orchestrator": (OrchestratorConfig, build)}))
