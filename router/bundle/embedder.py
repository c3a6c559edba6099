"""The default embedder, read from the files that the wordllama package ships."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import load as load_safetensors
from tokenizers import Tokenizer

from router.bundle.manifest import EmbedderInfo, Manifest
from router.errors import BundleRefused, ConfigurationError
from router.policy.embedding import Embedder, StaticEmbedder

DEFAULT_EMBEDDER = "wordllama-l2-supercat-256"

_WEIGHTS = Path("weights/l2_supercat_256.safetensors")
_TOKENIZER = Path("tokenizers/l2_supercat_tokenizer_config.json")


def load_embedder(name: str = DEFAULT_EMBEDDER) -> StaticEmbedder:
    """The embedder of that name, without network. Takes about 0.1 s and 35 MB.

    Raises ConfigurationError when the name is unknown or the package is not whole.
    """
    if name != DEFAULT_EMBEDDER:
        raise ConfigurationError(
            f"embedder {name!r:.80} is not known here; known is {DEFAULT_EMBEDDER}"
        )
    weights, tokenizer = _read(_WEIGHTS), _read(_TOKENIZER)
    vectors = load_safetensors(weights)["embedding.weight"].astype(np.float32)
    vectors.setflags(write=False)
    return StaticEmbedder(
        name=name,
        digest=hashlib.sha256(weights + tokenizer).hexdigest(),
        dimensions=vectors.shape[1],
        tokenizer=Tokenizer.from_buffer(tokenizer),
        vectors=vectors,
    )


def describe_embedder(embedder: Embedder) -> EmbedderInfo:
    """What a manifest says of the embedder."""
    return EmbedderInfo(name=embedder.name, digest=embedder.digest, dimensions=embedder.dimensions)


def check_embedder(manifest: Manifest, embedder: Embedder) -> None:
    """Raises BundleRefused unless the policy was trained with exactly this embedder."""
    wanted, found = manifest.embedder, describe_embedder(embedder)
    if wanted != found:
        raise BundleRefused(
            f"the policy was trained with embedder {wanted.name:.80} (digest {wanted.digest[:12]}, "
            f"{wanted.dimensions} dimensions), and here is {found.name} (digest "
            f"{found.digest[:12]}, {found.dimensions} dimensions); install the version that it "
            "was trained with, or train the policy anew"
        )


def _read(path: Path) -> bytes:
    spec = find_spec("wordllama")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / path
        if file.is_file():
            return file.read_bytes()
    raise ConfigurationError(
        f"{path} of the wordllama package is not there; install leadline's dependencies again"
    )
