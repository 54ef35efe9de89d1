"""A bound on the memory that a test may reserve."""

import pytest


class LimitedMemory:
    """Within it, no more than so many bytes are reserved beyond what is there."""

    def __init__(self, extra=2**28):
        self.resource = pytest.importorskip('resource')
        self.extra = extra

    def __enter__(self):
        try:
            with open('/proc/self/statm') as file:
                pages = int(file.read().split()[0])
        except OSError:
            pytest.skip('needs /proc to read how much memory is reserved')
        kind = self.resource.RLIMIT_AS
        self.before = self.resource.getrlimit(kind)
        limit = pages * self.resource.getpagesize() + self.extra
        self.resource.setrlimit(kind, (limit, self.before[1]))

    def __exit__(self, *_):
        self.resource.setrlimit(self.resource.RLIMIT_AS, self.before)
