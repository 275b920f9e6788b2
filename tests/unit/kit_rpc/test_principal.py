"""A principal is believed only with the mesh's signature, within its minute, and within eight hops."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fastchat.common.v1.principal_pb2 import Principal, SignedPrincipal
from kit import principal as pr
from kit.config import ConfigError
from kit.errors import PlatformError, Reason
from tests.unit.kit_rpc.scripted import MEMBER, Clock

pytestmark = pytest.mark.req("PR-030")

KEY = pr.MeshKey.generate()


def refused(verifier: pr.Verifier, blob: bytes) -> Reason:
    with pytest.raises(PlatformError) as caught:
        verifier.verify(blob)
    return caught.value.reason


def test_signed_principal_comes_back_with_its_times(clock: Clock) -> None:
    read = pr.Verifier.of(KEY, clock=clock).verify(pr.Signer(KEY, clock=clock).sign(MEMBER))
    assert (read.tenant_id, read.subject, list(read.scopes)) == ("acme", "key:1", ["chat"])
    assert read.expires_at - read.issued_at == pr.LIFE_S


def test_token_is_reused_for_half_its_life(clock: Clock) -> None:
    signer = pr.Signer(KEY, clock=clock)
    first = signer.sign(MEMBER)
    clock.forward(pr.LIFE_S / 2 - 1)
    assert signer.sign(MEMBER) is first
    clock.forward(2)
    assert signer.sign(MEMBER) != first


def test_principals_do_not_share_tokens(clock: Clock) -> None:
    signer = pr.Signer(KEY, clock=clock)
    other = Principal(tenant_id="other", subject="key:1", scopes=["chat"])
    assert signer.sign(MEMBER) != signer.sign(other)


def test_expired_token_is_refused_even_when_it_was_verified_before(clock: Clock) -> None:
    blob = pr.Signer(KEY, clock=clock).sign(MEMBER)
    verifier = pr.Verifier.of(KEY, clock=clock)
    verifier.verify(blob)
    clock.forward(pr.LIFE_S + 6)
    assert refused(verifier, blob) is Reason.EXPIRED_CREDENTIALS
    assert refused(verifier, blob) is Reason.EXPIRED_CREDENTIALS


def test_forged_principal_is_refused() -> None:
    signed = SignedPrincipal.FromString(pr.Signer(KEY).sign(MEMBER))
    forged = Principal.FromString(signed.principal)
    forged.scopes.append("platform")
    signed.principal = forged.SerializeToString()
    assert refused(pr.Verifier.of(KEY), signed.SerializeToString()) is Reason.INVALID_API_KEY


def test_other_key_is_refused() -> None:
    assert refused(pr.Verifier.of(KEY), pr.Signer(pr.MeshKey.generate()).sign(MEMBER)) is Reason.INVALID_API_KEY


def test_other_key_under_our_keys_id_is_refused() -> None:
    signed = SignedPrincipal.FromString(pr.Signer(pr.MeshKey.generate()).sign(MEMBER))
    signed.key_id = KEY.key_id
    assert refused(pr.Verifier.of(KEY), signed.SerializeToString()) is Reason.INVALID_API_KEY


@pytest.mark.parametrize("blob", [b"", b"\xff\xff", b"not a message at all"])
def test_garbage_is_refused(blob: bytes) -> None:
    assert refused(pr.Verifier.of(KEY), blob) is Reason.INVALID_API_KEY


def test_token_from_the_future_is_refused(clock: Clock) -> None:
    blob = pr.Signer(KEY, clock=Clock(clock.now + 60)).sign(MEMBER)
    assert refused(pr.Verifier.of(KEY, clock=clock), blob) is Reason.INVALID_API_KEY


def test_several_keys_are_trusted_while_one_is_rotated() -> None:
    new = pr.MeshKey.generate()
    verifier = pr.Verifier.of(KEY, new)
    assert verifier.verify(pr.Signer(KEY).sign(MEMBER)).subject == "key:1"
    assert verifier.verify(pr.Signer(new).sign(MEMBER)).subject == "key:1"


def test_hops_are_copied_and_the_ninth_is_refused() -> None:
    signer, verifier = pr.Signer(KEY), pr.Verifier.of(KEY)
    who = MEMBER
    for hop in range(1, pr.MAX_HOPS + 1):
        who = pr.crossed(who)
        assert verifier.verify(signer.sign(who)).hops == hop
    with pytest.raises(PlatformError) as caught:
        pr.crossed(who)
    assert caught.value.reason is Reason.LOOP_DETECTED
    ninth = Principal()
    ninth.CopyFrom(who)
    ninth.hops += 1
    assert refused(verifier, signer.sign(ninth)) is Reason.LOOP_DETECTED


def test_nobody_is_bound_at_first() -> None:
    with pytest.raises(PlatformError) as caught:
        pr.current()
    assert caught.value.reason is Reason.MISSING_CREDENTIALS


def test_acting_as_nests_and_ends() -> None:
    service = pr.service_principal("edge", "acme")
    with pr.acting_as(MEMBER):
        with pr.acting_as(service):
            assert pr.current() is service
        assert pr.current() is MEMBER
    assert pr.current_or_none() is None


@pytest.mark.req("PR-027")
def test_scopes() -> None:
    with pr.acting_as(MEMBER):
        assert pr.require_scope(pr.CHAT) is MEMBER
        with pytest.raises(PlatformError) as caught:
            pr.require_scope(pr.ADMIN)
    assert (caught.value.reason, caught.value.metadata) == (Reason.MISSING_SCOPE, {"scope": "admin"})
    with pr.acting_as(pr.service_principal("control")):
        pr.require_scope(pr.ADMIN)


def test_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "mesh.pem"
    first = pr.load_or_create_mesh_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pr.load_or_create_mesh_key(path).key_id == first.key_id


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mesh.pem"
    pr.load_or_create_mesh_key(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        pr.load_or_create_mesh_key(path)


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mesh.pem"
    path.touch(0o600)
    rsa = generate_private_key(65537, 2048)
    path.write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigError, match="Ed25519"):
        pr.load_or_create_mesh_key(path)
    path.write_bytes(b"no key")
    with pytest.raises(ConfigError, match="cannot read the mesh key"):
        pr.load_or_create_mesh_key(path)


def test_public_keys_are_read_by_id(tmp_path: Path) -> None:
    path = tmp_path / "old.pem"
    path.write_bytes(KEY.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert list(pr.load_public_keys([path])) == [KEY.key_id]
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        pr.load_public_keys([tmp_path / "absent.pem"])
