"""JSON bodies as bytes: checked, read at the top level, and changed in one place without touching the rest."""
