"""The failures of upstreams: their classes and what is done about each, and the signs by which they are recognised."""
