"""How the service runs: from the environment, or from the command line, which is the stronger one."""

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sottovoce.errors import ConfigError
from sottovoce.weights import MODELS

PREFIX = "SOTTOVOCE_"
"""Every setting is read from a variable of its name in capitals behind this: SOTTOVOCE_PORT."""

# What a header can carry: RFC 6750.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,4096}")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

T = TypeVar("T")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _setting(name: str, default: T, read: Callable[[str], Any], expected: str) -> T:
    """A field whose default is in the environment, if it is there."""

    def value() -> Any:
        text = os.environ.get(PREFIX + name, "")
        if not text:
            return default
        try:
            return read(text)
        except ValueError:
            raise ConfigError(f"found {PREFIX}{name}={text!r} in the environment, expected {expected}") from None

    found: T = field(default_factory=value)
    return found


def _default_folder() -> Path:
    """A folder of this user that outlives the process, as systemd and others name it."""
    if named := os.environ.get(f"{PREFIX}FOLDER"):
        return Path(named)
    if of_systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(of_systemd.partition(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "sottovoce"


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """How the service runs.

    Args:
        host: Address to listen at. Beyond this machine (such as 0.0.0.0) a token is needed.
        port: Port to listen at; 0 for any that is free.
        hosts: Names by which the service is called, as in the Host header, beside this machine's own and `host`. Others
            are refused, so that no page of a browser reaches the service by a name of its own.
        token_file: File that holds the token which every request must carry; SOTTOVOCE_TOKEN is the token itself.
        models: Further models that may be named, each as NAME=PATH: the folder of a training or an adaptation, or the
            model.onnx or model.place in it.
        workers: Number of recordings that are enhanced at once, each in a process of its own of about 90 MiB.
        queue: Number of recordings that may wait or be received beyond those; others are refused (429).
        max_megabytes: The largest upload.
        max_minutes: The longest recording, counted while it is decoded, all channels together.
        transfer_seconds: The longest time that an upload, or a download, may take.
        streams: The most channels of live streams, all streams together; others are refused.
        client_requests: The most requests of one client in a minute; further ones are refused (429). A client is an
            address, or a network of IPv6.
        client_minutes: The most sound of one client in an hour, all channels and streams together.
        client_streams: The most channels of live streams of one client at once.
        proxies: Addresses or networks of proxies whose header X-Forwarded-For is believed. Without them, all that comes
            through a proxy counts as one client.
        connections: The most open connections. The one that has been idle for longest makes room for a new one.
        grace_seconds: How long a service that is to stop waits for what it is enhancing.
        jobs: The most jobs, finished ones included; others are refused (429).
        job_hours: How long a finished job and its result are kept.
        adaptations: The most adaptations of models that wait or run; one runs at a time, in a process of its own of
            1 to 2 GiB. 0 for none.
        folder: Folder for uploads and results while they are needed; only this user may read it.

    Attributes:
        token: What every request must carry; None if none is needed.

    Raises:
        ConfigError: A value is out of its range, or a token is missing or too short.
    """

    host: str = _setting("HOST", "127.0.0.1", str, "an address")
    port: int = _setting("PORT", 8000, int, "a whole number")
    hosts: tuple[str, ...] = _setting("HOSTS", (), _words, "names")
    token_file: Path | None = _setting("TOKEN_FILE", None, Path, "a path")  # noqa: RUF009 (it is a field)
    models: tuple[str, ...] = _setting("MODELS", (), _words, "NAME=PATH")
    workers: int = _setting("WORKERS", os.cpu_count() or 1, int, "a whole number")
    queue: int = _setting("QUEUE", 64, int, "a whole number")
    max_megabytes: float = _setting("MAX_MEGABYTES", 512.0, float, "a number")
    max_minutes: float = _setting("MAX_MINUTES", 240.0, float, "a number")
    transfer_seconds: float = _setting("TRANSFER_SECONDS", 600.0, float, "a number")
    streams: int = _setting("STREAMS", 32, int, "a whole number")
    client_requests: int = _setting("CLIENT_REQUESTS", 600, int, "a whole number")
    client_minutes: float = _setting("CLIENT_MINUTES", 6000.0, float, "a number")
    client_streams: int = _setting("CLIENT_STREAMS", 16, int, "a whole number")
    proxies: tuple[str, ...] = _setting("PROXIES", (), _words, "addresses")
    connections: int = _setting("CONNECTIONS", 512, int, "a whole number")
    grace_seconds: float = _setting("GRACE_SECONDS", 30.0, float, "a number")
    jobs: int = _setting("JOBS", 256, int, "a whole number")
    job_hours: float = _setting("JOB_HOURS", 24.0, float, "a number")
    adaptations: int = _setting("ADAPTATIONS", 4, int, "a whole number")
    folder: Path = field(default_factory=_default_folder)
    token: str | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"found {name} {value}, expected {low:g} to {high:g}")
        object.__setattr__(self, "token", self._read_token())
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"found the address {self.host}, which others can reach, and no token: set {PREFIX}TOKEN or "
                "--token-file, or listen at 127.0.0.1"
            )
        self.model_paths()
        for proxy in self.proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ConfigError(
                    f"found the proxy {proxy!r}, expected an address such as 10.0.0.5, or a network such as "
                    f"10.0.0.0/24 ({error})"
                ) from None

    def _read_token(self) -> str | None:
        token = os.environ.get(f"{PREFIX}TOKEN")
        if self.token_file is not None:
            if token is not None:
                raise ConfigError(f"found both {PREFIX}TOKEN and a token file, expected one of them")
            try:
                token = self.token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"cannot read the token file {self.token_file} ({getattr(error, 'strerror', None) or error}): "
                    "check its name, and that you may read it"
                ) from error
        if token is None:
            return None
        if not _TOKEN.fullmatch(token):
            raise ConfigError(
                f"found a token of {len(token)} characters, expected 16 at least, letters, digits and -._~+/= alone: "
                "`openssl rand -hex 32` makes one"
            )
        return token

    def model_paths(self) -> dict[str, Path]:
        """The models that may be named, the bundled ones first.

        Raises:
            ConfigError: One of the names cannot be used, or is there twice.
        """
        paths = dict(MODELS)
        for model in self.models:
            name, _, path = model.partition("=")
            if not _MODEL_NAME.fullmatch(name) or not path:
                raise ConfigError(
                    f"found the model {model!r}, expected NAME=PATH, with letters, digits and _.- as a name"
                )
            if name in paths:
                raise ConfigError(f"found two models of the name {name!r}, expected different names")
            paths[name] = Path(path)
        return paths


def is_loopback(host: str) -> bool:
    """Say whether an address or a name is that of this machine alone.

    Args:
        host: Such as 127.0.0.1, ::1 or localhost.

    Returns:
        False also for names that somebody else resolves.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


_RANGES = {
    "port": (0, 65_535),
    "workers": (1, 1024),
    "queue": (0, 100_000),
    "max_megabytes": (0.001, 1e6),
    "max_minutes": (0.001, 1e6),
    "transfer_seconds": (1, 86_400),
    "streams": (0, 10_000),
    "client_requests": (1, 1e9),
    "client_minutes": (0.001, 1e9),
    "client_streams": (0, 10_000),
    "connections": (1, 100_000),
    "grace_seconds": (0, 3600),
    "jobs": (0, 1_000_000),
    "job_hours": (0, 1e6),
    "adaptations": (0, 10_000),
}
