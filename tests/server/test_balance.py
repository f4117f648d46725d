"""Who is ahead in connections."""

import pytest

from stackyard.server.balance import A_BIT, FAR, Balance


@pytest.mark.parametrize(
    ("own", "other", "ahead"),
    [(0, 0, 0), (1, 0, 0), (2, 0, A_BIT), (4, 0, A_BIT), (5, 0, FAR), (13, 10, 0), (14, 10, A_BIT), (25, 10, FAR)],
)
def test_a_quarter_and_one_more_is_not_ahead(own: int, other: int, ahead: int) -> None:
    balance = Balance(2)
    balance.set(0, own)
    balance.set(1, other)

    assert balance.ahead(0) == ahead
    assert balance.ahead(1) == 0


def test_worker_that_is_not_there_has_no_part() -> None:
    balance = Balance(2)
    balance.set(0, 100)

    assert balance.ahead(0) == 0
