"""Metrics with one label summed away, for readers who may not see its values."""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample


class Without(Collector):
    """What another collector has, without a label: samples that differ in nothing else are added up."""

    def __init__(self, collector: Collector, label: str) -> None:
        self._collector = collector
        self._label = label

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        for metric in self._collector.collect():
            labelled = any(self._label in sample.labels for sample in metric.samples)
            yield self._merged(metric) if labelled else metric

    def _merged(self, metric: Metric) -> Metric:
        merged = Metric(metric.name, metric.documentation, metric.type, metric.unit)
        merged.samples = list(_summed(metric.samples, self._label))
        return merged


def _summed(samples: Iterable[Sample], label: str) -> Iterator[Sample]:
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in samples:
        kept = tuple((name, value) for name, value in sample.labels.items() if name != label)
        before = found.get((sample.name, kept))
        if before is None:
            found[sample.name, kept] = sample.value
        else:
            # Of times of making, the first counts.
            created = sample.name.endswith("_created")
            found[sample.name, kept] = min(before, sample.value) if created else before + sample.value
    for (name, labels), value in found.items():
        yield Sample(name, dict(labels), value)
