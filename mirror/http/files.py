"""Files at URLs: HEAD and GET, checked before they are believed.

What the kinds of origins that speak HTTP have in common is here: how a version is asked for, what counts
as an answer, what a part is. Where they differ (what a validator is, what an error's body says) is a
`Dialect`; plain HTTP is the one that this class is, others override what they say differently.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TypeAlias

import httpx

from cache import Entry, Kind
from cache.digests import Digest
from mirror.errors import MirrorError, VersionChanged
from mirror.http import answers
from mirror.http.auth import Headers
from mirror.http.begun import Begun
from mirror.http.exchange import Answer, Exchanger
from mirror.http.light import LightResponse
from mirror.http.parts import HttpPart
from mirror.http.places import Place
from mirror.http.promises import promised
from mirror.remotes.base import Part

Opening: TypeAlias = "Callable[[Begun], AbstractAsyncContextManager[Part]]"

ANY: Headers = [(b"Accept", b"*/*")]

_TAKEN = httpx.ByteStream(b"")
"""In place of a body that was taken already."""


class Dialect:
    """How an origin speaks of files: plain HTTP."""

    def question(self, *, ranged: bool) -> Headers:
        """Return what every question for a file says; ``ranged``: some bytes of it are asked for."""
        del ranged
        return ANY

    def headers(self, answer: Answer) -> httpx.Headers:
        """Return the headers that say what the file is: those that the other methods are given."""
        return answer.head.headers

    def validator(self, headers: httpx.Headers) -> str | None:
        """Return what an answer says of which version it is; None: nothing that could be relied on."""
        return answers.validator(headers)

    def modified(self, headers: httpx.Headers) -> int | None:
        """Return when the file was changed, in nanoseconds since the epoch."""
        return answers.modified(headers)

    def condition(self, validator: str, *, ranged: bool) -> Headers:
        """Return the headers that ask for one version and no other.

        Raises:
            VersionChanged: the validator is not one of this kind of origin.
        """
        if validator.startswith(answers.MODIFIED):
            date = validator.removeprefix(answers.MODIFIED).encode("ascii")
            unmodified = (b"If-Unmodified-Since", date)
            return [unmodified, (b"If-Range", date)] if ranged else [unmodified]
        if not validator.startswith(answers.ETAG):
            raise VersionChanged(f"{validator!a} is nothing to ask an HTTP server for")
        etag = validator.removeprefix(answers.ETAG).encode("ascii")
        # If-Match answers another version with a 412 and no body; If-Range is for servers that know
        # only that one. Whichever was honoured, the answer's own ETag decides.
        return [(b"If-Match", etag), (b"If-Range", etag)] if ranged else [(b"If-Match", etag)]

    def is_part(self, response: httpx.Response) -> bool:
        """Whether an answer to a question for a range has that range, and not the whole file."""
        return response.status_code == 206

    def check_version(self, headers: httpx.Headers, expected: str, where: object) -> None:
        """Check that an answer is of the version that was asked for.

        Raises:
            VersionChanged: it is of another.
            ProtocolError: it does not say.
        """
        seen, stated = answers.states(headers, expected)
        answers.check_version(seen, expected, where, stated=stated)

    def refuse_coded(self, headers: httpx.Headers, where: object) -> None:
        """Raise `ProtocolError` when the body of an answer is not the file's own bytes."""
        answers.refuse_encoded(headers, where)

    def digest(self, status: int, headers: httpx.Headers, where: object) -> Digest | None:
        """Return the strongest digest that an answer states of the whole file, or None."""
        return promised(status, headers, where)

    async def failure(self, answer: Answer, *, conditional: bool) -> MirrorError:
        """Return the error that an answer stands for; it may read the body.

        ``conditional``: a range or a version was asked for, so 412 and 416 are answers to that.
        """
        return answers.failure(answer.head, answer.where, conditional=conditional)


class Files:
    """The files of one origin."""

    def __init__(self, http: Exchanger, dialect: Dialect | None = None) -> None:
        self._http = http
        self._dialect = dialect or Dialect()

    async def stat(self, target: str, name: str) -> Entry:
        """Ask for the size, mtime and validator of the file at a target.

        Args:
            target: quoted path, with its query if it has one.
            name: what the entry is to be called.
        """
        async with self._http.send("HEAD", target, self._dialect.question(ranged=False)) as answer:
            response = answer.head
            if response.status_code == 200:
                size = answers.length(response.headers)
                # Of a compressed answer the length says nothing about the file.
                if size is not None and "content-encoding" not in response.headers:
                    return self._entry(name, size, answer)
            elif response.status_code not in (405, 501):
                raise await self._dialect.failure(answer, conditional=False)
        return await self.stat_by_get(target, name)

    async def stat_by_get(self, target: str, name: str) -> Entry:
        """Ask by a GET for one byte, where HEAD is not allowed or not complete."""
        headers = [*self._dialect.question(ranged=True), (b"Range", b"bytes=0-0")]
        async with self._http.send("GET", target, headers) as answer:
            response, where = answer.head, answer.where
            self._dialect.refuse_coded(response.headers, where)
            match response.status_code:
                case 200 | 206 if self._dialect.is_part(response):
                    size = answers.partial(response.headers, 0, 1, where).size
                case 200:
                    size = answers.whole(response.headers).size
                case 416 if answers.unsatisfied_size(response.headers) == 0:
                    size = 0
                case _:
                    raise await self._dialect.failure(answer, conditional=True)
            return self._entry(name, size, answer)

    def open_part(
        self,
        target: str,
        name: str,
        start: int = 0,
        stop: int | None = None,
        *,
        validator: str | None = None,
        begun: Begun | None = None,
    ) -> AbstractAsyncContextManager[HttpPart]:
        """Request bytes of the file at a target. See `mirror.remotes.base.Remote.open_part`.

        ``begun``: the request, where `begin` has sent it already.
        """
        return _Opening(self, target, name, start, stop, validator, begun)

    async def begin(
        self,
        target: str,
        name: str,
        validator: str | None,
        told: Callable[[AskedFile], None],
        *,
        opening: Opening | None = None,
        believed: Callable[[Entry], bool] = lambda _: True,
    ) -> AskedFile | None:
        """Request all of a file with nobody waiting. See `mirror.remotes.base.Bulk.begin`.

        Args:
            target: as for `open_part`, as are the next two.
            name: what the entry is to be called.
            validator: of the version that is asked for.
            told: called when something came.
            opening: goes on with what was begun; None: `open_part` does.
            believed: whether what a plain answer says is to be believed without more ado.
        """
        if opening is None:
            opening = partial(self._go_on, target, name, validator)
        asked = AskedFile(self, target, name, validator, told, opening, believed)
        asked.begun = await self._http.begin(target, self._headers(0, None, validator), asked.came)
        return None if asked.begun is None else asked

    def _go_on(
        self, target: str, name: str, validator: str | None, begun: Begun
    ) -> AbstractAsyncContextManager[Part]:
        return self.open_part(target, name, validator=validator, begun=begun)

    def place(self, target: str) -> Place:
        """Where a file is, for messages."""
        return self._http.place(target)

    def _headers(self, start: int, stop: int | None, validator: str | None) -> Headers:
        dialect = self._dialect
        ranged = start > 0 or stop is not None
        headers = [*dialect.question(ranged=ranged)]
        if ranged:
            if stop is not None and stop <= start:
                raise ValueError("a part has at least one byte")
            headers.append((b"Range", answers.range_header(start, stop).encode("ascii")))
        if validator is not None:
            headers += dialect.condition(validator, ranged=ranged)
        return headers

    async def ask(
        self,
        target: str,
        name: str,
        start: int,
        stop: int | None,
        validator: str | None,
        begun: Begun | None = None,
    ) -> tuple[HttpPart, Answer]:
        """What `open_part` begins with; the answer is to be closed."""
        answer = await self._http.ask("GET", target, self._headers(start, stop, validator), begun=begun)
        try:
            await self._refuse_failure(answer, start, stop, validator)
            return self.part(answer, name, start, stop, validator), answer
        except BaseException:
            await answer.aclose()
            raise

    async def _refuse_failure(
        self, answer: Answer, start: int, stop: int | None, validator: str | None
    ) -> None:
        status, ranged = answer.head.status_code, start > 0 or stop is not None
        if status not in (200, 206) or (status == 206 and not ranged):
            raise await self._dialect.failure(answer, conditional=ranged or validator is not None)

    def part(
        self, answer: Answer, name: str, start: int, stop: int | None, validator: str | None
    ) -> HttpPart:
        """What an answer brings that says 200 or 206."""
        dialect, response, where = self._dialect, answer.head, answer.where
        ranged = start > 0 or stop is not None
        dialect.refuse_coded(response.headers, where)
        if validator is not None:
            dialect.check_version(dialect.headers(answer), validator, where)
        if ranged and dialect.is_part(response):
            span = answers.partial(response.headers, start, stop, where)
            ranges = True
        else:
            span = answers.whole(response.headers)
            ranges = not ranged and response.headers.get("accept-ranges", "").strip().lower() == "bytes"
        return HttpPart(
            response,
            span,
            self._entry(name, span.size, answer),
            ranges=ranges,
            digest=dialect.digest(response.status_code, dialect.headers(answer), where),
            where=where,
            deadline=self._http.deadline,
        )

    def _entry(self, name: str, size: int | None, answer: Answer) -> Entry:
        headers = self._dialect.headers(answer)
        return Entry(
            name,
            Kind.FILE,
            size,
            self._dialect.modified(headers),
            validator=self._dialect.validator(headers),
        )


class _Opening(AbstractAsyncContextManager[HttpPart]):
    """The context of `Files.open_part`: a class, for it is entered for every file."""

    def __init__(
        self,
        files: Files,
        target: str,
        name: str,
        start: int,
        stop: int | None,
        validator: str | None,
        begun: Begun | None,
    ) -> None:
        self._files = files
        self._asked = (target, name, start, stop, validator, begun)
        self._answer: Answer | None = None

    async def __aenter__(self) -> HttpPart:
        part, self._answer = await self._files.ask(*self._asked)
        return part

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None:
            await self._answer.aclose()


class AskedFile:
    """The `mirror.remotes.base.Asked` of one file."""

    __slots__ = (
        "_believed",
        "_files",
        "_keeps",
        "_name",
        "_opening",
        "_target",
        "_told",
        "_validator",
        "begun",
    )

    def __init__(
        self,
        files: Files,
        target: str,
        name: str,
        validator: str | None,
        told: Callable[[AskedFile], None],
        opening: Opening,
        believed: Callable[[Entry], bool],
    ) -> None:
        self.begun: Begun | None = None
        self._opening = opening
        self._believed = believed
        self._files = files
        self._target = target
        self._name = name
        self._validator = validator
        self._told = told
        self._keeps = False

    def came(self, begun: Begun) -> None:
        """Pass on that there is something."""
        del begun
        self._told(self)

    def cancel(self) -> None:
        """See `mirror.remotes.base.Asked.cancel`."""
        self._held().cancel()

    def plain(self) -> tuple[HttpPart, memoryview] | None:
        """See `mirror.remotes.base.Asked.plain`."""
        if (whole := self._held().whole()) is None:
            return None
        head, body = whole
        answer = Answer(LightResponse(head.status, head.headers, _TAKEN, {}), self._files.place(self._target))
        try:
            part = self._files.part(answer, self._name, 0, None, self._validator)
        except MirrorError:
            return None
        self._keeps = head.keeps_alive
        return (part, body) if self._believed(part.entry) else None

    def close(self) -> None:
        """See `mirror.remotes.base.Asked.close`."""
        self._held().finish(reusable=self._keeps)

    def open(self) -> AbstractAsyncContextManager[Part]:
        """See `mirror.remotes.base.Asked.open`."""
        return self._opening(self._held())

    def _held(self) -> Begun:
        assert self.begun is not None, "it was sent"
        return self.begun
