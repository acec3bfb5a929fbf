"""Where a person's browser finds the pages of the lake: reports, plots, Data Docs."""

from urllib.parse import quote

import dagster as dg


class PagesResource(dg.ConfigurableResource[None]):
    """The server of reports (`gossamer.quality.report_server`), if there is one."""

    url: str = ""

    def address(self, path: str) -> str | None:
        """The address of a page of the lake, None without a server."""
        return f"{self.url}/{quote(path)}" if self.url else None
