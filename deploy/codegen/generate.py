"""Writes gen/ from proto/: typed Python for the mesh, betterproto and TypeScript for partners.

protoc drives all of it (``buf generate`` cannot call grpcio's built-in
plugin). Python imports come out as a tree that is an import root of its own;
betterproto's are relative, so its tree can be put below any package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
TARGETS = ("python", "betterproto", "ts")
TOOLS = Path(sys.executable).parent
NODE_TOOLS = Path(__file__).parent / "node_modules" / ".bin"


class GenerationError(RuntimeError):
    """A generator is missing or refused; the text is its own."""


def generate(out: Path) -> None:
    """Write all targets below ``out``, replacing what an earlier run made there."""
    protos = [str(path.relative_to(PROTO)) for path in sorted(PROTO.rglob("*.proto"))]
    for target, options in _options().items():
        folder = out / target
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _protoc([option.format(out=folder) for option in options], protos)
    _finish_typescript(out / "ts")


def update(out: Path) -> None:
    """Bring the targets below ``out`` up to date, touching only files that change (others may be importing them)."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        for path in differences(out, fresh):
            (out / path).unlink(missing_ok=True)
            if (fresh / path).exists():
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fresh / path, out / path)


def differences(committed: Path, fresh: Path) -> list[str]:
    """Files of the two trees that are missing, superfluous or unequal, as relative paths."""
    ours, theirs = _files(committed), _files(fresh)
    return sorted(
        str(path)
        for path in ours.keys() | theirs.keys()
        if ours.get(path, b"-missing") != theirs.get(path, b"-missing")
    )


def _options() -> dict[str, Sequence[str]]:
    return {
        "python": (
            _plugin("mypy"),
            _plugin("mypy_grpc"),
            *("--python_out={out}", "--grpc_python_out={out}"),
            *("--mypy_out=quiet:{out}", "--mypy_grpc_out=quiet:{out}"),
        ),
        "betterproto": (
            _plugin("python_betterproto2"),
            "--python_betterproto2_out={out}",
            "--python_betterproto2_opt=client_generation=async",
        ),
        "ts": (
            _plugin("es", NODE_TOOLS),
            "--es_out={out}",
            "--es_opt=target=js+dts,import_extension=js",
        ),
    }


def _plugin(name: str, folder: Path = TOOLS) -> str:
    executable = folder / f"protoc-gen-{name}"
    if not executable.exists():
        raise GenerationError(f"{executable.name} is not installed: `make setup-dev codegen-tools` installs it")
    return f"--plugin=protoc-gen-{name}={executable}"


def _protoc(options: Sequence[str], protos: Sequence[str]) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *options, *protos]
    # betterproto's plugin formats by calling the `ruff` on the path
    env = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    if done.returncode:
        raise GenerationError(done.stderr.strip() or f"protoc ended with {done.returncode}")


def _finish_typescript(folder: Path) -> None:
    """Make the TypeScript tree a package, so that a partner can depend on the folder as it is."""
    shutil.copyfile(Path(__file__).with_name("ts-package.json"), folder / "package.json")


def _files(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for target in TARGETS
        for path in sorted((folder / target).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
