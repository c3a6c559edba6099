"""A LangChain chain on Leadline's chat model, which tells what each answer took.

leadline serve --authentication none --gateway-port 8080 &
python docs/examples/langchain_chat.py
"""

from __future__ import annotations

import os
import sys

from langchain_core.prompts import ChatPromptTemplate

from router.langchain import ChatLeadline


def main() -> None:
    """Asks through a chain, then says what the answer was worth."""
    model = ChatLeadline(
        base_url=os.environ.get("LEADLINE_GATEWAY", "http://127.0.0.1:8080/v1"),
        subject="ann",
    )
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer with the number alone."), ("user", "What is {a} * {b}?")]
    )
    answer = (prompt | model).invoke({"a": 17, "b": 23})
    told = answer.response_metadata
    sys.stdout.write(f"{answer.content}\n{told['arm']} for {told['cost_usd']:.6f} USD\n")
    model.report(answer, float("391" in str(answer.content)), source="exact")
    for chunk in model.stream("Say hello."):
        sys.stdout.write(str(chunk.content))
    sys.stdout.write("\n")
    model.client.close()


if __name__ == "__main__":
    main()
