from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from workers.cache import ModelCache


class Toy:
    """Stands for a loaded model: the cache never looks inside one."""

    inputs = ()


def cache(budget=100, large=1000, large_from=50):
    return ModelCache(budget, large_budget_bytes=large, large_model_bytes=large_from)


def test_a_model_is_found_until_the_budget_needs_its_bytes():
    models = cache()
    first, second = Toy(), Toy()
    models.put("a", first, 50)
    models.put("b", second, 50)
    assert models.get("a") is first
    models.put("c", Toy(), 50)
    assert models.get("b") is None
    assert models.get("a") is first
    stats = models.stats()
    assert (stats.bytes, stats.models, stats.hits, stats.misses, stats.evictions) == (100, 2, 2, 1, 1)


def test_one_pass_over_a_cold_fleet_leaves_the_hot_set_alone():
    models = cache(budget=1000)
    hot = [("hot", number) for number in range(70)]
    for identity in hot:
        models.put(identity, Toy(), 10)
    for identity in hot:
        assert models.get(identity)
    for number in range(10_000):
        if models.get(("cold", number)) is None:
            models.put(("cold", number), Toy(), 10)
    assert sum(models.get(identity) is not None for identity in hot) == len(hot)


def test_hot_keys_hit_95_of_100_while_a_scan_passes():
    import numpy as np

    models = cache(budget=10_000)
    draws = np.random.default_rng(0).zipf(1.5, 40_000)
    hits = asked = 0
    for turn, draw in enumerate(draws.tolist()):
        for identity, counted in ((("hot", draw % 500), turn > 5_000), (("cold", turn), False)):
            found = models.get(identity)
            if found is None:
                models.put(identity, Toy(), 10)
            if counted:
                asked += 1
                hits += found is not None
    assert hits / asked >= 0.95


def test_the_whole_budget_is_used_before_anything_is_asked_for_twice():
    models = cache(budget=1000)
    for number in range(100):
        models.put(number, Toy(), 10)
    assert models.stats().models == 100
    assert models.room() == 0


def test_large_models_have_a_budget_of_their_own():
    models = cache(budget=100, large=1000)
    for number in range(10):
        models.put(("small", number), Toy(), 10)
    for number in range(5):
        models.put(("large", number), Toy(), 400)
    stats = models.stats()
    assert (stats.bytes, stats.large_bytes, stats.large_models) == (100, 800, 2)
    assert models.get(("large", 4))
    assert not models.get(("large", 0))
    assert models.is_large(51)
    assert not models.is_large(50)


def test_a_model_over_its_whole_budget_is_not_taken_in_and_evicts_nothing():
    models = cache()
    models.put("a", Toy(), 40)
    models.put("giant", Toy(), 2000)
    assert models.get("giant") is None
    assert models.get("a") is not None


def test_a_model_put_again_replaces_the_former_one():
    models = cache()
    newer = Toy()
    models.put("a", Toy(), 40)
    models.put("a", newer, 30)
    assert models.get("a") is newer
    assert models.stats().bytes == 30
    assert models.stats().evictions == 0


def test_an_evicted_model_lives_as_long_as_somebody_holds_it():
    import weakref

    models = cache(budget=10)
    models.put("a", Toy(), 10)
    held = models.get("a")
    seen = weakref.ref(held)
    models.put("b", Toy(), 10)
    assert models.get("a") is None
    assert seen() is held
    del held
    assert seen() is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 120)), max_size=200))
@settings(deadline=None)
def test_no_sequence_of_puts_exceeds_the_budgets(puts):
    models = cache(budget=100, large=300, large_from=50)
    for identity, size in puts:
        models.get(identity)
        models.put(identity, Toy(), size)
        stats = models.stats()
        assert stats.bytes <= 100
        assert stats.large_bytes <= 300
        assert models.get(identity) is not None or size > 100


class Bookkeeping(RuleBasedStateMachine):
    """Whatever is asked in whatever order, bytes and counts add up, and a found model is the one last put."""

    def __init__(self):
        super().__init__()
        self.models = cache()
        self.last = OrderedDict()
        self.asked = 0

    @rule(identity=st.integers(0, 9), size=st.integers(1, 80))
    def put(self, identity, size):
        self.last[identity] = (Toy(), size)
        self.models.put(identity, *self.last[identity])

    @rule(identity=st.integers(0, 9))
    def get(self, identity):
        self.asked += 1
        found = self.models.get(identity)
        assert found is None or found is self.last[identity][0]

    @invariant()
    def adds_up(self):
        stats = self.models.stats()
        present = [size for identity, (_, size) in self.last.items() if identity in self.models._models]
        assert stats.bytes + stats.large_bytes == sum(present)
        assert stats.models == len(present)
        assert stats.hits + stats.misses == self.asked


TestBookkeeping = Bookkeeping.TestCase


def test_threads_may_put_and_get_at_once():
    models = cache(budget=500)

    def work(seed):
        for turn in range(3000):
            identity = (seed * 7 + turn) % 90
            if models.get(identity) is None:
                models.put(identity, Toy(), 10)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert models.stats().bytes <= 500
