"""When vendors end their models, and what follows: one table, each row with its source and the day on which it was read.

Vendors' own lists say it too (OpenAI's ``shutdown_date``, Anthropic's ``retires_at``), and what a list says goes before the
table. A row without a day says that the vendor has ended the model, and that the day was not to be had: *unverified*.
"""

from fnmatch import fnmatchcase
from functools import lru_cache

import msgspec

_OPENAI = "https://developers.openai.com/api/docs/deprecations"
_OPENAI_BY = (
    "https://dev.to/aideprecations/what-to-do-before-openai-gpt-5-and-o3-shut-down-on-december-11-2026-fap"
)
_OPENAI_OLD = "https://dev.to/importstatic/every-openai-model-shutdown-date-until-january-2027-and-what-replaces-it-1dfk"
_ANTHROPIC = "https://platform.claude.com/docs/en/release-notes/overview"
_ANTHROPIC_PAGE = "https://platform.claude.com/docs/en/about-claude/model-deprecations"
_GEMINI_BY = "https://dev.to/aideprecations/what-to-do-before-gemini-25-pro-and-25-flash-are-retired-on-december-1-2026-5gg9"
_GEMINI = "https://ai.google.dev/gemini-api/docs/deprecations.md"
_DEEPSEEK = "https://api-docs.deepseek.com/updates"
_READ = "2026-11-30"


class Retirement(msgspec.Struct, frozen=True):
    """The end of models: ``day`` is the first on which they do not answer ('' where it is not known)."""

    provider: str
    models: str
    """A shell pattern over the vendor's names."""
    day: str
    successor: str
    """The vendor's name of what follows; '' where none was read."""
    source: str
    read: str = _READ


RETIREMENTS: tuple[Retirement, ...] = (
    Retirement("openai", "gpt-5", "2026-12-11", "gpt-6.1-sol", _OPENAI),
    Retirement("openai", "gpt-5-2025-08-07", "2026-12-11", "gpt-6.1-sol", _OPENAI),
    Retirement("openai", "gpt-5-mini*", "2026-12-11", "gpt-6.1-terra", _OPENAI),
    Retirement("openai", "gpt-5-nano*", "2026-12-11", "gpt-5.6-luna", _OPENAI_BY),
    Retirement("openai", "gpt-5-pro*", "2026-12-11", "gpt-5.6-sol", _OPENAI_BY),
    Retirement("openai", "o3", "2026-12-11", "gpt-5.6-sol", _OPENAI_BY),
    Retirement("openai", "o3-2025-04-16", "2026-12-11", "gpt-5.6-sol", _OPENAI_BY),
    Retirement("openai", "o3-pro*", "2026-12-11", "gpt-5.6-sol", _OPENAI_BY),
    Retirement("openai", "gpt-4o-2024-05-13", "2026-10-23", "gpt-5.6-sol", _OPENAI_OLD),
    Retirement("openai", "gpt-4o", "2027-01-14", "gpt-6-luna", _OPENAI),
    Retirement("openai", "gpt-4o-2024*", "2027-01-14", "gpt-6-luna", _OPENAI),
    Retirement("openai", "gpt-4o-mini", "2027-01-14", "gpt-6-luna", _OPENAI),
    Retirement("openai", "gpt-4o-mini-2024*", "2027-01-14", "gpt-6-luna", _OPENAI),
    Retirement("openai", "gpt-4.1", "2027-01-14", "gpt-6-luna", _OPENAI),
    Retirement("openai", "gpt-4.1-2025*", "2027-01-14", "gpt-6-luna", _OPENAI),
    Retirement("openai", "gpt-4.1-mini*", "2027-01-14", "gpt-6-luna", _OPENAI),
    Retirement("openai", "gpt-4.1-nano*", "2026-10-23", "", _OPENAI_OLD),
    Retirement("openai", "gpt-5.1", "2027-04-01", "", _OPENAI_OLD),
    Retirement("openai", "gpt-3.5-turbo*", "2026-10-23", "gpt-5.6-terra", _OPENAI_OLD),
    Retirement("openai", "gpt-4", "2026-10-23", "gpt-5.6-sol", _OPENAI_OLD),
    Retirement("openai", "gpt-4-*", "2026-10-23", "gpt-5.6-sol", _OPENAI_OLD),
    Retirement("openai", "o1*", "2026-10-23", "gpt-5.6-sol", _OPENAI_OLD),
    Retirement("openai", "o3-mini*", "2026-10-23", "gpt-5.6-sol", _OPENAI_OLD),
    Retirement("openai", "o4-mini", "2026-10-23", "gpt-5.6-terra", _OPENAI_OLD),
    Retirement("openai", "o4-mini-2025*", "2026-10-23", "gpt-5.6-terra", _OPENAI_OLD),
    Retirement("anthropic", "claude-sonnet-4-0", "2026-06-15", "claude-sonnet-4-6", _ANTHROPIC),
    Retirement("anthropic", "claude-sonnet-4-20250514", "2026-06-15", "claude-sonnet-4-6", _ANTHROPIC),
    Retirement("anthropic", "claude-opus-4-0", "2026-06-15", "claude-opus-4-8", _ANTHROPIC),
    Retirement("anthropic", "claude-opus-4-20250514", "2026-06-15", "claude-opus-4-8", _ANTHROPIC),
    Retirement("anthropic", "claude-sonnet-4-5*", "2026-11-30", "claude-sonnet-4-6", _ANTHROPIC_PAGE),
    Retirement("anthropic", "claude-3-7-sonnet*", "2026-02-19", "claude-sonnet-4-6", _ANTHROPIC),
    Retirement("anthropic", "claude-3-opus*", "2026-01-05", "", _ANTHROPIC),
    Retirement("anthropic", "claude-[12v]*", "", "", _ANTHROPIC),
    Retirement("gemini", "gemini-2.5-pro", "2026-12-01", "gemini-3.8-flash", _GEMINI_BY),
    Retirement("gemini", "gemini-2.5-flash", "2026-12-01", "gemini-3.5-flash-lite", _GEMINI_BY),
    Retirement("gemini", "gemini-3-pro-preview", "2026-03-09", "gemini-3.1-pro-preview", _GEMINI),
    Retirement("gemini", "gemini-2.5-pro-preview*", "2025-12-02", "gemini-3.1-pro-preview", _GEMINI),
    Retirement("gemini", "gemini-2.0-flash*", "", "", _GEMINI),
    Retirement("deepseek", "deepseek-chat", "2026-07-24", "deepseek-v4-flash", _DEEPSEEK),
    Retirement("deepseek", "deepseek-reasoner", "2026-07-24", "deepseek-v4-flash", _DEEPSEEK),
)


@lru_cache(maxsize=4096)
def retirement(provider: str, name: str) -> Retirement | None:
    """The row for a vendor's model: the first that fits; None where no end is known."""
    for row in RETIREMENTS:
        if row.provider == provider and fnmatchcase(name, row.models):
            return row
    return None
