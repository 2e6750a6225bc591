"""One bucket, and what is learnt while it is asked: its region, and credentials that are not refused.

Both are learnt by whoever is refused first; those who were refused for the same cause find it mended. A
question is asked again once for each cause, and then its answer stands.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from mirror.errors import MirrorError, NotFound, OriginFailed, ProtocolError
from mirror.http import access
from mirror.http.exchange import Exchanger
from mirror.http.files import Files
from mirror.http.parts import read_whole
from mirror.remotes.how import How
from mirror.remotes.s3 import aws, listing
from mirror.remotes.s3.credentials import Chain
from mirror.remotes.s3.endpoints import Site, site
from mirror.remotes.s3.errors import S3, Asked, StaleCredentials, WrongRegion
from mirror.remotes.s3.signing import Signing

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Way:
    """How the bucket is asked, as far as is known."""

    region: str
    site: Site
    http: Exchanger
    files: Files
    dialect: S3

    async def page(self, query: dict[str, str]) -> listing.Found:
        """Ask for one page of a listing.

        Raises:
            OriginFailed: there is no such bucket, too.
            ProtocolError: the answer is no page.
            MirrorError: as any question.
        """
        query |= {"list-type": "2", "encoding-type": "url"}
        target = self.site.listing(listing.query(query))
        async with self.http.send("GET", target, self.dialect.plain) as answer:
            where = answer.where
            if answer.head.status_code != 200:
                failure = await self.dialect.failure(answer, conditional=False)
                if isinstance(failure, NotFound):
                    # A listing of nothing is an empty one: this says that nobody here knows of buckets.
                    raise OriginFailed(f"{where}: no S3 server answers here (404); check the endpoint")
                raise failure
            body = await read_whole(answer.head, where, self.http.deadline, listing.MAX_PAGE)
        try:
            found = listing.page(body)
        except listing.NotAPageError as exc:
            raise ProtocolError(f"{where}: the answer is no listing of a bucket: {exc}") from exc
        if isinstance(found, listing.Said):
            raise self.dialect.error(found, where, found.region) or OriginFailed(
                f"{where}: the listing ended with an error ({found.code[:64]!a})"
            )
        return found


class Bucket:
    """The bucket of one source."""

    def __init__(self, name: str, how: How) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            UsageError: an option makes no sense.
            SetupError: AWS's files cannot be read.
        """
        options = how.options
        self.name = name
        self.endpoint = aws.endpoint(options)
        self._style = options.get("style")
        self._pays = options.flag("requester-pays")
        self.chain = None if options.flag("anonymous") else Chain(options, deadline=how.deadline)
        region = aws.region(options)
        self.client = access.open_client(self._site(region).origin, how)
        self.way = self._way(region)

    def _site(self, region: str) -> Site:
        return site(self.name, region=region, endpoint=self.endpoint, style=self._style, suffix=aws.suffix)

    def _way(self, region: str) -> Way:
        where = self._site(region)
        auth = None if self.chain is None else Signing(self.chain, region, where.origin)
        # A redirect of S3 is an answer: it says in which region the bucket is.
        http = Exchanger(self.client, where.origin, auth, follow=False)
        asked = Asked(self.name, region, anonymous=self.chain is None, pays=self._pays)
        dialect = S3(asked, deadline=self.client.deadline)
        return Way(region, where, http, Files(http, dialect), dialect)

    async def ask(self, operation: Callable[[Way], Awaitable[T]]) -> T:
        """Ask something, again where the cause of a refusal could be mended."""
        question = Question(self)
        while True:
            way = await question.way()
            try:
                return await operation(way)
            except (WrongRegion, StaleCredentials) as exc:
                if not await question.mend(exc):
                    raise

    def move(self, way: Way, region: str) -> bool:
        """Ask in another region from now on; whether that is another than ``way`` asked."""
        if self.way is way:
            log.info("the bucket %s is in %s, not in %s", self.name, region, way.region)
            self.way = self._way(region)
        return self.way.region != way.region


class Question:
    """One question, and why it was asked again."""

    __slots__ = ("_bucket", "_mended", "_serial", "_way")

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._mended: list[type[MirrorError]] = []
        self._way = bucket.way
        self._serial = 0

    async def way(self) -> Way:
        """Return how to ask now. Raises as `Chain.current` does."""
        chain = self._bucket.chain
        if chain is not None:
            if not chain.serial:
                await chain.current()
            self._serial = chain.serial
        self._way = self._bucket.way
        return self._way

    async def mend(self, failure: MirrorError) -> bool:
        """Do something about a failure; whether there is a point in asking again."""
        if type(failure) in self._mended:
            return False
        self._mended.append(type(failure))
        match failure:
            case WrongRegion():
                return self._bucket.move(self._way, failure.region)
            case StaleCredentials():
                chain = self._bucket.chain
                return chain is not None and await chain.renew(self._serial)
        return False
