"""Every request that a written example of this folder translates is translated with memory, too."""

import pytest

from penstock.core.body.envelope import Envelope
from penstock.core.dialects import prepare as module
from penstock.core.dialects.interface import CallerSide, Prepared, UpstreamSide
from penstock.core.dialects.translation_memory import TranslationMemory, TranslationScope
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningScope
from penstock.errors import InvalidRequest
from tests.core.dialects.remembering import MOST, same, scanned, scope, shorter

MEMORY = TranslationMemory(MOST)
"""Of all examples of a process, so that it is warm from other conversations."""


@pytest.fixture(autouse=True)
def with_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold each translation against the same with memory, grown turn by turn."""
    if request.node.get_closest_marker("hypothesis") is not None:
        return
    translated = module._translated

    def both(
        envelope: Envelope,
        caller: tuple[str, CallerSide],
        upstream: tuple[str, UpstreamSide],
        model: str,
        profile: Profile,
        reasoning: ReasoningScope | None,
        memory: TranslationScope | None,
    ) -> Prepared:
        with monkeypatch.context() as patch:
            patch.setattr(module, "_translated", translated)
            name = caller[0]
            if memory is None and caller[1].decode_remembered is not None:
                for body in (*shorter(name, envelope.body), envelope.body):
                    try:
                        again = scanned(name, body)
                    except InvalidRequest:
                        continue
                    same(again, name, upstream[0], profile, scope(MEMORY), reasoning)
        return translated(envelope, caller, upstream, model, profile, reasoning, memory)

    monkeypatch.setattr(module, "_translated", both)
