"""Tools between dialects: names, call ids, and input that is text instead of JSON."""
