"""`stackyard` as it is shipped, but for one setting: a lease that nobody renews ends after LEASE_SECONDS seconds."""

import os
from datetime import timedelta
from functools import partial

from stackyard.cli.main import main
from stackyard.registry import registry
from stackyard.registry.leases import Leases

if __name__ == "__main__":
    span = timedelta(seconds=float(os.environ["LEASE_SECONDS"]))
    setattr(registry, Leases.__name__, partial(Leases, span=span))
    main()
