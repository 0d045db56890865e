"""What can go wrong in a way a person can act on; each text says what is wrong, the value, and what to do."""


class AxonsError(Exception):
    """Base of every error whose text is meant for a person."""


class StorageUnavailable(AxonsError):
    """The storage did not answer, or refused us, after the retries."""


class StorageRefused(StorageUnavailable):
    """The storage answered that we may not; asking again does not help."""


class ObjectNotFound(AxonsError):
    """No object under this key."""


class ChecksumMismatch(AxonsError):
    """The bytes in storage are not the bytes that were written."""


class ImageRefused(AxonsError):
    """An uploaded image cannot become a working image."""


class ArchiveRefused(AxonsError):
    """A ZIP file breaks a rule that protects the platform."""


class AnnotationRefused(AxonsError):
    """A mask or a stack of layers cannot become labels."""


class TrainingSetRefused(AxonsError):
    """The chosen images and labels cannot become a training set."""


class TrainingSetNotFound(AxonsError):
    """No training set at this address."""


class ModelRefused(AxonsError):
    """A model file is damaged, incomplete or not the kind we load."""


class ConfigurationRefused(AxonsError):
    """A setting that cannot work; `field` names it.

    Args:
        field: name of the setting as the person wrote it.
        message: what is wrong, the value, what to do.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class RunRefused(AxonsError):
    """A run folder cannot be trained: its request is missing or broken."""


class RunFailed(AxonsError):
    """Training ended without a model, for a known reason."""


class PredictionRefused(AxonsError):
    """A prediction that cannot be made, or whose result did not pass its checks."""


class SegmenterBusy(AxonsError):
    """The inference queue is full; try again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class NotFound(AxonsError):
    """There is no such thing, or whoever asks may not know of it."""


class NotAllowed(AxonsError):
    """Whoever asks may see the thing but not do this to it."""


class SignInRequired(AxonsError):
    """Nobody is signed in, or the session or token has ended."""


class SignInRefused(AxonsError):
    """Wrong name, password or code; `retry_after_s` where the account is slowed down."""

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidRequest(AxonsError):
    """A value in a request cannot be accepted; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class Conflict(AxonsError):
    """What is asked for does not go together with what is there."""


class StaleRevision(AxonsError):
    """Somebody else has saved in between; `current` is the newest revision."""

    def __init__(self, message: str, current: int) -> None:
        super().__init__(message, current)
        self.current = current

    def __str__(self) -> str:
        return str(self.args[0])


class RevisionMissing(AxonsError):
    """A save that does not say which revision it changes."""


class TileLocked(AxonsError):
    """The labels of a tile that is done stay as they are."""


class LimitReached(AxonsError):
    """A limit of a person, class or installation would be passed."""


class TooLarge(AxonsError):
    """A request or file is larger than is accepted."""


class StorageFull(AxonsError):
    """There is not enough free space to write."""


class DatabaseBusy(AxonsError):
    """The database does not answer in time."""


class DatabaseTaken(AxonsError):
    """Another process has the database file open."""


class NotInstalled(AxonsError):
    """A library that this needs is not installed."""


class ServerUnavailable(AxonsError):
    """The server did not answer, or answered that it cannot at the moment."""


class JobFailed(AxonsError):
    """A job that somebody waited for has failed or was cancelled."""


class RequestFailed(AxonsError):
    """The server refused a request of the client; `status` is the HTTP status, `code` the kind of problem."""

    def __init__(self, message: str, status: int, code: str = "") -> None:
        super().__init__(message, status, code)
        self.status = status
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])
