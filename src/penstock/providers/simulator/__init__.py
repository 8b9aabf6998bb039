"""A scripted provider that speaks all dialects and has embeddings, for first runs, documentation, tests and drills."""
