"""The flags --workers and --cluster, shared by the verbs that spread work over processes."""

from __future__ import annotations

import argparse

from fer_jax.cluster import Cluster
from fer_jax.errors import UserError
from fer_jax.executor import Executor, cores


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --workers and --cluster."""
    parser.add_argument(
        "--workers", type=_count, metavar="N",
        help="processes of this machine, each with one thread (default: one per core)",
    )  # fmt: skip
    parser.add_argument(
        "--cluster", metavar="auto|HOST:PORT",
        help="the CPUs of a Ray cluster instead: the one that this machine is a node of, or that "
        "of a head; needs the extra [cluster]",
    )  # fmt: skip


def make_executor(options: argparse.Namespace) -> Executor:
    """Returns the workers that the flags choose.

    Raises:
      UserError: both flags are given, or there is no such cluster.
    """
    if options.workers and options.cluster:
        raise UserError("expected --workers or --cluster, found both; leave one out")
    return Cluster(options.cluster) if options.cluster else Executor(options.workers or cores())


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UserError(f"expected --workers of at least 1, found {text}")
    return int(text)
