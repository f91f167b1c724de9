"""Resident memory is measured in processes of their own, where nothing else allocates."""

import subprocess
import sys

import pytest

from tests.support import models

CHURN = """
import random, re, sys
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from registry.signature import Signature
from workers.builder.heap import allocated
from workers.cache import ModelCache
from workers.memory import limit_arenas
from workers.runtimes.lightgbm import LIGHTGBM
from workers.runtimes.runtime import Binding

assert limit_arenas()
datas = sys.stdin.buffer.read().split(b"@@")
binding = Binding(Signature.from_json({"inputs": [{"name": "price"}, {"name": "feat"}], "outputs": [{"name": "y"}]}))
cache = ModelCache(16 << 20, large_budget_bytes=0, large_model_bytes=8 << 20)

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

def measured(data):
    before = allocated()
    model = LIGHTGBM.load(data, binding)
    return allocated() - before

heaps = [measured(data) for data in datas]

def load(turn):
    number = turn % len(datas)
    cache.put(turn, LIGHTGBM.load(datas[number], binding), heaps[number])

start = anonymous()
sizes = []
with ThreadPoolExecutor(2) as threads:
    for step in range(10):
        list(threads.map(load, range(step * 1000, step * 1000 + 1000)))
        sizes.append(anonymous() - start)
assert cache.stats().evictions > 8000
print(max(sizes) >> 20, (max(sizes) - min(sizes)) >> 20)
"""


@pytest.mark.slow
def test_ten_thousand_loads_through_16_megabytes_keep_resident_memory_flat():
    artifacts = b"@@".join(models.lightgbm_regressor(seed, trees=20 + 7 * seed % 60).data for seed in range(20))
    said = subprocess.run([sys.executable, "-c", CHURN], input=artifacts, capture_output=True, check=True)
    most, spread = map(int, said.stdout.split())
    assert most < 48
    assert spread < 8
