"""The neutral form between dialects: requests, the events of a reply, token counts, and what events add up to."""
