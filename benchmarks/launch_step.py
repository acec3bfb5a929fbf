"""One step that has a crawl launched, in a process of its own, for `benchmarks.launch`. Prints when it began what.

As a run's process, it has Dagster and the launchers loaded, and nothing of Kubernetes: that is a part of its step.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer import declarations
from gossamer.settings import Settings
from gossamer.source import Source
from resources.kubernetes import KubernetesLauncher

if TYPE_CHECKING:
    from kubernetes.client import V1Job

    from gossamer.cluster.host import KubernetesHost


@dataclasses.dataclass
class _Noted:
    began: float = 0.0
    made: float = 0.0
    job: Any = None


_noted = _Noted()


class _Timed(KubernetesLauncher):
    """Notes the Job that it builds, and when."""

    def host(self, settings: Settings, source: Source) -> "KubernetesHost":
        from gossamer.cluster.host import KubernetesHost

        host = super().host(settings, source)
        assert isinstance(host, KubernetesHost)
        build = host.build

        def timed(*arguments: Any) -> "V1Job":
            _noted.job, _noted.made = build(*arguments), time.time()
            return _noted.job

        return dataclasses.replace(host, build=timed)


def main(sources: str, lake: str, cluster: str, name: str, key: str) -> None:
    source = declarations.load(Path(sources))[name]
    launcher = _Timed(sources=sources, lake=lake, kubernetes=cluster)
    _noted.began = time.time()
    launcher.crawl(source, key, f"run-{key}", lambda _: None, lambda words: print(words, file=sys.stderr))

    from kubernetes.client import ApiClient

    job = ApiClient().sanitize_for_serialization(_noted.job)
    print(json.dumps({"began": _noted.began, "made": _noted.made, "job": job}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
