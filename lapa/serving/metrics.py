"""What Prometheus reads at `/metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One registry per server, so that a process may hold several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests for an action, by how they ended.", "protocol", "outcome")
        self.latency = Histogram(
            "lapa_serving_latency_seconds",
            "Where the time of an answered request went.",
            ("phase",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "lapa_serving_batch_size",
            "Robots answered by one forward pass.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.out_of_bounds = self._counter(
            "actions_out_of_bounds", "Numbers outside the recorded range, by dimension.", "dimension", "handling"
        )
        self.not_finite = self._counter("actions_not_finite", "Chunks with NaN or infinite numbers; none was sent.")
        self.recorded = self._counter("recorded_observations", "Observations that were stored with their actions.")
        self.recorded_bytes = self._counter("recorded_bytes", "Bytes of the shards that hold them.")
        self.recording_dropped = self._counter(
            "recording_dropped", "Observations that were not stored: queue (too slow), store (away), error.", "reason"
        )
        self.episodes = self._counter("episodes", "Episodes begun with a reset.")
        self.queue_depth = self._gauge("queue_depth", "Requests that wait.")
        self.sessions = self._gauge("sessions", "Open websockets.", "protocol")
        self.ready = self._gauge("ready", "1 while the server takes requests.")
        self.info = self._gauge("model_info", "1; the labels say what is served.", "name", "version", "digest")

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"lapa_serving_{name}_total", help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(f"lapa_serving_{name}", help_, labels, registry=self.registry)
