"""Transactions that must not overlap."""

from sqlmodel import Session, col, update

from axons.app.tables import Project, User


def take_turns(session: Session, row: User | Project) -> None:
    """Let transactions that call this for one row happen one after the other, each seeing what the last one did.

    The row is written, not only locked: PostgreSQL would let a transaction that waited for a lock go on with what it
    had seen before, while after a write it makes it begin again.
    """
    if isinstance(row, User):
        session.exec(update(User).where(col(User.id) == row.id).values(is_active=User.is_active))
    else:
        session.exec(update(Project).where(col(Project.id) == row.id).values(updated_at=Project.updated_at))
