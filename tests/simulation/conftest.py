"""`--sim-days N`: how many days the long simulation runs for (`make chaos` asks for 1,000)."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sim-days", type=float, default=0.0, help="simulated days of the long run; 0 = none")
    parser.addoption("--sim-seed", type=int, default=1_000, help="its first seed")
