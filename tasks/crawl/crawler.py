"""A small polite crawler: one connection, one host, robots.txt obeyed, a pause between requests, bounded in pages."""

from __future__ import annotations

import http.client
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

from artifacts.errors import RunError

AGENT = "crawl2chat"
PAGE_SECONDS = 30
# Not a parser of HTML: the one server that is crawled writes its links in this one way, and an HTML parser in Python
# takes longer for a page than the server for making it.
HREF = re.compile(r'<a\s[^>]*?href="([^"#]+)', re.IGNORECASE)


@dataclass(frozen=True)
class Exchange:
    """One request and what came back, as they went over the wire."""

    url: str
    request: bytes
    head: bytes
    body: bytes
    status: int
    content_type: str


@dataclass
class Crawler:
    """Crawls one host that is served at a local port under a name of its own.

    Attributes:
        port: where 127.0.0.1 serves it. The name `host` stands in the URLs, so that they do not change with the port.
        follow: whether a path (with its query) belongs to what is crawled.
        delay: seconds between two requests.
        deadline: `time.monotonic()` at which the crawl has taken too long.
    """

    port: int
    host: str
    follow: Callable[[str], bool]
    delay: float
    deadline: float
    max_pages: int

    def crawl(self, seeds: list[str]) -> Iterator[Exchange]:
        """robots.txt, then the pages reached from the seeds, breadth first, in the order in which links were found.

        Raises:
            RunError: the server broke off, or the deadline passed.
        """
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PAGE_SECONDS)
        try:
            rules = self.fetch("/robots.txt")
            yield rules
            robots = RobotFileParser()
            robots.parse(rules.body.decode("utf8", "replace").splitlines() if rules.status == 200 else [])
            yield from self._pages(seeds, robots)
        finally:
            self._connection.close()

    def _pages(self, seeds: list[str], robots: RobotFileParser) -> Iterator[Exchange]:
        queue, seen, pages = deque(seeds), set(seeds), 0
        while queue and pages < self.max_pages:
            path = queue.popleft()
            if not robots.can_fetch(AGENT, f"http://{self.host}{path}"):
                continue
            time.sleep(self.delay)
            found = self.fetch(path)
            pages += 1
            yield found
            for link in self._links(found):
                if link not in seen and self.follow(link):
                    seen.add(link)
                    queue.append(link)

    def fetch(self, path: str) -> Exchange:
        """One GET on the crawl's connection."""
        url = f"http://{self.host}{path}"
        if time.monotonic() > self.deadline:
            raise RunError(f"crawl: out of time at {url}; raise crawl.max_seconds, or lower crawl.max_pages")
        headers = {"Host": self.host, "User-Agent": AGENT, "Accept": "text/html"}
        try:
            self._connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                self._connection.putheader(name, value)
            self._connection.endheaders()
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise RunError(
                f"crawl: the documentation server broke off at {url} ({reason});"
                " if importing that module hangs or ends the process, add it to crawl.skip"
            ) from error
        lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{k}: {v}" for k, v in response.getheaders())]
        sent = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return Exchange(
            url=url,
            request=_block(sent),
            head=_block(lines),
            body=body,
            status=response.status,
            content_type=response.headers.get_content_type(),
        )

    def _links(self, page: Exchange) -> list[str]:
        if page.status != 200 or page.content_type != "text/html":
            return []
        paths = []
        for target in dict.fromkeys(HREF.findall(page.body.decode("utf8", "replace"))):
            parts = urlsplit(urldefrag(urljoin(page.url, unescape(target))).url)
            if parts.scheme == "http" and parts.netloc == self.host:
                paths.append(parts.path + (f"?{parts.query}" if parts.query else ""))
        return paths


def _block(lines: list[str]) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
