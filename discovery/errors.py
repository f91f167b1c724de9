"""What discovery can refuse."""

from registry.errors import AwayError, Problem


class DiscoveryError(Problem):
    """A discovery call that cannot be carried out."""

    code = "discovery_error"


class NothingLiveError(DiscoveryError):
    """The group has no live release yet."""

    code = "nothing_live"


class WatchersFullError(DiscoveryError):
    """As many long polls are under way in this process as it allows; try again in a moment."""

    code = "watchers_full"


class SnapshotUnavailableError(DiscoveryError):
    """No first snapshot has been read in this process yet."""

    code = "snapshot_unavailable"


class DiscoveryAwayError(DiscoveryError, AwayError):
    """Where the members are kept does not answer; nothing was changed, try again in a moment."""

    code = "discovery_away"
