"""The admin pages under ``/admin``: what staff see and do, each page with the permission that it wants.

The way in: ``admin_site.py`` puts the groups together; ``access.py`` stands before every page (who is of the staff, in which
role, with a second factor) and writes what it refuses into the trail. A group asks ``domain/staff/`` and ``domain/trail/``
and renders a template of ``templates/admin/``; no page has a rule of its own.
"""
