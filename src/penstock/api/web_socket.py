"""Web sockets, which the API does not have: whether a request asks for one, so that its client goes on by POST."""

from penstock.exchange import Exchange


def wants_web_socket(exchange: Exchange) -> bool:
    """Whether a request asks to go on as a web socket (RFC 6455 section 4.1).

    A proxy such as nginx keeps ``Upgrade`` to itself and passes the key on. Codex tries this first, and goes on by POST at once
    when it is answered 426; any other status it takes for a failure and tries again (codex-rs/core/src/client.rs,
    ``HttpStatusCode::UPGRADE_REQUIRED``, read 2026-11-30).
    """
    offered = (exchange.header(b"upgrade") or b"").lower().split(b",")
    return (
        b"websocket" in [name.strip() for name in offered]
        or exchange.header(b"sec-websocket-key") is not None
    )
