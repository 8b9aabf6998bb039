"""Accounts of people: sign-up, sign-in, sessions, codes, passwords, second factors, and the audit trail."""
