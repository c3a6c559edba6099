"""The official OpenAI client with Leadline behind it: only the address and the model change.

leadline serve --authentication none --gateway-port 8080 &
python docs/examples/openai_client.py
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI


def main() -> None:
    """Asks twice, the second time as a stream, and says what the first answer was worth."""
    url = os.environ.get("LEADLINE_GATEWAY", "http://127.0.0.1:8080/v1")
    chat = [{"role": "user", "content": "What is 17 * 23? Answer with the number alone."}]
    with OpenAI(base_url=url, api_key=os.environ.get("LEADLINE_API_KEY", "none")) as client:
        answer = client.chat.completions.create(
            model="auto",
            messages=chat,
            extra_body={"compute_budget": 10, "max_cost_usd": 0.05},
        )
        text = answer.choices[0].message.content or ""
        told = answer.leadline
        sys.stdout.write(f"{text}\n{told['arm']} for {told['cost_usd']:.6f} USD\n")
        client.post(
            "/feedback",
            cast_to=object,
            body={"completion_id": answer.id, "score": float("391" in text), "source": "exact"},
        )
        for chunk in client.chat.completions.create(model="auto", messages=chat, stream=True):
            sys.stdout.write(chunk.choices[0].delta.content or "")
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
