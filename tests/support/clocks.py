"""A clock that only moves when a test says so."""


class ManualClock:
    """Callable like `time.monotonic` and `time.time`; `sleep` moves it instead of waiting."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
