"""Text from the web as a log, a message or a summary may show it. What a page's text means does not belong here."""

import re

#: C0 and C1 controls (a terminal obeys them), but for tab and newline; halves of surrogate pairs (no file takes them).
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text without characters that a terminal obeys or no file takes; each becomes U+FFFD."""
    return _CONTROLS.sub("\ufffd", text)
