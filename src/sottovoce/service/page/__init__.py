"""The page of the service: static files that load nothing from elsewhere, and need no build."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """A file of the page.

    Attributes:
        content: Its bytes.
        media_type: Its media type.
        etag: Entity tag, which changes with the content.
    """

    content: bytes
    media_type: str
    etag: str


def read_assets() -> dict[str, Asset]:
    """Read the page.

    Returns:
        Its files by the path of their address: `/` is the page itself, all others are below `/page/`.
    """
    paths = sorted(path for path in _FOLDER.iterdir() if path.suffix in _MEDIA_TYPES)
    return {"/" if path.name == "index.html" else f"/page/{path.name}": _read(path) for path in paths}


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    return Asset(content, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
