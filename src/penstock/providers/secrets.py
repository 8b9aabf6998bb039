"""Secrets of providers: read from the environment or from files, where the catalogue's references point, or kept sealed here.

The environment comes as an argument; ``penstock.settings`` alone reads it.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from penstock.core.catalog import KEPT, Upstream

_SHORTEST_HIDDEN = 8
"""Characters of a secret that is looked for in what a provider says: a shorter one is in many words."""


class Secret:
    """A credential that does not show itself: neither ``repr`` nor ``str`` nor a format string reveals it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Raises ``ValueError`` where the value cannot be a header's: empty, not ASCII, or with control characters."""
        if not value or not value.isascii() or not value.isprintable():
            raise ValueError("a secret is one line of printable ASCII characters")
        self._value = value.encode()

    def reveal(self) -> bytes:
        """The value itself, for the one header that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


class Secrets:
    """Looks up references: ``env:NAME``, ``file:PATH``, ``kept:PROVIDER/ID``, or '' for none.

    A file is read once, until ``refresh``. What is kept is handed over, by whoever reads it in the database.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: dict[str, Secret | str] = {}
        self._kept: dict[str, Secret | str] = {}
        self._changed: Callable[[], None] | None = None

    def get(self, reference: str) -> Secret | None:
        """The secret, or None where there is none (or none is needed)."""
        found = self._look(reference)
        return found if isinstance(found, Secret) else None

    def has(self, reference: str) -> bool:
        """Whether a provider with this reference can be used: its secret is there, or it needs none."""
        return not reference or isinstance(self._look(reference), Secret)

    def problem(self, reference: str) -> str | None:
        """Why there is no secret, in words for the operator that never hold it; None if all is well."""
        if not reference:
            return None
        found = self._look(reference)
        return found if isinstance(found, str) else None

    def ready(self, row: Upstream) -> bool:
        """Whether a provider can be used: one of its secrets is there, or it needs none."""
        return any(self.has(name) for name in row.secrets)

    def first(self, references: Iterable[str]) -> Secret | None:
        """The first secret that there is; None where there is none, or none is needed."""
        return next((found for name in references if (found := self.get(name)) is not None), None)

    def redacted(self, said: bytes) -> bytes:
        """What a provider has said, without the secrets that are known here: it may repeat the one that it refuses."""
        for secret in (*self._known.values(), *self._kept.values()):
            if isinstance(secret, Secret) and len(secret.reveal()) >= _SHORTEST_HIDDEN:
                said = said.replace(secret.reveal(), b"(hidden)")
        return said

    def take(self, kept: Mapping[str, Secret | str]) -> None:
        """Have these for the ``kept:`` references in place of those before: a secret, or why there is none."""
        # one that is the same stays the same object: what is signed with it is remembered by that
        self._kept = {
            name: self._kept[name] if self._kept.get(name) == it else it for name, it in kept.items()
        }
        self._read_again([name for name in self._known if name.startswith(KEPT)])

    def kept(self, reference: str) -> Secret | str | None:
        """What was handed over for a reference, as it is."""
        return self._kept.get(reference)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` when a ``refresh`` has found something else than before."""
        self._changed = changed

    def refresh(self) -> None:
        """Read again what was read before, so that a rotated key is taken up."""
        self._read_again(list(self._known))

    def _read_again(self, references: Iterable[str]) -> None:
        changed = False
        for reference in references:
            found = self._read(reference)
            if found != self._known[reference]:
                self._known[reference] = found
                changed = True
        if changed and self._changed is not None:
            self._changed()

    def _look(self, reference: str) -> Secret | str:
        known = self._known.get(reference)
        if known is None:
            known = self._known[reference] = self._read(reference)
        return known

    def _read(self, reference: str) -> Secret | str:
        kind, _, rest = reference.partition(":")
        try:
            match kind:
                case "env":
                    value = self._environ.get(rest, "").strip()
                    return Secret(value) if value else f"{rest} is not set"
                case "file":
                    return Secret(Path(rest).read_text("utf-8").strip())
                case "kept":
                    return self._kept.get(reference, "there is no such key here: enter it again")
                case _:
                    return "the reference is neither env:NAME nor file:PATH"
        except OSError as error:
            return f"{rest} cannot be read: {error.strerror}"
        except ValueError:
            return f"what {kind}: points to is not a usable secret"
