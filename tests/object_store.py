"""A real S3 server on this machine, for as long as it is used, and what tells a process where it is."""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from storage.stores.remote import file_system


@dataclass(frozen=True)
class ObjectStore:
    """A server.

    Attributes:
        environment: what a process needs to reach it.
    """

    environment: dict[str, str]

    def bucket(self) -> str:
        """Make a bucket and return its URL."""
        name = f"tuning-{uuid.uuid4().hex[:12]}"
        self._client.create_bucket(Bucket=name)
        return f"s3://{name}/tuning"

    @cached_property
    def _client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
        )


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Yield a server that runs inside the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what moto imports
        from moto.server import ThreadedMotoServer

    # It remembers where an earlier server of this process was.
    file_system.cache_clear()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield ObjectStore(
            {
                "AWS_ENDPOINT_URL": f"http://{host}:{port}",
                "AWS_ACCESS_KEY_ID": "tests",
                "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        )
    finally:
        server.stop()
