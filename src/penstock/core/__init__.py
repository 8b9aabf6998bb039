"""The pure core: dialects, the neutral form, routing and limit arithmetic. No I/O, no clock, no settings."""
