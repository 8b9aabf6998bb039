"""TODO-DOOR ledger."""
