"""What a serving process's settings say to a builder; apart from them, because a builder is heavy to import."""

import os

from gateway.settings import Settings
from workers.builder.context import BuilderSettings


def builder_settings(settings: Settings) -> BuilderSettings:
    """What of the settings concerns a builder."""
    return BuilderSettings(
        artifact_bytes=settings.artifact_bytes,
        proof_seconds=settings.proof_seconds,
        import_children=settings.builder_children or os.cpu_count() or 1,
        promote_seconds=settings.promote_seconds,
        stale_days=settings.stale_days,
        registry=settings.registry,
        artifacts=settings.artifacts,
        disk_cache_bytes=settings.disk_cache_bytes,
        membership=settings.membership,
        lease_seconds=settings.lease_seconds,
    )
