"""Crawls on a Kubernetes cluster: a crawl's process is a Job of the cluster instead of a child process.

`config` is what an installation declares, `jobs` the cluster's API for our Jobs, `causes` what the state of a pod
means, `host` follows a crawl's Job to its end, `logs` carries the pods' logs, `reap` removes what is over. How a Job is
made of declarations is in `resources.kubernetes`, by Dagster's own code. What a crawl is, and what its process does, is
in `gossamer.crawl`, which knows nothing of this room.

The official client takes a second and 70 MB to import: what local users load (`config` among it) does without.
"""
