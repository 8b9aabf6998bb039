"""The choice of an ``auto`` model: a written rule over what is asked, and of its list the first that can take it and is well.

No classifier: the first rule that fits what is asked names the models; where none of them can take it, and where no rule
fits, the model's own list does. A conversation stays with its model as long as that can take it, because another would have
neither its cache nor its reasoning.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from penstock.core.catalog import Feature, Model, Price, When, lacking


class Asking(msgspec.Struct, frozen=True, gc=False):
    """What the rules look at. ``prompt`` is in tokens by estimate, ``longest`` how long the answer may be, if that is said."""

    features: Collection[Feature] = ()
    prompt: int = 0
    longest: int | None = None
    stream: bool = False
    dialect: str = ""
    plan: str = ""
    client: str = ""


class Chosen(msgspec.Struct, frozen=True, gc=False):
    """The model that serves, and by which rule; None: by none, but by the model's own list."""

    model: Model
    rule: int | None = None


def fits(when: When, asked: Asking) -> bool:
    """Whether a request is as a rule says."""
    features = asked.features
    for wanted, found in (
        (when.tools, "tools" in features),
        (when.images, "images" in features),
        (when.documents, "documents" in features),
        (when.stream, asked.stream),
        (when.dialect, asked.dialect),
        (when.plan, asked.plan),
        (when.client, asked.client),
    ):
        if wanted is not None and wanted != found:
            return False
    if when.input_tokens_over is not None and asked.prompt <= when.input_tokens_over:
        return False
    if when.input_tokens_under is not None and asked.prompt >= when.input_tokens_under:
        return False
    if when.max_tokens_under is None:
        return True
    return asked.longest is not None and asked.longest < when.max_tokens_under


def automatic(
    model: Model,
    candidates: Sequence[Model],
    asked: Asking,
    *,
    well: Callable[[Model], bool | None],
    kept: str = "",
) -> Chosen | None:
    """The model that serves; None where no one of them can take what is asked.

    ``candidates`` are the models that the caller's plan has and that are served. ``well`` says of a model whether one of its
    upstreams can be asked now, and None where none of them could ever take the request. ``kept`` is the id of the model that
    the conversation has had before.
    """
    wanted = frozenset(asked.features)
    able = {
        each.id: each
        for each in candidates
        if not wanted & lacking(each) and costs_at_most(each, model.most_usd_per_million)
    }
    if kept in able and well(able[kept]):
        return Chosen(able[kept])
    second: Chosen | None = None
    for rule, names in _lists(model, asked):
        for name in names:
            each = able.get(name)
            found = None if each is None else well(each)
            if each is None or found is None:
                continue
            if found:
                return Chosen(each, rule)
            second = second or Chosen(each, rule)
    return second


def _lists(model: Model, asked: Asking) -> Iterator[tuple[int | None, Sequence[str]]]:
    for number, rule in enumerate(model.rules):
        if fits(rule.when, asked):
            yield number, rule.use
            break
    yield None, model.auto


def costs_at_most(model: Model, most: Price | None) -> bool:
    """Whether a place where the model is served costs no more; one whose price is not known does."""
    if most is None:
        return True
    return any(is_cheap(target.price, most) for target in model.targets)


def is_cheap(price: Price | None, most: Price) -> bool:
    """Whether a price is known, and no higher."""
    return price is not None and price.input <= most.input and price.output <= most.output


class KeptModels:
    """Which model each conversation has had; bounded, and forgotten after a while."""

    __slots__ = ("_kept", "_most", "_seconds")

    def __init__(self, most: int = 8192, seconds: float = 3600.0) -> None:
        self._kept: OrderedDict[int, tuple[str, float]] = OrderedDict()
        self._most = most
        self._seconds = seconds

    def get(self, key: int, now: float) -> str:
        """The model's id; nothing where there is none."""
        model, at = self._kept.get(key, ("", 0.0))
        return model if model and now - at < self._seconds else ""

    def keep(self, key: int, model: str, now: float) -> None:
        """A turn goes to this model."""
        self._kept[key] = (model, now)
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
