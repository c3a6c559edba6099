"""The settings: read once, from LEADLINE_* variables or a .env file, then passed on."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import platformdirs
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from router.errors import ConfigurationError


class Durability(StrEnum):
    """What an acknowledged row survives: kill -9 of the process, or loss of power too."""

    PROCESS = "process"
    DISK = "disk"


class Authentication(StrEnum):
    """How callers are known."""

    API_KEY = "api_key"
    MTLS = "mtls"
    NONE = "none"  # loopback only; every caller is an operator of the tenant "default"


class Settings(BaseSettings):
    """What a process of Leadline is told from outside. Secrets are masked in repr."""

    model_config = SettingsConfigDict(
        env_prefix="LEADLINE_", env_file=".env", extra="ignore", frozen=True
    )

    dsn: SecretStr | None = Field(None, description="Postgres; unset: embedded Postgres")
    state_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_state_dir("leadline")),
        description="outboxes, keys and the embedded database",
    )
    host: str = "127.0.0.1"
    port: int = Field(50051, ge=0, le=65535)
    metrics_port: int = Field(0, ge=0, le=65535, description="Prometheus; 0: off")
    gateway_port: int | None = Field(
        None, ge=0, le=65535, description="OpenAI-compatible HTTP; unset: off, 0: a free one"
    )
    gateway_max_body_bytes: int = Field(8 << 20, ge=1 << 10, description="images included")
    execution_timeout_s: float = Field(600.0, gt=0, description="for a run, all attempts")
    backend_timeout_s: float = Field(120.0, gt=0, description="for one call of a model")
    backend_concurrency: int = Field(256, ge=1, description="calls under way per endpoint")
    backend_hedge_after_s: float = Field(
        0.0, ge=0, description="asks again when no answer has come by then; 0: never"
    )
    backend_keys_dir: Path | None = Field(
        None, description="files with the endpoints' keys, each named after its host"
    )
    verifier_code: bool = Field(
        default=False, description="unit_tests may run what models write, in bounds"
    )
    verifier_webhooks: dict[str, str] = Field(
        default_factory=dict, repr=False, description="JSON: verifiers' names, their addresses"
    )
    workers: int = Field(1, ge=1, le=256)
    authentication: Authentication = Authentication.API_KEY
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    durability: Durability = Durability.PROCESS
    outbox_max_bytes: int = Field(1 << 30, ge=1 << 20)
    max_query_bytes: int = Field(256 * 1024, ge=1)
    default_deadline_s: float = Field(2.0, gt=0)
    drain_s: float = Field(10.0, gt=0)
    max_concurrency: int = Field(
        512,
        ge=1,
        description="calls under way per worker; those whose answers stream (Execute) have as "
        "many places of their own, and so have the gateway's requests",
    )
    exploration_rate: float = Field(0.0, ge=0, le=1, description="where a tenant has no slo")
    log_level: str = "info"
    trusted_keys: tuple[str, ...] = Field(
        (), description="hex Ed25519 public keys whose bundles are served, besides our own"
    )

    canary_steps: str = Field(
        "1%:100:10m 5%:300:30m 25%:1000:2h",
        description="shares of a canary, each with the least decisions and time; then a promotion",
    )
    canary_accuracy_margin: float = Field(
        0.02, gt=0, le=0.5, description="how much less accurate a canary may be to be promoted"
    )
    canary_cost_margin: float = Field(
        0.05, gt=0, le=1, description="how much dearer, as a share of the active policy's cost"
    )

    climb_margin: float = Field(
        0.03, gt=0, le=0.5, description="how much higher than usual a tenant's decisions may climb"
    )

    webhook_url: SecretStr | None = Field(
        None, exclude=True, description="told of every change of an slo's state"
    )
    webhook_secret: SecretStr | None = Field(
        None, exclude=True, description="signs what the webhook is sent"
    )
    webhook_private: bool = Field(
        default=False, description="tenants' own webhooks may stand on private addresses"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.authentication is Authentication.NONE and self.host not in LOOPBACK:
            raise ConfigurationError(
                f"host {self.host} is not loopback, so callers must be known: "
                "set LEADLINE_AUTHENTICATION=api_key"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigurationError("set both LEADLINE_TLS_CERTIFICATE and LEADLINE_TLS_KEY")
        if self.authentication is Authentication.MTLS and self.tls_client_ca is None:
            raise ConfigurationError("mtls needs LEADLINE_TLS_CLIENT_CA")
        if (self.webhook_url is None) != (self.webhook_secret is None):
            raise ConfigurationError("set both LEADLINE_WEBHOOK_URL and LEADLINE_WEBHOOK_SECRET")
        if self.webhook_url and not _WEB.match(self.webhook_url.get_secret_value()):
            raise ConfigurationError("LEADLINE_WEBHOOK_URL is no http:// or https:// address")
        return self

    @cached_property
    def outbox_dir(self) -> Path:
        """Where the workers' outbox files stand."""
        return self.state_dir / "outbox"


_WEB = re.compile(r"https?://[^\s/]+")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
