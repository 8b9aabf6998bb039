"""Reasoning effort: how much a model is asked to reason, in the words of OpenAI's formats."""

from penstock.core.neutral.request import Effort
from penstock.core.profile import Profile

_EFFORTS: tuple[Effort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def nearest(effort: Effort, profile: Profile) -> Effort:
    """The effort that the model knows and that is nearest to the one asked for; of two that are as near, the greater."""
    if profile.efforts:
        wanted = _EFFORTS.index(effort)
        known = [each.strip() for each in profile.efforts.split(",")]
        places = [at for at, name in enumerate(_EFFORTS) if name in known]
        if places:
            return _EFFORTS[min(places, key=lambda at: (abs(at - wanted), -at))]
    least, most = _EFFORTS.index(profile.least_effort), _EFFORTS.index(profile.most_effort)
    return _EFFORTS[min(max(_EFFORTS.index(effort), least), most)]


def effort_for(budget: int) -> Effort:
    """The nearest effort for a budget in tokens."""
    if budget <= 2048:
        return "low"
    if budget <= 8192:
        return "medium"
    return "high" if budget <= 24576 else "xhigh"


BUDGETS: dict[Effort, int] = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384}
"""Tokens of reasoning for an effort, where a model takes a budget; for a greater effort it has none to keep to."""
