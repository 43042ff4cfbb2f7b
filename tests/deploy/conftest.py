"""The simulator that flow tests have."""

from tests.flow.conftest import credentials, simulator

__all__ = ["credentials", "simulator"]
