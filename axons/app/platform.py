"""What every request needs, made once in a process: settings, database, storage."""

from dataclasses import dataclass

from axons.app.database import Database
from axons.app.settings import Settings
from axons.data.storage import Storage, open_storage


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The parts a service may use besides the session it is given."""

    settings: Settings
    database: Database
    storage: Storage

    @classmethod
    def open(cls, settings: Settings) -> "Platform":
        """Connect as the settings say; the database is migrated already."""
        return cls(settings=settings, database=Database(settings.database), storage=open_storage(settings.storage))

    def uri(self, key: str) -> str:
        """The address of an object, for what runs on workers."""
        return f"{self.storage.uri}/{key}"
