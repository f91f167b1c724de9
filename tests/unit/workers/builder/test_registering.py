"""Registering the same bytes again makes whole what was lost of them, whenever they were registered first."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import pytest

from registry.artifacts.bundle import BundleReader
from registry.artifacts.frames import compress
from registry.keys import PartitionKey
from registry.records import Version
from registry.tasks import claim
from registry.versions import newest
from tests.support.builders import GROUP, NOW, BuilderHome
from workers.builder.proof import Proof
from workers.builder.registering import register

DATA = b"the bytes of a model"
KEY = PartitionKey((("store", "2"), ("brand", "a")))
BEFORE_PACKS = Proof(hashlib.sha256(DATA).hexdigest(), len(DATA), 1000, (0, 1), compress(DATA))
PACKED = replace(BEFORE_PACKS, verdict="packed", pack=compress(b"its pack" * 16), pack_size=128)


@dataclass
class Prover:
    """A bench whose proofs are known beforehand."""

    proof: Proof

    @property
    def interactive(self) -> "Prover":
        return self

    def prove(self, *_asked: Any) -> Proof:
        return self.proof


@pytest.fixture
def home(tmp_path):
    made = BuilderHome(tmp_path)
    yield made
    made.close()


def registered(home: BuilderHome, proof: Proof) -> Version:
    """The key's newest version after its model was registered with this proof."""
    home.ask_to_register(KEY.text, DATA)
    with home.database.write() as conn:
        task = claim(conn, "b", frozenset({"b"}), ("prove",), NOW)
    register(home.context, Prover(proof), task)
    with home.database.read() as conn:
        return newest(conn, GROUP, KEY)


def test_what_was_registered_before_there_were_packs_is_healed_by_its_own_bytes(home):
    first = registered(home, BEFORE_PACKS)
    assert registered(home, PACKED) == first
    home.store.delete(first.place.bundle)
    assert registered(home, PACKED) == first
    with BundleReader(home.store) as bundles:
        assert bundles.read(first.place, len(DATA)) == DATA


def test_a_pack_that_was_lost_with_its_artifact_is_healed_with_it(home):
    first = registered(home, PACKED)
    home.store.delete(first.place.bundle)
    assert registered(home, PACKED) == first
    with BundleReader(home.store) as bundles:
        assert bundles.frame(first.pack_place) == PACKED.pack
