"""Serve a fleet of small models, one per partition, as if it were one model."""

from manymodels.client import Client

__all__ = ["Client"]
