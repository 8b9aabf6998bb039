"""Captures: what an account or one of its keys asks and gets, kept sealed for a time because an owner has said so."""
