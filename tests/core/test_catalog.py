"""The catalogue's data: which secrets a provider refers to."""

from penstock.core.catalog import Credential, DialectName, Reach, Upstream

SPEAKS: tuple[tuple[DialectName, str], ...] = (("chat", "https://up.example/v1"),)


def test_all_secrets_that_a_provider_refers_to() -> None:
    alone = Upstream("up", "other", SPEAKS, secret="env:KEY")
    assert (alone.secrets, alone.references) == (("env:KEY",), ("env:KEY",))
    proxy = Reach(proxy="http://proxy.example:8080", proxy_secret="file:/proxy")
    pool = (Credential("one", "env:ONE"), Credential("two", "env:TWO"))
    several = Upstream("up", "other", SPEAKS, credentials=pool, reach=proxy)
    assert several.secrets == ("env:ONE", "env:TWO")
    assert several.references == ("env:ONE", "env:TWO", "file:/proxy")
    assert Upstream("up", "other", SPEAKS).references == ("",)
