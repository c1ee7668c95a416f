"""YAML files of settings, which may come from anybody: bounded in size, depth and what aliases make of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import ConfigError

if TYPE_CHECKING:
    from yaml import Node, SafeLoader

# The settings that come with the package have 2 KiB, a depth of 4 and 200 values.
_MAX_BYTES = 2**16
_MAX_DEPTH = 20
_MAX_VALUES = 10_000
_MAX_SHOWN = 60
# Keys that are no values: << and =.
_SIGNS = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a file whose top level is a mapping.

    Args:
        path: The file.

    Returns:
        Its content: mappings, lists, text, numbers, truth values, dates and None.

    Raises:
        ConfigError: The file cannot be read, is too large, no valid YAML, no mapping, too deep, or repeats too much by
            aliases; or a value cannot be what it looks like. The message names the key.
    """
    import yaml

    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigError(f"found more than {_MAX_BYTES // 1024} KiB in {path}, expected a small file of settings")
        loader = _shallow_loader(content.decode("utf-8"))
        node = loader.get_single_node()
    except OSError as error:
        raise ConfigError(f"found no readable settings at {path} ({error.strerror}), expected a YAML file") from error
    # A path with a null character is a ValueError, and so is text that is no UTF-8.
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"found no valid YAML in {path}: {' '.join(str(error).split())}") from error
    if node is not None:
        _Check(loader, path).values_in(node, "", ())
    try:
        result = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:  # keys that are lists, and merges of what is no mapping
        raise ConfigError(f"found no valid YAML in {path}: {' '.join(str(error).split())}") from error
    if not isinstance(result, dict):
        raise ConfigError(f"found {type(result).__name__} in {path}, expected a mapping of settings")
    return result


def _shallow_loader(text: str) -> "SafeLoader":
    """A loader that stops at the first part that is too deep: to read on would take time and the stack."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: "Node | None", index: int) -> "Node | None":
            if self.depth > _MAX_DEPTH:
                raise yaml.YAMLError(f"nested more than {_MAX_DEPTH} levels deep, line {self.line + 1}")
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return Loader(text)


class _Check:
    """A walk over what a file holds, before anything is made of it.

    Args:
        loader: Makes the values of scalars.
        path: The file, for messages.
    """

    def __init__(self, loader: "SafeLoader", path: Path) -> None:
        self._loader = loader
        self._path = path
        self._known: dict[Node, int] = {}

    def values_in(self, node: "Node", key: str, above: tuple["Node", ...]) -> int:
        """Number of values in a part, each as often as aliases repeat it."""
        if node in self._known:
            return self._known[node]
        if node in above or len(above) > _MAX_DEPTH:
            raise ConfigError(
                f"{self._path}: {key}: found more than {_MAX_DEPTH} levels, made by aliases (*), expected 5"
            )
        count = 1
        for name, part in self._parts(node, key):
            count += self.values_in(part, name, (*above, node))
            if count > _MAX_VALUES:
                raise ConfigError(
                    f"{self._path}: {name}: found more than {_MAX_VALUES:,} values, most of them by aliases (*), "
                    "expected some hundred: write them out"
                )
        self._known[node] = count
        return count

    def _parts(self, node: "Node", key: str) -> Iterator[tuple[str, "Node"]]:
        from yaml import MappingNode, SequenceNode

        if isinstance(node, MappingNode):
            for name, value in node.value:
                inner = f"{key}.{shown(str(name.value))}".lstrip(".")
                if name.tag not in _SIGNS:
                    yield inner, name
                yield inner, value
        elif isinstance(node, SequenceNode):
            for index, value in enumerate(node.value):
                yield f"{key}.{index}".lstrip("."), value
        else:
            self._check_scalar(node, key)

    def _check_scalar(self, node: "Node", key: str) -> None:
        try:
            self._loader.construct_object(node)
        except Exception as error:  # whatever datetime, int, float or base64 raise for text that only looks right
            kind = node.tag.rpartition(":")[2]
            raise ConfigError(
                f"{self._path}: {key}: found {shown(repr(node.value))}, which looks like a value of type {kind} and is "
                "none: correct it, or put text in quotes"
            ) from error


def shown(text: str) -> str:
    """Cut what a message quotes.

    Args:
        text: Text of any length.

    Returns:
        The text, or its beginning.
    """
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
