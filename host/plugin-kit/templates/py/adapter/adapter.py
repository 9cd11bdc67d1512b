"""The transcript reader of adapter {{id}}. The tool wants an exported class in a module with its interface's name."""

import json

from pangolin import guarded
from wit_world.exports import adapter
from wit_world.imports.session import Report, TaskView

# Longest line that is looked at, in bytes.
LINE_BYTES = 1 << 20


class Lines:
    """Complete lines out of chunks that may end anywhere, also inside a character."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._too_long = False

    def feed(self, data: bytes, each) -> None:
        *ends, rest = data.split(b"\n")
        for part in ends:
            self._push(part)
            self.end(each)
        self._push(rest)

    def _push(self, part: bytes) -> None:
        # Of a line over the limit only the fact remains, so that memory stays bounded.
        if self._too_long or len(self._buffer) + len(part) > LINE_BYTES:
            self._too_long = True
            self._buffer.clear()
        else:
            self._buffer += part

    def end(self, each) -> None:
        if self._buffer and not self._too_long:
            each(self._buffer.decode("utf-8", "replace"))
        self._buffer.clear()
        self._too_long = False


class Seen:
    usage = False
    error: str | None = None


def is_count(value, largest: float) -> bool:
    """A number that the host takes as a counter."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= largest


def clean(text: str) -> str:
    """JSON can name half a character; the contract takes whole ones."""
    return text.encode("utf-8", "replace").decode()


# TODO({{name}}): the lines that your agent prints. A line that you do not know is no error.
def understand(text: str, report: Report, seen: Seen) -> None:
    if not text.startswith("{"):
        return
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return
    kind = event.get("type")
    if kind == "session" and isinstance(event.get("id"), str):
        report.session_id(clean(event["id"]))
    elif kind == "usage":
        for key in ("input", "output", "turns", "cost_usd"):
            if is_count(event.get(key), 1e9 if key == "cost_usd" else 2.0**53):
                report.usage(key, float(event[key]))
        if isinstance(event.get("model"), str):
            report.model_used(clean(event["model"]))
        seen.usage = True
    elif kind == "text" and isinstance(event.get("text"), str):
        report.text(clean(event["text"]))
    elif kind == "error":
        seen.error = clean(str(event.get("message", "no message")))


class Reader(adapter.Reader):
    def __init__(self, task: TaskView) -> None:
        self._lines = Lines()
        self._seen = Seen()

    @guarded
    def feed(self, source: adapter.Channel, data: bytes, to: Report) -> None:
        if source is adapter.Channel.OUT:
            self._lines.feed(data, lambda text: understand(text, to, self._seen))

    @guarded
    def finish(self, exit: adapter.ExitInfo, to: Report) -> None:
        self._lines.end(lambda text: understand(text, to, self._seen))
        if self._seen.usage:
            to.usage_quality("exact")
        if exit.timed_out or exit.signal is not None:
            to.outcome("killed", "ended from outside")
        elif self._seen.error is not None:
            to.outcome("agent-failed", self._seen.error)
        elif exit.code == 0:
            to.outcome("completed", "")
        else:
            to.outcome("agent-failed", f"exit code {exit.code}")
