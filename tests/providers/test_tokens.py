"""Tokens to sign in with: what is asked of whom, by the vendors' documentation and their published examples."""

import base64
import json
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from penstock.providers.tokens import aws, entra, google
from penstock.providers.tokens.exchange import TokenQuestion, Unusable, token_in

NOW = 1_800_000_000.0

# ---- Amazon

PUBLISHED = "AKIA"
"""Begins the id of the key in Amazon's published example, in parts so that nobody takes it for a secret."""
EXAMPLE = aws.IamCredentials(f"{PUBLISHED}IOSFODNN7EXAMPLE", b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


def test_the_published_example_of_a_signed_query() -> None:
    """Amazon's example of a presigned GET (docs.aws.amazon.com, "Authenticating Requests: Using Query Parameters")."""
    request = aws.Presigned(
        "GET",
        "examplebucket.s3.amazonaws.com",
        "/test.txt",
        {},
        "us-east-1",
        "s3",
        86400,
        datetime(2013, 5, 24, tzinfo=UTC).timestamp(),
        digest="UNSIGNED-PAYLOAD",
    )
    query = dict(parse_qsl(aws.signed_query(EXAMPLE, request)))
    assert query["X-Amz-Signature"] == "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert query["X-Amz-Credential"] == f"{PUBLISHED}IOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"


def test_a_key_of_bedrock_is_a_signed_query_in_base64() -> None:
    made = aws.bedrock_key(aws.IamCredentials("AKID", b"secret", "session+/="), "eu-west-1", NOW)
    text = made.secret.reveal().decode()
    assert text.startswith("bedrock-api-key-")
    address = base64.b64decode(text.removeprefix("bedrock-api-key-")).decode()
    host, _, query = address.partition("/?")
    assert host == "bedrock.amazonaws.com"
    assert query.endswith("&Version=1")
    fields = dict(parse_qsl(query))
    assert fields["Action"] == "CallWithBearerToken"
    assert fields["X-Amz-Credential"] == "AKID/20270115/eu-west-1/bedrock/aws4_request"
    assert (fields["X-Amz-Expires"], fields["X-Amz-Security-Token"]) == ("43200", "session+/=")
    assert made.expires_at == NOW + 43200
    assert sha256(b"").hexdigest() == aws.NOTHING
    assert "secret" not in repr(aws.IamCredentials("AKID", b"secret"))


def test_a_key_does_not_outlive_the_credentials() -> None:
    assert aws.bedrock_key(aws.IamCredentials("a", b"b", "c", NOW + 600), "r", NOW).expires_at == NOW + 600
    with pytest.raises(Unusable):
        aws.bedrock_key(aws.IamCredentials("a", b"b", "c", NOW), "r", NOW)


def test_the_credentials_of_a_container_and_of_a_machine() -> None:
    answer = {"AccessKeyId": "a", "SecretAccessKey": "b", "Token": "c", "Expiration": "2027-01-15T09:00:00Z"}
    found = aws.credentials_in(json.dumps(answer).encode())
    assert (found.key_id, found.secret, found.session) == ("a", b"b", "c")
    assert found.expires_at == datetime(2027, 1, 15, 9, tzinfo=UTC).timestamp()
    for wrong in (b"", b"[]", b"{}", json.dumps({**answer, "Expiration": "soon"}).encode()):
        with pytest.raises(Unusable):
            aws.credentials_in(wrong)
    assert aws.from_container({}, "") is None
    relative = aws.from_container({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"}, "")
    assert relative == TokenQuestion(b"GET", "http://169.254.170.2/v2/x")
    full = aws.from_container({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/y"}, "tok")
    assert full == TokenQuestion(b"GET", "http://127.0.0.1/y", ((b"authorization", b"tok"),))
    assert aws.metadata_token().method == b"PUT"
    assert aws.metadata_role(b"t", "my role").url.endswith("/security-credentials/my%20role")


# ---- Google

KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ACCOUNT = {
    "type": "service_account",
    "client_email": "gw@project.iam.gserviceaccount.com",
    "private_key": PEM,
    "private_key_id": "k1",
    "token_uri": "https://oauth2.example/token",
}


def test_a_service_account_signs_a_claim() -> None:
    asked = google.from_file(json.dumps(ACCOUNT).encode(), "", NOW)
    assert (asked.method, asked.url) == (b"POST", "https://oauth2.example/token")
    fields = dict(parse_qsl(asked.body.decode()))
    assert fields["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, claims, signature = fields["assertion"].split(".")

    def plain(part: str) -> bytes:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    assert json.loads(plain(head)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert json.loads(plain(claims)) == {
        "iss": "gw@project.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.example/token",
        "iat": NOW,
        "exp": NOW + 3600,
    }
    KEY.public_key().verify(plain(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256())
    assert "assertion" not in repr(asked)


def test_a_persons_credentials_and_the_metadata_server() -> None:
    person = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    asked = google.from_file(json.dumps(person).encode(), "", NOW)
    assert asked.url == "https://oauth2.googleapis.com/token"
    assert dict(parse_qsl(asked.body.decode())) == {
        "grant_type": "refresh_token",
        "client_id": "c",
        "client_secret": "s",
        "refresh_token": "r",
    }
    machine = google.from_metadata()
    assert machine.url.startswith("http://metadata.google.internal/computeMetadata/v1/")
    assert machine.headers == ((b"metadata-flavor", b"Google"),)


def test_files_that_are_no_credentials_are_told_without_what_they_hold() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    other = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for fields in (
        {},
        {"type": "external_account"},
        {"type": "service_account"},
        {**ACCOUNT, "private_key": "SECRET"},
        {**ACCOUNT, "private_key": other},
    ):
        with pytest.raises(Unusable) as caught:
            google.from_file(json.dumps(fields).encode(), "", NOW)
        assert "SECRET" not in str(caught.value)
    with pytest.raises(Unusable):
        google.from_file(b"no JSON", "", NOW)


# ---- Microsoft, and what comes back from either


def test_a_program_asks_entra_with_its_secret() -> None:
    asked = entra.for_client("tenant/x", "client", b"s3cr&t", "", "")
    assert asked.url == "https://login.microsoftonline.com/tenant%2Fx/oauth2/v2.0/token"
    assert dict(parse_qsl(asked.body.decode())) == {
        "grant_type": "client_credentials",
        "client_id": "client",
        "client_secret": "s3cr&t",
        "scope": "https://cognitiveservices.azure.com/.default",
    }
    elsewhere = entra.for_client("t", "c", b"s", "https://ai.azure.com/.default", "https://login.example")
    assert elsewhere.url.startswith("https://login.example/t/")
    assert b"ai.azure.com" in elsewhere.body


def test_what_comes_back() -> None:
    good = token_in(b'{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}', NOW)
    assert (good.secret.reveal(), good.expires_at) == (b"ya29.x", NOW + 3599)
    assert token_in(b'{"access_token":"t","expires_in":"3599"}', NOW).expires_at == NOW + 3599
    for wrong in (
        b"",
        b"[]",
        b'{"access_token":"t"}',
        b'{"access_token":"","expires_in":9}',
        b'{"access_token":"t","expires_in":0}',
        b'{"access_token":"a\\nb","expires_in":9}',
        b'{"error":"invalid_grant"}',
    ):
        with pytest.raises(Unusable):
            token_in(wrong, NOW)
