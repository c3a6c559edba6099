"""Tests against a real model; `make test-llm` installs llama.cpp and runs them."""
