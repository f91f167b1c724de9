"""From a key to the model that answers for it in one held release: level by level down the fallback chain.

What a key resolves to never changes within a release, so it is worked out once and remembered; what a request may
change (the deepest level it allows, keys under a `disable` hold) is applied to what is remembered.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from registry.errors import PartitionNotFoundError, Problem
from registry.keys import KeySchema, key_id, shard_of
from registry.manifest import FALLBACK_SHARD
from registry.signature import Label, Signature
from workers.client import ModelUse
from workers.errors import ReleaseNotReadyError, SegmentDamagedError
from workers.packing.layout import Codes
from workers.runtimes.desk import Desks
from workers.segments.layout import StoredCodes
from workers.segments.packs import PackFile
from workers.segments.reader import Segment

MAX_REMEMBERED: Final = 32_768
MAX_CODES: Final = 2_000_000  # of all that is remembered; a code takes about a hundred bytes

ModelIdentity = tuple[int, str, tuple[Label, ...]]
_NO_IDENTITY: Final[ModelIdentity] = (0, "", ())


@dataclass(slots=True)
class Resolved:
    """Which model answers for a key, and where it lies. Keeps its segment alive; never changed once it is made.

    Attributes:
        use: what the answer says of it.
        identity: what a native model is cached by: number of the signature it is bound to, artifact digest, its
            classes. A pack has none.
        key_id: identity of the model's own key.
        heap: measured bytes of a native model, 0 for a pack.
        signature: what it is bound to.
        pack: bytes from the start of the segment's packs to its own; -1 for a model that must be loaded.
        codes: of a pack, the codes of its inputs that go by categories.
        packs: of the segment.
        desks: where one row for a pack is laid out.
    """

    use: ModelUse
    identity: ModelIdentity
    key_id: bytes
    segment: Segment
    row: int
    heap: int
    signature: Signature
    pack: int
    codes: Codes
    packs: PackFile
    desks: Desks


class HeldRelease:
    """One release with its segments open. Immutable but for what it remembers; safe from any thread.

    Attributes:
        segments: the open ones, by shard.
        deepest: fallback level.
        largest_pack: bytes of the largest pack that is held.
        remembered: what full keys resolve to when nothing is on hold; only read from outside.
        damaged: why the others could not be opened, by shard; keys that need one of them are refused with it.
        elsewhere: shards that have a segment which is not held here; for their keys other workers are to be asked.
    """

    def __init__(
        self,
        *,
        group: str,
        release: int,
        manifest_digest: str,
        schema: KeySchema,
        signature: Signature,
        signature_number: int,
        shards: int,
        segments: Mapping[int, Segment],
        damaged: Mapping[int, Problem],
        elsewhere: frozenset[int] = frozenset(),
    ) -> None:
        self.group = group
        self.release = release
        self.manifest_digest = manifest_digest
        self.signature = signature
        self.segments = segments
        self.damaged = damaged
        self.elsewhere = elsewhere
        self.deepest = len(schema.levels) - 1
        self.largest_pack = max((segment.packs.largest for segment in segments.values()), default=0)
        self._schema = schema
        self._signature_number = signature_number
        self._shards = shards
        self._desks = Desks(len(signature.inputs), signature.width)
        self.remembered: dict[tuple[str, ...], Resolved] = {}
        self._codes = 0  # of all that is remembered
        self._remembering = threading.Lock()

    def resolve(self, values: tuple[str, ...], max_level: int, disabled: frozenset[bytes]) -> Resolved:
        """The model that answers for a full key's values: the first of its levels that has one.

        Raises:
            PartitionNotFoundError: if no level up to `max_level` has a model that is not disabled.
            SegmentDamagedError, AwayError: if what must be looked at to know is damaged, or cannot be had now.
            ReleaseNotReadyError: if what must be looked at to know is held by other workers.
        """
        found = self.remembered.get(values)
        if found is None:
            # In a damaged release a hold may be what leads past the damage, so nothing is remembered without it.
            found = self._search(values, 0, disabled) if self.damaged else self._remember(values, disabled)
        if found is not None and disabled and found.key_id in disabled:
            found = self._search(values, found.use.fallback_level + 1, disabled)
        if found is None or found.use.fallback_level > max_level:
            raise PartitionNotFoundError(self._said(values, max_level, found))
        return found

    def remember_as(self, former: "HeldRelease") -> None:
        """Remember what this release with other segments remembered of those that are held here as well.

        What a key resolves to never changes within a release. Called before anybody else knows of this one.
        """
        kept = set(map(id, self.segments.values()))
        remembered = former.remembered.copy()  # at once: requests go on remembering meanwhile
        self.remembered = {values: found for values, found in remembered.items() if id(found.segment) in kept}
        self._codes = sum(len(known) for found in self.remembered.values() for _, known in found.codes)

    def entry_resolved(self, segment: Segment, row: int, level: int) -> Resolved:
        """A row of one of this release's segments as a resolution at a fallback level. Raises SegmentDamagedError."""
        pack = segment.packs.offset(row)
        if pack >= 0:
            return self._pack_resolved(segment, row, level, pack)
        entry = segment.entry(row)
        return Resolved(
            use=ModelUse(entry.key, entry.version, self.release, level, entry.trained_through),
            identity=(self._signature_number, entry.digest, entry.classes),
            key_id=segment.identity(row),
            segment=segment,
            row=row,
            heap=entry.heap,
            signature=self.signature,
            pack=-1,
            codes=(),
            packs=segment.packs,
            desks=self._desks,
        )

    def _pack_resolved(self, segment: Segment, row: int, level: int, pack: int) -> Resolved:
        """As `entry_resolved`, without what only a load needs: a cold key costs little more than its look-up."""
        key, version, trained_through, codes = segment.facts(row)
        self._check_codes(key, codes)
        return Resolved(
            use=ModelUse(key, version, self.release, level, trained_through),
            identity=_NO_IDENTITY,
            key_id=segment.identity(row),
            segment=segment,
            row=row,
            heap=0,
            signature=self.signature,
            pack=pack,
            codes=[(position, dict(known)) for position, known in codes],
            packs=segment.packs,
            desks=self._desks,
        )

    def _check_codes(self, key: str, codes: StoredCodes) -> None:
        if codes and any(position >= len(self.signature.inputs) for position, _ in codes):
            raise SegmentDamagedError(f"{key!r} has codes for an input that its group does not have")

    def _remember(self, values: tuple[str, ...], disabled: frozenset[bytes]) -> Resolved | None:
        try:
            found = self._search(values, 0, frozenset())
        except ReleaseNotReadyError:  # unless it is on hold: then nobody needs to look where it lies
            return self._search(values, 0, disabled)
        if found is not None:
            self._keep(values, found, sum(len(known) for _, known in found.codes))
        return found

    def _keep(self, values: tuple[str, ...], found: Resolved, codes: int) -> None:
        with self._remembering:
            if len(self.remembered) >= MAX_REMEMBERED or self._codes + codes > MAX_CODES:
                # A pass over a fleet beyond the bounds: what is asked for often comes back by itself.
                self.remembered = {}
                self._codes = 0
            self.remembered[values] = found
            self._codes += codes

    def _search(self, values: tuple[str, ...], first_level: int, disabled: frozenset[bytes]) -> Resolved | None:
        schema = self._schema
        for level in range(first_level, len(schema.levels)):
            identity = key_id(schema.text_at(values, level))
            shard = shard_of(schema.slot_at(values, identity), self._shards) if level == 0 else FALLBACK_SHARD
            if identity in disabled:
                continue
            if shard in self.damaged:
                why = self.damaged[shard]
                raise type(why)(why.detail)  # anew: what is raised keeps the whole call alive
            if shard in self.elsewhere:
                raise ReleaseNotReadyError(
                    f"shard {shard} of release {self.release} of {self.group!r} is held by other workers"
                )
            segment = self.segments.get(shard)
            row = segment.find(identity) if segment is not None else -1
            if segment is not None and row >= 0:
                return self.entry_resolved(segment, row, level)
        return None

    def _said(self, values: tuple[str, ...], max_level: int, found: Resolved | None) -> str:
        key = self._schema.key(values).text
        if found is not None:
            return (
                f"no model for {key!r} up to fallback level {max_level}; {found.use.key!r} would answer at level "
                f"{found.use.fallback_level}"
            )
        return f"no model for {key!r}, nor for any of its fallbacks"
