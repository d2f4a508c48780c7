# /// script
# requires-python = ">=3.11"
# dependencies = ["openai==3.54.0"]
# ///
"""The same call by OpenAI's own SDK."""

from caller import main


def prepare(url: str):
    from openai import OpenAI  # pyright: ignore[reportMissingImports]

    client = OpenAI(base_url=url, api_key="benchmark")

    def answer(prompt: str) -> str:
        reply = client.chat.completions.create(
            model="gpt-5.4-mini",
            messages=[{"role": "user", "content": prompt}],
            max_completion_tokens=200,
        )
        return reply.choices[0].message.content or ""

    return answer


main(prepare)
