"""When a figure of `singd doctor` is a worry, and when it is wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest

from singd.core import health
from singd.core.health import Standing

OK, WARNING, WRONG = Standing.OK, Standing.WARNING, Standing.WRONG


@pytest.mark.parametrize(
    ("finding", "standing"),
    [
        (health.clock_skew(timedelta(seconds=2)), OK),
        (health.clock_skew(timedelta(seconds=-2.1)), WARNING),
        (health.clock_skew(timedelta(seconds=30)), WARNING),
        (health.clock_skew(timedelta(seconds=-31)), WRONG),
        (health.round_trip(1.0), OK),
        (health.round_trip(21.0), WARNING),
        (health.round_trip(501.0), WRONG),
        (health.connections(95, 100), OK),
        (health.connections(96, 100), WARNING),
        (health.connections(100, 100), WRONG),
        (health.space(1 << 30, "/s"), OK),
        (health.space((1 << 30) - 1, "/s"), WARNING),
        (health.space((100 << 20) - 1, "/s"), WRONG),
        (health.descriptors(1024), OK),
        (health.descriptors(1023), WARNING),
        (health.descriptors(255), WRONG),
        (health.file_system("ext4", "/s"), OK),
        (health.file_system("nfs4", "/s"), WARNING),
        (health.file_system("fuse.sshfs", "/s"), WARNING),
        (health.file_system("fuseblk", "/s"), OK),
        (health.file_system("", "/s"), OK),
    ],
)
def test_each_figure_has_its_bounds(finding: health.Finding, standing: Standing) -> None:
    assert finding.standing is standing
    assert bool(finding.cure) is (standing is not OK)


def test_each_setting_that_endangers_a_promise_is_named() -> None:
    settings = {"fsync": "off", "full_page_writes": "on", "synchronous_commit": "off"}
    found = list(health.durability(settings))
    assert [(one.standing, one.text.split(":")[0]) for one in found] == [
        (WARNING, "fsync = off"), (WARNING, "synchronous_commit = off"),
    ]  # fmt: skip
    [well] = health.durability(
        {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "remote_apply"}
    )
    assert well.standing is OK
