"""The errors a caller may want to catch; each message says what was needed, what came, and where.

ClinicocoError
├── DataError            a file or record cannot be used
│   └── UnknownCode      a code that the taxonomy does not hold
├── ConfigError          a setting or hyperparameter that no run can use
├── CheckpointError      a model folder that is missing, foreign or damaged
└── ServerError          Label Studio or our backend did not do what was asked
    ├── ServerUnreachable   nothing answered at the address
    └── ServerRefused       it answered, and said no (token, address block, bad request)

Messages name an EMR by its id and never quote its text.
"""


class ClinicocoError(Exception):
    """Base of every error that the command line shows as one line with exit code 1."""


class DataError(ClinicocoError):
    """A file or record cannot be used."""


class UnknownCode(DataError):
    """A code that the taxonomy does not hold."""


class ConfigError(ClinicocoError):
    """A setting or hyperparameter that no run can use."""


class CheckpointError(ClinicocoError):
    """A model folder that is missing, foreign or damaged."""


class ServerError(ClinicocoError):
    """Label Studio or our backend did not do what was asked."""


class ServerUnreachable(ServerError):
    """Nothing answered at the address."""


class ServerRefused(ServerError):
    """The server answered and said no."""
