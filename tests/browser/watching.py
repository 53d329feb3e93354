"""What no page of the dashboard may ever do, whatever a test is about: a watch over one browser context."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebError, WebSocket

MARKER: Final = "rowlockWasHere"
"""The function of the page that the scripts call which jobs try to smuggle in."""

_LOUD: Final = frozenset({"error", "warning", "assert"})
_EVERYWHERE: Final = (
    'document.addEventListener("securitypolicyviolation", (event) => {'
    "    console.error(`CSP: ${event.violatedDirective} forbids ${event.blockedURI}`);"
    "});"
    f"window.{MARKER} = (...what) => console.error(`A script of a job was called: ${{what}}`);"
)


@dataclass  # without slots: Playwright notes something on whoever listens
class Watch:
    """Notes what is wrong in all pages of a context; `complaints` are what the test fails on.

    `tolerated`: texts of what the test provokes itself. The API's own refusals (4xx below /v1) are none of the
    complaints: the browser writes each into the console, and a page is tested for what it makes of them.
    """

    origin: str
    complaints: list[str] = field(default_factory=list)
    tolerated: list[str] = field(default_factory=list)

    async def over(self, context: BrowserContext) -> None:
        """Watch the context. That no name but the server's is found is up to how the browser was started."""
        context.on("console", self._console)
        context.on("weberror", self._exception)
        context.on("request", self._request)
        context.on("response", self._response)
        context.on("page", self._page)
        await context.add_init_script(_EVERYWHERE)

    def tolerate(self, *texts: str) -> None:
        """Have complaints that contain one of these texts be none."""
        self.tolerated += texts
        self.complaints[:] = [text for text in self.complaints if not self._is_tolerated(text)]

    def verify(self) -> None:
        """Fail if there was anything to complain of."""
        __tracebackhide__ = True
        assert not self.complaints, "\n".join(["The browser has complained:", *self.complaints])

    def is_here(self, url: str) -> bool:
        """Whether it is the server's own, or needs none."""
        return url.startswith((self.origin + "/", "data:", "blob:", "about:"))

    def _is_tolerated(self, text: str) -> bool:
        return any(part in text for part in self.tolerated)

    def _complain(self, text: str) -> None:
        if not self._is_tolerated(text):
            self.complaints.append(text)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in _LOUD:
            return
        url = message.location.get("url", "")
        is_refusal = message.text.startswith("Failed to load resource") and "status of 4" in message.text
        if not (is_refusal and url.startswith(f"{self.origin}/v1/")):
            self._complain(f"console {message.type}: {message.text} ({url})")

    def _exception(self, error: WebError) -> None:
        self._complain(f"uncaught: {error.error.stack or error.error.message}")

    def _request(self, request: Request) -> None:
        if not self.is_here(request.url):
            self._complain(f"left the server: {request.method} {request.url} ({request.resource_type})")

    def _response(self, response: Response) -> None:
        if response.status >= 500:
            self._complain(f"status {response.status}: {response.request.method} {response.url}")

    def _page(self, page: Page) -> None:
        page.on("websocket", self._web_socket)

    def _web_socket(self, socket: WebSocket) -> None:
        self._complain(f"opened a web socket: {socket.url}")
