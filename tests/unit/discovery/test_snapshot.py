import pytest

from discovery.snapshot import Revision
from discovery.snapshots import join_revisions


def test_a_revision_reads_back_what_it_said():
    revision = Revision("0a1b-2c", 42)
    assert Revision.parse(str(revision)) == revision


@pytest.mark.parametrize("text", ["", "-", "nonsense", "a-b", "a-", "-1x", "a-99999999999999999999", "a-\u0661", "é☃"])
def test_a_text_that_is_no_revision_is_an_unknown_epoch(text):
    assert Revision.parse(text) != Revision("a", 1)
    assert Revision.parse(text).number == 0


def test_a_change_of_either_part_makes_a_greater_number():
    base = join_revisions(("a", 5), ("b", 7))
    assert join_revisions(("a", 6), ("b", 7)).number > base.number
    assert join_revisions(("a", 5), ("b", 8)).number > base.number
    assert base.epoch == join_revisions(("a", 6), ("b", 8)).epoch


def test_a_new_registry_or_new_leases_are_a_new_epoch():
    base = join_revisions(("a", 5), ("b", 7))
    assert join_revisions(("x", 5), ("b", 7)).epoch != base.epoch
    assert join_revisions(("a", 5), ("x", 7)).epoch != base.epoch
