"""Help links: the page that explains a refusal, in a ``Link`` header (``rel="help"``), so that no refusal is a dead end."""

HELP: dict[str, bytes] = {
    "missing_api_key": b"/docs/authentication",
    "invalid_api_key": b"/docs/authentication#when-it-is-refused",
    "email_not_verified": b"/verify",
    "address_not_allowed": b"/docs/authentication#keys",
    "account_disabled": b"/docs/authentication#when-it-is-refused",
    "account_leaving": b"/settings",
    "model_not_on_plan": b"/pricing",
    "daily_limit_reached": b"/docs/limits#the-day",
    "concurrent_limit_reached": b"/slots",
    "key_daily_limit_reached": b"/keys",
    "key_concurrent_limit_reached": b"/slots",
    "too_many_refused_requests": b"/docs/limits#refused-requests",
}
"""By the code of the error."""
