"""Limits of the connections of a server. Requires uvicorn."""

from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which refuses long headers, and also ends connections that send no complete request."""

    max_seconds = 10.0
    """Maximum time in seconds without a request."""
    max_idle = 256
    """Maximum number of connections without a running request. If there are more, the oldest one is ended."""

    @property
    def idle(self) -> bool:
        """Whether no request is running: the client has sent none, or a part of one up to its body."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """Accept a connection, in place of the oldest idle one if there are too many."""
        super().connection_made(transport)
        self.opened = self.loop.time()
        idle = [each for each in self.connections if isinstance(each, LimitedProtocol) and each.idle]
        if len(idle) > self.max_idle:
            min(idle, key=lambda each: each.opened).transport.abort()
        self.loop.call_later(self.max_seconds, self._check, self.cycle)

    def _check(self, earlier: Any) -> None:
        """End the connection if no request has begun since the last check."""
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # a websocket has its own limits
            return
        if self.idle and self.cycle is earlier:
            self.transport.abort()
        else:
            self.loop.call_later(self.max_seconds, self._check, self.cycle)
