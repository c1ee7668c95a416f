"""What went wrong, in one sentence: what was found, what was expected, what to do."""

import unicodedata

# Invisible, but words of several scripts and some pictographs need them.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    """Make text safe to show, whoever wrote the names in it.

    Args:
        text: Any text.

    Returns:
        The text with escape codes in the place of what moves a cursor, changes colours or the direction of writing,
        ends a line, or is no text at all.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode()
        for character in text
    )


class SottovoceError(Exception):
    """Base of every error that a user can cause and mend; its message is one clear sentence."""


class AudioError(SottovoceError):
    """A recording cannot be read, written or used."""


class UnknownFormatError(AudioError):
    """A file is of no kind that is read here, or holds no sound."""


class ChangedError(AudioError):
    """A recording is not the one that was looked at before."""


class StorageError(AudioError):
    """A recording cannot be written, whatever it is: the disk is full or failed, or nobody may write there."""


class ModelError(SottovoceError):
    """A model file is missing, foreign, cut or of another format version."""


class ConfigError(SottovoceError, ValueError):
    """A setting is unknown, has a wrong type or unit, is out of its range, or contradicts another."""


class DataError(SottovoceError):
    """A training or test folder does not hold what the task needs."""


class ProcessError(SottovoceError):
    """A process that works together with this one has ended."""


class MissingExtraError(SottovoceError):
    """An optional package is not installed: see `extras.require`."""
