"""Metrics of a server for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fasthash.store import Store

__all__ = ["Metrics"]


class Metrics:
    """Of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ["route", "status"]
        self.requests = Counter("fasthash_requests", "Requests", names, registry=self.registry)
        self.seconds = Histogram("fasthash_search_seconds", "Time of a request", ["route"], registry=self.registry)
        self.codes = Gauge("fasthash_codes", "Codes in the store", registry=self.registry)
        self.commit = Gauge("fasthash_commit", "Number of the commit that is searched", registry=self.registry)
        self.failures = Counter("fasthash_refresh_failures", "Commits that could not be opened", registry=self.registry)

    def scraped(self, store: Store) -> bytes:
        """All metrics as text, those of the store as they are now."""
        self.codes.set(len(store))
        self.commit.set(store.commit_number)
        return generate_latest(self.registry)
