"""The pages in docs/ that runs of the benchmark write."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.servers import Kind

_CORE = """<!-- Written by `make bench`; edit bench/pages.py instead. -->
# Benchmarks

Stackyard beside Debian's docker-registry on one machine, in one run; nginx, which only sends files, is the ceiling.
{reached} of {goals} targets are reached.
{warning}
![How many times as fast as docker-registry](benchmarks.svg)

{table}

## How to read it

- Each server takes its turn at a case, then the next one does, several rounds long, in opposite order every other
  round. The median counts, and for what was got the median of the rounds' ratios. One turn before that warms up and
  does not count (it holds each worker's first login).
- The load comes from the same cores: a server that needs less CPU leaves more to its clients, as in life.
- CPU is user and system time of all processes of the server, from /proc, per request, push or GB (10⁹ bytes).
- PSS is memory in which pages shared between processes count once. For the last two cases it is the memory before.
- All servers have their access log off and log errors only, except in the row that says defaults. Both registries use
  the same config file, docker-registry with the in-memory cache that its package and image switch on.
- Where nothing is pushed meanwhile, Stackyard answers what it was asked before from memory: each request looks whether
  anything was committed since, by anybody, and reads again if so.
- Before all, free memory is filled with cached pages of a file of holes: on a machine that has just booted each new
  page is fetched from the host, which costs more than writing to it.
- Nothing is switched off: pushed bytes and rows are on the disk before the answer.
- Manifests are 1.5 KiB. Small answers are asked for by wrk over 32 connections, HEAD by an epoll loop over as many,
  blobs by four connections that read and drop the bytes (over TLS they offer the ciphers in the order in which docker
  does), listings by wrk over four. A 1 KiB blob is pushed by POST and
  PUT, a large layer by POST, PATCH and PUT as Docker does it, one at a time.
- The catalogue is asked for page after page. For it and for the start, 10 000 repositories hold 10 manifests each;
  docker-registry, which looks only at the names of folders there, has just the folders.
- The growth of a push is the straight line through the time per push of ten windows of 1 000: a config that is there, a
  layer of 1 KiB and a manifest with a tag of its own, 8 clients, all to one repository.

## The machine

{machine}
- meanwhile: {strangers}

## The programs

{versions}

## Run it

    make bench                                  # all of it, about 20 minutes; writes this page
    .venv/bin/python -m bench --quick           # small sizes, about a minute
    .venv/bin/python -m bench --list
    .venv/bin/python -m bench --only blob-1m ready

It needs wrk, docker-registry and nginx (Debian packages) and, in full, 40 GB of disk; it uses the loopback interface
only, ends its servers and removes their data. All numbers of the last run are in build/bench/.
"""

_LIFECYCLE = """<!-- Written by `make bench-lifecycle`; edit bench/pages.py instead. -->
# Benchmarks of the lifecycle

What collecting, importing and counting cost; collecting beside Debian's docker-registry, in turns on the same tree.
{reached} of {goals} targets are reached.
{warning}
![How many times as fast as docker-registry](benchmarks-lifecycle.svg)

{table}

## How to read it

- The store is made by script: repositories of 100 images, each with a config and eight layers of its own, two layers
  that it shares with its neighbour, and one that all images of the store share. That makes 1 000 blobs and 100
  manifests per repository. The blobs are tiny, since their bytes cost neither registry anything here.
- The garbage is the first ten images of each repository, deleted by the API: a tenth of all blobs and manifests, and
  the bytes of those manifests. Stackyard's follower has taken their links off the tree by then, so they are garbage to
  docker-registry, too. Each run must free exactly that, by its own account and by a look at rows and files; otherwise
  there is no number.
- Deciding is a dry run. Stackyard's is a job of a server that runs, from its start until its result is stored.
  docker-registry has no such thing: its is the command `garbage-collect --dry-run`, all of which is the walk. The rows
  about commands are `stackyard gc` asking the same server; nearly all of that is Python starting.
- Freeing is from there until all bytes are gone. `stackyard.gc.linger` is 0s for it, as docker-registry waits for no
  reader either (and may not serve meanwhile, or only reads); on the large store it is at its default, and a minute
  passes in which nothing is done.
- Of the large store only the garbage's bytes lie on the disk, for collection looks at no other file; its rows are all
  there.
- Everything is in the page cache, as the runs before have read it: docker-registry's walk is at its best.
- Stackyard's follower works meanwhile, and its CPU counts: it takes the links of what goes off the tree, which
  docker-registry 2.8 leaves there.
- docker-registry's cost is that of the store, Stackyard's that of the garbage. A tenth of the store, as here, is much;
  with a hundredth, Stackyard would need a tenth of this, and docker-registry as much as now to decide.
- CPU is user and system time of all processes of the server, and of the command, per run.
- p99 is that of 1 000 requests a second over 16 connections, counted from when each was due, 200 manifests in turn.
  Each pair of turns is one with the background collecting at its own pace and one with a hold, in opposite order every
  other time; the median of the quotients counts.
- Memory is PSS, in which pages shared between processes count once: the most while collecting less that before.
- The import is of 200 repositories of 500 images; meanwhile one client pushes a small blob and a manifest, again and
  again. `.venv/bin/python -m bench.importing` runs it alone, `-m bench.quotas` the comparison with quotas: two servers
  that take turns at pushes of an image of four blobs of 1 KiB.

## The machine

{machine}
- meanwhile: {strangers}

## The programs

{versions}

## Run it

    make bench-lifecycle                                    # all of it; writes this page
    .venv/bin/python -m bench --lifecycle --quick           # small sizes, a minute or two
    .venv/bin/python -m bench --lifecycle --only gc-decide gc-free    # renews the numbers of these
    .venv/bin/python -m bench --lifecycle --again           # writes the page from the numbers that are stored

It needs docker-registry (Debian package) and, in full, 15 GB of disk and 3 million inodes; it uses the loopback
interface only, ends its servers and removes their data.
"""

_SCALE = """<!-- Written by `make bench-scale`; edit bench/pages.py instead. -->
# Benchmarks of several nodes and an object store

Three nodes beside one, each held to 0.3 of a core, and Stackyard beside Debian's docker-registry on the same S3 store.
{reached} of {goals} targets are reached.
{warning}
![How many times as fast as docker-registry](benchmarks-scale.svg)

{table}

## How to read it

- Those compared take turns, several rounds long, in opposite order every other round. The median counts, and for what
  was got the median of the rounds' ratios. One turn before that warms up and does not count.
- The store is Ceph: one monitor, one disk *in memory*, and its gateway, which speaks S3. Each registry has a bucket of
  its own there. Ceph runs on the same cores as everything else, and what it is asked costs it more than its asker. So
  whoever asks it less is faster here, as where each request to a store has its latency and its price.
- PostgreSQL is at its defaults, but for `max_connections`: what it has committed is on the disk, as is each row in
  SQLite. The nodes of a row share a database.
- CPU is user and system time, from /proc. In the rows of nodes it is that of all nodes, without PostgreSQL, nginx and
  Ceph; beside docker-registry PostgreSQL counts as a part of Stackyard, in CPU and in memory. The last rows
  say what one operation cost the programs around.
- PSS is memory in which pages shared between processes count once.

Nodes:

- Each node is `stackyard serve` with one worker, all its processes in a cgroup (v1) of its own with
  `cpu.cfs_quota_us` 30 000 of 100 000. nginx with [`deploy/nginx.conf`](../deploy/nginx.conf) stands before three
  nodes, and before one as well. nginx, PostgreSQL, Ceph and the load are in no such group.
- A node stands still for 70 ms of every 100, and whoever waits for it does, too: so 48 clients keep three of them busy.
  The manifest is asked for by wrk; a push is a new layer of 1 KiB by POST and PUT, and a manifest with a tag of its
  own.
- Their bytes are in Ceph, too. A push costs that more than it costs the nodes, and the cores are the same: on two of
  them, three nodes may want more of it than there is. So pushes are measured on a common folder as well, where nodes
  and PostgreSQL are nearly all there is.
- *What they used of that* tells whether the limit was what limited: 100 % is all of it. Less means that the nodes
  waited for the rest of the machine, and with more cores there would be more to get.
- Nodes start, make their connections and take their first 100 images before they are held.

Beside docker-registry:

- Both have the whole machine, at the same settings but for the rows: access log off, errors only, docker-registry with
  the in-memory cache that its package and image switch on. Stackyard has two workers, docker-registry is one process
  that uses all cores.
- A 1 KiB blob is pushed by POST and PUT, a large layer by POST, PATCH and PUT as Docker does it, one at a time, both in
  parts of 10 MiB. A manifest of 1.5 KiB is asked for over 32 connections. Pulls of blobs are not compared: both
  registries send clients to the store.

## The machine

{machine}
- meanwhile: {strangers}

## The programs

{versions}

## Run it

    make bench-scale                                    # all of it; writes this page
    .venv/bin/python -m bench --scale --quick           # small sizes, a minute
    .venv/bin/python -m bench --scale --only nodes-get nodes-used
    .venv/bin/python -m bench --scale --again           # writes the page from the numbers that are stored

It needs docker-registry, nginx, PostgreSQL and Ceph (Debian packages; `make test` installs them), root and cgroups v1
for the rows of nodes, and 10 GB of memory, in which the store lies. Rows for which something is missing say what. It
uses the loopback interface only, ends its servers and removes their data and groups.
"""


@dataclass(frozen=True)
class Page:
    """A page, its picture beside it."""

    name: str
    text: str
    """With the places that `report` fills in."""
    minutes: float
    """No case of a full run begins later than this."""
    kinds: Sequence[Kind] = tuple(Kind)
    """The programs that have a column."""


CORE = Page("benchmarks", _CORE, 22)
LIFECYCLE = Page("benchmarks-lifecycle", _LIFECYCLE, 90, (Kind.STACKYARD, Kind.REFERENCE))
SCALE = Page("benchmarks-scale", _SCALE, 20, (Kind.STACKYARD, Kind.REFERENCE))
