"""Token sources: fetch the tokens by which we sign in to some providers, and have the next one before the last is over.

The machine of one source, in words. It is *empty* until somebody wants its token; then it is *asking*, once for all who
wait. With a token it is *good*; when a part of the token's time is left it is *asking* again, while the last one is still
given. Where that fails the last one is kept until its end, and it is asked again after a moment; where there is none left,
whoever wants it is told at once that we cannot sign in, until that moment is over.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from penstock.core.catalog import Upstream
from penstock.core.failure_classes.classes import FailureClass
from penstock.errors import ProviderCredentials
from penstock.operations.reach import way_to
from penstock.providers.secrets import Secret, Secrets
from penstock.providers.tokens import aws, entra, google
from penstock.providers.tokens.exchange import Token, TokenQuestion, Unusable, token_in
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure, Way, parse_base_url

log = logging.getLogger("penstock.operations.token_sources")

EARLY = 300.0
"""Seconds before its end at which a token is asked for anew, where it is good for long."""
_EARLY_PART = 0.2
"""The same as a part of its time, where that is less."""
AGAIN = 5.0
"""Seconds after a failure before anybody is asked again."""
_MOST = 64 * 1024
"""Bytes of an answer, and of a file."""
_DEADLINES = Deadlines(connect=5.0, first_byte=10.0, idle=10.0, total=15.0)
_SAID = "The service cannot sign in to this model's provider."


def _refused() -> ProviderCredentials:
    error = ProviderCredentials(_SAID)
    error.failure_class = FailureClass.AUTH.value
    return error


class TokenPending(Exception):
    """There is no token yet; ``source`` has it when it has been asked."""

    def __init__(self, source: "TokenSource") -> None:
        super().__init__("a token has to be fetched")
        self.source = source


class TokenSource:
    """The tokens of one provider."""

    def __init__(
        self, upstream: Upstream, fetch: Callable[[Upstream], "asyncio.Task[Token]"], now: Callable[[], float]
    ) -> None:
        self._upstream = upstream
        self._fetch = fetch
        self._now = now
        self._token: Token | None = None
        self._again_at = 0.0
        self._asking: asyncio.Task[Token] | None = None

    def current(self) -> Secret:
        """A token that is good now. Raises ``TokenPending``, and ``ProviderCredentials`` where none can be had."""
        now, token = self._now(), self._token
        if token is None or token.expires_at <= now:
            if self._asking is None and now < self._again_at:
                raise _refused()
            raise TokenPending(self)
        if now >= self._again_at and self._asking is None:
            self._ask()
        return token.secret

    async def get(self) -> Secret:
        """The same, waited for. Raises ``ProviderCredentials``."""
        try:
            return self.current()
        except TokenPending:
            asking = self._asking or self._ask()
        try:
            return (await asyncio.shield(asking)).secret
        except (UpstreamFailure, Unusable, OSError):  # told by the one who asked
            raise _refused() from None

    def _ask(self) -> "asyncio.Task[Token]":
        asking = self._asking = self._fetch(self._upstream)
        asking.add_done_callback(self._answered)
        return asking

    def _answered(self, asked: "asyncio.Task[Token]") -> None:
        self._asking = None
        now = self._now()
        self._again_at = now + AGAIN
        if asked.cancelled():
            return
        error = asked.exception()
        if error is None:
            token = self._token = asked.result()
            self._again_at = token.expires_at - min(EARLY, (token.expires_at - now) * _EARLY_PART)
        else:
            why = str(error) if isinstance(error, Unusable | UpstreamFailure) else type(error).__name__
            log.error("no token to sign in with", extra={"provider": self._upstream.id, "error": why})


class TokenSources:
    """The sources of all providers that want tokens. One per process."""

    def __init__(self, client: UpstreamClient, secrets: Secrets, *, now: Callable[[], float]) -> None:
        """``now`` gives epoch seconds."""
        self._client = client
        self._secrets = secrets
        self._now = now
        self._known: dict[str, tuple[Upstream, TokenSource]] = {}

    def of(self, upstream: Upstream) -> TokenSource:
        """The source of a provider; another one when its row is another."""
        known = self._known.get(upstream.id)
        if known is None or (known[0] is not upstream and known[0] != upstream):
            source = TokenSource(upstream, self._begin, self._now)
            known = self._known[upstream.id] = upstream, source
        return known[1]

    def _begin(self, upstream: Upstream) -> "asyncio.Task[Token]":
        return asyncio.get_running_loop().create_task(self._fetch(upstream))

    async def _fetch(self, upstream: Upstream) -> Token:
        match upstream.auth:
            case "bedrock":
                return aws.bedrock_key(await self._aws(upstream), upstream.sign_in.region, self._now())
            case "google":
                return token_in(await self._answer(upstream, self._google(upstream)), self._now())
            case "entra":
                return token_in(await self._answer(upstream, self._entra(upstream)), self._now())
            case _:
                raise Unusable(f"{upstream.auth} wants no token")

    def _google(self, upstream: Upstream) -> TokenQuestion:
        given = upstream.sign_in
        path = given.account.removeprefix("file:") or self._environ("GOOGLE_APPLICATION_CREDENTIALS")
        if not path and self._environ("HOME"):
            usual = (
                Path(self._environ("HOME")) / ".config" / "gcloud" / "application_default_credentials.json"
            )
            path = str(usual) if usual.is_file() else ""
        if not path:
            return google.from_metadata(
                given.authority.removeprefix("http://") or self._environ("GCE_METADATA_HOST")
            )
        return google.from_file(_file(path), given.scope, self._now())

    def _entra(self, upstream: Upstream) -> TokenQuestion:
        given, secret = upstream.sign_in, self._secrets.get(upstream.secret)
        if secret is None:
            raise Unusable("the client's secret is not there")
        return entra.for_client(given.tenant, given.client, secret.reveal(), given.scope, given.authority)

    async def _aws(self, upstream: Upstream) -> aws.IamCredentials:
        """By the environment, a container's endpoint, or the machine's metadata: the first that there is."""
        key, secret = self._environ("AWS_ACCESS_KEY_ID"), self._environ("AWS_SECRET_ACCESS_KEY")
        if key and secret:
            return aws.IamCredentials(key, secret.encode(), self._environ("AWS_SESSION_TOKEN"))
        names = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        authorization = self._environ("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        file = self._environ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        if file:
            authorization = _file(file).decode().strip()
        container = aws.from_container({name: self._environ(name) for name in names}, authorization)
        if container is not None:
            return aws.credentials_in(await self._answer(upstream, container))
        host = upstream.sign_in.authority or self._environ("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        token = (await self._answer(upstream, aws.metadata_token(host))).strip()
        role = (
            (await self._answer(upstream, aws.metadata_role(token, "", host)))
            .split(b"\n")[0]
            .decode()
            .strip()
        )
        return aws.credentials_in(await self._answer(upstream, aws.metadata_role(token, role, host)))

    async def _answer(self, upstream: Upstream, question: TokenQuestion) -> bytes:
        base, _, query = question.url.partition("?")
        found = way_to(upstream, base, self._secrets) if base.startswith("https:") else None
        way = None if found is None or found.proxy is None else Way(found.proxy)
        origin, path = parse_base_url(base, way)
        if query:
            path += b"?" + query.encode()
        elif base.endswith("/"):
            path += b"/"
        response = await self._client.send(
            origin, question.method, path, question.headers, question.body, _DEADLINES
        )
        try:
            if response.status != 200:
                raise Unusable(f"{origin.host} answers {response.status}")
            return await response.read(_MOST)
        finally:
            response.close()

    def _environ(self, name: str) -> str:
        found = self._secrets.get(f"env:{name}")
        return "" if found is None else found.reveal().decode()


def _file(path: str) -> bytes:
    """Raises ``Unusable``."""
    try:
        with Path(path).open("rb") as file:
            return file.read(_MOST)
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from error
