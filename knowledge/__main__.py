"""Run the knowledge service alone: `python -m knowledge`."""

import sys

from kit.process import main
from knowledge.app import build
from knowledge.config import KnowledgeConfig

if __name__ == "__main__":
    sys.exit(main({"knowledge": (KnowledgeConfig, build)}))
