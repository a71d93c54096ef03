"""The command `review`."""

from __future__ import annotations

from pathlib import Path

from presel_lightning.data.run_images import image_resolver
from presel_lightning.errors import UserError
from presel_lightning.review.server import HOST, ReviewServer
from presel_lightning.review.session import Session
from presel_lightning.run import lock
from presel_lightning.run.ledger import is_of_comparison


def open_session(run: Path, image_root: str | None = None) -> Session:
    """Open a run folder for review.

    Args:
        run: folder that `select` or `fit` wrote.
        image_root: folder of its images; by default that of its config.yaml.

    Raises:
        UserError: it is no run folder, or one of a comparison, a run works in it, or its images are
            not found.
    """
    if not (run / "run.json").is_file():
        raise UserError(
            f"--run {run}: no run.json there; give a folder that `select` or `fit` wrote"
        )
    if is_of_comparison(run):
        raise UserError(
            f"--run {run}: a cell of `compare`, whose selections are made on equal terms; review a "
            "folder of `select` or `fit`"
        )
    resolver = image_resolver(run, image_root)
    lock.enter(run)  # a run that works there writes the same journal
    try:
        return Session(run, resolver)
    finally:
        lock.leave()


def serve_review(run: Path, image_root: str | None = None, port: int = 0) -> None:
    """Serve the page of a run until Ctrl-C.

    Args:
        run: folder that `select` or `fit` wrote.
        image_root: folder of its images; by default that of its config.yaml.
        port: port to listen on; 0 takes a free one.

    Raises:
        UserError: the folder cannot be reviewed, or the port is taken.
    """
    session = open_session(run, image_root)
    try:
        server = ReviewServer(session, port)
    except OSError as error:
        session.close()
        raise UserError(
            f"--port {port}: cannot be listened on at {HOST} ({error.strerror}); give another, or 0 "
            "for a free one"
        ) from error
    try:
        print(f"review: {server.address}  (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        print(f"\n{session.summary()}; the same `select` or `fit` command again uses them")
        session.close()
