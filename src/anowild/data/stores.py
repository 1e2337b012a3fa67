"""File systems behind URLs such as s3://bucket/folder, by fsspec."""

from __future__ import annotations

import os
from typing import Any

from anowild.libraries import library


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, as fsspec has them, and the path there.

    S3 is read with PyArrow, which every installation has; endpoint and region are those of the usual variables of
    the environment. Other protocols need the library that fsspec names.

    Raises:
        MissingLibrary: fsspec is not installed.
        Exception: of many kinds, where the protocol is not known or the server cannot be reached.
    """
    protocol, _, path = url.partition("://")
    if protocol in ("s3", "s3a"):
        return _s3(path.partition("/")[0]), path
    system, root = library("fsspec.core", url).url_to_fs(url)
    return system, root


def _s3(bucket: str) -> Any:
    arrow = library("pyarrow.fs", f"s3://{bucket}")
    wrapper = library("fsspec.implementations.arrow", f"s3://{bucket}").ArrowFSWrapper
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    given: dict[str, Any] = {}
    if endpoint:  # PyArrow does not look for it
        scheme, _, host = endpoint.rpartition("://")
        given |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    elif not region:
        region = arrow.resolve_s3_region(bucket)
    if region:
        given["region"] = region
    return wrapper(arrow.S3FileSystem(**given))
