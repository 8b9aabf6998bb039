"""What staff are told of, by webhooks and mail: events, the rules that say where they go, and what was sent."""
