"""`make conformance-gx`: Great Expectations' own tests of its expectations, with Polars frames for pandas ones.

The tests come from the source distribution of the installed version. `gx_expected.txt` lists what may fail, each with
its reason; anything else that fails, and anything listed that passes again, is an error. More arguments go to pytest
(`-k unique`).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
CACHE = PROJECT / "build" / "conformance"
PACKAGE = "great-expectations"
TESTS = "tests/integration/data_sources_and_expectations"
#: The parametrisations that make a pandas data frame, which is where Polars takes its place.
CHOSEN = "pandas-data-frame"
WORKERS = 2
#: A longer list would not be deviations any more.
MOST_DEVIATIONS = 22
#: Fewer tests mean that they have moved, and that this run proves little.
FEWEST_TESTS = 500


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
                raise ValueError(f"gx_expected.txt: {line!r} has no reason; write it behind the test, after '  # '")
            found[test.strip()] = reason
    return found


def faults(
    outcomes: Mapping[str, str], counts: Mapping[str, int], expected: Mapping[str, str], *, whole: bool = True
) -> list[str]:
    """Why a run does not count as passed, in words; with `whole` false, only some of the tests were run."""
    failed = {test for test, outcome in outcomes.items() if outcome == "failed"}
    found = [f"{test}: fails" for test in sorted(failed - set(expected))]
    stale = sorted(test for test in set(expected) - failed if whole or test in outcomes)
    found += [f"{test}: passes, or is no test any more; remove its line" for test in stale]
    if len(expected) > MOST_DEVIATIONS:
        found.append(f"{len(expected)} deviations are listed, which is more than {MOST_DEVIATIONS}")
    if whole and len(outcomes) < FEWEST_TESTS:
        found.append(f"only {len(outcomes)} tests were run, not {FEWEST_TESTS}")
    if not counts.get("assets"):
        found.append("no Polars asset was ever made: this run proves nothing")
    found += [f"{name}: data went through pandas" for name in sorted(counts) if name.startswith("fallback ")]
    return found


def unpacked(version: str) -> Path:
    """The source distribution of this version; its own package put away, so that the installed one is imported."""
    folder = CACHE / f"great_expectations-{version}"
    if not (folder / ".whole").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        pinned = CACHE / "great-expectations.txt"
        pinned.write_text(_pin(version))
        options = ["--quiet", "--no-deps", f"--no-binary={PACKAGE}", "--require-hashes"]
        download = [sys.executable, "-m", "pip", "download", *options, "--dest", str(CACHE), "-r", str(pinned)]
        subprocess.run(download, check=True)
        with tarfile.open(CACHE / f"great_expectations-{version}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
        (folder / "great_expectations").rename(folder / "great_expectations.put-away")
        (folder / ".whole").touch()
    return folder


def _pin(version: str) -> str:
    """What the lock file says of it, its hashes included."""
    lock = (PROJECT / "requirements.txt").read_text()
    found = re.search(rf"^{PACKAGE}=={re.escape(version)} \\\n(?:    --hash=\S+(?: \\)?\n)+", lock, re.MULTILINE)
    if found is None:
        raise SystemExit(f"requirements.txt does not pin {PACKAGE} {version}, which is installed: make setup-dev")
    return found[0]


def run(folder: Path, options: Sequence[str]) -> tuple[dict[str, str], dict[str, int]]:
    """Runs the tests: how each ended, and what was counted."""
    outcomes, log = CACHE / "gx.json", CACHE / "gx.log"
    outcomes.unlink(missing_ok=True)
    # no configuration of theirs: it names plugins that these tests do not need
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir=.", "-p", "gx_plugin", "-W", "ignore"]
    command += ["-p", "no:cacheprovider", "-q", "--tb=short", "-n", str(WORKERS), "--timeout=60", "-k", CHOSEN]
    command += ["--polars", "--outcomes", str(outcomes), *options, TESTS]
    with log.open("w") as output:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(PROJECT)])}
        code = subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode
    if code not in (0, 1):
        raise SystemExit(f"pytest could not run the tests (exit code {code}): see {log}\n{log.read_text()[-2000:]}")
    written: dict[str, Any] = json.loads(outcomes.read_text())
    return written["outcomes"], written["counts"]


def main(arguments: Sequence[str]) -> int:
    import great_expectations

    version: str = great_expectations.__version__
    expected = read_expected((HERE / "gx_expected.txt").read_text())
    outcomes, counts = run(unpacked(version), arguments)
    for test in sorted(test for test, outcome in outcomes.items() if outcome == "failed"):
        print(f"failed: {test}  # {expected.get(test, 'NOT EXPECTED')}")
    passed = sum(outcome == "passed" for outcome in outcomes.values())
    gallery = [outcome for test, outcome in outcomes.items() if "test_gallery_expectation_suite" in test]
    print(
        f"Great Expectations {version}, its own tests on Polars frames: {passed} of {len(outcomes)} passed, "
        f"{gallery.count('passed')} of {len(gallery)} of the gallery. Log: {CACHE / 'gx.log'}"
    )
    found = faults(outcomes, counts, expected, whole=not arguments)
    for words in found:
        print(f"error: {words}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
