"""What a service of the house does: the same parts put together in five ways.

`serve` is a whole house in one service. In a cluster each part is a service of its own, so that each grows, restarts
and fails by itself; they meet in a registry, an artifact store and a membership that all of them reach.
"""

from dataclasses import dataclass
from typing import Final

from discovery.membership import WORKER
from gateway.errors import SettingInvalidError
from gateway.settings import Settings

GATEWAY: Final = "gateway"
DISCOVERY: Final = "discovery"


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of service.

    Attributes:
        name: of the command that starts it.
        services: what its members serve, as discovery shows it.
        scores: whether it holds models; else it asks workers across the network.
        assigned: whether of the models it holds those alone that are assigned to its seat; else all.
        assigns: whether it keeps the assignments.
        predicts: whether it answers predicts.
        controls: whether it answers the routes that change the house.
        builds: whether a builder runs beside it.
        shared: whether it is of use only where others reach the same registry and artifacts.
    """

    name: str
    services: tuple[str, ...]
    scores: bool = False
    assigned: bool = False
    assigns: bool = False
    predicts: bool = False
    controls: bool = False
    builds: bool = False
    shared: bool = True

    @property
    def listens(self) -> bool:
        """Whether it answers requests at all."""
        return bool(self.services)

    def check(self, settings: Settings) -> None:
        """Refuse settings under which this service would serve nobody.

        Raises:
            SettingInvalidError: naming the variable.
        """
        if not self.shared:
            return
        for name, value, example in (
            ("MANYMODELS_REGISTRY", settings.registry, "postgresql://user@host/name"),
            ("MANYMODELS_ARTIFACTS", settings.artifacts, "s3://bucket/prefix"),
        ):
            if not value:
                raise SettingInvalidError(
                    f"{name} is not set: a {self.name} works with others, which must reach the same one ({example}); "
                    "`manymodels serve` needs none",
                    field=name,
                )


SERVE: Final = Role("serve", (GATEWAY, WORKER), scores=True, predicts=True, controls=True, builds=True, shared=False)
GATEWAY_ROLE: Final = Role(GATEWAY, (GATEWAY,), predicts=True, controls=True)
WORKER_ROLE: Final = Role(WORKER, (WORKER,), scores=True, assigned=True, predicts=True)
DISCOVERY_ROLE: Final = Role(DISCOVERY, (DISCOVERY,), assigns=True)
BUILDER_ROLE: Final = Role("builder", (), builds=True)
