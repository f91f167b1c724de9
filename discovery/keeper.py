"""The keeper of a lease: one thread that renews one member's lease for as long as its process lives.

A thread of its own, because renewals must go on while the event loop answers requests or a build holds a pool.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from discovery.liveness import DEFAULT_TTL
from discovery.membership import Membership
from discovery.snapshot import Member, MemberState
from registry.errors import Problem

log = logging.getLogger("manymodels.discovery")

RENEWALS_A_TTL: Final = 3
RETRIES_A_RENEWAL: Final = 4


class LeaseKeeper:
    """Joins on `start` or as soon as it can, renews three times a ttl, leaves on `stop`.

    A renewal that fails is tried again four times as soon. `stats` is called in the keeper's thread.

    Attributes:
        failures: renewals that failed since the start.
    """

    def __init__(
        self,
        membership: Membership,
        member: Member,
        *,
        ttl: float = DEFAULT_TTL,
        stats: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """Nothing is joined yet; `ttl` is the house's, in seconds."""
        self.failures = 0
        self._failing = False
        self._joined = False
        self._membership = membership
        self._member = replace(member, state="alive")
        self._state: MemberState = "alive"
        self._interval = ttl / RENEWALS_A_TTL
        self._stats = stats
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    def start(self) -> None:
        """Join, then renew in a thread of its own; where the members are away now, it joins when they are back."""
        self.renew_once()
        self._thread.start()

    def drain(self) -> None:
        """Say `draining` now and with every renewal from now on; one that fails now is made up by the next."""
        self._state = "draining"
        self.renew_once()

    def stop(self) -> None:
        """Stop renewing and leave; where the leases are away the lease ends by itself. Stopping twice is fine."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._membership.leave(self._member.id)
        except Problem as error:
            log.warning("member %s could not leave and will be found dead: %s", self._member.id, error)

    def renew_once(self) -> bool:
        """Renew now, or join; False (and counted) if that failed."""
        try:
            if not self._joined:
                self._membership.join(replace(self._member, state=self._state))
                self._joined = True
            else:
                self._membership.renew(self._member.id, state=self._state, stats=self._said())
        except Exception as error:  # noqa: BLE001 - a keeper that died would let a living member be found dead
            self.failures += 1
            if not self._failing:
                log.warning("the lease of %s was not renewed: %s: %s", self._member.id, type(error).__name__, error)
            self._failing = True
            return False
        if self._failing:
            log.info("the lease of %s is renewed again", self._member.id)
        self._failing = False
        return True

    def _said(self) -> Mapping[str, Any]:
        try:
            return self._stats()
        except Exception:
            log.exception("the stats of %s could not be taken", self._member.id)
            return {}

    def _run(self) -> None:
        pause = self._interval
        while not self._stopping.wait(pause):
            pause = self._interval if self.renew_once() else self._interval / RETRIES_A_RENEWAL
