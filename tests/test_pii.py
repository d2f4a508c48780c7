"""What is taken for personal or secret, what is not, and the laws of redaction.

Every key, number and address here is made up or one that its standard keeps for documentation.
"""

import json
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracemill.pii import KINDS, Found, Redacted, find, redact, redact_json, redact_value

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7x\nq83vEjRWeJCrze8S\n-----END RSA PRIVATE KEY-----"
BASE = "0123456789abcdefABCDEF" * 5


def shaped(prefix: str, length: int) -> str:
    """A made-up key: written so that no scanner of repositories takes it for a real one."""
    return prefix + BASE[:length]


TRUE = [
    ("Write to bob.smith+news@mail.example.co.uk.", "Write to [email]."),
    ("<anna@example.org>,carl@example.net", "<[email]>,[email]"),
    ("......bob@example.com", "......[email]"),
    ("jürgen@müller.de", "[email]"),
    ("Call +49 (0)30 123456-78 or (212) 555-0123.", "Call [phone] or [phone]."),
    ("+14155552671", "[phone]"),
    ("+33 1 23 45 67 89, 01 23 45 67 89", "[phone], [phone]"),
    ("0049 30 1234567", "[phone]"),
    ("212-555-0123 or 212.555.0123 or 1-800-555-0199", "[phone] or [phone] or [phone]"),
    ("020 7946 0958, 07700 900123, 07700900123", "[phone], [phone], [phone]"),
    ("tel. 030 / 1234567", "tel. [phone]"),
    ("My number is 0176 12345678.", "My number is [phone]."),
    ("phone number 555 123 4567", "phone number [phone]"),
    ("DE89 3704 0044 0532 0130 00 AND MORE", "[iban] AND MORE"),
    ("be68539007547034 and", "[iban] and"),
    ("GB82 WEST 1234 5698 7654 32; FR1420041010050500013M02606", "[iban]; [iban]"),
    ("4111 1111 1111 1111, 4111-1111-1111-1111, 4111111111111111", "[card], [card], [card]"),
    ("378282246310005 and 3782 822463 10005 and 5555555555554444", "[card] and [card] and [card]"),
    ("NIE X-1234567-L, X1234567L", "NIE [national_id], [national_id]"),
    ("from 192.168.1.17 to 203.0.113.7:8080", "from [ip] to [ip]:8080"),
    ("at 2001:db8::1, fe80::1ff:fe23:4567:890a.", "at [ip], [ip]."),
    (shaped("sk-", 40), "[api_key]"),
    (f"key {shaped('sk-ant-api03-', 60)}-AA", "key [api_key]"),
    (f"'{shaped('sk-proj-', 30)}_x-y'", "'[api_key]'"),
    (shaped("AIza", 35), "[api_key]"),
    ("AKIA" + "ABCDEFGH12345678", "[api_key]"),
    (shaped("ghp_", 36), "[api_key]"),
    (shaped("github_pat_", 60), "[api_key]"),
    (shaped("glpat-", 20), "[api_key]"),
    ("xoxb-" + "123456789012-" + BASE[:24], "[api_key]"),
    (shaped("hf_", 34), "[api_key]"),
    (shaped("gsk_", 52), "[api_key]"),
    (shaped("xai-", 80), "[api_key]"),
    (shaped("sk_live_", 24), "[api_key]"),
    (f"SG.{BASE[:22]}.{BASE[:43]}", "[api_key]"),
    (f"COHERE_API_KEY={BASE[:40]}", "COHERE_API_KEY=[api_key]"),
    (f'"x-api-key": "{BASE[:32]}"', '"x-api-key": "[api_key]"'),
    (f"aws_secret_access_key = {BASE[:40]}", "aws_secret_access_key = [api_key]"),
    ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKx-_", "[token]"),
    ("Authorization: Bearer opaque", "Authorization: Bearer [token]"),
    ("authorization: Basic dXNlcjpwYXNz", "authorization: Basic [token]"),
    (f"curl -H 'bearer {BASE[:30]}'", "curl -H 'bearer [token]'"),
    ("postgres://me:hunter2@db:5432/x", "postgres://me:[password]@db:5432/x"),
    ("https://me:hunter2@db.example/x", "https://me:[password]/x"),
    ("password: correct4horse", "password: [password]"),
    ('{"password": "tr0ub4dor"}', '{"password": "[password]"}'),
    (f"{PEM}\nrest", "[private_key]\nrest"),
    (json.dumps(PEM), '"[private_key]"'),
    ("-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7x\n(cut)", "[private_key]\n(cut)"),
]

FALSE = [
    "version 1.2.3, v10.2.3.4-beta",
    "127.0.0.1 and 0.0.0.0 and 255.255.255.0 and ::1",
    "2026-11-22 12:30:45.123456+00:00",
    "a::b, [::2], std::vector, Add::This",
    "01.02.03.04 and \u0661.\u0662.\u0663.\u0664",
    "GB82 WE\u017fT 1234 5698 7654 32 with a long s",
    "10:20:30:40 and 3.14159265358979",
    "1732269045 and 1732269045123456789",
    "ISBN 978-3-16-148410-0",
    "4111111111111112 has a wrong check digit",
    "DE89 3704 0044 0532 0130 01 has a wrong check sum",
    "x = 12 + 34567890; y=+12345678",
    "@app.route('/x') user@host git@localhost",
    "password=password, passwd: getpass, password is required",
    "token = next_token_from_the_stream",
    "bearer authentication-schemes",
    "sk-learn and task-oriented-dialogue-systems",
    "5f2b1c9e-7d44-4c1b-9a7e-0d2f3a4b5c6d",
    "d41d8cd98f00b204e9800998ecf8427e",
    "-----BEGIN PUBLIC KEY-----",
    "0x1234567890 1e10 1_000_000_000",
    "https://example.com/a/b:c?d=e",
]


@pytest.mark.parametrize(("text", "expected"), TRUE)
def test_it_is_redacted(text: str, expected: str) -> None:
    assert redact(text).text == expected


@pytest.mark.parametrize("text", FALSE)
def test_it_is_left_alone(text: str) -> None:
    assert redact(text) == Redacted(text, {})


def test_places_and_counts_are_told() -> None:
    text = "a@b.org, c@d.org, 192.0.2.1"
    assert find(text) == (Found("email", 0, 7), Found("email", 9, 16), Found("ip", 18, 27))
    assert redact(text) == Redacted("[email], [email], [ip]", {"email": 2, "ip": 1})


def test_what_overlaps_is_redacted_once_and_whole() -> None:
    # The user's part of an address may look like a key: nothing of either may remain.
    assert redact(f"mail {shaped('sk-', 30)}@example.com now").text == "mail [api_key] now"


def test_values_are_redacted_at_every_depth() -> None:
    value = {
        "to": ["a@b.org", {"a@b.org": None}],
        "card": 4111111111111111,
        "n": [1, 2.5, True, 10**12],
    }
    redacted = redact_value(value)
    assert redacted.value == {
        "to": ["[email]", {"[email]": None}],
        "card": "[card]",
        "n": [1, 2.5, True, 10**12],
    }
    assert redacted.counts == {"email": 2, "card": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"password": "hunter22"}', '{"password": "[password]"}'),
        ('{"to": "bob\\u0040mail.example"}', '{"to": "[email]"}'),
        ('{"card": 4111111111111111, "n": 1}', '{"card": "[card]", "n": 1}'),
        ('{"phone": 4155550123}', '{"phone": "[phone]"}'),
        (
            '{"in": "{\\"password\\": \\"hunter22\\"}"}',
            '{"in": "{\\"password\\": \\"[password]\\"}"}',
        ),
        ('{"half": "\\ud800", "to": "a@b.org"}', '{"half": "\\ud800", "to": "[email]"}'),
        ('{"a":1,  "b":NaN}', '{"a":1,  "b":NaN}'),
        ("not JSON, password: hunter22", "not JSON, password: [password]"),
        ("[" * 100_000 + "a@b.org", "[" * 100_000 + "[email]"),
    ],
)
def test_json_stays_json(text: str, expected: str) -> None:
    assert redact_json(text).text == expected
    assert redact_json(expected) == Redacted(expected, {})


pieces = st.one_of(
    st.sampled_from([text for text, _ in TRUE]),
    st.sampled_from([text for text, _ in TRUE]).flatmap(
        lambda text: st.integers(0, len(text)).map(lambda at: text[at:])
    ),
    st.sampled_from([f"[{kind}]" for kind in KINDS]),
    st.sampled_from(FALSE),
    st.text("+0123456789.-: @aB_/[]\n", max_size=12),
    st.text(max_size=5),
)


@given(st.lists(pieces, max_size=8).map("".join))
@example("+12345678901" * 20)
@example("1.2.3.4.5.6.7.8.9.10.11.12")
@example("4111 1111 1111 1111 " * 5)
@example("a@b.com@c.com@d.com")
def test_redacting_again_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once.text) == Redacted(once.text, {})


@given(st.lists(pieces, max_size=8).map("".join))
def test_the_places_are_in_order_and_apart(text: str) -> None:
    found = find(text)
    ends = [0, *(place.end for place in found)]
    assert all(end <= place.start < place.end for end, place in zip(ends, found, strict=False))
    assert redact(text).counts == Counter(place.kind for place in found)


HOSTILE = [
    *("a", "a.", "a@", "1", "1 ", "(1)", ":", "a:", "-", "+1 2", "01 23 45 67 8", "2001:"),
    *("sk-", "eyJa.", "eyJaaaaaaaa.", "token=", "key: ", "password: ", "passwd=a1", "tel 1"),
    *("a://a:", "bearer ", "authorization: ", "DE89", "DE89 1234 ", "4111 1111 1111 1112 "),
    *("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAAAAAA\n"),
    *("SG.aaaaaaaaaaaaaaaa.", "a@bbbbbbbbbbbbb-", "[email]", "\u00e9"),
]


@pytest.mark.timeout(40)
@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_texts_take_linear_time(unit: str) -> None:
    # Anything worse than linear would take minutes, and not come back before the time limit.
    text = unit * (250_000 // len(unit))
    assert redact(text + "\n!").text.endswith("\n!")
