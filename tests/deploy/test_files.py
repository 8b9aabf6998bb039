"""The image, the compose file, the chart and the unit: what they name exists, and their readers accept them."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from penstock.core.body import scanner
from penstock.settings import Settings
from tests.deploy.chart import render
from tests.deploy.conftest import DEPLOY, PENSTOCK, ROOT, Gateway

KUBERNETES = ("1.27", "1.37")
CHART = DEPLOY / "helm" / "penstock"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
SETTINGS = {f"PENSTOCK_{name.upper()}" for name in Settings.__struct_fields__}
OF_THE_FRONT = {"PENSTOCK_DOMAIN", "PENSTOCK_UPSTREAM"}
"""Variables that the Caddyfile reads."""


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#"))
    found = [line.strip() for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in found]


def test_the_image_copies_what_exists_and_what_is_not_ignored() -> None:
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    ]
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in shlex.split(rest)[:-1]
    ]
    assert "src" in copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in kept, source


def test_the_image_runs_as_nobody_in_particular() -> None:
    last = len(instructions()) - [name for name, _ in reversed(instructions())].index("FROM")
    stage = dict(instructions()[last:])
    assert stage["USER"].split(":")[0].isdigit()
    assert int(stage["USER"].split(":")[0]) > 0
    assert stage["ENTRYPOINT"] == '["penstock"]'
    assert set(re.findall(r"PENSTOCK_\w+", stage["ENV"])) <= SETTINGS


def built_wheel(place: Path, **environ: str) -> Path:
    """A wheel of this tree, built in a copy: the build leaves folders of its own beside what it builds."""
    tree = place / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(
        ROOT / "src" / "penstock", tree / "src" / "penstock", ignore=shutil.ignore_patterns("__pycache__")
    )
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(place),
        ".",
    ]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environ = {"PATH": path, "HOME": str(place)} | environ
    subprocess.run(command, cwd=tree, env=environ, check=True, capture_output=True)
    (wheel,) = place.glob("penstock-*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


NOT_PACKED = {".c", ".pyi", ".so", ".pyc"}
"""The source of what is compiled, and what one tree has compiled for itself."""


def test_the_wheel_has_what_the_program_reads_at_run_time(tmp_path: Path) -> None:
    """Without a compiler it fits every platform, and has all but the scanner in C."""
    wheel = built_wheel(tmp_path, CC="false")
    assert wheel.name.endswith("-py3-none-any.whl")
    source = ROOT / "src"
    tracked = {
        path.relative_to(source).as_posix()
        for path in (source / "penstock").rglob("*")
        if path.is_file() and path.suffix not in NOT_PACKED
    }
    packed = names_in(wheel)
    assert not tracked - packed
    assert {name for name in packed if ".dist-info/" not in name} == tracked


def test_with_a_compiler_the_wheel_is_for_this_platform_and_every_later_python(tmp_path: Path) -> None:
    wheel = built_wheel(tmp_path)
    compiled = scanner.KIND == "native"  # it was built here
    assert ("-cp311-abi3-" in wheel.name) is compiled
    assert ("penstock/core/body/_native.abi3.so" in names_in(wheel)) is compiled


def test_the_compose_file_sets_settings_and_hides_the_stores() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    services: dict[str, Any] = compose["services"]
    assert set(services["penstock"]["environment"]) <= SETTINGS
    assert services["penstock"]["read_only"] is True
    assert [name for name, service in services.items() if "ports" in service] == ["front"]
    assert compose["networks"]["back"]["internal"] is True
    trusted = services["penstock"]["environment"]["PENSTOCK_TRUSTED_PROXIES"]
    assert trusted == services["front"]["networks"]["front"]["ipv4_address"], "the front alone"
    subnet = ip_network(compose["networks"]["front"]["ipam"]["config"][0]["subnet"])
    assert ip_address(trusted) in subnet
    assert ip_address(trusted) != subnet[1], "which is the machine's own"
    example = set(re.findall(r"^(\w+)=", (DEPLOY / "example.env").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text("utf-8"))) <= example
    assert example - {"POSTGRES_PASSWORD"} <= SETTINGS | OF_THE_FRONT
    assert set(re.findall(r"\$(PENSTOCK_\w+)", (DEPLOY / "Caddyfile").read_text("utf-8"))) == OF_THE_FRONT


def test_the_containers_of_the_compose_file_can_do_no_more_than_they_must() -> None:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["ulimits"] == {"core": 0}, name
    for name in ("penstock", "front"):
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["read_only"] is True
    assert [service.get("cap_add") for service in services.values()] == [
        None,
        ["NET_BIND_SERVICE"],
        None,
        None,
    ]


def test_the_image_has_one_base_that_a_build_may_name_by_its_digest() -> None:
    stages = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert stages == ["${BASE}"] * 2
    assert instructions()[0] == ("ARG", "BASE=python:3.13-slim")


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("", True),
        ("python:3.13-slim", True),
        ("python:3.13-slim@sha256:abc", True),
        ("python:3.13-slim@sha256:" + "0" * 64 + " --push", True),
        ("python:3.13-slim@sha256:" + "0a" * 32, False),
    ],
)
def test_a_release_is_refused_without_a_base_by_its_digest(base: str, told: bool) -> None:
    lines = (ROOT / "scripts" / "release.sh").read_text("utf-8").splitlines()
    first = lines.index("base=${BASE:-}")
    script = "settle() { echo refused; }\n" + "\n".join(lines[first : first + 3])
    ran = subprocess.run(
        ["bash", "-euc", script], env={"BASE": base}, capture_output=True, text=True, check=True
    )
    assert (ran.stdout == "refused\n") is told


def test_no_core_is_dumped(gateway: Gateway) -> None:
    limits = Path(f"/proc/{gateway.pid}/limits").read_text("ascii")
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)


def _bytes(quantity: str) -> float:
    return int(quantity[:-2]) * 1024 ** {"Mi": 2, "Gi": 3}[quantity[-2:]]


def test_the_charts_memory_is_enough_for_its_bodies_and_it_trusts_nobody_by_itself() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    bodies = int(values["settings"]["PENSTOCK_MAX_BODIES"])
    limit = _bytes(values["resources"]["limits"]["memory"])
    assert limit >= values["workers"] * (2.3 * bodies + 150e6)
    (pods,) = [made["spec"]["template"] for made in manifests() if made["kind"] == "StatefulSet"]
    (served,) = pods["spec"]["containers"]
    given = {variable["name"]: variable["value"] for variable in served["env"]}
    assert given["PENSTOCK_MAX_BODIES"] == str(bodies)
    assert "PENSTOCK_TRUSTED_PROXIES" not in given
    assert served["resources"]["limits"]["memory"] == values["resources"]["limits"]["memory"]


def manifests(**changes: Any) -> list[dict[str, Any]]:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    scope = {
        "Values": {**values, **changes},
        "Release": {"Name": "gate", "Service": "Helm"},
        "Chart": {"Name": chart["name"], "AppVersion": chart["appVersion"]},
    }
    texts = [render(file.read_text("utf-8"), scope) for file in sorted((CHART / "templates").glob("*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


WITH_ALL = {
    "ingress": {"enabled": True, "className": "nginx", "host": "llm.example.com", "tlsSecret": "tls"},
    "storage": {"size": "1Gi", "storageClass": "fast"},
}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("changes", [{}, WITH_ALL], ids=["defaults", "all"])
def test_kubernetes_knows_what_the_chart_renders(version: str, changes: dict[str, Any]) -> None:
    made = manifests(**changes)
    assert len(made) == (5 if changes else 4)
    for manifest in made:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_charts_parts_fit_each_other() -> None:
    by_kind = {(made["kind"], made["metadata"]["name"]): made for made in manifests(**WITH_ALL)}
    pods = by_kind["StatefulSet", "gate"]["spec"]["template"]
    (served,) = pods["spec"]["containers"]
    labels = pods["metadata"]["labels"].items()
    for kind, name in (("Service", "gate"), ("Service", "gate-pods")):
        assert by_kind[kind, name]["spec"]["selector"].items() <= labels
    assert by_kind["StatefulSet", "gate"]["spec"]["serviceName"] == "gate-pods"
    backend = by_kind["Ingress", "gate"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    ports = {port["name"] for port in by_kind["Service", backend["name"]]["spec"]["ports"]}
    assert backend["port"]["name"] in ports
    volumes = {volume["name"] for volume in pods["spec"]["volumes"]} | {"data"}
    assert {mount["name"] for mount in served["volumeMounts"]} == volumes
    assert {variable["name"] for variable in served["env"]} <= SETTINGS
    assert served["securityContext"]["readOnlyRootFilesystem"] is True
    grace = pods["spec"]["terminationGracePeriodSeconds"]
    assert grace > Settings().drain_delay + Settings().drain


def test_the_unit_gives_a_stop_the_time_that_a_drain_takes() -> None:
    unit = configparser.RawConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]: how configparser is told to keep case
    unit.read_string((DEPLOY / "penstock.service").read_text("utf-8"))
    service = unit["Service"]
    assert service["LimitCORE"] == "0"
    assert float(service["TimeoutStopSec"]) > Settings().drain_delay + Settings().drain
    assert set(re.findall(r"PENSTOCK_\w+", service["Environment"])) <= SETTINGS
    program, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/bin/penstock")
    subprocess.run([*PENSTOCK, *arguments, "--help"], check=True, capture_output=True)
