# /// script
# requires-python = ">=3.11"
# dependencies = ["presidio-analyzer==2.2.366", "scrubadub==2.0.1"]
# ///
"""Where two peers find personal data: JSON texts on the input, places and seconds on the output.

Presidio: its predefined recognisers that need no language model, scores of 0.4 and more. Scrubadub:
its default detectors. Both told to look for the kinds that the benchmark counts.
"""

import json
import sys
import time

PRESIDIO = {
    "EmailRecognizer": "email",
    "PhoneRecognizer": "phone",
    "IbanRecognizer": "iban",
    "CreditCardRecognizer": "card",
    "IpRecognizer": "ip",
    "UsSsnRecognizer": "national_id",
    "EsNifRecognizer": "national_id",
    "EsNieRecognizer": "national_id",
    "ItFiscalCodeRecognizer": "national_id",
    "UkNinoRecognizer": "national_id",
}
SCRUBADUB = {
    "email": "email",
    "phone": "phone",
    "credit_card": "card",
    "social_security_number": "national_id",
    "national_insurance_number": "national_id",
    "credential": "password",
}


def presidio():
    from presidio_analyzer import (  # pyright: ignore[reportMissingImports]
        predefined_recognizers,
    )

    made = [(getattr(predefined_recognizers, n)(), kind) for n, kind in PRESIDIO.items()]

    def find(text):
        for recogniser, kind in made:
            entities = recogniser.supported_entities
            for hit in recogniser.analyze(text, entities, None) or []:
                if hit.score >= 0.4:
                    yield kind, hit.start, hit.end

    return find


def scrubadub():
    import scrubadub as package  # pyright: ignore[reportMissingImports]

    scrubber = package.Scrubber()

    def find(text):
        for filth in scrubber.iter_filth(text):
            for one in getattr(filth, "filths", [filth]):
                if one.type in SCRUBADUB:
                    yield SCRUBADUB[one.type], one.beg, one.end

    return find


def main():
    texts = json.load(sys.stdin)
    find = {"presidio": presidio, "scrubadub": scrubadub}[sys.argv[1]]()
    list(find(texts[0]))
    began = time.perf_counter()
    found = [sorted(set(find(text))) for text in texts]
    print(json.dumps({"seconds": time.perf_counter() - began, "found": found}))


main()
