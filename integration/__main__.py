"""Run integration alone: `python -m integration`."""

import sys

from integration.app import build
from integration.config import IntegrationConfig
from kit.process import main

if __name__ == "__main__":
    sys.exit(main({"integration": (IntegrationConfig, build)}))
