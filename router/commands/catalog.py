"""leadline models and leadline arms: what decisions choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from router.commands import reach
from router.commands.database import operator
from router.commands.options import Address, Dsn, JsonFlag, usage
from router.commands.output import print_json, say, show
from router.errors import NotFound

if TYPE_CHECKING:
    from router.types import Arm, Catalog, Model

models = typer.Typer(help="Models: endpoints with prices and limits.", no_args_is_help=True)
arms = typer.Typer(help="Arms: a model, a strategy, its parameters.", no_args_is_help=True)


@models.command("list")
def list_models(*, dsn: Dsn = "", address: Address = "", as_json: JsonFlag = False) -> None:
    """Lists the models, weakest tier first.

    Example: leadline models list
    """
    with reach.catalog(dsn, address) as store:
        listed = list(store.read().models)
    rows = [
        (m.name, m.tier, m.input_usd_per_mtok, m.output_usd_per_mtok, m.enabled, m.endpoint)
        for m in listed
    ]
    columns = ("name", "tier", "input $/Mtok", "output $/Mtok", "enabled", "endpoint")
    show(listed, rows, columns, as_json=as_json, empty="no models; add one: leadline models add")


@models.command("add")
def add_model(
    name: Annotated[str, typer.Argument(help="Name by which arms and slos refer to it.")],
    *,
    input_usd_per_mtok: Annotated[
        float, typer.Option("--input", help="$ per million tokens.", min=0)
    ],
    output_usd_per_mtok: Annotated[
        float, typer.Option("--output", help="$ per million tokens.", min=0)
    ],
    cached_input_usd_per_mtok: Annotated[
        float | None,
        typer.Option("--cached-input", help="$ per million cached tokens; none: as input.", min=0),
    ] = None,
    tier: Annotated[int, typer.Option(help="Order by strength, 0 the weakest.", min=0)] = 0,
    context_tokens: Annotated[int, typer.Option(min=1)] = 128_000,
    max_output_tokens: Annotated[int, typer.Option(min=1)] = 4_096,
    capability: Annotated[
        list[str] | None, typer.Option(help="tools, vision or json; may repeat.")
    ] = None,
    energy_wh_per_ktok: Annotated[float, typer.Option(min=0)] = 0.0,
    grid_gco2e_per_kwh: Annotated[
        float, typer.Option(help="Carbon intensity of its region's power.", min=0)
    ] = 0.0,
    region: Annotated[str, typer.Option(help="Where it runs, as eu-west.")] = "",
    endpoint: Annotated[str, typer.Option(help="Base URL of its OpenAI-compatible API.")] = "",
    endpoint_model: Annotated[str, typer.Option(help="Its name there.")] = "",
    thinking: Annotated[
        str, typer.Option(help="How it is told how much to think: effort or budget.")
    ] = "",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Adds a model or replaces the one of that name; then give it arms.

    Example: leadline models add gpt-4o-mini --input 0.15 --output 0.6 --tier 1
    """
    from router.types import Capability, Model, Thinking  # noqa: PLC0415

    with usage("--capability"):
        capabilities = frozenset(map(Capability, capability or ()))
    with usage("--thinking"):
        told = Thinking(thinking) if thinking else None
    model = Model(
        name=name,
        input_usd_per_mtok=input_usd_per_mtok,
        output_usd_per_mtok=output_usd_per_mtok,
        cached_input_usd_per_mtok=cached_input_usd_per_mtok,
        tier=tier,
        context_tokens=context_tokens,
        max_output_tokens=max_output_tokens,
        capabilities=capabilities,
        energy_wh_per_ktok=energy_wh_per_ktok,
        grid_gco2e_per_kwh=grid_gco2e_per_kwh,
        region=region,
        endpoint=endpoint,
        endpoint_model=endpoint_model,
        thinking=told,
    )
    _put_model(model, dsn, address, as_json=as_json)


@models.command("remove")
def remove_model(
    name: Annotated[str, typer.Argument(help="Its name.")],
    *,
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Disables a model: no decision picks it any more, and its history stays.

    Example: leadline models remove gpt-4o-mini
    """
    from dataclasses import replace  # noqa: PLC0415

    with reach.catalog(dsn, address) as store:
        known = {model.name: model for model in store.read().models}
        if name not in known:
            raise NotFound(
                f"there is no model {name!r}; see 'leadline models list'", reason="MODEL_NOT_FOUND"
            )
        revision = store.put_model(replace(known[name], enabled=False), actor=operator())
    _changed(f"model {name} is disabled", revision, as_json=as_json)


@arms.command("list")
def list_arms(*, dsn: Dsn = "", address: Address = "", as_json: JsonFlag = False) -> None:
    """Lists the enabled arms over the enabled models.

    Example: leadline arms list
    """
    with reach.catalog(dsn, address) as store:
        listed = list(store.read().arms)
    rows = [(arm.key, arm.model, arm.strategy) for arm in listed]
    columns = ("key", "model", "strategy")
    show(listed, rows, columns, as_json=as_json, empty="no arms; add one: leadline arms add")


@arms.command("add")
def add_arm(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    strategy: Annotated[str, typer.Argument(help="single, chain_of_thought, ...")] = "single",
    *,
    params: Annotated[str, typer.Option(help='JSON, as {"samples": 5}.')] = "{}",
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Adds an arm, or enables it again.

    Example: leadline arms add gpt-4o-mini self_consistency --params '{"samples": 5}'
    """
    import json  # noqa: PLC0415

    from router.types import Arm, check_arm  # noqa: PLC0415

    with usage("--params"):
        value = json.loads(params)
        if not isinstance(value, dict):
            raise ValueError("must be a JSON object")
        arm = Arm(model=model, strategy=strategy, params=value)
        check_arm(arm)
    with reach.catalog(dsn, address) as store:
        revision = store.put_arm(arm, enabled=True, actor=operator())
    _changed(f"arm {arm.key} is enabled", revision, as_json=as_json)


@arms.command("disable")
def disable_arm(
    key: Annotated[str, typer.Argument(help="As 'leadline arms list' shows it.")],
    *,
    dsn: Dsn = "",
    address: Address = "",
    as_json: JsonFlag = False,
) -> None:
    """Disables an arm: no decision picks it any more, and its history stays.

    Example: leadline arms disable 'gpt-4o-mini:self_consistency?samples=5'
    """
    with reach.catalog(dsn, address) as store:
        arm = _named(store.read(), key)
        revision = store.put_arm(arm, enabled=False, actor=operator())
    _changed(f"arm {key} is disabled", revision, as_json=as_json)


def _named(catalog: Catalog, key: str) -> Arm:
    for arm in catalog.arms:
        if arm.key == key:
            return arm
    raise NotFound(
        f"there is no enabled arm {key!r}; see 'leadline arms list'", reason="ARM_NOT_FOUND"
    )


def _put_model(model: Model, dsn: str, address: str, *, as_json: bool) -> None:
    with reach.catalog(dsn, address) as store:
        revision = store.put_model(model, actor=operator())
    _changed(f"model {model.name} is enabled", revision, as_json=as_json)


def _changed(text: str, revision: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"revision": revision})
    else:
        say(f"{text} (catalog revision {revision})")
