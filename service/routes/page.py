"""The web page and its files, which need no key because they contain no results."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from service.problems import ProblemError

_FOLDER = Path(__file__).parent.parent / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# Scripts and styles come from this service only, text never becomes markup, and no other site can frame the page.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # browsers keep it, but ask whether it has changed
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content=content, media_type=_TYPES[path.suffix], etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"')


_FILES = {path.name: _read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}


@router.api_route("/", methods=["GET", "HEAD"])
async def get_page(request: Request) -> Response:
    """The page."""
    return _response(request, _FILES["index.html"])


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def get_static(request: Request, name: str) -> Response:
    """A file of the page.

    Raises:
        ProblemError: 404, if there is none with this name.
    """
    if name not in _FILES:
        raise ProblemError(404, f"there is no file {name!r}; the page is at /")
    return _response(request, _FILES[name])


def _response(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
