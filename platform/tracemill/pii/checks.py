"""What numbers carry to be told from others: check digits, lengths, ranges.

Each takes the text that a pattern caught and says whether it is what it looks like.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from itertools import pairwise

_DATE = re.compile(
    r"(?:19|20)\d\d[ ./-][01]?\d[ ./-][0-3]?\d|[0-3]?\d[./-][01]?\d[./-](?:19|20)\d\d"
)
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_CODICE_ODD = (
    *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25),
    *(24, 23),
)


def digits_of(text: str) -> list[int]:
    """The digits in a text, in order."""
    return [int(char) for char in text if char in "0123456789"]


def luhn(text: str) -> bool:
    """ISO/IEC 7812-1: every second digit from the right is doubled; the sum ends in 0."""
    digits = reversed(digits_of(text))
    return (
        sum(d if at % 2 == 0 else sum(divmod(2 * d, 10)) for at, d in enumerate(digits)) % 10 == 0
    )


def iban(text: str) -> bool:
    """ISO 7064: with the first four characters last and letters as numbers, 1 modulo 97."""
    code = text.replace(" ", "").replace("-", "")
    return int("".join(str(int(char, 36)) for char in code[4:] + code[:4])) % 97 == 1


def phone(text: str) -> bool:
    """E.164 allows 15 digits; fewer than 8 are seldom a person's; dates are none."""
    return _is_phone(text, 8)


def phone_at_large(text: str) -> bool:
    """As `phone`, where no word says that it is one: with 9 digits, or 10 of North America's."""
    return _is_phone(text, 9)


def _is_phone(text: str, least: int) -> bool:
    digits = sum(map(text.count, "0123456789"))
    return least <= digits <= 15 and _DATE.match(text.lstrip("(")) is None


def ipv4(text: str) -> bool:
    """An address of a machine: not this one, not a mask."""
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or text.startswith("255."))


def ipv6(text: str) -> bool:
    """An address of a machine; `a::b` is a name in several languages, so three digits together."""
    if not re.search(r"[0-9A-Fa-f]{3}", text) or not re.search(r"[0-9]", text):
        return False
    try:
        return not IPv6Address(text).is_loopback
    except AddressValueError:
        return False


def mixed(text: str) -> bool:
    """Whether a value looks drawn rather than written: letters and digits, and not one word."""
    return bool(re.search(r"[0-9]", text) and re.search(r"[A-Za-z]", text))


def drawn(text: str) -> bool:
    """As `mixed`, and it goes between small letters, capitals and digits three times or more."""
    kinds = [(char.isdigit(), char.isupper()) for char in text if char.isalnum()]
    return mixed(text) and sum(a != b for a, b in pairwise(kinds)) >= 3


def password(text: str) -> bool:
    """Letters with digits or signs; not a variable to be filled in."""
    return (
        text[0] not in "$%"
        and re.search(r"[^\W\d_]", text) is not None
        and re.search(r"[0-9!#$%&*^?@]", text) is not None
    )


def strong_password(text: str) -> bool:
    """Small letters, capitals and digits: no word that one might say about passwords."""
    return all(re.search(some, text) for some in ("[a-z]", "[A-Z]", "[0-9]"))


def dni(text: str) -> bool:
    """Spain, DNI and NIE: the letter is the number modulo 23 (Orden INT/2058/2008)."""
    number = text[:-1].replace("-", "").translate(str.maketrans("XYZ", "012"))
    return _DNI_LETTERS[int(number) % 23] == text[-1]


def codice_fiscale(text: str) -> bool:
    """Italy: the last letter is a sum over odd and even places (Decreto 12 marzo 1974)."""
    values = [int(char, 36) - 10 if char.isalpha() else int(char) for char in text[:-1]]
    total = sum(_CODICE_ODD[v] if at % 2 == 0 else v for at, v in enumerate(values))
    return chr(ord("A") + total % 26) == text[-1]


def nir(text: str) -> bool:
    """France: the last two digits are 97 less the number modulo 97; Corsica's letters are 19, 18."""
    code = text.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return int(code[-2:]) == 97 - int(code[:-2]) % 97


def cpf(text: str) -> bool:
    """Brazil: two check digits, each a weighted sum modulo 11."""
    digits = digits_of(text)

    def check(length: int) -> int:
        total = sum(d * (length + 1 - at) for at, d in enumerate(digits[:length]))
        return total * 10 % 11 % 10

    return len(set(digits)) > 1 and (check(9), check(10)) == (digits[9], digits[10])
