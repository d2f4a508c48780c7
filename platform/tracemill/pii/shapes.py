"""How IBANs, cards and telephone numbers are written, country by country."""

# ISO 13616: how long an IBAN is in each country.
_IBAN_LENGTHS = {
    15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
    21: "CH CR HR LI LV", 22: "BG BH DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SC SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV", 29: "BR EG PS QA UA",
    30: "JO KW MU YE", 31: "MT", 32: "LC", 33: "RU",
}  # fmt: skip
IBAN = "|".join(
    rf"(?:{countries.replace(' ', '|')})[0-9]{{2}}(?:[ -]?[A-Z0-9]){{{length - 4}}}"
    for length, countries in _IBAN_LENGTHS.items()
)
# Visa, Mastercard, Maestro, Discover, JCB, UnionPay; American Express; Diners Club; old Visa.
CARD = (
    r"(?:4[0-9]|5[0-9]|6[0-9]|35|2[2-7])[0-9]{2}([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?"
    r"|3[47][0-9]{2}([ -]?)[0-9]{6}\2[0-9]{5}|3[0689][0-9]{2}([ -]?)[0-9]{6}\3[0-9]{4}|4[0-9]{12}"
)
PHONE = "|".join(  # noqa: FLY002 - a list with its countries beside
    (
        r"0[1-9](?:[ .-][0-9]{2}){4}(?![ .-]?[0-9])",  # France
        r"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])[2-9][0-9]{2}[ .-][0-9]{4}",  # +1
        r"\([1-9][0-9]\) ?9?[0-9]{4}-[0-9]{4}",  # Brazil
        r"8[ -]?\([0-9]{3}\)[ -]?[0-9]{3}-[0-9]{2}-[0-9]{2}",  # Russia
        r"1[3-9][0-9][ -][0-9]{4}[ -][0-9]{4}",  # China's mobiles
        r"0?[6-9][0-9]{4} [0-9]{5}",  # India
        r"0[1-9][0-9]{0,2}-[0-9]{3,4}-[0-9]{4}",  # Japan, Korea, Thailand, Israel
        # Britain, Germany and others
        r"(?:\(0[1-9][0-9]{0,4}\)|0[1-9][0-9]{1,4})(?: ?[/-] ?| )[0-9]{3,8}(?:[ -][0-9]{2,5}){0,2}",
        r"(?:\(0[1-9]\)|0[1-9])(?: ?[/-] ?| )(?:[0-9]{3,4} [0-9]{4}|[0-9]{7,8})",
        r"0[1-9][0-9]{0,3} [0-9]{2,4}(?: [0-9]{2,4}){1,3}(?! ?[0-9])",
        r"0[1-9][0-9]{1,2}-[0-9]{3} [0-9]{2} [0-9]{2}",  # Sweden
        r"07[0-9]{9}",  # Britain's and
        r"0[67][0-9]{8}",  # France's mobiles
    )
)
