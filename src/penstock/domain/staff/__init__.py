"""Staff: who works here and in which role, how the first of them comes in, and what they do to accounts and the catalogue."""
