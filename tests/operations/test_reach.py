"""Which way a provider's address is reached: by the catalogue's words, by the environment, and by whom a proxy spares."""

import base64

import pytest
from msgspec.structs import replace

from penstock.core.catalog import Reach, Upstream
from penstock.errors import ProviderCredentials
from penstock.operations.reach import is_spared, query_suffix, way_to
from penstock.providers.secrets import Secrets
from penstock.upstream import Proxy, Way

URL = "https://api.vendor.example/v1"
ROW = Upstream("vendor", "custom", (("chat", URL),))
USER = "Basic " + base64.b64encode(b"ann:p:w").decode()


def way(reach: Reach, url: str = URL, **environ: str) -> Way | None:
    return way_to(replace(ROW, reach=reach), url, Secrets(environ))


def test_nothing_said_is_straight_whatever_the_environment_says() -> None:
    assert way(Reach(), HTTPS_PROXY="http://proxy:3128") is None


def test_a_proxy_of_its_own() -> None:
    reach = Reach(proxy="http://proxy.example:3128", no_proxy=("10.0.0.0/8", ".inner.example"))
    assert way(reach) == Way(Proxy("proxy.example", 3128))
    assert way(reach, "http://10.1.2.3:8000/v1") is None
    assert way(reach, "https://a.inner.example/v1") is None
    signed = Reach(proxy="http://proxy.example:3128", proxy_secret="env:PROXY_USER")
    found = way(signed, PROXY_USER="ann:p:w")
    assert found == Way(Proxy("proxy.example", 3128, USER.encode()))
    with pytest.raises(ProviderCredentials):
        way(signed)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", ["http://ann:p%3Aw@proxy.example:3128", "ann:p%3Aw@proxy.example:3128"])
def test_the_environments_proxy_where_it_is_asked_for(name: str, value: str) -> None:
    reach = Reach(proxy="env")
    assert way(reach) is None
    assert way(reach, **{name: value}) == Way(Proxy("proxy.example", 3128, USER.encode()))
    for spared in ("vendor.example", ".vendor.example", "x, API.vendor.example:443", "*"):
        assert way(reach, **{name: value, "NO_PROXY": spared}) is None
    for other in ("endor.example", "other.vendor.example", "api.vendor.example:8443"):
        assert way(reach, **{name: value, "no_proxy": other}) is not None


def test_a_proxy_that_cannot_be_used_is_not_gone_round() -> None:
    for value in ("socks5://proxy:1080", "https://proxy:3128", "http://"):
        with pytest.raises(ProviderCredentials):
            way(Reach(proxy="env"), HTTPS_PROXY=value)


def test_files_and_the_query() -> None:
    reach = Reach(
        ca="file:/ca", client_cert="file:/c", client_key="file:/k", query=(("api-version", "2024-10-21"),)
    )
    assert way(reach) == Way(None, "/ca", "/c", "/k")
    assert query_suffix(reach) == b"?api-version=2024-10-21"
    assert way(Reach(query=(("a", "b"),))) is None


@pytest.mark.parametrize(
    ("host", "name", "spared"),
    [
        ("localhost", "localhost", True),
        ("a.b.example", "example", True),
        ("a.b.example.", "*.b.example", True),
        ("example", ".example", True),
        ("notexample", "example", False),
        ("::1", "::1", True),
        ("192.168.3.4", "192.168.0.0/16", True),
        ("192.169.3.4", "192.168.0.0/16", False),
        ("example", "", False),
    ],
)
def test_whom_a_proxy_spares(host: str, name: str, *, spared: bool) -> None:
    assert is_spared(host, 443, [name]) is spared
