"""A catalogue that a file manages: compared, applied, applied again, pruned, and refused to everybody else (case 40's file)."""

from pathlib import Path

from tests.commands.conftest import Call

FILE = """
[[provider]]
id = "acme"
kind = "custom"
speaks = {{ chat = "https://llm.example.com/v1" }}
secret = "env:ACME_KEY"

[[model]]
id = "acme-1"
targets = [{{ provider = "acme", model = "one" }}]

[[plan]]
id = "team"
name = "Team"
daily_requests = {0}
concurrent_requests = 5
models = ["acme-1"]
"""


def test_a_file_is_compared_applied_once_and_manages_what_it_names(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(FILE.format(100))
    given = (str(file), "--as=prod", "--prune")
    assert call("catalog", "diff", *given).code == 2
    dry = call("catalog", "apply", *given, "--dry-run")
    assert (dry.code, "dry run" in dry.out) == (0, True)
    assert call("catalog", "diff", *given).code == 2, "a dry run changes nothing"
    done = call("catalog", "apply", *given)
    assert {"added plan team", "managed plan team"} <= set(done.out.splitlines())
    assert "removed" not in done.out, "a file prunes its own alone"
    again = call("catalog", "apply", *given)
    assert (again.out, call("catalog", "diff", *given).code) == ("Nothing changes.\n", 0)

    file.write_text(FILE.format(200))
    changed = call("catalog", "diff", *given)
    assert changed.code == 2
    assert "-daily_requests = 100" in changed.out.replace("  ", "")
    assert "+daily_requests = 200" in changed.out.replace("  ", "")

    for others in ((), ("--as=staging",)):
        refused = call("catalog", "apply", str(file), *others)
        assert refused.code == 1
        assert 'the plan "team" is managed by the file "prod"' in refused.err
    assert call("models", "remove", "acme-1").code == 1
    assert call("catalog", "apply", str(file), "--as=..").code == 1

    file.write_text(FILE.format(100).partition("[[plan]]")[0])
    assert "removed plan team" in call("catalog", "apply", *given).out
    assert "released model acme-1" in call("catalog", "release", "--of=prod").out
    assert call("models", "remove", "acme-1").code == 0
    actions = [it["action"] for it in call("audit", "list", "--json").json["entries"]]
    assert actions.count("managed") == 3
    assert actions.count("released") == 2


def test_models_that_are_published_by_hand_are_in_the_trail(call: Call, tmp_path: Path) -> None:
    assert call("models", "add", "openai/*", "--wildcard", "--plan=pro").code == 0
    (entry,) = [it for it in call("audit", "list", "--json").json["entries"] if it["object_id"] == "openai/*"]
    assert entry["action"] == "catalog_changed"
