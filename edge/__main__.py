"""Run the edge alone: `python -m edge`."""

from __future__ import annotations

import sys

from edge.app import build
from edge.config import EdgeConfig
from kit.process import main

if __name__ == "__main__":
    sys.exit(main({"edge": (EdgeConfig, build)}))
