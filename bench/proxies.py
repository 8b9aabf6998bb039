"""What Penstock is measured beside: nginx as the floor, and HAProxy and Envoy, each a plain proxy on one core.

Each checks the caller's key, swaps it for the operator's, and relays unbuffered over kept-alive connections. None translates.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

from bench.build import BUILD, NotBuilt
from bench.subjects import (
    CALLER_KEY,
    DESCRIPTORS,
    GATEWAY_CORE,
    UPSTREAM_KEY,
    Place,
    Subject,
    first_answer,
    free_port,
    start,
)

_SYSTEM = "/usr/sbin:/usr/local/sbin"

NGINX = """
{user}worker_processes 1; daemon off; pid nginx.pid; error_log nginx.err warn; worker_rlimit_nofile {descriptors};
events {{ worker_connections 8192; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_buffer_size 512k; client_max_body_size 32m;
  client_body_temp_path t/b; proxy_temp_path t/p; fastcgi_temp_path t/f; uwsgi_temp_path t/u; scgi_temp_path t/s;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000; keepalive_timeout 600s; }}
  map $http_authorization $known {{ default 0; "Bearer {caller_key}" 1; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      if ($known = 0) {{ return 401; }}
      proxy_pass http://mock; proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 600s;
      proxy_set_header Connection ""; proxy_set_header Authorization "Bearer {upstream_key}";
    }}
  }}
}}
"""


def nginx_binary() -> str | None:
    """Where nginx is, None if it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path=_SYSTEM)


@contextmanager
def nginx(place: Place) -> Generator[Subject]:
    """nginx with one worker: checks the key by a map, swaps it, relays unbuffered over kept-alive connections."""
    binary = nginx_binary()
    if binary is None:
        raise NotBuilt("nginx is not installed (Debian and Ubuntu: apt-get install nginx-light)")
    home = place.directory / "nginx"
    (home / "t").mkdir(parents=True, exist_ok=True)
    port = free_port()
    text = NGINX.format(
        user="user root; " if os.geteuid() == 0 else "",  # else its worker could not write in our directory
        descriptors=DESCRIPTORS,
        upstream=place.upstream_port,
        caller_key=CALLER_KEY,
        port=port,
        upstream_key=UPSTREAM_KEY,
    )
    (home / "nginx.conf").write_text(text)
    command = [binary, "-p", f"{home}/", "-c", "nginx.conf"]
    program = start("nginx", command, GATEWAY_CORE, place.directory / "nginx.log")
    subject = Subject("nginx", port, "/v1", CALLER_KEY, program.process.pid, "mock")
    try:
        first_answer(program, subject, time.monotonic())
        yield subject
    finally:
        program.stop()


@contextmanager
def _serve(name: str, command: list[str], port: int, place: Place) -> Generator[Subject]:
    program = start(name, command, GATEWAY_CORE, place.directory / f"{name}.log")
    subject = Subject(name, port, "/v1", CALLER_KEY, program.process.pid, "mock")
    try:
        first_answer(program, subject, time.monotonic())
        yield subject
    finally:
        program.stop()


HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
  option http-no-delay
frontend callers
  bind 127.0.0.1:{port}
  http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str "Bearer {caller_key}" }}
  http-request set-header authorization "Bearer {upstream_key}"
  default_backend mock
backend mock
  http-reuse always
  server mock 127.0.0.1:{upstream}
"""


def haproxy_binary() -> str | None:
    """Where HAProxy is, None if it is not installed."""
    return shutil.which("haproxy") or shutil.which("haproxy", path=_SYSTEM)


@contextmanager
def haproxy(place: Place) -> Generator[Subject]:
    """HAProxy with one thread. Raises ``NotBuilt`` where it is not installed."""
    binary = haproxy_binary()
    if binary is None:
        raise NotBuilt("HAProxy is not installed (Debian and Ubuntu: apt-get install haproxy)")
    port = free_port()
    file = place.directory / "haproxy.cfg"
    file.write_text(
        HAPROXY.format(
            port=port, upstream=place.upstream_port, caller_key=CALLER_KEY, upstream_key=UPSTREAM_KEY
        )
    )
    with _serve("haproxy", [binary, "-db", "-f", str(file)], port, place) as subject:
        yield subject


def envoy_binary() -> str | None:
    """Where Envoy is: on the path, or in the package that ``bench/README.md`` names; None if it is in neither."""
    packaged = sorted(BUILD.glob("envoy/lib/python*/site-packages/envoy/_bin/envoy"))
    return shutil.which("envoy") or (str(packaged[0]) if packaged else None)


def _address(port: int) -> object:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_settings(port: int, upstream_port: int) -> object:
    known = {"name": "authorization", "string_match": {"exact": f"Bearer {CALLER_KEY}"}}
    swapped = {
        "header": {"key": "authorization", "value": f"Bearer {UPSTREAM_KEY}"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    relayed = {
        "match": {"prefix": "/", "headers": [known]},
        "route": {"cluster": "mock", "timeout": "0s", "idle_timeout": "600s"},
        "request_headers_to_add": [swapped],
    }
    refused = {"match": {"prefix": "/"}, "direct_response": {"status": 401}}
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    connections = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "callers",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [relayed, refused]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}
    many = {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192}
    mock = {
        "name": "mock",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [many]},
        "load_assignment": {
            "cluster_name": "mock",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream_port)}}]}],
        },
    }
    listener = {"address": _address(port), "filter_chains": [{"filters": [manager]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [mock]}}


@contextmanager
def envoy(place: Place) -> Generator[Subject]:
    """Envoy with one worker. Raises ``NotBuilt`` where it is not installed."""
    binary = envoy_binary()
    if binary is None:
        raise NotBuilt("Envoy is not installed (bench/README.md says how)")
    port = free_port()
    file = place.directory / "envoy.json"
    file.write_text(json.dumps(_envoy_settings(port, place.upstream_port)))
    command = [binary, "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    with _serve("envoy", command, port, place) as subject:
        yield subject


PEERS: dict[str, tuple[Callable[[], str | None], Callable[[Place], AbstractContextManager[Subject]]]] = {
    "haproxy": (haproxy_binary, haproxy),
    "envoy": (envoy_binary, envoy),
}
"""The other proxies: where each is, and what starts it."""
