"""The job with which a person pauses or stops a crawl in Dagster's UI; resuming is materialising the partition."""

from collections.abc import Iterable
from enum import Enum

import dagster as dg
from pydantic import Field

from gossamer.errors import ConfigurationError
from gossamer.lake import Lake
from gossamer.source import Source
from resources import failures
from resources.launcher import CrawlLauncher

NAME = "control_crawl"


class Action(Enum):
    """What can be asked of a crawl."""

    pause = "pause"
    stop = "stop"


class ControlConfig(dg.Config):
    """A request to one crawl."""

    source: str = Field(description="Name of the source.")
    partition: str = Field(description="Partition key.")
    wish: Action = Field(description="pause: it can go on later. stop: for good, its books are closed.")
    why: str = Field(default="", description="For whoever finds it so.")


def build_control_job(sources: Iterable[Source]) -> dg.JobDefinition:
    """The job, for the sources of this code location."""
    known = {source.name: source for source in sources}

    @dg.op
    def control(
        context: dg.OpExecutionContext,
        config: ControlConfig,
        lake: dg.ResourceParam[Lake],
        launcher: CrawlLauncher,
    ) -> None:
        from gossamer.crawl import control as crawls
        from gossamer.crawl.life import Wish

        with failures.named():
            if config.source not in known:
                raise ConfigurationError(f"No source `{config.source}` here. There are: {', '.join(sorted(known))}.")
            source, wish = known[config.source], Wish(config.wish.value)
            source.partition(config.partition)
            outcome = crawls.request(
                lake,
                source.name,
                config.partition,
                wish,
                by=f"run {context.run_id[:8]}",
                why=config.why,
                close=lambda crawl: launcher.close(source, crawl),
            )
            context.log.info(crawls.in_words(outcome, wish))

    @dg.job(name=NAME, description="Pauses or stops a crawl. To resume a paused one, materialise its partition.")
    def job() -> None:
        control()

    return job
