"""Who has to wait after wrong logins, and who does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.auth.making import Clock

from stackyard.auth.throttle import ADDRESS, PAIR, USER, Throttle, neighbourhood
from stackyard.oci.errors import TooManyRequests


def wrong(throttle: Throttle, address: str, user: str, times: int = 1) -> int:
    """How many of these wrong logins were checked."""
    checked = 0
    for _ in range(times):
        try:
            throttle.charge(address, user)
        except TooManyRequests:
            break
        checked += 1
    return checked


def test_guessing_one_user_from_one_place_ends_after_a_few() -> None:
    throttle = Throttle(Clock())

    assert wrong(throttle, "192.0.2.1", "alice", 1000) == PAIR.burst


def test_refusal_says_when_to_come_back_and_then_one_more_is_checked() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    wrong(throttle, "192.0.2.1", "alice", PAIR.burst)

    with pytest.raises(TooManyRequests) as refused:
        throttle.charge("192.0.2.1", "alice")
    clock.now += int(refused.value.headers["Retry-After"])

    assert wrong(throttle, "192.0.2.1", "alice", 10) == 1


def test_counts_decay_to_nothing() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    wrong(throttle, "192.0.2.1", "alice", PAIR.burst)

    clock.now += PAIR.burst * PAIR.seconds

    assert wrong(throttle, "192.0.2.1", "alice", 1000) == PAIR.burst


def test_guessing_many_users_from_one_place_ends_too() -> None:
    throttle = Throttle(Clock())

    assert sum(wrong(throttle, "192.0.2.1", f"user{number}") for number in range(1000)) == ADDRESS.burst


def test_guessing_one_user_from_many_places_leaves_each_place_one_attempt() -> None:
    throttle = Throttle(Clock())

    checked = [wrong(throttle, f"192.0.2.{number}", "alice", 10) for number in range(100)]

    assert sum(checked[: USER.burst // PAIR.burst]) == USER.burst
    assert set(checked[USER.burst // PAIR.burst :]) == {1}


def test_user_under_attack_from_everywhere_still_gets_in_from_a_quiet_place() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for number in range(10_000):
        wrong(throttle, f"10.0.{number // 250}.{number % 250}", "alice", 20)

    throttle.charge("192.0.2.1", "alice")
    throttle.forgive("192.0.2.1", "alice")
    throttle.charge("192.0.2.1", "alice")


def test_neighbours_behind_one_address_are_not_shut_out_by_one_wrong_machine() -> None:
    """It retries for ever with one wrong password; what is refused no longer counts against the address."""
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(600):
        wrong(throttle, "192.0.2.1", "stale-robot", 50)
        clock.now += 1
        throttle.charge("192.0.2.1", "alice")
        throttle.forgive("192.0.2.1", "alice")


def test_right_password_gives_its_charge_back_and_forgets_the_slips() -> None:
    throttle = Throttle(Clock())
    wrong(throttle, "192.0.2.1", "alice", PAIR.burst - 1)

    throttle.charge("192.0.2.1", "alice")
    throttle.forgive("192.0.2.1", "alice")

    assert wrong(throttle, "192.0.2.1", "alice", 1000) == PAIR.burst


def test_right_passwords_of_one_user_do_not_hide_guesses_at_another() -> None:
    throttle = Throttle(Clock())
    checked = 0
    for _ in range(100):
        checked += wrong(throttle, "192.0.2.1", "alice")
        throttle.charge("192.0.2.1", "mallory")
        throttle.forgive("192.0.2.1", "mallory")

    assert checked == PAIR.burst


def test_memory_is_bounded() -> None:
    throttle = Throttle(Clock())
    for number in range(30_000):
        wrong(throttle, f"10.{number // 65536}.{number // 256 % 256}.{number % 256}", f"user{number}")

    assert max(len(each.levels) for each in (throttle._pairs, throttle._addresses, throttle._users)) <= 10_000


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("not an address", "not an address"),
    ],
)
def test_place_is_the_address_or_the_network_one_host_owns(address: str, place: str) -> None:
    assert neighbourhood(address) == place


@given(st.text())
def test_place_of_any_text_is_bounded(address: str) -> None:
    assert len(neighbourhood(address)) <= 64
