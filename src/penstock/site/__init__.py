"""The pages: public ones, sign-up and sign-in, the dashboard, keys, settings and the documentation.

The way in: ``process.py`` builds the site of one serving process and its mail sender; ``site.py`` puts one class for each
group of pages together as a Starlette application, with the protective headers and the operator's endpoints (``/healthz``,
``/readyz``, ``/metrics``). A request passes ``session.py`` (whose cookie it has, and whether a form is ours) and reaches a
method of ``<group>_pages.py``, which asks the domain through ``context.py`` and renders a template by ``pages.py``.

- ``public_pages.py``, ``sign_in_pages.py``, ``dashboard_pages.py``, ``key_pages.py``, ``settings_pages.py`` are the groups;
  ``playground_pages.py`` is a bench for requests (its scripts are in ``static/playground/``),
  ``oauth/`` is sign-in through a provider, ``error_pages.py`` what is shown when something fails.
- ``document_pages.py`` and ``markdown.py`` render the Markdown of ``docs/``, ``snippets.py`` the programs in it.
- ``templates/`` and ``static/`` are what is sent; ``charts.py`` and ``icons.py`` draw.

What leaves: HTML that works without scripts, under a content policy that lets nothing in from elsewhere. The site and the
data plane know nothing of each other: API keys mean nothing here, and cookies nothing there.

Why: docs/decisions/0006-pages.md, docs/accounts.md.
"""
