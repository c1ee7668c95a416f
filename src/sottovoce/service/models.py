"""The models that a request may name: those that all share, and adapted ones, for whoever knows their jobs."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from sottovoce.engine.enhancer import Enhancer
from sottovoce.errors import ModelError
from sottovoce.extras import EXTRAS, is_installed
from sottovoce.service.errors import ServiceError, service_error
from sottovoce.service.work import load_adapted
from sottovoce.weights import CHECKPOINTS

_ADAPTED = "adapted"
# Live streams that share one wait for it, and hold it, once.
_LOADED = 8


class ServedModels:
    """Finds models by name.

    Args:
        shared: Those that everybody may name.
        paths: Where they are, by name.
        adapted: Gives the file of the model that a job has made, or nothing.
    """

    def __init__(
        self,
        shared: Mapping[str, Enhancer],
        paths: Mapping[str, Path],
        adapted: Callable[[str], Awaitable[Path | None]],
    ) -> None:
        self.shared = shared
        self.checkpoints = {name: path for name in shared if (path := _checkpoint(name, paths[name])) is not None}
        self._adapted = adapted
        self._load = functools.lru_cache(maxsize=_LOADED)(load_adapted)

    async def locate(self, name: str) -> str | Path:
        """Say what a worker process is to be handed for a model.

        Args:
            name: Its name, or the id of the job that has adapted it.

        Returns:
            The name of a shared model, or the file of another.

        Raises:
            ServiceError: There is no such model.
        """
        if name in self.shared:
            return name
        path = await self._adapted(name)
        if path is None:
            sentence = f"found the model {name[:100]!r}, expected one of {', '.join(self.shared)}"
            raise ServiceError(422, "unknown_model", f"{sentence}, or the id of an adaptation that is done")
        return path

    async def load(self, name: str) -> Enhancer:
        """Give the engine of a model.

        Args:
            name: Its name, or the id of the job that has adapted it.

        Raises:
            ServiceError: There is no such model.
        """
        place = await self.locate(name)
        if isinstance(place, str):
            return self.shared[place]
        try:
            return await asyncio.to_thread(self._load, place)
        except ModelError as error:
            raise service_error(error) from error

    def label(self, name: str) -> str:
        """Name a model in counters, which tell nobody the id of a job."""
        return name if name in self.shared else _ADAPTED


def can_train() -> bool:
    """Say whether the packages are installed that an adaptation needs."""
    return all(map(is_installed, EXTRAS["train"]))


def _checkpoint(name: str, path: Path) -> Path | None:
    """The training checkpoint of a model, if there is one."""
    checkpoint = CHECKPOINTS.get(name, (path.parent if path.suffix == ".onnx" else path) / "checkpoint.safetensors")
    return checkpoint if checkpoint.is_file() else None
