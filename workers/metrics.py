"""What a worker counts: its cache and its loads, never by model.

Counters of prometheus_client cost more than a warm look-up in the cache does, so the cache counts in plain integers
and what was added since is handed over when somebody asks or something is loaded.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

CACHE_HITS: Final = Counter("manymodels_cache_hits", "Models found in the cache")
CACHE_MISSES: Final = Counter("manymodels_cache_misses", "Models that had to be loaded")
CACHE_EVICTIONS: Final = Counter("manymodels_cache_evictions", "Models evicted to stay within the budgets")
CACHE_BYTES: Final = Gauge(
    "manymodels_cache_bytes", "Measured heap bytes of the models in the cache", multiprocess_mode="livesum"
)
CACHE_MODELS: Final = Gauge("manymodels_cache_models", "Models in the cache", multiprocess_mode="livesum")
LOADS: Final = Counter("manymodels_model_loads", "Models loaded")
FAILED_LOADS: Final = Counter("manymodels_model_loads_failed", "Models that could not be loaded")
LOAD_SECONDS: Final = Histogram(
    "manymodels_model_load_seconds",
    "Time to read, check, parse and bind one model",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0),
)
HOP_CALLS: Final = Counter(
    "manymodels_hop_calls",
    "Calls of gateways that a worker took, by whether they came together or alone",
    ["way"],
)
SANDBOX_DEATHS: Final = Counter(
    "manymodels_sandbox_deaths", "Sandboxes that were ended by the model they ran, or because of it", ["reason"]
)
QUARANTINES: Final = Counter("manymodels_quarantines", "Models that were put into quarantine")
MAPPED_BYTES: Final = Gauge("manymodels_mapped_bytes", "Bytes of packs that are mapped", multiprocess_mode="livemax")
MAPPINGS: Final = Counter("manymodels_mappings", "Segments whose packs were mapped")
UNMAPPINGS: Final = Counter("manymodels_unmappings", "Segments whose packs were unmapped to stay within the budget")
HELD_RELEASES: Final = Gauge(
    "manymodels_held_releases", "Releases whose segments are mapped", multiprocess_mode="livesum"
)
