"""Mutual TLS with real certificates: who has none of ours is not even heard."""

import datetime
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fastchat.common.v1 import scope_service_pb2 as pb
from fastchat.common.v1.scope_service_pb2_grpc import ScopeServiceStub
from kit import principal as pr
from kit.channel import open_channel
from kit.config import ConfigError
from kit.tls import TlsConfig, TlsFiles
from tests.unit.kit_rpc.scripted import MEMBER, Peer, running

pytestmark = pytest.mark.req("PR-028")
NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """A certificate authority of one test."""

    def __init__(self, name: str) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.name, self.key.public_key(), x509.BasicConstraints(True, 0))

    def issue(self, name: str) -> TlsFiles:
        """Key and certificate of a service on this machine."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.DNSName(name), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), x509.BasicConstraints(False, None), names)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return TlsFiles(self.certificate.public_bytes(Encoding.PEM), certificate.public_bytes(Encoding.PEM), private)

    def _sign(self, subject: x509.Name, public: Any, *extensions: x509.ExtensionType) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(minutes=5))
            .not_valid_after(NOW + datetime.timedelta(hours=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())


async def outcome(address: str, signer: pr.Signer, tls: TlsFiles | None) -> grpc.StatusCode:
    """Code of one call over a channel with these certificates."""
    async with open_channel(address, signer=signer, tls=tls) as channel:
        with pr.acting_as(MEMBER):
            call = ScopeServiceStub(channel).EraseScope(pb.EraseScopeRequest(), timeout=5)
            try:
                await call
            except grpc.aio.AioRpcError as error:
                return error.code()
    return grpc.StatusCode.OK


async def test_service_with_a_certificate_is_served() -> None:
    authority = Authority("mesh")
    peer = Peer(tls=authority.issue("edge"))
    async with running(peer) as mesh:
        assert await outcome(mesh.server.address, peer.signer, authority.issue("control")) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param(lambda ours: None, id="plain text"),
        pytest.param(lambda ours: Authority("other").issue("edge"), id="certificate of another authority"),
    ],
)
async def test_service_without_a_certificate_of_ours_is_refused(
    credentials: Callable[[TlsFiles], TlsFiles | None],
) -> None:
    peer = Peer(tls=Authority("mesh").issue("edge"))
    assert peer.tls
    async with running(peer) as mesh:
        found = credentials(peer.tls)
        assert await outcome(mesh.server.address, peer.signer, found) is grpc.StatusCode.UNAVAILABLE


async def test_client_that_knows_the_authority_but_has_no_certificate_is_refused() -> None:
    peer = Peer(tls=Authority("mesh").issue("edge"))
    assert peer.tls
    async with running(peer) as mesh:
        anonymous = grpc.ssl_channel_credentials(root_certificates=peer.tls.ca)
        async with grpc.aio.secure_channel(mesh.server.address, anonymous) as channel:
            metadata = ((pr.METADATA_KEY, peer.signer.sign(MEMBER)),)
            call = ScopeServiceStub(channel).EraseScope(pb.EraseScopeRequest(), timeout=5, metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_server_name_may_be_told() -> None:
    authority = Authority("mesh")
    files = authority.issue("edge.mesh")
    peer = Peer(tls=TlsFiles(files.ca, files.cert, files.key, server_name="edge.mesh"))
    async with running(peer) as mesh:
        assert await outcome(mesh.server.address, peer.signer, peer.tls) is grpc.StatusCode.OK


def test_no_files_is_no_tls() -> None:
    assert TlsConfig().files() is None


def test_files_are_read(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text(name)
    told = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    assert TlsConfig(**told).files() == TlsFiles(b"ca", b"cert", b"key")


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mesh\.tls\.cert, mesh\.tls\.key"):
        TlsConfig(ca="ca.pem").files()
    with pytest.raises(ConfigError, match=r"ca\.pem: cannot read"):
        TlsConfig(ca=str(tmp_path / "ca.pem"), cert="c", key="k").files()
