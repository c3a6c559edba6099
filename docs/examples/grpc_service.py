"""A backend service that runs the arms itself: Leadline decides by gRPC and learns what came of it.

leadline serve --authentication none &
BACKEND=http://127.0.0.1:8000/v1 python docs/examples/grpc_service.py
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI

from router import Arm, Attempt, Client

CHAT = [{"role": "user", "content": "What is 17 * 23? Answer with the number alone."}]


def answer(endpoint: OpenAI, arm: Arm) -> Attempt[str]:
    """Runs an arm of one pass, with what the policy can learn from."""
    reply = endpoint.chat.completions.create(model=arm.model, messages=CHAT, logprobs=True)
    said = reply.choices[0]
    tokens = said.logprobs.content if said.logprobs and said.logprobs.content else []
    return Attempt(
        answer=said.message.content or "",
        confidence=sum(token.logprob for token in tokens) / len(tokens) if tokens else None,
        input_tokens=reply.usage.prompt_tokens if reply.usage else None,
        output_tokens=reply.usage.completion_tokens if reply.usage else None,
    )


def main() -> None:
    """Routes a query, runs what is chosen, goes on where that is advised, and reports."""
    backend = os.environ.get("BACKEND", "http://127.0.0.1:8000/v1")
    with (
        OpenAI(base_url=backend, api_key=os.environ.get("BACKEND_KEY", "none")) as endpoint,
        Client() as leadline,
    ):
        single = [arm.key for arm in leadline.list_arms() if arm.strategy == "single"]
        done = leadline.run(
            CHAT,
            lambda arm: answer(endpoint, arm),
            score=lambda text: float("391" in text),
            allowed_arms=single,
        )
    tried = ", ".join(attempt.arm.key for attempt in done.attempts if attempt.arm)
    sys.stdout.write(f"{done.answer}\n{tried}\n")


if __name__ == "__main__":
    main()
