# /// script
# requires-python = ">=3.11"
# dependencies = ["litellm==1.106.2"]
# ///
"""The same call by LiteLLM, with its price map from its own package instead of the network."""

import os

from caller import main

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


def prepare(url: str):
    import litellm  # pyright: ignore[reportMissingImports]

    litellm.telemetry = False

    def answer(prompt: str) -> str:
        reply = litellm.completion(
            model="openai/gpt-5.4-mini",
            messages=[{"role": "user", "content": prompt}],
            max_completion_tokens=200,
            base_url=url,
            api_key="benchmark",
        )
        return reply.choices[0].message.content

    return answer


main(prepare)
