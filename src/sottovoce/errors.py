"""What went wrong, in one sentence: what was found, what was expected, what to do."""


class SottovoceError(Exception):
    """Base of every error that a user can cause and mend; its message is one clear sentence."""


class AudioError(SottovoceError):
    """A recording cannot be read, written or used."""


class ModelError(SottovoceError):
    """A model file is missing, foreign, cut or of another format version."""


class ConfigError(SottovoceError, ValueError):
    """A setting is unknown, has a wrong type or unit, is out of its range, or contradicts another."""


class DataError(SottovoceError):
    """A training or test folder does not hold what the task needs."""


class MissingExtraError(SottovoceError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: run `pip install 'sottovoce[{extra}]'`"
        )
