"""The engines that these tests run on."""

from tests.stores import empty_postgresql, engine, postgresql

__all__ = ["empty_postgresql", "engine", "postgresql"]
