"""The platform and people of the tests of the application, for faults too."""

from tests.app.conftest import ana, database_url, empty_sqlite, platform, postgres, teacher  # noqa: F401 (fixtures)
