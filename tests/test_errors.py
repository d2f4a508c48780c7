"""Errors travel between processes whole."""

import pickle

import pytest

from tracemill.errors import CallFailed, TracemillError, UsageError, VersionConflict


@pytest.mark.parametrize(
    "error",
    [
        CallFailed("rate_limited", "slow down", status=429, retry=True, retry_after_s=1.5),
        VersionConflict("call:1", 0, 1),
        UsageError("not so"),
    ],
)
def test_an_error_is_the_same_after_pickling(error: TracemillError):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
