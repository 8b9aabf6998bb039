"""A gateway in a process of its own, as it runs behind the fronts of ``deploy/``."""

import os
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PENSTOCK = [sys.executable, "-m", "penstock"]
MODEL = "held"
"""Five pieces of a stream, and then silence until the caller leaves."""
CATALOGUE = """
[[provider]]
id = "simulator-here"
kind = "simulator"
speaks = {{ chat = "http://127.0.0.1:{port}/v1" }}
secret = ""

[[model]]
id = "held"
targets = [{{ provider = "simulator-here", model = "sim-hang-mid=5" }}]

[[plan]]
id = "pro"
daily_requests = 50000
concurrent_requests = 1
queue_seconds = 20
models = ["held"]
"""


class Gateway(msgspec.Struct, frozen=True):
    """A running ``penstock serve``, its port, the demo user's key, its log and its process."""

    port: int
    key: str
    log: Path
    pid: int


def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing set but what a gateway of the test's own needs."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("PENSTOCK_") and "_API_KEY" not in name
    }
    return kept | {
        "PENSTOCK_DATA": str(tmp_path / "data"),
        "PENSTOCK_PORT": "0",
        "PENSTOCK_DRAIN_DELAY": "0",
        "PENSTOCK_TRUSTED_PROXIES": "127.0.0.1",
        "PENSTOCK_LOG_FORMAT": "json",
    }


def first_line(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The first line of what ``process`` prints that has ``pattern``."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"it ended before it said {pattern}")


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    tmp_path = tmp_path_factory.mktemp("gateway")
    environ = environment(tmp_path)
    log = tmp_path / "log"
    simulator = subprocess.Popen(
        [*PENSTOCK, "simulate", "--port=0"], stdout=subprocess.PIPE, text=True, env=environ
    )
    try:
        simulated = first_line(simulator, r"http://127\.0\.0\.1:(\d+)")[1]
        catalogue = tmp_path / "catalogue.toml"
        catalogue.write_text(CATALOGUE.format(port=simulated))
        subprocess.run(
            [*PENSTOCK, "catalog", "apply", str(catalogue)], env=environ, check=True, capture_output=True
        )
        with log.open("w") as err:
            serving = subprocess.Popen(
                [*PENSTOCK, "serve"], stdout=subprocess.PIPE, stderr=err, text=True, env=environ
            )
        try:
            port = int(first_line(serving, r"http://127\.0\.0\.1:(\d+)$")[1])
            yield Gateway(port, first_line(serving, r"Demo key +(sk-ps-\w+)")[1], log, serving.pid)
        finally:
            serving.kill()
            serving.communicate()
    finally:
        simulator.kill()
        simulator.communicate()
