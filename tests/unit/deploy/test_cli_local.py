"""Commands that look at this machine: settings, the doctor, migrations, the probe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from control.bootstrap import FILE
from deploy.allinone.home import KEY_FILE
from deploy.allinone.nats import free_port
from tests.support.stack import clean_environment


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli.main", *arguments],
            env={**clean_environment(), "FASTCHAT_HOME": str(tmp_path), "COLUMNS": "200", **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return {row["setting"]: row for row in json.loads(done.stdout)}


def test_the_kept_key_is_where_control_keeps_it() -> None:
    assert KEY_FILE == FILE


@pytest.mark.req("13.1")
def test_config_show_tells_the_layer_of_every_value_and_no_secret(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "fastchat.yaml"
    file.write_text("edge:\n  port: 9000\nbus:\n  password: swordfish\n")
    done = run(
        *("config", "show", "--json"),
        FASTCHAT_CONFIG=str(file),
        FASTCHAT_EDGE__HOST="0.0.0.0",
        DATABASE_URL="postgresql://me:tunafish@db/fastchat",
    )
    shown = rows(done)
    assert (shown["edge.port"]["value"], shown["edge.port"]["layer"]) == (9000, f"{file}:2")
    assert (shown["edge.host"]["value"], shown["edge.host"]["layer"]) == ("0.0.0.0", "env:FASTCHAT_EDGE__HOST")
    assert shown["edge.docs"]["layer"] == "default"
    assert shown["database.url"]["layer"] == "env:DATABASE_URL"
    assert "swordfish" not in done.stdout
    assert "tunafish" not in done.stdout


def test_config_show_tells_what_a_profile_changes(run: Any) -> None:
    shown = rows(run("config", "show", "--profile", "enterprise", "--json"))
    assert shown["settings.security.max_staleness_s"]["oss"] == 24 * 3600
    assert shown["settings.security.max_staleness_s"]["enterprise"] == 15 * 60


def test_doctor_tells_what_is_missing_and_fails_on_what_is_wrong(run: Any, tmp_path: Path) -> None:
    (tmp_path / "bootstrap.key").write_text("fc-x")
    (tmp_path / "bootstrap.key").chmod(0o644)
    url = f"postgresql://me:tunafish@127.0.0.1:{free_port()}/fastchat"
    done = run("doctor", "--json", FASTCHAT_EDGE__PORT=str(free_port()), DATABASE_URL=url)
    found = {(row["part"], row["state"]): row["text"] for row in json.loads(done.stdout)}
    assert done.returncode == 1
    assert "chmod 600" in found["home", "wrong"]
    assert "does not answer" in found["database", "wrong"]
    assert "tunafish" not in done.stdout
    assert "OPENAI_API_KEY" in found["models", "missing"]
    assert found["nats", "ok"].startswith("embedded")


def test_doctor_is_content_with_a_new_machine(run: Any) -> None:
    done = run("doctor", FASTCHAT_EDGE__PORT=str(free_port()))
    assert done.returncode == 0, done.stdout
    assert "wrong" not in done.stdout


@pytest.mark.req("PR-035")
def test_migrate_can_be_repeated(run: Any) -> None:
    first, second = run("migrate"), run("migrate")
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert {line.split(":")[0] for line in first.stdout.splitlines()} >= {"control", "edge", "orchestrator"}


@pytest.mark.req("PR-035")
def test_migrate_on_postgres(run: Any, postgres_dsn: str) -> None:
    done = run("migrate", FASTCHAT_DATABASE__URL=postgres_dsn)
    assert done.returncode == 0, done.stderr


def test_probe_says_when_nobody_serves(run: Any) -> None:
    done = run("probe", "memory", FASTCHAT_MESH__ADDRESSES__MEMORY=f"127.0.0.1:{free_port()}")
    assert (done.returncode, done.stderr) == (1, "fastchat: memory is not ready\n")
