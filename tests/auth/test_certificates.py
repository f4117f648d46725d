"""Chains that end at a certificate we trust, and those that do not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.auth.signing import Issued, make_authority, make_certificate

from stackyard.auth.certificates import MAX_CHAIN, trusted_until

SOON = datetime.now(UTC) + timedelta(hours=1)  # certificates of this test run are younger than its start


def trusted(chain: list[Issued], roots: list[Issued], now: datetime = SOON) -> bool:
    found = trusted_until([each.certificate for each in chain], [each.certificate for each in roots], now)
    return found is not None


@pytest.fixture
def root(tmp_path: Path) -> Issued:
    return make_authority(tmp_path, "root")


def test_certificate_that_is_trusted_itself_needs_no_issuer(tmp_path: Path) -> None:
    alone = make_certificate(tmp_path, "alone")

    assert trusted([alone], [alone])
    assert not trusted([alone], [])
    assert not trusted([], [alone])


def test_certificate_from_a_root_is_trusted(tmp_path: Path, root: Issued) -> None:
    assert trusted([make_certificate(tmp_path, "leaf", by=root)], [root])


def test_certificate_from_another_root_of_the_same_name_is_not(tmp_path: Path, root: Issued) -> None:
    (tmp_path / "other").mkdir()
    impostor = make_authority(tmp_path / "other", "root")

    leaf = make_certificate(tmp_path, "leaf", by=impostor)

    assert not trusted([leaf], [root])
    assert not trusted([leaf, impostor], [root])


def test_chain_leads_over_intermediates_in_any_order(tmp_path: Path, root: Issued) -> None:
    first = make_authority(tmp_path, "first", by=root)
    second = make_authority(tmp_path, "second", by=first)
    leaf = make_certificate(tmp_path, "leaf", by=second)

    assert trusted([leaf, second, first], [root])
    assert trusted([leaf, first, second], [root])
    assert trusted([leaf, second, first, root], [root])
    assert not trusted([leaf, second], [root])
    assert not trusted([first, second, leaf], []), "nothing in the chain itself is a root"


def test_issuer_that_is_no_authority_vouches_for_nobody(tmp_path: Path, root: Issued) -> None:
    ordinary = make_certificate(tmp_path, "ordinary", by=root, basicConstraints="CA:FALSE")
    plain = make_certificate(tmp_path, "plain", by=root)
    cannot_sign = make_certificate(
        tmp_path, "cannot-sign", by=root, basicConstraints="CA:TRUE", keyUsage="digitalSignature"
    )

    for number, issuer in enumerate((ordinary, plain, cannot_sign)):
        leaf = make_certificate(tmp_path, f"leaf{number}", by=issuer)
        assert not trusted([leaf, issuer], [root])


def test_path_length_of_an_authority_is_kept(tmp_path: Path, root: Issued) -> None:
    last = make_authority(tmp_path, "last", by=root, pathlen=",pathlen:0")
    beyond = make_authority(tmp_path, "beyond", by=last)

    assert trusted([make_certificate(tmp_path, "leaf", by=last), last], [root])
    assert not trusted([make_certificate(tmp_path, "deep", by=beyond), beyond, last], [root])


def test_chain_is_trusted_only_while_all_of_it_is_valid(tmp_path: Path, root: Issued) -> None:
    middle = make_authority(tmp_path, "middle", by=root)
    leaf = make_certificate(tmp_path, "leaf", by=middle, days=400)
    chain = [leaf, middle]

    assert trusted(chain, [root])
    assert not trusted(chain, [root], SOON + timedelta(days=100))
    assert not trusted(chain, [root], SOON - timedelta(days=1))


def test_trust_ends_with_the_first_certificate_of_the_chain_that_ends(tmp_path: Path) -> None:
    root = make_authority(tmp_path, "root")
    leaf = make_certificate(tmp_path, "leaf", by=root, days=3)

    assert trusted_until([leaf.certificate], [root.certificate], SOON) == leaf.certificate.not_valid_after_utc


def test_chain_that_is_too_long_is_not_followed(root: Issued) -> None:
    assert trusted([root] * MAX_CHAIN, [root])
    assert not trusted([root] * (MAX_CHAIN + 1), [root])
