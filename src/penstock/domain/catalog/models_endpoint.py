"""The answers of ``GET /models`` and ``GET /models/{id}``: one superset that the OpenAI and the Anthropic SDKs both parse.

Without a ``limit`` it is all of them: OpenAI's clients know no pages, and Anthropic's go on until there are no more.
"""

from datetime import UTC, datetime
from urllib.parse import parse_qs

import msgspec

from penstock.core.catalog import Model, ModelKind
from penstock.domain.catalog.catalog import Catalog
from penstock.errors import InvalidRequest, ModelNotFound, ModelNotOnPlan, ModelRetired, NoProvider


class Support(msgspec.Struct, frozen=True):
    """Whether one thing is supported."""

    supported: bool


class ThinkingTypes(msgspec.Struct, frozen=True):
    """The ``thinking.type`` values that a model takes."""

    adaptive: Support
    between_tools: Support
    disabled: Support
    enabled: Support


class ThinkingSupport(msgspec.Struct, frozen=True):
    """Whether and how a model reasons."""

    supported: bool
    types: ThinkingTypes


class EffortSupport(msgspec.Struct, frozen=True):
    """The effort levels that a model takes."""

    supported: bool
    low: Support
    medium: Support
    high: Support
    max: Support
    xhigh: Support | None = None


class ServerTools(msgspec.Struct, frozen=True):
    """Tools that run at the provider; none is promised here."""

    supported: bool = False
    code_execution: Support = Support(False)
    web_search: Support = Support(False)


class ContextManagement(msgspec.Struct, frozen=True):
    """Server-side context editing; not promised here, though it passes through to providers that have it."""

    supported: bool = False


class ModelCapabilities(msgspec.Struct, frozen=True):
    """Anthropic's object of this name, every key present; what the catalogue does not know is not promised."""

    image_input: Support
    pdf_input: Support
    structured_outputs: Support
    thinking: ThinkingSupport
    effort: EffortSupport
    batch: Support = Support(False)
    citations: Support = Support(False)
    code_execution: Support = Support(False)
    context_management: ContextManagement = ContextManagement()
    server_tools: ServerTools = ServerTools()


class ModelInfo(msgspec.Struct, frozen=True):
    """One model. ``created`` is epoch seconds, ``created_at`` the same as RFC 3339: when it came into the catalogue."""

    id: str
    object: str
    type: str
    created: int
    created_at: str
    owned_by: str
    display_name: str
    max_input_tokens: int | None
    max_tokens: int | None
    capabilities: ModelCapabilities
    lifecycle: str = "active"
    deprecated_at: str | None = None
    retires_at: str | None = None
    line: str | None = None
    kind: ModelKind = "chat"


class ModelList(msgspec.Struct, frozen=True):
    """Models of a caller; ``has_more``: there are others in the direction asked for."""

    object: str
    data: tuple[ModelInfo, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None


_encode = msgspec.json.Encoder().encode


class Page(msgspec.Struct, frozen=True):
    """Which part of the list is asked for: at most ``limit`` models, next to the one named."""

    limit: int | None = None
    after_id: str | None = None
    before_id: str | None = None


_ALL = Page()
_LIMITS = range(1, 1001)


def page_of(query: bytes) -> Page:
    """The page that a query string asks for; anything else in it is ignored. Raises ``InvalidRequest``."""
    asked = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    limit, after_id, before_id = (asked.get(name) for name in ("limit", "after_id", "before_id"))
    if limit is not None and not (limit.isascii() and limit.isdigit() and int(limit[:9]) in _LIMITS):
        raise InvalidRequest("limit must be a whole number from 1 to 1000.", param="limit")
    if after_id is not None and before_id is not None:
        raise InvalidRequest("Send after_id or before_id, not both.", param="before_id")
    return Page(None if limit is None else int(limit[:9]), after_id, before_id)


def list_models(
    catalog: Catalog,
    plan_id: str,
    allowed: frozenset[str] | None = None,
    page: Page = _ALL,
    kind: ModelKind | None = None,
) -> bytes:
    """The models that a caller of this plan, with this key's own list, may use, as JSON.

    ``kind`` is for callers that know only one kind of model. Raises ``InvalidRequest`` when the page is next to a model
    that is not among them.
    """
    offered = tuple(catalog.offered(plan_id, allowed, kind))
    ids = [model.id for model in offered]
    for name, cursor in (("after_id", page.after_id), ("before_id", page.before_id)):
        if cursor is not None and cursor not in ids:
            raise InvalidRequest(f"{name} is none of your models.", param=name)
    start = 0 if page.after_id is None else ids.index(page.after_id) + 1
    end = len(ids) if page.before_id is None else ids.index(page.before_id)
    has_more = page.limit is not None and end - start > page.limit
    if page.limit is not None and page.before_id is not None:
        start = max(start, end - page.limit)
    elif page.limit is not None:
        end = min(end, start + page.limit)
    data = tuple(model_info(model) for model in offered[start:end])
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return _encode(ModelList("list", data, has_more=has_more, first_id=first, last_id=last))


def one_model(
    catalog: Catalog,
    plan_id: str,
    allowed: frozenset[str] | None,
    name: str,
    kind: ModelKind | None = None,
) -> bytes | None:
    """The model that ``name`` (an id or an alias) means for the caller, as JSON; None if it may not use any such.

    Raises ``ModelRetired``.
    """
    try:
        found = catalog.resolve(name, plan_id, allowed, kind)
    except ModelRetired:
        raise
    except (InvalidRequest, ModelNotFound, ModelNotOnPlan, NoProvider):
        return None
    return _encode(model_info(found.model))


def model_info(model: Model) -> ModelInfo:
    """One model, as the answer has it."""
    capabilities = model.capabilities
    thinks = capabilities.thinking
    adaptive = Support(thinks == "adaptive")
    created = model.created_at // 1000
    return ModelInfo(
        id=model.id,
        object="model",
        type="model",
        created=created,
        created_at=datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        owned_by=model.targets[0].provider if model.targets else "penstock",
        display_name=model.name,
        max_input_tokens=model.context_tokens,
        max_tokens=model.max_output_tokens,
        capabilities=ModelCapabilities(
            image_input=Support(capabilities.vision),
            pdf_input=Support(capabilities.documents),
            structured_outputs=Support(capabilities.structured_output),
            thinking=ThinkingSupport(
                thinks != "none",
                ThinkingTypes(
                    adaptive=adaptive,
                    between_tools=Support(False),
                    disabled=Support(True),
                    enabled=Support(thinks != "none"),
                ),
            ),
            effort=EffortSupport(adaptive.supported, adaptive, adaptive, adaptive, adaptive),
        ),
        lifecycle="deprecated" if model.sunset else "active",
        retires_at=f"{model.sunset}T00:00:00Z" if model.sunset else None,
        kind=model.kind,
    )
