"""The address of PostgreSQL: what managed services, libpq and others write is understood, or refused without repeating it."""

import ssl
from collections.abc import Generator
from pathlib import Path

import pytest
import trustme

from penstock.store.sql.backend import PoolSettings, StoreError
from penstock.store.sql.database import Database, parse_url
from penstock.store.sql.postgresql import PostgresqlBackend, connect
from penstock.store.sql.postgresql_address import PostgresqlAddress
from tests.stores import Cluster, programs

SECRET = "tiger"
BASE = f"://ann:{SECRET}@db.example.com"


def parts(address: PostgresqlAddress) -> tuple[object, ...]:
    return (address.hosts, address.ports, address.user, address.password, address.database)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql{BASE}/p", (("db.example.com",), (5432,), "ann", SECRET, "p")),
        (f"postgres{BASE}:6543/p", (("db.example.com",), (6543,), "ann", SECRET, "p")),
        (f"postgresql+asyncpg{BASE}/p", (("db.example.com",), (5432,), "ann", SECRET, "p")),
        (f"postgresql+psycopg2{BASE}/p", (("db.example.com",), (5432,), "ann", SECRET, "p")),
        ("postgresql://a%40b:p%3A%2F%3F%23%25@h/d%20b", (("h",), (5432,), "a@b", "p:/?#%", "d b")),
        ("postgresql://ann:p@ss@h/p", (("h",), (5432,), "ann", "p@ss", "p")),
        ("postgresql://ann:p:ss@h/p", (("h",), (5432,), "ann", "p:ss", "p")),
        ("postgresql://[fd00::1]:6543/p", (("fd00::1",), (6543,), None, None, "p")),
        ("postgresql://h1,h2:6543/p", (("h1", "h2"), (5432, 6543), None, None, "p")),
        ("postgresql:///p", ((), (5432,), None, None, "p")),
        ("postgresql:///p?host=/run/pg&port=6543", (("/run/pg",), (6543,), None, None, "p")),
        ("postgresql://%2Frun%2Fpg/p", (("/run/pg",), (5432,), None, None, "p")),
        ("postgresql://h/?dbname=p&user=u&password=x", (("h",), (5432,), "u", "x", "p")),
    ],
)
def test_spellings_that_are_understood(url: str, expected: tuple[object, ...]) -> None:
    assert parts(PostgresqlAddress.parse(url)) == expected


@pytest.mark.parametrize(
    ("query", "checks", "names"),
    [
        ("sslmode=require", ssl.CERT_NONE, False),
        ("ssl=require", ssl.CERT_NONE, False),
        ("ssl=true", ssl.CERT_NONE, False),
        ("requiressl=1", ssl.CERT_NONE, False),
        ("sslmode=require&sslrootcert={ca}", ssl.CERT_REQUIRED, False),
        ("sslmode=verify-ca&sslrootcert={ca}", ssl.CERT_REQUIRED, False),
        ("sslmode=verify-full&sslrootcert={ca}", ssl.CERT_REQUIRED, True),
        ("sslmode=verify-full", ssl.CERT_REQUIRED, True),
        ("sslmode=verify-full&sslrootcert=system&channel_binding=require", ssl.CERT_REQUIRED, True),
    ],
)
def test_modes_of_tls(tmp_path: Path, query: str, checks: ssl.VerifyMode, names: bool) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    found = PostgresqlAddress.parse(f"postgresql{BASE}/p?{query.format(ca=tmp_path / 'ca.pem')}").tls
    assert isinstance(found, ssl.SSLContext)
    assert (found.verify_mode, found.check_hostname) == (checks, names)


@pytest.mark.parametrize(
    ("query", "tls"),
    [("", None), ("sslmode=disable", "disable"), ("ssl=false", "disable"), ("sslmode=prefer", "prefer")],
)
def test_weaker_modes_are_the_drivers(query: str, tls: str | None) -> None:
    assert PostgresqlAddress.parse(f"postgresql{BASE}/p?{query}").tls == tls


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"postgresql{BASE}/p?sslmode=requires", "sslmode is one of"),
        (f"postgresql{BASE}/p?sslmode=require&channel_binding=require", "sslmode=verify-full"),
        (f"postgresql{BASE}/p?sslmode=verify-ca", "needs sslrootcert"),
        (f"postgresql{BASE}/p?sslmode=require&sslrootcert=system", "goes with sslmode=verify-full"),
        (f"postgresql{BASE}/p?sslrootcert=/nowhere", "write sslmode="),
        (f"postgresql{BASE}/p?sslmode=require&sslrootcert=/nowhere/{SECRET}", "cannot be read"),
        (f"postgresql{BASE}/p?schema=public", "options=-csearch_path"),
        (f"postgresql{BASE}/p?target_session_attrs=standby", "the service writes"),
        (f"postgresql{BASE}/p?gssencmode=require", "gssencmode"),
        (f"postgresql{BASE}/p?connect_timeout=soon", "whole number"),
        (f"postgresql{BASE}/p?{SECRET}9=1", "reads like no option's name"),
        (f"postgresql{BASE}/p?statement_cache=1", "not known here: statement_cache"),
        (f"postgresql://ann:{SECRET}#1@h/p", "a # in it"),
        (f"postgresql://ann:12/{SECRET}@h/p", "an @ behind its host"),
        (f"postgresql://ann:12?{SECRET}=x@h/p", "an @ behind its host"),
        (f"postgresql://ann:{SECRET}", "see its port"),
        (f"postgresql://ann:{SECRET} x@h/p", "a blank in it"),
        (f"postgresql://ann:{SECRET}%ff@h/p", "no UTF-8"),
        (f"postgresql://ann:{SECRET}@fd00::1/p", "in brackets"),
        (f"postgresql://ann:{SECRET}@[{SECRET}]/p", "no IPv6 address"),
        (f"postgresql://ann:{SECRET}@h:99999/p", "from 1 to 65535"),
        (f"postgresql://ann:{SECRET}@h", "names no database"),
        (f"postgresql://ann:{SECRET}@h1,h2/p?port=1,2,3", "one port for all"),
        (f"sqlite:////{SECRET}.db?mode=ro", "leave out the ?"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_without_the_secret(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as refused:
        parse_url(url)
    told = str(refused.value)
    assert SECRET not in told
    assert "\n" not in told


def test_what_it_is_called_by_has_no_secret_in_it() -> None:
    address = PostgresqlAddress.parse(
        f"postgresql://u@[fd00::1]:1,%2Frun/p?password={SECRET}&options=-c+x.y%3D{SECRET}"
    )
    assert address.name == "postgresql://u@[fd00::1]:1,%2Frun/p"
    assert SECRET not in repr(address)
    assert SECRET not in str(PostgresqlBackend(address, PoolSettings()).writing.url)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, Path, Cluster]]:
    """A server that has a certificate; its address and who signed it."""
    assert programs() is not None, "the tests need PostgreSQL: make clients installs it"
    authority, cluster = trustme.CA(), Cluster()
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    made = authority.issue_cert("localhost")
    cluster.keep("server.crt", made.cert_chain_pems[0].bytes())
    cluster.keep("server.key", made.private_key_pem.bytes())
    cluster.start("-c ssl=on")
    yield cluster.address, file, cluster
    cluster.remove()


IN_TLS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.mark.parametrize(
    ("query", "encrypts"),
    [
        ("", True),
        ("?sslmode=disable", False),
        ("?sslmode=allow", False),
        ("?sslmode=prefer", True),
        ("?sslmode=require", True),
        ("?ssl=require&application_name=x&connect_timeout=9", True),
        ("?sslmode=verify-ca&sslrootcert={ca}", True),
    ],
)
async def test_all_connections_mean_the_same_by_it(
    encrypted: tuple[str, Path, Cluster], query: str, encrypts: bool
) -> None:
    """SQLAlchemy's pools, point reads and the batches' connections."""
    address, authority, _ = encrypted
    url = f"{address}/postgres{query.format(ca=authority)}"
    backend = PostgresqlBackend(PostgresqlAddress.parse(url), PoolSettings(size=1))
    async with backend.reading.connect() as reading:
        assert (await reading.exec_driver_sql(IN_TLS)).scalar_one() is encrypts
    async with backend.writing.connect() as writing:
        assert (await writing.exec_driver_sql(IN_TLS)).scalar_one() is encrypts
    assert await backend.read(IN_TLS, ()) == [(encrypts,)]
    batch = await connect(PostgresqlAddress.parse(url), PoolSettings(), {})
    assert [tuple(row) for row in await batch.fetch(IN_TLS)] == [(encrypts,)]
    await batch.close(timeout=5)
    await backend.close()


async def test_a_certificate_for_another_name_is_refused(
    encrypted: tuple[str, Path, Cluster], tmp_path: Path
) -> None:
    address, authority, _ = encrypted
    strict = f"{address}/postgres?sslmode=verify-full&sslrootcert={authority}"
    with pytest.raises(StoreError, match="cannot be reached"):
        await Database.open(strict, directory=tmp_path)
    named = await Database.open(strict.replace("127.0.0.1", "localhost"), directory=tmp_path)
    await named.close()
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with pytest.raises(StoreError, match="cannot be reached"):
        await Database.open(
            f"{address}/postgres?sslmode=verify-ca&sslrootcert={tmp_path / 'other.pem'}", directory=tmp_path
        )


async def test_options_reach_the_server(encrypted: tuple[str, Path, Cluster]) -> None:
    address, _, _ = encrypted
    url = f"{address}/postgres?options=-cwork_mem%3D5MB+-c%20penstock.x%3Dy&application_name=blue"
    found = await connect(PostgresqlAddress.parse(url), PoolSettings(), {})
    for name, value in (("work_mem", "5MB"), ("penstock.x", "y"), ("application_name", "penstock blue")):
        assert [tuple(row) for row in await found.fetch(f"SHOW {name}")] == [(value,)]
    await found.close(timeout=5)
