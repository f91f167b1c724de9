"""A release that is to go live by itself while members are late."""

import threading
from dataclasses import replace

from discovery.keeper import LeaseKeeper
from discovery.snapshot import Member
from tests.support.builders import GROUP, TOYS, BuilderHome
from tests.support.waiting import until


def test_a_release_that_was_not_held_in_time_is_promoted_once_more(tmp_path, caplog):
    home = BuilderHome(tmp_path / "home", replace(TOYS, promote_seconds=1.0))
    keeper = LeaseKeeper(home.membership, Member("w", "http://w", "alive", ("worker",), {}), ttl=TOYS.lease_seconds)
    keeper.start()
    home.ask_to_register("store=2/brand=a", b"sum")
    building = threading.Thread(target=home.build)
    building.start()
    until(lambda: "promoted once more" in caplog.text, 30, "a refusal")
    assert home.live() is None
    home.membership.announce("w", [(GROUP, 1)])
    building.join(30)
    assert home.live() == 1
    keeper.stop()
    home.close()
