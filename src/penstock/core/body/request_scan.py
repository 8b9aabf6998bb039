"""The scan rules of a request: what a scanner may take of a format, out of its table of cost fields."""

from penstock.core.body.cost_fields import ADDS, NAMING_WORDS, RUNNING_WORDS, CostRules
from penstock.core.body.scan_rules import UNBOUNDED, Member, ScanRules

TOOL_NAMES = (
    "type", "function", "name", "description", "parameters", "input_schema", "strict", "custom", "format",
    "cache_control", "defer_loading", "eager_input_streaming", "input_examples", "allowed_callers",
)  # fmt: skip
"""Names of a tool's own members, none of which names a model."""
ENCODED = (b"data:", b"base64")
"""What a string begins with that is there where something is attached in base64: its address, or how it is encoded."""
ENCRYPTED = b"encrypted_content"
"""The member that holds what a provider has encrypted, in the format that has such members: its mark there."""
_IN_ITEMS = ("type", "id")


def request_rules(
    cost: CostRules,
    wanted: tuple[Member, ...],
    checked: tuple[Member, ...] = (),
    most: int = UNBOUNDED,
    marks: tuple[bytes, ...] = (),
) -> ScanRules:
    """The rules of a format that has the table ``cost``.

    ``wanted`` are the members whose places are told, ``checked`` others of which not any value will do; ``most`` bounds its
    turns, items or texts; ``marks`` are those of ``ScanRules`` that the format has beside those of all. Every other
    ordinary field may have any value. A field that is a row of the table, or that nobody knows, goes the long way.
    """
    named = {member.name for member in (*wanted, *checked)}
    rest = tuple(Member(name) for name in sorted(cost.ordinary - named))
    items = (
        () if cost.item is None else (*_IN_ITEMS, *sorted(cost.item.ordinary - {*_IN_ITEMS, cost.item.tools}))
    )
    return ScanRules(
        members=(*wanted, *checked, *rest),
        wanted=len(wanted),
        max_entries=most,
        items=items,
        tools=TOOL_NAMES,
        running=RUNNING_WORDS,
        naming=NAMING_WORDS,
        marks=(ADDS, *ENCODED, *marks),
    )
