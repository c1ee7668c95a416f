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
    """An optional package is not installed: see `extras.require`."""
