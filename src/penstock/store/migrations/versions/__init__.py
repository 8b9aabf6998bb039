"""The steps, in order; each file's name begins with its revision."""
