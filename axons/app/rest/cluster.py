"""The machines and the storage, for administrators."""

from fastapi import APIRouter

from axons.app.health import Health, check_health
from axons.app.policy import require
from axons.app.rest.context import PAGE, ActorOf, Limit, PlatformOf
from axons.app.services import cluster
from axons.app.services.cluster import ClusterPublic, StorageClean, StoragePublic
from axons.app.services.jobs import JobPublic, public_jobs

router = APIRouter(prefix="/cluster", tags=["cluster"])


@router.get("/nodes", operation_id="get_cluster")
def get_cluster(platform: PlatformOf, actor: ActorOf) -> ClusterPublic:
    """The machines of the cluster with what is used of them; answers where Ray is away, too. Administrators may."""
    return cluster.get_cluster(platform, actor)


@router.get("/health", operation_id="get_health_of_parts")
def get_health_of_parts(platform: PlatformOf, actor: ActorOf) -> Health:
    """What `/healthz` says, as an answer that is always 200; administrators may."""
    require(actor, "cluster.read")
    return check_health(platform)


@router.get("/storage", operation_id="get_storage")
def get_storage(platform: PlatformOf, actor: ActorOf, limit: Limit = PAGE) -> StoragePublic:
    """Who fills the storage, the largest first; administrators may."""
    return platform.database.read(lambda session: cluster.get_storage(session, platform, actor, limit=limit))


@router.post("/storage/clean", status_code=202, operation_id="clean_storage")
def clean_storage(platform: PlatformOf, actor: ActorOf, form: StorageClean) -> JobPublic:
    """Clean the storage up now instead of within the hour, as a job; administrators may."""
    return platform.database.write(
        lambda session: public_jobs(session, [cluster.clean_storage(session, actor, form)])[0]
    )
