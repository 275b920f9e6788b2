"""Run the memory service alone: `python -m memory`."""

import sys

from kit.process import main
from memory.app import build
from memory.config import MemoryConfig

if __name__ == "__main__":
    sys.exit(main({"memory": (MemoryConfig, build)}))
