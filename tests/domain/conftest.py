"""The engines that these tests run on."""

from tests.stores import engine, postgresql

__all__ = ["engine", "postgresql"]
