"""Any course of registrations, deletions, holds, releases, promotions and rollbacks, against a small pure model."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import text as sql

from registry.holds import drop_hold, put_hold
from registry.releases import fail_release
from registry.versions import count_heads, history
from tests.support.registries import NOW, Registry

KEYS = ("store=1/brand=a", "store=2/brand=b", "brand=a")

Name = tuple[str, int]  # key text and version number


@dataclass
class ModelRelease:
    """What a release holds, and what it introduced."""

    base: int | None
    through: int
    holds: dict[str, int]
    introduced: set[Name]
    state: str = "building"


@dataclass
class Model:
    """The rules of withdrawal, told with one flag a version."""

    digests: dict[str, list[str | None]] = field(default_factory=dict)
    sequences: dict[Name, int] = field(default_factory=dict)
    withdrawn: set[Name] = field(default_factory=set)
    holds: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    releases: dict[int, ModelRelease] = field(default_factory=dict)
    live: int | None = None
    suspended: bool = False

    def add(self, key: str, digest: str | None) -> Name:
        versions = self.digests.setdefault(key, [])
        if not versions or versions[-1] != digest:
            versions.append(digest)
            self.sequences[key, len(versions)] = len(self.sequences) + 1
        return key, len(versions)

    def chain(self, number: int | None) -> list[int]:
        chain = []
        while number is not None:
            chain.append(number)
            number = self.releases[number].base
        return chain

    def introduced(self, numbers: list[int]) -> set[Name]:
        return set().union(*(self.releases[number].introduced for number in numbers))

    def begin(self, named: list[Name] | None, base: int | None) -> int:
        base = base if base is not None else self.live
        below = self.releases[base] if base is not None else ModelRelease(None, 0, {}, set())
        changes = dict(named) if named is not None else self.newer_than(below.through)
        changes = {
            key: number for key, number in changes.items() if self.holds.get(key, ("", 0))[0] not in ("freeze", "pin")
        }
        changes |= {key: number for key, (action, number) in self.holds.items() if action == "pin" and number}
        introduced = {
            (key, number)
            for key, number in changes.items()
            if below.holds.get(key) != number or (key, number) in self.withdrawn
        }
        through = below.through if named is not None else len(self.sequences)
        if named is not None:
            self.withdrawn -= introduced
        number = len(self.releases) + 1
        self.releases[number] = ModelRelease(base, through, below.holds | changes, introduced)
        return number

    def newer_than(self, through: int) -> dict[str, int]:
        newer = [
            (key, number)
            for (key, number), sequence in self.sequences.items()
            if sequence > through and (key, number) not in self.withdrawn
        ]
        return dict(sorted(newer))

    def flip(self, target: int) -> tuple[str, int]:
        if self.live == target:
            return "same", 0
        kept = self.introduced(self.chain(target))
        lost: set[Name] = set()
        kind = "promote"
        if self.live is not None and target < self.live:
            kind = "rollback"
            abandoned = [number for number in self.chain(self.live) if number not in self.chain(target)]
            lost = self.introduced(abandoned) - kept
            self.withdrawn |= lost
        self.withdrawn -= kept
        self.suspended = kind == "rollback"
        self.live = target
        return kind, len(lost)


class RegistryMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = Path(mkdtemp())
        self.real = Registry(self.folder)
        self.model = Model()

    def teardown(self) -> None:
        with self.real.database.read() as conn:
            assert conn.execute(sql("PRAGMA integrity_check")).scalar_one() == "ok"
            assert conn.execute(sql("PRAGMA foreign_key_check")).all() == []
        self.real.close()
        shutil.rmtree(self.folder)

    @rule(key=st.sampled_from(KEYS), what=st.sampled_from("xyz"))
    def register(self, key: str, what: str) -> None:
        before = len(self.model.sequences)
        added = self.real.add(key, what)
        assert (key, added.version.number) == self.model.add(key, what)
        assert added.created == (len(self.model.sequences) > before)
        assert added.version.withdrawn == ((key, added.version.number) in self.model.withdrawn)

    @rule(whats=st.dictionaries(st.sampled_from(KEYS), st.sampled_from("xyz"), min_size=2))
    def register_many(self, whats: dict[str, str]) -> None:
        added = self.real.add_all(whats)
        assert [(item.version.key.text, item.version.number) for item in added] == [
            self.model.add(key, what) for key, what in whats.items()
        ]

    @precondition(lambda self: self.model.digests)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.digests)))
        assert self.real.delete(key).number == self.model.add(key, None)[1]

    @precondition(lambda self: self.model.sequences)
    @rule(data=st.data(), named=st.booleans(), based=st.booleans(), finish=st.booleans())
    def begin(self, data: st.DataObject, named: bool, based: bool, finish: bool) -> None:
        names = None
        if named:
            chosen = data.draw(st.lists(st.sampled_from(sorted(self.model.sequences)), min_size=1, max_size=3))
            names = list(dict(chosen).items())
        base = data.draw(st.sampled_from(self.ready())) if based and self.ready() else None
        number = self.real.begin(names, base).number
        assert number == self.model.begin(names, base)
        if finish:
            self.finish(number, ok=True)

    def ready(self) -> list[int]:
        return [number for number, release in self.model.releases.items() if release.state == "ready"]

    def building(self) -> list[int]:
        return [number for number, release in self.model.releases.items() if release.state == "building"]

    @precondition(lambda self: self.building())
    @rule(data=st.data(), ok=st.booleans())
    def finish_one(self, data: st.DataObject, ok: bool) -> None:
        self.finish(data.draw(st.sampled_from(self.building())), ok=ok)

    def finish(self, number: int, *, ok: bool) -> None:
        if ok:
            self.real.finish(number)
        else:
            with self.real.database.write() as conn:
                fail_release(conn, "oj", number, {}, NOW)
        self.model.releases[number].state = "ready" if ok else "failed"

    @precondition(lambda self: self.ready())
    @rule(data=st.data())
    def flip(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(self.ready()))
        flipped = self.real.flip(target)
        assert (flipped.kind, flipped.withdrawn) == self.model.flip(target)

    @precondition(lambda self: self.model.sequences)
    @rule(data=st.data(), action=st.sampled_from(["disable", "freeze", "pin"]))
    def hold(self, data: st.DataObject, action: str) -> None:
        key, number = data.draw(st.sampled_from(sorted(self.model.sequences)))
        version = number if action == "pin" else None
        if version is not None and self.model.digests[key][version - 1] is None:
            return
        with self.real.database.write() as conn:
            held = self.real.key(key)
            put_hold(conn, "oj", held, action=action, version=version, reason="", author="", until=None, now=NOW)
        self.model.holds[key] = action, version

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data())
    def lift(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.holds)))
        with self.real.database.write() as conn:
            drop_hold(conn, "oj", self.real.key(key))
        del self.model.holds[key]

    @invariant()
    def versions_and_their_marks_agree(self) -> None:
        for key, digests in self.model.digests.items():
            with self.real.database.read() as conn:
                versions = [item.version for item in history(conn, "oj", self.real.key(key))]
            assert [version.number for version in versions] == list(range(len(digests), 0, -1))
            marked = {(key, version.number) for version in versions if version.withdrawn}
            assert marked == {name for name in self.model.withdrawn if name[0] == key}

    @invariant()
    def the_count_of_models_agrees(self) -> None:
        with self.real.database.read() as conn:
            assert count_heads(conn, "oj") == sum(digests[-1] is not None for digests in self.model.digests.values())

    @invariant()
    def releases_hold_what_they_should(self) -> None:
        for number in list(self.model.releases)[-3:]:
            assert self.real.held(number) == {
                key: version
                for key, version in self.model.releases[number].holds.items()
                if self.model.digests[key][version - 1] is not None
            }

    @invariant()
    def nothing_live_is_withdrawn(self) -> None:
        assert self.real.live() == self.model.live
        assert self.real.now_group().suspended == self.model.suspended
        if self.model.live is not None:
            assert not self.model.withdrawn & set(self.model.releases[self.model.live].holds.items())


RegistryMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRegistryMachine = RegistryMachine.TestCase
