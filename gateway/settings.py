"""Settings of a serving process, read once from the environment (MANYMODELS_...) and command line, then frozen."""

from typing import Final

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.errors import SettingInvalidError
from registry.home import Addresses, Home
from registry.records import DEFAULT_POOL

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
    sandboxed_runtimes: str = Field(
        default="onnx,sklearn",
        pattern=r"^((lightgbm|onnx|sklearn)(,(lightgbm|onnx|sklearn))*)?$",
        description="whose models run in processes of their own, which they may crash; packed ones need none",
    )
    sandboxes: int = Field(default=2, ge=1, le=64, description="such processes of one serving process")
    sandbox_bytes: int = Field(
        default=4096 * MEBIBYTE, ge=64 * MEBIBYTE, description="what one of them may allocate for its models"
    )
    predict_seconds: float = Field(
        default=5.0, gt=0, description="deadline of a model in a sandbox, for each thousand rows"
    )
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
    queue_seconds: float = Field(default=1.0, gt=0, description="of work may lie before a predict; past it 429")
    max_bulk_in_flight: int = Field(default=32, ge=1, description="bulks under way in one process; past it 429")
    max_hops_in_flight: int = Field(
        default=256, ge=1, description="gateways' calls under way in one worker process that may have to wait"
    )
    hop_body_bytes: int = Field(default=512 * MEBIBYTE, ge=MEBIBYTE, description="of one call of a gateway to a worker")
    max_watchers: int = Field(default=1000, ge=1, description="long polls under way in one process")
    request_seconds: float = Field(default=60.0, gt=0, description="deadline of a bulk once its body is read")

    sql_threads: int = Field(default=4, ge=1, le=64)
    row_threads: int = Field(default=4, ge=1, le=64, description="large bulks read or written at once")
    registry: str = Field(default="", description="postgresql://user@host/name; empty is the home's own database")
    artifacts: str = Field(default="", description="s3://bucket/prefix; empty is the home's own folder")
    disk_cache_bytes: int = Field(
        default=20 * 1024 * MEBIBYTE, ge=MEBIBYTE, description="of a bucket, on this machine's disk"
    )
    membership: str = Field(
        default="", description="consul://host:port/house; empty is the registry's database, or the home's own leases"
    )
    advertise: str = Field(
        default="",
        pattern=r"^(https?://[^\s/]+)?$",
        description="where other machines reach this one; empty is where it listens",
    )
    seat: str = Field(
        default="", description="where this worker sits, whatever process it is; empty is the address it advertises"
    )
    zone: str = Field(default="", description="replicas of a shard keep to different zones where they can")
    pool: str = Field(
        default=DEFAULT_POOL, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="of workers, which groups name"
    )
    weight: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="how many shards this worker takes beside others"
    )
    seat_seconds: float = Field(
        default=15.0, ge=0, description="how long the shards of a worker that went are kept for it"
    )
    fetch_threads: int = Field(default=8, ge=1, le=64, description="segments fetched from a bucket at once")
    lease_seconds: float = Field(default=3.0, gt=0, description="a member that renews nothing for so long is dead")
    poll_seconds: float = Field(default=0.05, gt=0, description="how often a process looks for a new revision")
    promote_seconds: float = Field(default=30.0, gt=0, description="deadline for members to prepare a release")
    prove_seconds: float = Field(default=60.0, gt=0, description="how long a registration waits for its proof")
    proof_seconds: float = Field(default=30.0, gt=0, description="deadline for parsing and probing one artifact")
    builder_children: int = Field(default=0, ge=0, le=64, description="proof processes; 0 is one a core")
    stale_days: int = Field(default=30, ge=1, description="training data older than this counts as stale")
    spread_seconds: float = Field(
        default=0.0,
        ge=0,
        description="how long a stopping process goes on, so that load balancers see that it is not ready",
    )
    drain_seconds: int = Field(default=10, ge=0, description="how long a stopping process finishes its requests")

    @property
    def is_shared(self) -> bool:
        """Whether part of the house's state lies where other machines may use it, and so may be away."""
        return bool(self.registry or self.membership)

    def addresses(self, home: Home) -> Addresses:
        """Where the state of a house lies."""
        return home.addresses(registry=self.registry, membership=self.membership, artifacts=self.artifacts)


def read_settings() -> Settings:
    """The settings of this process's environment.

    Raises:
        SettingInvalidError: naming the variable; what it holds is not repeated, for it may be a password.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = f"MANYMODELS_{str(first['loc'][0]).upper()}"
        raise SettingInvalidError(f"{name}: {first['msg'][:1].lower()}{first['msg'][1:]}", field=name) from error
