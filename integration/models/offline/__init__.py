"""The offline model: a deterministic stand-in for trying, developing and testing without a key. See README.md."""
