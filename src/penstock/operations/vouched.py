"""What the operator vouches for by a setting that loosens a rule: said at every start, and by the doctor."""

from penstock.settings import Settings


def vouched_for(settings: Settings) -> tuple[str, ...]:
    """A sentence for each such setting that is on."""
    if not (settings.oidc_trusts_email and settings.oidc_client):
        return ()
    whose = (
        f"those at {', '.join(settings.signup_domains)} may sign up"
        if settings.signup_domains
        else "any may sign up: name your domains in signup_domains"
    )
    return (
        f"oidc_trusts_email is on: addresses of {settings.oidc_name} count as verified where it does not say so; {whose}",
    )
