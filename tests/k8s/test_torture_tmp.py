import threading, time, pytest
from tests.k8s.test_torture import *
from tests.k8s.test_torture import site, known, table
from gossamer.crawl.progress import last_word
from gossamer.crawl import identity
pytestmark = [pytest.mark.torture, pytest.mark.timeout(900, func_only=True)]

@pytest.mark.parametrize("kind", ["SIGKILL", "pod deleted", "Job deleted"])
def test_tmp(new, site, known, kind, capsys):
    crawl = new()
    site.slow_down(LATENCY_SECONDS)
    step = crawl.step()
    site.wait_for(known.moment(0.05), seconds=200)
    time.sleep(3)
    over = threading.Event()
    lines = []
    def watch():
        last = None
        while not over.is_set():
            try:
                pods = [(p.metadata.name[-7:], p.status.phase, bool(p.metadata.deletion_timestamp), [str(s.state.running.started_at)[11:19] if s.state.running else s.state.terminated and (s.state.terminated.exit_code, s.state.terminated.reason) for s in p.status.container_statuses or []]) for p in crawl.pods()]
                jobs = [(j.metadata.name[-2:], bool(j.metadata.deletion_timestamp)) for j in crawl.jobs()]
                said = last_word(crawl.lake, crawl.crawl.source, crawl.crawl.key)
                new = (pods, jobs, said and (said.launch, said.state), identity.newest_launch(crawl.lake, crawl.crawl), list(step.said))
                if new != last:
                    lines.append(f"{time.time() - t0:6.2f} {new}  age {time.time() - said.told_at:.1f}")
                    last = new
            except Exception as e: lines.append(repr(e)[:200])
            time.sleep(0.2)
    t0 = time.time()
    t = threading.Thread(target=watch); t.start()
    time.sleep(0.5)
    t0 = time.time()
    g = KINDS[kind](crawl, crawl.running_pod())
    again = site.next_after(g, 60)
    over.set(); t.join()
    site.slow_down(0.0)
    step.leave()
    with capsys.disabled():
        print("\n", kind, "gone at", g - t0, "again", again); print("\n".join(lines))
