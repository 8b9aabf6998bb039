"""A scripted provider that speaks all dialects, for first runs, documentation, tests and drills."""
