"""What fastlm says when the user, the data or the disk is at fault."""


class FastlmError(ValueError):
    """A fault outside the program: one line that names the file, line or field, and the fix.

    Commands print it without a traceback (unless ``--debug``) and exit with ``exit_code``.
    """

    exit_code = 2


class ConfigError(FastlmError):
    """A flag, key or value that cannot be used."""


class DataError(FastlmError):
    """Text, a tokenizer or a token store that cannot be used."""


class CheckpointError(FastlmError):
    """A run folder or checkpoint that cannot be written, read or resumed from."""
