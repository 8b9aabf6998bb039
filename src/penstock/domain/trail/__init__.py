"""The trail: what staff, commands and the service have done and been refused, and how a change of theirs is undone."""
