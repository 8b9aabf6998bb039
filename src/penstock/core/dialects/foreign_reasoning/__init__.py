"""Foreign reasoning: what of a history an upstream cannot read, in each format, and how vendors refuse it."""
