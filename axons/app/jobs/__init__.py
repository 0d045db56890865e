"""The queue, the dispatcher that empties it, and one module for each kind of job.

A kind is a module with four functions; the dispatcher may call each of them twice:

    prepare(platform, session, job) -> dict      JSON: all that the work needs; only reads rows
    work(request) -> Iterator[dict]              importable, runs in one Ray task without a database; yields JSON rows,
                                                 among them {"progress": 0 to 1}
    commit(session, job, rows) -> None           one transaction for each batch of rows
    finish(session, job) -> str                  the sentence that tells the person what came out

`fail(session, job)` may stand beside them: what a failed or cancelled job leaves in its target. Temporary objects of a
job lie below `tmp/<job id>/` and are deleted when it ends. Trainings are Ray jobs instead, see `train`.
"""
