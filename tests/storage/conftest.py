"""Servers that speak S3."""

import pytest
from tests.support.ceph import Ceph
from tests.support.s3 import S3


@pytest.fixture(params=["ceph", "swift"])
def s3(request: pytest.FixtureRequest) -> S3:
    """Each of them in turn."""
    found: Ceph | S3 = request.getfixturevalue(request.param)
    return found.server if isinstance(found, Ceph) else found
