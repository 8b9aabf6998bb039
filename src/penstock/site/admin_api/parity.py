"""The table of what staff do: each operation with its page, its command and its route, which call one function of the domain.

What one way lacks has the reason in ``gap``. Tests walk the table: a page, a command or a route that is in no row, or is not
there, or wants another permission than its page, is a failure; ``docs/operations/admin_api.md`` shows it.
"""

from typing import Final

import msgspec

from penstock.domain.staff.roles import Permission
from penstock.domain.staff.tokens import Scope

BASE: Final = "/admin/api/v1"


class ParityRow(msgspec.Struct, frozen=True):
    """One operation. ``page``, ``command`` and ``route`` are '' where that way does not have it, and ``gap`` says why."""

    name: str
    what: str
    function: str
    """What all ways call, below ``penstock``."""
    page: str
    command: str
    route: str
    permission: Permission
    scope: Scope | None
    gap: str = ""
    looks: bool = False
    """It is asked by POST, since what is asked is long or secret, and changes nothing."""

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return not self.looks and not self.route.startswith("GET ")


_ONE = "the command lists them all"
_APPLIED = "a program applies a catalogue, and adds the keys to what is in it"

PARITY: Final[tuple[ParityRow, ...]] = (
    # ---- accounts
    ParityRow("user_list", "Accounts, by their addresses", "domain.staff.search.list_people",
        "GET /admin/users", "user list", "GET /users", "read", "users:read"),
    ParityRow("user_show", "One account", "domain.accounts.accounts.user_by_id",
        "GET /admin/users/{id}", "", "GET /users/{id}", "read", "users:read", _ONE),
    ParityRow("user_create", "Make an account with its first key, shown once", "domain.staff.people.make_account",
        "POST /admin/users/new", "user create", "POST /users", "people", "users:write"),
    ParityRow("user_plan", "Put an account on another plan; its owner is mailed", "domain.staff.people.change_and_tell",
        "POST /admin/users/{id}/plan", "user set --plan", "POST /users/{id}/plan", "plan", "users:write"),
    ParityRow("user_verify", "Take an address as verified", "domain.staff.people.change_and_tell",
        "POST /admin/users/{id}/verify", "user set --verified", "POST /users/{id}/verify", "verify", "users:write"),
    ParityRow("user_disable", "Close an account: its keys answer 403", "domain.staff.people.change_and_tell",
        "POST /admin/users/{id}/disable", "user set --disabled", "POST /users/{id}/disable", "people", "users:write"),
    ParityRow("user_enable", "Open an account again", "domain.staff.people.change_and_tell",
        "POST /admin/users/{id}/enable", "user set --enabled", "POST /users/{id}/enable", "people", "users:write"),
    ParityRow("user_delete", "Delete an account in seven days; its owner is mailed", "domain.staff.people.delete_and_tell",
        "POST /admin/users/{id}/delete", "user delete", "POST /users/{id}/delete", "people", "users:write"),
    ParityRow("user_keep", "Keep an account that was to be deleted", "domain.staff.people.keep",
        "POST /admin/users/{id}/keep", "user keep", "POST /users/{id}/keep", "people", "users:write"),
    ParityRow("user_sign_out", "End all sessions of an account", "domain.staff.people.end_sessions",
        "POST /admin/users/{id}/sessions", "user sign-out", "POST /users/{id}/sign-out", "verify", "users:write"),
    ParityRow("view_as", "See an account as its owner does", "domain.staff.view_as.begin",
        "POST /admin/users/{id}/view", "", "", "view_as", None, "for people who look; a token reads what it needs"),
    ParityRow("view_stop", "Stop seeing it", "domain.staff.view_as.end",
        "POST /admin/view/stop", "", "", "read", None, "as above"),
    # ---- keys
    ParityRow("key_list", "The keys of an account; never the keys themselves", "domain.keys.management.list_keys",
        "GET /admin/users/{id}", "key list", "GET /users/{id}/keys", "read", "keys:read"),
    ParityRow("key_create", "Make a key for an account, shown once", "domain.staff.people.make_key",
        "POST /admin/users/{id}/keys/new", "key create", "POST /users/{id}/keys", "people", "keys:write"),
    ParityRow("key_limit", "Give a key limits of its own, or take them away", "domain.staff.people.change_key",
        "POST /admin/users/{id}/keys/{key}", "key limit", "POST /keys/{id}/limits", "people", "keys:write"),
    ParityRow("key_roll", "Replace a key by a new one, shown once", "domain.staff.people.roll_key",
        "POST /admin/users/{id}/keys/{key}/roll", "key roll", "POST /keys/{id}/roll", "people", "keys:write"),
    ParityRow("key_revoke", "End a key", "domain.staff.people.revoke_key",
        "POST /admin/users/{id}/keys/{key}/revoke", "key revoke", "POST /keys/{id}/revoke", "people", "keys:write"),
    # ---- the catalogue
    ParityRow("plan_list", "Plans, with how many accounts have each", "domain.catalog.catalog_store.load_document",
        "GET /admin/plans", "catalog show", "GET /plans", "read", "catalog:read"),
    ParityRow("plan_show", "One plan", "domain.catalog.catalog_store.load_document",
        "GET /admin/plans/{id}", "", "GET /plans/{id}", "read", "catalog:read", _ONE),
    ParityRow("plan_put", "Make a plan, or change it", "domain.staff.catalog_changes.apply_change",
        "POST /admin/plans/{id}/change", "catalog apply", "PUT /plans/{id}", "catalog", "catalog:write"),
    ParityRow("plan_add", "Make a plan by a form", "domain.staff.catalog_changes.apply_change",
        "POST /admin/plans/new", "catalog apply", "", "catalog", None, "a program puts it by its id"),
    ParityRow("model_list", "Models, with what serves them", "domain.catalog.catalog_store.load_document",
        "GET /admin/models", "catalog show", "GET /models", "read", "catalog:read"),
    ParityRow("model_show", "One model", "domain.catalog.catalog_store.load_document",
        "GET /admin/models/{id:path}", "", "GET /models/{id:path}", "read", "catalog:read", _ONE),
    ParityRow("model_remove", "Take models out of the catalogue and of every plan", "domain.staff.catalog_changes.withdraw",
        "POST /admin/models/remove", "models remove", "POST /models/remove", "catalog", "catalog:write"),
    ParityRow("model_add", "Publish models that providers list", "domain.staff.catalog_changes.publish",
        "", "models add", "", "catalog", None, "it asks every provider; a program applies a catalogue"),
    ParityRow("catalog_export", "The whole catalogue as TOML", "domain.catalog.catalog_store.export_document",
        "GET /admin/catalog/edit", "catalog export", "GET /catalog", "catalog", "catalog:read"),
    ParityRow("catalog_diff", "What applying a document would change, and for how many accounts",
        "domain.staff.catalog_changes.preview",
        "POST /admin/catalog/preview", "catalog diff", "POST /catalog/diff", "catalog", "catalog:write", looks=True),
    ParityRow("catalog_apply", "Apply a document", "domain.staff.catalog_changes.apply_change",
        "POST /admin/catalog/apply", "catalog apply", "POST /catalog/apply", "catalog", "catalog:write"),
    ParityRow("catalog_release", "Let go of what a file manages", "domain.staff.catalog_changes.release",
        "", "catalog release", "POST /catalog/release", "catalog", "catalog:write", "who manages a file has no use for a page"),
    # ---- providers
    ParityRow("provider_list", "Providers, with whether each has its secret", "domain.catalog.catalog_store.load_document",
        "GET /admin/providers", "catalog export", "GET /providers", "read", "providers:read"),
    ParityRow("provider_show", "One provider, with the state of all that it serves", "operations.upstream_report.report",
        "GET /admin/providers/{id}", "upstream show", "GET /providers/{id}", "read", "providers:read"),
    ParityRow("upstream_list", "Every upstream: whether it is asked, why not, until when", "operations.upstream_report.report",
        "", "upstreams", "GET /upstreams", "read", "providers:read", "the page of a provider shows its own"),
    ParityRow("upstream_drain", "Send no new requests there", "domain.staff.upstream_switches.switch_upstream",
        "POST /admin/providers/{id}/switch", "upstream drain", "POST /providers/{id}/drain", "catalog", "providers:write"),
    ParityRow("upstream_disable", "Take it out of use", "domain.staff.upstream_switches.switch_upstream",
        "POST /admin/providers/{id}/switch", "upstream disable", "POST /providers/{id}/disable", "catalog", "providers:write"),
    ParityRow("upstream_enable", "Put it back into use", "domain.staff.upstream_switches.switch_upstream",
        "POST /admin/providers/{id}/switch", "upstream enable", "POST /providers/{id}/enable", "catalog", "providers:write"),
    ParityRow("upstream_reset", "Forget what is known against it", "domain.staff.upstream_switches.forget_health",
        "POST /admin/providers/{id}/reset", "upstream reset", "POST /providers/{id}/reset", "catalog", "providers:write"),
    ParityRow("upstream_test", "Send a small real request; the provider may charge for it", "operations.upstream_test.tried",
        "POST /admin/providers/{id}/test", "upstream test", "POST /providers/{id}/test", "catalog", "providers:write"),
    ParityRow("provider_add", "Add a provider, once it has answered with its key", "domain.staff.provider_changes.add_provider",
        "POST /admin/providers/new", "", "", "catalog", None, _APPLIED),
    ParityRow("provider_remove", "Remove a provider with its keys", "domain.staff.provider_changes.remove_provider",
        "POST /admin/providers/{id}/remove", "", "", "catalog", None, "a catalogue without it does the same"),
    ParityRow("provider_proxy", "Reach a provider by a proxy, whose password is kept sealed",
        "domain.staff.provider_changes.set_proxy",
        "POST /admin/providers/{id}/proxy", "upstream key proxy", "POST /providers/{id}/proxy", "catalog", "providers:write"),
    ParityRow("provider_models", "What a provider has beside the catalogue", "operations.provider_check.ProviderChecks.models",
        "POST /admin/providers/{id}/models", "models", "", "catalog", None, "it asks the provider", looks=True),
    ParityRow("provider_publish", "Publish some of that", "domain.staff.catalog_changes.publish",
        "POST /admin/providers/{id}/publish", "models add", "", "catalog", None,
        "it asks the provider; a program applies a catalogue"),
    ParityRow("provider_key_show", "One key of a provider: where it comes from, and its state",
        "operations.upstream_report.report",
        "GET /admin/providers/{id}/keys/{key}", "upstream show", "GET /providers/{id}/keys/{key}", "read", "providers:read"),
    ParityRow("provider_key_list", "The keys of a provider; never the keys themselves", "domain.catalog.kept_keys.kept_keys",
        "GET /admin/providers/{id}", "upstream key list", "GET /providers/{id}/keys", "read", "providers:read"),
    ParityRow("provider_key_add", "Add a key to a provider's pool, once the provider has taken it",
        "domain.staff.provider_changes.add_key",
        "POST /admin/providers/{id}/keys/new", "upstream key add", "POST /providers/{id}/keys", "catalog", "providers:write"),
    ParityRow("provider_key_change", "Change how much a key is used", "domain.staff.provider_changes.change_key",
        "POST /admin/providers/{id}/keys/{key}/change", "upstream key change", "POST /providers/{id}/keys/{key}/change",
        "catalog", "providers:write"),
    ParityRow("provider_key_rotate", "Put a new key in the place of one", "domain.staff.provider_changes.rotate_key",
        "POST /admin/providers/{id}/keys/{key}/rotate", "upstream key rotate", "POST /providers/{id}/keys/{key}/rotate",
        "catalog", "providers:write"),
    ParityRow("provider_key_remove", "Remove a key from the pool", "domain.staff.provider_changes.remove_key",
        "POST /admin/providers/{id}/keys/{key}/remove", "upstream key remove", "POST /providers/{id}/keys/{key}/remove",
        "catalog", "providers:write"),
    # ---- notices to everybody
    ParityRow("notice_list", "Incidents and banners", "domain.announcements.incidents.recent_incidents",
        "GET /admin/notices", "notice list", "GET /notices", "read", "notices:read"),
    ParityRow("incident_open", "Tell everybody of trouble", "domain.announcements.incidents.open_incident",
        "POST /admin/notices/incidents", "notice open", "POST /incidents", "announce", "notices:write"),
    ParityRow("incident_update", "Say how it goes on", "domain.announcements.incidents.update_incident",
        "POST /admin/notices/incidents/{id}", "notice update", "POST /incidents/{id}", "announce", "notices:write"),
    ParityRow("announce", "Put a banner above all pages", "domain.announcements.announcements.announce",
        "POST /admin/notices/announcements", "notice announce", "POST /announcements", "announce", "notices:write"),
    ParityRow("announcement_withdraw", "Take a banner down", "domain.announcements.announcements.withdraw",
        "POST /admin/notices/announcements/{id}/withdraw", "notice withdraw", "POST /announcements/{id}/withdraw",
        "announce", "notices:write"),
    # ---- captures
    ParityRow("capture_list", "What is captured: whose requests, why, until when", "domain.captures.orders.recent_orders",
        "GET /admin/captures", "capture list", "GET /captures", "read", "captures:read"),
    ParityRow("capture_begin", "Keep what an account or a key asks and gets, for a time",
        "domain.captures.orders.begin_capture",
        "POST /admin/captures/begin", "capture begin", "POST /captures", "captures", "captures:write"),
    ParityRow("capture_end", "Keep no more of it", "domain.captures.orders.end_capture",
        "POST /admin/captures/{id}/end", "capture end", "POST /captures/{id}/end", "captures", "captures:write"),
    ParityRow("capture_show", "The requests that were captured, without their content", "domain.captures.kept.captures_of",
        "GET /admin/captures/{id}", "capture show", "GET /captures/{id}", "captures", "captures:read"),
    ParityRow("capture_read", "Read one, for a reason that the trail keeps", "domain.captures.kept.read_capture",
        "POST /admin/captures/{id}/read", "capture read", "POST /captures/{id}/read", "captures", "captures:write"),
    # ---- requests
    ParityRow("request_list", "The requests of a day, the newest first", "domain.staff.search.requests_of_day",
        "GET /admin/requests", "", "GET /requests", "read", "requests:read", "the command line has no list of requests"),
    ParityRow("request_show", "One request of anybody, or one that was refused", "domain.staff.search.find_request",
        "GET /admin/requests/{id}", "route explain", "GET /requests/{id}", "read", "requests:read"),
    ParityRow("search", "Find an account, a key or a request by what is known of it", "domain.staff.search.find",
        "POST /admin/search", "", "POST /search", "read", "requests:read", "a shell keeps what is typed: a key may be in it",
        looks=True),
    ParityRow("running_list", "What this server serves at the moment", "site.admin.context.Operation.running",
        "GET /admin/live", "", "GET /running", "read", "requests:read", "a command is another process"),
    ParityRow("running_end", "End a running request", "domain.staff.running.end_request",
        "POST /admin/live/end", "", "POST /running/{id}/end", "verify", "requests:write", "a command is another process"),
    # ---- staff and tokens
    ParityRow("staff_list", "Who works here, and which groups give a role", "domain.staff.membership.members",
        "GET /admin/staff", "staff list", "GET /staff", "read", "staff:read"),
    ParityRow("staff_set", "Give somebody a role, or take it away", "domain.staff.membership.give",
        "POST /admin/staff/set", "staff set", "PUT /staff/{id}", "staff", "staff:write"),
    ParityRow("group_set", "Have a group of the sign-in provider give a role", "domain.staff.membership.map_group",
        "POST /admin/staff/group", "staff group", "POST /staff/groups", "staff", "staff:write"),
    ParityRow("token_list", "Tokens of this API; never the tokens themselves", "domain.staff.tokens.list_tokens",
        "GET /admin/tokens", "token list", "GET /tokens", "read", "staff:read"),
    ParityRow("token_make", "Make a token, shown once", "domain.staff.tokens.make_token",
        "POST /admin/tokens/make", "token make", "", "staff", None, "a token makes no others"),
    ParityRow("token_revoke", "End a token", "domain.staff.tokens.revoke_token",
        "POST /admin/tokens/{id}/revoke", "token revoke", "POST /tokens/{id}/revoke", "staff", "staff:write"),
    ParityRow("token_self", "The token that asks: its role, its scopes, its end", "domain.staff.tokens.token_behind",
        "", "", "GET /token", "read", None, "for programs; it wants no scope"),
    # ---- mails
    ParityRow("mail_list", "Mails that wait, that failed, and the newest that went out", "domain.staff.mails.waiting",
        "GET /admin/mail", "", "GET /mails", "read", "mail:read", "the command line has no list of mails"),
    ParityRow("mail_again", "Try a mail once more now", "domain.staff.mails.try_again",
        "POST /admin/mail/again", "", "POST /mails/{id}/again", "mail", "mail:write", "the command line has no list of mails"),
    ParityRow("mail_test", "Mail oneself, to see whether mails arrive", "domain.staff.mails.queue_test",
        "POST /admin/mail/test", "mail test", "POST /mails/test", "mail", "mail:write",
        "the command asks the mail server itself, by the settings of its shell"),
    # ---- what goes out
    ParityRow("webhook_list", "Webhooks; neither their paths nor their secrets", "domain.notifications.webhooks.list_webhooks",
        "GET /admin/notifications", "webhook list", "GET /webhooks", "read", "mail:read"),
    ParityRow("webhook_add", "Add a webhook; its signing secret is shown once", "domain.notifications.webhooks.add_webhook",
        "POST /admin/notifications/webhooks", "webhook add", "POST /webhooks", "mail", "mail:write"),
    ParityRow("webhook_test", "Send a test to a webhook now", "operations.notifier.try_webhook",
        "POST /admin/notifications/webhooks/{id}/test", "webhook test", "POST /webhooks/{id}/test", "mail", "mail:write"),
    ParityRow("webhook_remove", "Send nothing to a webhook any more", "domain.notifications.webhooks.remove_webhook",
        "POST /admin/notifications/webhooks/{id}/remove", "webhook remove", "POST /webhooks/{id}/remove", "mail", "mail:write"),
    ParityRow("rule_list", "Which events go to which webhook or mail address", "domain.notifications.rules.list_rules",
        "GET /admin/notifications", "webhook rules", "GET /notification-rules", "read", "mail:read"),
    ParityRow("rule_add", "Send an event somewhere", "domain.notifications.rules.add_rule",
        "POST /admin/notifications/rules", "webhook add-rule", "POST /notification-rules", "mail", "mail:write"),
    ParityRow("rule_remove", "Remove a rule", "domain.notifications.rules.remove_rule",
        "POST /admin/notifications/rules/{id}/remove", "webhook remove-rule", "POST /notification-rules/{id}/remove",
        "mail", "mail:write"),
    ParityRow("delivery_list", "What waits to be sent, and the newest others",
        "domain.notifications.deliveries.newest_deliveries",
        "GET /admin/notifications", "webhook deliveries", "GET /deliveries", "read", "mail:read"),
    ParityRow("delivery_again", "Send a delivery again", "domain.notifications.deliveries.deliver_again",
        "POST /admin/notifications/deliveries/{id}/again", "webhook resend", "POST /deliveries/{id}/again",
        "mail", "mail:write"),
    ParityRow("export_list", "Destinations of settled requests, with how much has arrived",
        "domain.exports.destinations.list_destinations",
        "GET /admin/exports", "export list", "GET /exports", "read", "exports:read"),
    ParityRow("export_add", "Export what is settled from now on; a webhook's secret is shown once",
        "domain.exports.destinations.add_destination",
        "POST /admin/exports/add", "export add", "POST /exports", "export", "exports:write"),
    ParityRow("export_remove", "Export nothing there any more", "domain.exports.destinations.remove_destination",
        "POST /admin/exports/{id}/remove", "export remove", "POST /exports/{id}/remove", "export", "exports:write"),
    ParityRow("backfill_list", "What destinations are sent of the past, and were", "domain.exports.backfills.list_backfills",
        "GET /admin/exports", "export backfills", "GET /backfills", "read", "exports:read"),
    ParityRow("backfill_start", "Send a destination what was settled of a time that is over",
        "domain.exports.backfills.start_backfill",
        "POST /admin/exports/{id}/backfill", "export backfill", "POST /exports/{id}/backfill", "export", "exports:write"),
    ParityRow("backfill_stop", "Send no more of the past there", "domain.exports.backfills.stop_backfill",
        "POST /admin/exports/{id}/backfill/stop", "export stop-backfill", "POST /exports/{id}/backfill/stop",
        "export", "exports:write"),
    # ---- the trail, and changes
    ParityRow("trail_list", "What staff and commands did, the newest first", "domain.trail.entries.page",
        "GET /admin/audit", "audit list", "GET /trail", "read", "trail:read"),
    ParityRow("trail_verify", "Walk the whole chain of the trail", "domain.trail.chain.verify",
        "POST /admin/audit/verify", "audit verify", "GET /trail/verify", "read", "trail:read"),
    ParityRow("trail_export", "The trail with its hashes, in pages of sealed entries", "domain.trail.chain.sealed_after",
        "GET /admin/audit.jsonl", "audit export", "POST /trail/export", "export", "trail:read"),
    ParityRow("change_list", "Changes that can be undone, the newest first", "domain.trail.changes.page",
        "GET /admin/changes", "audit changes", "GET /changes", "read", "trail:read"),
    ParityRow("change_show", "One operation, and whether it can be undone", "domain.staff.undo.why_not",
        "GET /admin/changes/{operation}", "", "GET /changes/{operation}", "read", "trail:read", _ONE),
    ParityRow("change_undo", "Undo an operation", "domain.staff.undo.take_back",
        "POST /admin/changes/{operation}/undo", "audit undo", "POST /changes/{operation}/undo", "people", "changes:write"),
    # ---- the service
    ParityRow("overview", "The last day beside the usual one, and what waits for somebody", "domain.staff.overview.last_day",
        "GET /admin", "doctor", "GET /overview", "read", "jobs:read"),
    ParityRow("setting_list", "Every setting: its value, and where that comes from", "settings.describe.rows",
        "GET /admin/settings", "settings", "GET /settings", "read", "settings:read"),
    ParityRow("job_list", "The parts of the service, and the work that it does by itself", "operations.health.Health.look",
        "GET /admin/jobs", "doctor", "GET /jobs", "read", "jobs:read"),
)  # fmt: skip
"""Every operation."""


def parity_markdown() -> str:
    """The table of the documentation."""
    lines = ["| What | Page | Command | Route | Role may | Scope |", "|---|---|---|---|---|---|"]
    for row in PARITY:
        scope = f"`{row.scope}`" if row.scope else "none" if row.route else ""
        cells = (
            row.what,
            _code(row.page),
            _code(row.command and f"penstock {row.command}"),
            _code(row.route),
        )
        note = f" ({row.gap})" if row.gap else ""
        lines.append(f"| {cells[0]}{note} | {' | '.join(cells[1:])} | `{row.permission}` | {scope} |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else "-"
