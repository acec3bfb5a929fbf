"""How long a code location takes to load: fresh processes, in turn, one that imports only what any such project imports
(dagster, dagster-dbt, polars), one that loads `definitions.py` with the shipped sources, one with 300 sources.

The difference to the first is ours. Goals: 0.3 s with the shipped sources, 5 s with 300. Run: `make bench`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
ROUNDS = 7
MANY = 300

BASELINE = "import dagster, dagster_dbt, polars"
OURS = "import definitions; definitions.defs()"

DECLARATION = """\
name: {name}
owner: team:catalogue
spider: spider:Spider
partitions: {{period: daily, start: 2026-01-01}}
schedule: "{minute} 5 * * *"
seeds: {{urls: ["https://{name}.example/"]}}
record:
  key: [sku]
  fields: {{sku: str, name: str, price: money, stock: int, added: date, link: url}}
"""


def seconds(code: str, sources: Path) -> float:
    """Wall time of a fresh process that runs `code`."""
    environ = {**os.environ, "GOSSAMER_SOURCES": str(sources), "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(PROJECT)}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environ, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def declare_many(folder: Path) -> Path:
    for number in range(MANY):
        name = f"source_{number:03}"
        (folder / name).mkdir()
        (folder / name / "source.yaml").write_text(DECLARATION.format(name=name, minute=number % 60))
        (folder / name / "spider.py").write_text("import scrapy\n\n\nclass Spider(scrapy.Spider):\n    name = 's'\n")
    return folder


def main() -> None:
    shipped = PROJECT / "sources"
    with tempfile.TemporaryDirectory() as folder:
        many = declare_many(Path(folder))
        cases = [("baseline", BASELINE, shipped), ("shipped sources", OURS, shipped), (f"{MANY} sources", OURS, many)]
        for _, code, sources in cases:  # warm: bytecode, file cache, dbt's manifest
            seconds(code, sources)
        # In turn, so that a slower minute of the machine meets all three alike.
        rounds = [[seconds(code, sources) for _, code, sources in cases] for _ in range(ROUNDS)]
    print(f"{'':<16} {'min':>6} {'median':>7} {'max':>6} {'over baseline':>14}   (s, {ROUNDS} fresh processes each)")
    for number, (name, _, _) in enumerate(cases):
        times = [row[number] for row in rounds]
        over = statistics.median(row[number] - row[0] for row in rounds)
        print(f"{name:<16} {min(times):6.2f} {statistics.median(times):7.2f} {max(times):6.2f} {over:14.2f}")


if __name__ == "__main__":
    main()
