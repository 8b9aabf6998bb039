"""The rule of an ``auto`` model: the first of its list that can take what is asked, and has an upstream that is well."""

from collections.abc import Callable, Collection, Sequence

from penstock.core.catalog import Feature, Model, lacking


def automatic(
    candidates: Sequence[Model],
    features: Collection[Feature],
    *,
    well: Callable[[Model], bool | None],
) -> Model | None:
    """The model that serves; None where no one of them can take what is asked.

    ``candidates`` are the models of the list that the caller's plan has and that are served, in the list's order. ``well``
    says of a model whether one of its upstreams can be asked now, and None where none of them could ever take the request.
    """
    wanted = frozenset(features)
    second: Model | None = None
    for model in candidates:
        if wanted & lacking(model):
            continue
        found = well(model)
        if found:
            return model
        if found is not None:
            second = second or model
    return second
