"""Leadline as a chat model of LangChain: `from router.langchain import ChatLeadline`."""

from router.langchain.chat import ChatLeadline

__all__ = ["ChatLeadline"]
