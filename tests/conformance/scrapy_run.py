"""`make conformance-scrapy`: Scrapy's own tests on Scrapy's engine and on ours, and what differs.

The tests come from the source distribution of the installed Scrapy. `scrapy_expected.txt` lists what may fail on our
engine, each with its reason; anything else that fails only there, and anything listed that passes again, is an error.
Run by the Python of a venv of its own; more arguments go to pytest (`-k pipelines`).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
CACHE = PROJECT / "build" / "conformance"
LEAST_SHARE = 0.99
WORKERS = 2

#: All in which a crawl runs, or a component of a crawl is made. Not those of downloads, exports and parsing alone, nor
#: those that start processes, which the plugin does not reach.
FILES = """
addons closespider core_downloader core_scraper crawl crawler crawler_runners downloadermiddleware
downloadermiddleware_cookies downloadermiddleware_httpcache downloadermiddleware_offsite downloadermiddleware_redirect
downloadermiddleware_retry downloadermiddleware_robotstxt downloadermiddleware_stats downloaderslotssettings dupefilters
engine engine_close_spider engine_download engine_loop engine_stop_download_bytes engine_stop_download_headers
extension_debug extension_memdebug extension_memusage extension_periodic_log extension_statsmailer extension_throttle
feedexport feedexport_batch feedexport_postprocess feedexport_uri_params http_cookies http_request http_request_form
http_request_json logformatter logstats middleware pipeline_crawl pipeline_files pipeline_images pipeline_media
pipelines poet pqueues request_attribute_binding request_cb_kwargs request_dict request_left resolver scheduler
scheduler_base signalmanager signals spider spider_crawl spider_sitemap spider_start spidermiddleware
spidermiddleware_base spidermiddleware_depth spidermiddleware_httperror spidermiddleware_metacopy
spidermiddleware_output_chain spidermiddleware_process_start spidermiddleware_referer spidermiddleware_start
spidermiddleware_urllength spiderstate squeues squeues_request stats utils_asyncgen utils_asyncio utils_defer utils_job
utils_log utils_request utils_signal utils_spider
"""


@dataclass(frozen=True)
class Run:
    """One run of the tests.

    Attributes:
        outcomes: test -> passed, failed, skipped or xfailed.
        counts: engines of ours that were made, units that were committed.
        fatal: where our store could not go on.
    """

    outcomes: Mapping[str, str]
    counts: Mapping[str, int] = field(default_factory=dict)
    fatal: Sequence[str] = ()


@dataclass(frozen=True)
class Comparison:
    """What our run says against Scrapy's.

    Attributes:
        passed: how many tests pass on Scrapy's engine, and how many of those on ours.
        different: tests that do not end as on Scrapy's engine, with how they end.
        unexpected: those of them that no line of the list explains.
        stale: tests listed that end as on Scrapy's engine, or that there are not.
    """

    passed: tuple[int, int]
    different: Mapping[str, str]
    unexpected: Sequence[str]
    stale: Sequence[str]

    @property
    def share(self) -> float:
        stock, ours = self.passed
        return ours / stock if stock else 0.0


def compare(stock: Run, ours: Run, expected: Iterable[str], *, whole: bool = True) -> Comparison:
    """Compares two runs; with `whole` false, only some of the tests were run."""
    counted = {test: outcome for test, outcome in stock.outcomes.items() if outcome in ("passed", "xfailed")}
    different = {
        test: ours.outcomes.get(test, "not run")
        for test, outcome in counted.items()
        if ours.outcomes.get(test) != outcome
    }
    expected = set(expected) if whole else set(expected) & set(counted)
    passed = [test for test, outcome in counted.items() if outcome == "passed"]
    return Comparison(
        (len(passed), len([test for test in passed if test not in different])),
        different,
        sorted(different.keys() - expected),
        sorted(expected - different.keys()),
    )


def faults(ours: Run, comparison: Comparison) -> list[str]:
    """Why the run does not count as passed, in words; nothing where it does."""
    found = [f"{test}: {comparison.different[test]}, on Scrapy's engine not" for test in comparison.unexpected]
    found += [f"{test}: passes, or is no test any more; remove its line" for test in comparison.stale]
    found += [f"the store could not go on: {words}" for words in ours.fatal]
    if not ours.counts.get("engines") or not ours.counts.get("units"):
        found.append("our engine was never made, or committed nothing: this run proves nothing")
    if comparison.share < LEAST_SHARE:
        found.append(f"{comparison.share:.2%} of what passes on Scrapy's engine passes, not {LEAST_SHARE:.0%}")
    return found


def read_expected(text: str) -> dict[str, str]:
    """Test -> why it may fail.

    Raises:
        ValueError: a line has no reason.
    """
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        test, _, reason = line.partition("  # ")
        if not line.startswith("#"):
            if not reason:
                raise ValueError(f"scrapy_expected.txt: {line!r} has no reason; write it behind the test, after '  # '")
            found[test.strip()] = reason
    return found


def unpacked(version: str) -> Path:
    """The source distribution of this version; its own `scrapy` put away, so that the installed one is imported."""
    folder = CACHE / f"scrapy-{version}"
    if not (folder / ".whole").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        pinned = CACHE / "scrapy.txt"
        pinned.write_text(_pin("scrapy", version))
        options = ["--quiet", "--no-deps", "--no-binary=scrapy", "--no-build-isolation", "--require-hashes"]
        download = [sys.executable, "-m", "pip", "download", *options, "--dest", str(CACHE), "-r", str(pinned)]
        subprocess.run(download, check=True)
        with tarfile.open(CACHE / f"scrapy-{version}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
        (folder / "scrapy").rename(folder / "scrapy.put-away")
        (folder / ".whole").touch()
    return folder


def _pin(package: str, version: str) -> str:
    """What the lock file says of a package, its hashes included."""
    lock = (PROJECT / "requirements.txt").read_text()
    found = re.search(rf"^{package}=={re.escape(version)} \\\n(?:    --hash=\S+(?: \\)?\n)+", lock, re.MULTILINE)
    if found is None:
        raise SystemExit(f"requirements.txt does not pin {package} {version}, which is installed: make setup-dev")
    return found[0]


def run(folder: Path, name: str, options: Sequence[str]) -> Run:
    """Runs the tests in the folder; what pytest says goes to a file of this name."""
    outcomes, log = CACHE / f"{name}.json", CACHE / f"{name}.log"
    outcomes.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "scrapy_plugin", "-p", "no:cacheprovider", "-q", "--tb=short"]
    command += ["-n", str(WORKERS), "--dist=loadfile", "--timeout=60", "--outcomes", str(outcomes), *options]
    with log.open("w") as output:
        environment = os.environ | {"PYTHONPATH": str(HERE)}
        code = subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode
    if code not in (0, 1):
        raise SystemExit(f"pytest could not run the tests (exit code {code}): see {log}\n{log.read_text()[-2000:]}")
    written: dict[str, Any] = json.loads(outcomes.read_text())
    return Run(**written)


def main(arguments: Sequence[str]) -> int:
    import scrapy

    folder = unpacked(scrapy.__version__)
    tests = [f"tests/test_{name}.py" for name in FILES.split()]
    expected = read_expected((HERE / "scrapy_expected.txt").read_text())
    stock = run(folder, "stock", [*arguments, *tests])
    ours = run(folder, "ours", ["--own-engine", *arguments, *tests])
    comparison = compare(stock, ours, expected, whole=not arguments)
    for test, outcome in sorted(comparison.different.items()):
        print(f"{outcome}: {test}  # {expected.get(test, 'NOT EXPECTED')}")
    found = faults(ours, comparison)
    print(
        f"Scrapy {scrapy.__version__}, its own tests: stock passed {comparison.passed[0]}, ours passed "
        f"{comparison.passed[1]} of them ({comparison.share:.2%}); {ours.counts.get('engines', 0)} engines made, "
        f"{ours.counts.get('units', 0)} units committed. Logs: {CACHE}"
    )
    for words in found:
        print(f"error: {words}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
