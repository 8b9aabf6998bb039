"""The secrets file: made once, closed to others, rotated without loss, and noticed when it is not the right one."""

import os
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from penstock.store.secrets_file import SecretsFile, SecretsFileError

ABOUT = b"api_keys|key_1|sealed"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "secrets.json"


@pytest.fixture
def secrets_file(path: Path) -> SecretsFile:
    return SecretsFile.make(path, secrets.token_bytes)


def test_made_once_for_its_owner_alone(secrets_file: SecretsFile, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    before = path.read_bytes()
    again = SecretsFile.make(path, secrets.token_bytes)
    assert path.read_bytes() == before
    assert again.digests("key") == secrets_file.digests("key")
    assert [file.name for file in path.parent.iterdir()] == ["secrets.json"]


def test_processes_that_start_at_once_share_one(path: Path) -> None:
    program = (
        "import sys, secrets; from pathlib import Path; from penstock.store.secrets_file import SecretsFile\n"
    )
    program += (
        "input(); print(SecretsFile.make(Path(sys.argv[1]), secrets.token_bytes).digests('key')[0].hex())"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    assert len({racer.communicate()[0] for racer in racers}) == 1
    assert all(racer.returncode == 0 for racer in racers)
    assert [file.name for file in path.parent.iterdir()] == ["secrets.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_others_can_read_is_refused(secrets_file: SecretsFile, path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(SecretsFileError, match="chmod 600"):
        SecretsFile.make(path, secrets.token_bytes)


@pytest.mark.parametrize(
    ("mode", "read"), [(0o440, True), (0o400, True), (0o640, True), (0o644, False), (0o460, False)]
)
def test_a_file_that_was_mounted_for_our_group_is_read(
    secrets_file: SecretsFile, path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, read: bool
) -> None:
    path.chmod(mode)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if read:
        assert SecretsFile.make(path, secrets.token_bytes).pepper_id == secrets_file.pepper_id
    else:
        with pytest.raises(SecretsFileError, match="others can read"):
            SecretsFile.make(path, secrets.token_bytes)


def test_what_is_sealed_opens_for_the_same_purpose_alone(secrets_file: SecretsFile) -> None:
    sealed = secrets_file.seal(b"sk-ps-1", ABOUT, secrets.token_bytes)
    assert b"sk-ps-1" not in sealed
    assert secrets_file.unseal(sealed, ABOUT) == b"sk-ps-1"
    with pytest.raises(SecretsFileError):
        secrets_file.unseal(sealed, b"api_keys|key_2|sealed")
    assert sealed != secrets_file.seal(b"sk-ps-1", ABOUT, secrets.token_bytes)


def test_any_flipped_bit_and_any_cut_of_a_seal_is_noticed(secrets_file: SecretsFile) -> None:
    sealed = secrets_file.seal(b"sk-ps-1", ABOUT, secrets.token_bytes)
    for at in range(len(sealed)):
        with pytest.raises(SecretsFileError):
            secrets_file.unseal(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], ABOUT)
        with pytest.raises(SecretsFileError):
            secrets_file.unseal(sealed[:at], ABOUT)


def test_rotation_keeps_what_was(secrets_file: SecretsFile, path: Path) -> None:
    sealed, (digest,) = secrets_file.seal(b"x", ABOUT, secrets.token_bytes), secrets_file.digests("key")
    elsewhere = SecretsFile(path)
    secrets_file.rotate(secrets.token_bytes)
    assert secrets_file.unseal(sealed, ABOUT) == b"x"
    assert secrets_file.digests("key")[1] == digest
    assert secrets_file.digests("key")[0] != digest
    assert secrets_file.pepper_ids[1:] == elsewhere.pepper_ids
    assert secrets_file.seal_id != elsewhere.seal_id
    fresh = secrets_file.seal(b"y", ABOUT, secrets.token_bytes)
    assert elsewhere.unseal(fresh, ABOUT) == b"y", "another process reads the file again"
    assert not elsewhere.reread()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secrets.json"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b'{"peppers": [], "seals": []}', "at least one"),
        (b'{"peppers": []}', "missing required field `seals`"),
        (b'{"peppers": [{"id": "a", "value": "!"}], "seals": [{"id": "b", "value": ""}]}', "damaged"),
    ],
)
def test_a_damaged_file_is_named(path: Path, content: bytes, complaint: str) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(SecretsFileError, match=complaint) as caught:
        SecretsFile.make(path, secrets.token_bytes)
    assert str(path) in str(caught.value)


def test_a_changed_value_does_not_pass_for_the_one_it_was(secrets_file: SecretsFile, path: Path) -> None:
    contents = msgspec.json.decode(path.read_bytes())
    contents["peppers"][0]["value"], contents["seals"][0]["value"] = (
        contents["seals"][0]["value"],
        contents["peppers"][0]["value"],
    )
    path.write_bytes(msgspec.json.encode(contents))
    with pytest.raises(SecretsFileError, match="edited by hand") as caught:
        SecretsFile(path)
    assert contents["peppers"][0]["value"] not in str(caught.value)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(SecretsFileError, match="backup"):
        SecretsFile(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecretsFileError, match="cannot write the secrets file"):
        SecretsFile.make(tmp_path / "file" / "secrets.json", secrets.token_bytes)
