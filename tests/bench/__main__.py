"""`python -m tests.bench`: see tests.bench.run."""

from tests.bench.run import main

main()
