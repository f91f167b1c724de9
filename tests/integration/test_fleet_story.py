"""Whatever is registered, deleted, released, rolled back, damaged and swept: releases hold what they should.

A plain dictionary is told the same story as the registry, the builder and gc; after every step they must agree.
"""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from registry.releases import list_releases
from registry.retention import kept_releases
from tests.support.fleet import Fleet
from workers.sweep import apply_sweep, plan_sweep

KEYS = ("store=1/brand=a", "store=2/brand=a", "store=3/brand=b", "brand=a", "")
Contents = dict[str, tuple[int, bytes]]


class Story(RuleBasedStateMachine):
    """`heads` is what is registered, `contents` what each release holds, `live` what was promoted last."""

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.fleet = Fleet(self.home)
        self.heads: dict[str, tuple[int, bytes | None]] = {}
        self.news: set[str] = set()  # keys with a version that the live release took no notice of
        self.contents: dict[int, Contents] = {}
        self.live: int | None = None

    @rule(key=st.sampled_from(KEYS), raw=st.binary(min_size=1, max_size=40))
    def register(self, key: str, raw: bytes) -> None:
        number, newest = self.heads.get(key, (0, None))
        [version] = self.fleet.register({key: raw})
        if raw != newest:
            number += 1
            self.heads[key] = (number, raw)
            self.news.add(key)
        assert version.number == number

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        number, newest = self.heads.get(key, (0, None))
        if newest is not None:
            self.fleet.delete(key)
            self.heads[key] = (number + 1, None)
            self.news.add(key)

    @rule()
    def release_and_promote(self) -> None:
        built = self.fleet.release()
        assert built.state == "ready"
        found = dict(self.contents[self.live]) if self.live else {}
        for key in self.news:
            number, raw = self.heads[key]
            found.pop(key, None)
            if raw is not None:
                found[key] = (number, raw)
        before = self.contents[self.live] if self.live else {}
        assert built.report["lost"] == len(before.keys() - found.keys())
        assert built.report["added"] == len(found.keys() - before.keys())
        self.contents[built.number] = found
        self.fleet.promote(built.number)
        self.live = built.number
        self.news.clear()

    @precondition(lambda self: bool(self.heads))
    @rule(data=st.data())
    def release_named(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.heads)))
        number, raw = self.heads[key]
        built = self.fleet.release(named=[(key, number)])
        found = dict(self.contents[self.live]) if self.live else {}
        found.pop(key, None)
        if raw is not None:
            found[key] = (number, raw)
        self.contents[built.number] = found

    @precondition(lambda self: self.live is not None)
    @rule(data=st.data())
    def damage_the_live_release(self, data: st.DataObject) -> None:
        """Only as long as the builder mends it: the next build finds the damage and writes the segment anew."""
        refs = self.fleet.manifest(self.live or 0).segments
        if refs:
            self.fleet.store.delete(data.draw(st.sampled_from(refs)).digest)
            assert self.fleet.release(named=[]).state == "ready"
            self.contents[max(self.contents) + 1] = dict(self.contents[self.live or 0])

    @rule()
    def sweep(self) -> None:
        for folder in ("objects", "staged"):
            for path in (self.home / "artifacts" / folder).rglob("*"):
                os.utime(path, (0, 0))
        planned = plan_sweep(self.fleet.db, self.fleet.store, now=self.fleet.now)
        assert apply_sweep(self.fleet.db, self.fleet.store, now=self.fleet.now) == planned

    @invariant()
    def every_kept_release_holds_what_it_should(self) -> None:
        with self.fleet.db.read() as conn:
            kept = kept_releases(conn, self.fleet.group)
            assert {release.number for release in list_releases(conn, self.fleet.group)} == self.contents.keys()
        for number in kept:
            assert self.fleet.contents(number) == self.contents[number]

    def teardown(self) -> None:
        self.fleet.db.close()
        shutil.rmtree(self.home)


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=10, stateful_step_count=30, deadline=None)
