"""Settings of a serving process, read once from the environment (MANYMODELS_...) and command line, then frozen."""

from typing import Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE: Final = 1 << 20


class Settings(BaseSettings):
    """Limits and budgets of one serving process. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="MANYMODELS_", frozen=True, extra="ignore")

    cache_bytes: int = Field(default=512 * MEBIBYTE, ge=MEBIBYTE, description="heap budget of small native models")
    large_cache_bytes: int = Field(default=2048 * MEBIBYTE, ge=MEBIBYTE, description="heap budget of large models")
    mapped_bytes: int = Field(
        default=8192 * MEBIBYTE, ge=MEBIBYTE, description="packs mapped at once; the kernel may take their pages back"
    )
    large_model_bytes: int = Field(
        default=8 * MEBIBYTE, ge=1024, description="a model over this is large: loaded lazily"
    )
    load_threads: int = Field(default=2, ge=1, le=64, description="models loaded at once")
    load_seconds: float = Field(default=30.0, gt=0, description="deadline for a cold model")
    failed_load_seconds: float = Field(default=5.0, ge=0, description="how long a model that failed to load is refused")
    score_threads: int = Field(default=2, ge=1, le=64, description="threads for large batches")
    warm_up: bool = Field(default=True, description="load small models at start, up to the budget")
    keep_release_seconds: float = Field(default=60.0, ge=0, description="how long a former release stays mapped")

    json_body_bytes: int = Field(default=2 * MEBIBYTE, ge=1024)
    arrow_body_bytes: int = Field(default=64 * MEBIBYTE, ge=1024)
    artifact_bytes: int = Field(default=512 * MEBIBYTE, ge=1024)
    bulk_upload_bytes: int = Field(default=16 * 1024 * MEBIBYTE, ge=1024)
    max_instances: int = Field(default=10_000, ge=1, description="rows of one predict")
    max_json_rows: int = Field(default=100_000, ge=1, description="rows of one JSON bulk")
    max_arrow_rows: int = Field(default=2_000_000, ge=1, description="rows of one Arrow bulk")
    max_in_flight: int = Field(default=2048, ge=1, description="predicts under way in one process; past it 429")
    max_bulk_in_flight: int = Field(default=32, ge=1, description="bulks under way in one process; past it 429")
    max_watchers: int = Field(default=1000, ge=1, description="long polls under way in one process")
    request_seconds: float = Field(default=60.0, gt=0, description="deadline of a bulk once its body is read")

    sql_threads: int = Field(default=4, ge=1, le=64)
    row_threads: int = Field(default=4, ge=1, le=64, description="large bulks read or written at once")
    lease_seconds: float = Field(default=3.0, gt=0)
    poll_seconds: float = Field(default=0.05, gt=0, description="how often a process looks for a new revision")
    promote_seconds: float = Field(default=30.0, gt=0, description="deadline for members to prepare a release")
    prove_seconds: float = Field(default=60.0, gt=0, description="how long a registration waits for its proof")
    proof_seconds: float = Field(default=30.0, gt=0, description="deadline for parsing and probing one artifact")
    builder_children: int = Field(default=0, ge=0, le=64, description="proof processes; 0 is one a core")
    stale_days: int = Field(default=30, ge=1, description="training data older than this counts as stale")
    drain_seconds: int = Field(default=10, ge=0, description="how long a stopping process finishes its requests")
