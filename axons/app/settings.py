"""Every setting of the platform, read once from `AXONS_*` environment variables; `docs/settings.md` is made from it."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from axons.data.encryption import check_encryption


class Preset(BaseModel):
    """A share of a machine: of one GPU where the training runs on one, and CPUs and memory; None asks for none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu_share: float = Field(0.75, gt=0, le=1)
    cpus: float | None = Field(None, ge=0)
    memory_gb: float | None = Field(None, gt=0)


class Settings(BaseSettings):
    """How this installation runs."""

    model_config = SettingsConfigDict(env_prefix="AXONS_", frozen=True, extra="ignore")

    data: Path = Field(Path("axons-data"), description="Folder for the database, storage and secrets of one machine.")
    database_url: SecretStr | None = Field(
        None, description="postgresql+psycopg://user:password@host/name; by default SQLite in the data folder."
    )
    storage_url: str | None = Field(
        None, description="s3://bucket/prefix or abfs://…; by default the folder storage/ in the data folder."
    )
    storage_encryption: str | None = Field(
        None, description="AES256, aws:kms or aws:kms:KEY: what every object written to S3 asks for, on every node."
    )
    public_url: str = Field("http://127.0.0.1:8000", description="The server's own address as browsers see it.")
    secret: SecretStr | None = Field(
        None, description="Signs one-time links; by default made at the first start and kept in the data folder."
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    api_replicas: int = Field(
        0, ge=0, description="Processes that answer REST beside the one with the screens; only with PostgreSQL."
    )
    session_idle_minutes: int = Field(60, ge=1, description="A session ends after so long without a request.")
    session_hours: int = Field(12, ge=1, description="A session ends after so long in any case.")
    max_login_failures: int = Field(100, ge=10, description="Wrong passwords of one account before it is locked.")

    upload_part_bytes: int = Field(8 << 20, ge=1 << 16, description="Size of the parts of an upload.")
    max_upload_bytes: int = Field(2 << 30, ge=1 << 20, description="Largest file that may be uploaded.")
    upload_ttl_s: float = Field(3600, gt=0, description="An upload that is not completed is forgotten after so long.")
    max_body_bytes: int = Field(16 << 20, ge=1 << 20, description="Largest body of any other request.")
    keep_originals: bool = Field(False, description="New projects keep the uploaded files as they came.")

    max_active_trainings: int = Field(1, ge=1, description="Trainings of one student that wait or run at a time.")
    max_training_minutes: float = Field(120, gt=0, description="Longest training of a student.")
    max_gpu_minutes: float | None = Field(
        None, ge=0, description="Minutes of trainings on GPUs that one student may use in all; by default no limit."
    )
    max_prediction_pixels: int = Field(16_000_000, ge=1, description="Larger images are predicted as a job.")
    max_project_bytes: int = Field(20 << 30, ge=1 << 20, description="Storage of one project.")
    max_user_bytes: int = Field(50 << 30, ge=1 << 20, description="Storage of all projects of one person.")
    min_free_bytes: int = Field(5 << 30, ge=0, description="Uploads and trainings are refused below this free space.")

    trash_days: float = Field(30, ge=0, description="What a person deletes can be restored for so long.")
    temporary_hours: float = Field(24, gt=0, description="Temporary objects are deleted after so long.")
    archive_days: float = Field(
        90, ge=1, description="Of runs that ended, and projects archived, so long ago what can be spared is deleted."
    )
    max_datasets: int = Field(2, ge=1, description="Imports, freezings and exports that run at a time.")
    max_trainings: int | None = Field(
        None, ge=1, description="Trainings that run at a time; by default as many as the `driver` resource admits."
    )
    train_gpu_share: float = Field(0.75, gt=0, le=1, description="Part of a GPU that a training worker asks for.")
    train_cpu_resources: dict[str, float] = Field(
        {"CPU": 1},
        description="What a training worker without a GPU asks of Ray; a custom resource sends it to the machines that "
        'have it: `{"trainer": 1}`.',
    )
    presets: dict[str, Preset] = Field(
        {},
        description='Shares of a machine that a training may ask for by name: `{"big": {"gpu_share": 1, "cpus": 8, '
        '"memory_gb": 32}}`.',
    )
    segmenter_gpu_share: float = Field(0.25, ge=0, le=1, description="Part of a GPU that a Segmenter replica asks for.")
    segmenter_min_replicas: int = Field(
        0, ge=0, description="Segmenter replicas on a cluster's GPUs while nobody predicts; 0 lets their machine go."
    )

    oidc_issuer: str | None = Field(None, description="Address of an OpenID Connect provider; signs people in.")
    oidc_client_id: str | None = Field(None, description="Our name at the provider.")
    oidc_client_secret: SecretStr | None = Field(None, description="Our secret at the provider.")

    @model_validator(mode="after")
    def _encryption_is_for_s3(self) -> Self:
        if self.storage_encryption is not None:
            check_encryption(self.storage_encryption, self.storage)
        return self

    @property
    def database(self) -> str:
        """The SQLAlchemy URL."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data.absolute() / 'axons.db'}"

    @property
    def storage(self) -> str:
        """The address of the storage."""
        return self.storage_url.rstrip("/") if self.storage_url else str(self.data.absolute() / "storage")
