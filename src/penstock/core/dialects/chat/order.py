"""Which message may come after which, and last: some Chat upstreams insist on an order of roles.

The templates of open models refuse two messages of one role in a row; Mistral's refuse a user's right after a tool's.
"""

from typing import cast

from penstock.core.dialects.chat.ask import Lose
from penstock.core.dialects.openai.encode_request import Json
from penstock.core.profile import Profile
from penstock.errors import InvalidRequest

BRIDGE = "Understood."
"""What the assistant says between a tool's result and the user, where it has to say something there."""


def going_on(messages: list[Json]) -> Json:
    """What vLLM and its like are told where the last message is one to be continued."""
    last = messages[-1]
    if last["role"] != "assistant" or "tool_calls" in last:
        return {}
    return {"continue_final_message": True, "add_generation_prompt": False}


def prefill(message: Json, profile: Profile) -> None:
    """Ask that the answer go on from ``message``, the last one and an assistant's; only some upstreams can."""
    if profile.prefill == "none":
        raise InvalidRequest(
            "messages: this model cannot continue an assistant message; end with a user message.",
            param="messages",
        )
    message["content"] = str(message["content"]).rstrip()
    if profile.prefill != "continue":
        message[profile.prefill] = True


def ordered(messages: list[Json], profile: Profile, lose: Lose) -> list[Json]:
    """The messages in an order of roles that the upstream takes."""
    rows: list[Json] = []
    for message in messages:
        role = message["role"]
        before = rows[-1]["role"] if rows else None
        if profile.roles_alternate and role == before and role != "tool":
            lose("messages.role", "merged")
            rows[-1] = _merged(rows[-1], message)
            continue
        if not profile.user_after_tool and role == "user" and before == "tool":
            lose("messages.role", "bridged")
            rows.append({"role": "assistant", "content": BRIDGE})
        rows.append(message)
    return rows


def _merged(one: Json, other: Json) -> Json:
    """Two messages of one role as one; what both have is put together."""
    merged = dict(one)
    for name, value in other.items():
        have = merged.get(name)
        if name == "role":
            pass
        elif name == "content" and have is not None and value is not None:
            merged[name] = _joined(have, value)
        elif isinstance(have, str) and isinstance(value, str):
            merged[name] = have + value
        elif isinstance(have, list) and isinstance(value, list):
            merged[name] = [*cast("list[object]", have), *cast("list[object]", value)]
        elif value is not None:
            merged[name] = value
    return merged


def _joined(one: object, other: object) -> object:
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n\n{other}"
    return [*_parts(one), *_parts(other)]


def _parts(content: object) -> list[object]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else cast("list[object]", content)
