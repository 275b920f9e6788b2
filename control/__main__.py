"""Run control alone: `python -m control`."""

from __future__ import annotations

import sys

from control.app import NAME, build
from control.config import ControlConfig
from kit.process import main

if __name__ == "__main__":
    sys.exit(main({NAME: (ControlConfig, build)}))
