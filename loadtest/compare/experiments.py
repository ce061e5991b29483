"""What is measured. Each experiment returns a Section of the report, and may add
to the budgets."""

import os
import re
import subprocess
import time
import urllib.request

from . import forged, machine
from .beside import disk, slow
from .columns import CPU, P50, P99, RATE, USER
from .measure import Figure, Rounds, interleaved, load
from .peers import running
from .peers.edge import Edge, EdgeManyKeys, EdgeShipping, EdgeTls, EdgeTwoWorkers
from .peers.envoy import Envoy, EnvoyTls
from .peers.forwarders import Bare, Direct, Floor
from .peers.haproxy import HAProxy, HAProxyLimited, HAProxyTls
from .peers.nginx import Nginx, NginxLimited, NginxTls
from .report import Budget, Section
from .scene import KEYS, ONE


def admitted(run):
    """Closed loop, 64 connections, 200 B answers, 1,000 of 10,000 keys."""
    peers = running(run, [Edge, EdgeShipping, Nginx, HAProxy, Envoy, Floor, Bare])
    rounds = interleaved(run.scene, peers, run.rounds, seconds=run.seconds, warm_up=run.warm_up, distinct=1000)
    section = Section("Admitted", admitted.__doc__, rounds, [CPU, USER, RATE, P50], reference="nginx")
    cpu = CPU[1]
    for reference, limit in [("nginx", 0.92), ("HAProxy", 0.85), ("Envoy", 0.35), ("kernel floor", 1.25)]:
        if reference in rounds.names:
            section.budget(Budget(
                f"CPU per admitted request, of {reference}", rounds.ratio("edge", reference, cpu), limit))
    section.budget(Budget(
        "everything on top of bare hyper forwarding, us", rounds.difference("edge", "bare hyper", cpu), 1.5))
    worker = rounds.figure("edge", lambda result: result.threads_us.get("worker-0", 0.0))
    section.note(f"The edge's worker alone, without the thread that syncs the journal: {worker.show()} us.")
    # Half of what the slowest of the three manages: what "half saturation" is from here on.
    compared = [name for name in ("edge", "nginx", "HAProxy") if name in rounds.names]
    run.half = min(rounds.figure(name, RATE[1]).median for name in compared) / 2
    return section


def refused(run):
    """Closed loop, tokens that were forged: 401."""
    peers = running(run, [Edge, Nginx, HAProxy, Envoy])
    tokens = forged.tokens(run.scene, 1000)
    rounds = interleaved(
        run.scene, peers, run.rounds, seconds=run.seconds, warm_up=run.warm_up, keys=tokens, expect=401)
    section = Section("Refused", refused.__doc__, rounds, [CPU, RATE, P50], reference="nginx")
    if "nginx" in rounds.names:
        section.budget(Budget("CPU per refused request, of nginx", rounds.ratio("edge", "nginx", CPU[1]), 1.0))
    return section


def limited(run):
    """Closed loop, 1,000 keys that have had their one request of the minute: 429."""
    scene = run.scene
    edge = scene.peer(Edge, scene.stored(KEYS, ONE))
    peers = [edge, *running(run, [NginxLimited, HAProxyLimited])]
    rounds = interleaved(
        scene, peers, run.rounds, seconds=run.seconds, warm_up=run.warm_up, distinct=1000, expect=429)
    scene.forget(Edge, scene.stored(KEYS, ONE))
    return Section("Rate-limited", limited.__doc__, rounds, [CPU, RATE, P50], reference="nginx limited")


def tls(run):
    """Closed loop over TLS 1.3, 200 B answers: 64 connections of HTTP/1.1."""
    peers = running(run, [EdgeTls, NginxTls, HAProxyTls, EnvoyTls])
    rounds = interleaved(run.scene, peers, run.rounds, seconds=run.seconds, warm_up=run.warm_up, distinct=1000)
    return Section("TLS", tls.__doc__, rounds, [CPU, USER, RATE, P50], reference="nginx, TLS")


def http2(run):
    """Closed loop of HTTP/2 over TLS 1.3, 200 B answers: 8 connections with 8 requests at once on each."""
    peers = running(run, [EdgeTls, NginxTls, HAProxyTls, EnvoyTls])
    rounds = interleaved(
        run.scene, peers, run.rounds, connections=8, streams=8, seconds=run.seconds, warm_up=run.warm_up,
        distinct=1000)
    return Section("HTTP/2", http2.__doc__, rounds, [CPU, USER, RATE, P50], reference="nginx, TLS")


def bodies(run):
    """Closed loop, 16 connections, answers of 10 KiB and 1 MiB."""
    peers = running(run, [Edge, Nginx, HAProxy, Envoy, Floor, Bare])
    sections = []
    for size, name in [(10 << 10, "10 KiB"), (1 << 20, "1 MiB")]:
        rounds = interleaved(
            run.scene, peers, run.rounds, path=f"/bytes/{size}", connections=16, seconds=run.seconds,
            warm_up=run.warm_up, distinct=1000)
        section = Section(f"Bodies of {name}", bodies.__doc__, rounds, [CPU, RATE, P50], reference="nginx")
        if size == 1 << 20 and "nginx" in rounds.names:
            section.budget(Budget("1 MiB bodies: CPU, of nginx", rounds.ratio("edge", "nginx", CPU[1]), 0.6))
        sections.append(section)
    return sections


def memory(run):
    """64 connections, answers of 1 MiB: resident memory before and after."""
    scene = run.scene
    scene.forget(Edge)
    peer = scene.peer(Edge)
    small = load(scene, peer, seconds=run.seconds, warm_up=0, distinct=1000)
    large = load(scene, peer, path=f"/bytes/{1 << 20}", seconds=run.seconds, warm_up=0, distinct=1000)
    grown = (large.resident_kib - small.resident_kib) / 64
    section = Section("Memory of large bodies", memory.__doc__)
    section.note(f"From {small.resident_kib:,} to {large.resident_kib:,} KiB: {grown:,.0f} KiB a connection.")
    return section


def open_loop(run):
    """Open loop at half saturation: Poisson arrivals, timed from when each was due."""
    peers = running(run, [Direct, Edge, Nginx, HAProxy, Envoy])
    rounds = interleaved(
        run.scene, peers, run.rounds, rate=run.half_saturation(), seconds=run.seconds * 2, warm_up=run.warm_up,
        distinct=1000)
    added50 = ("p50 added us", lambda result: result.p50_us)
    section = Section(
        f"Open loop at {run.half_saturation():,.0f} a second", open_loop.__doc__, rounds,
        [P50, P99, ("generator late p99 us", lambda result: result.lateness_p99_us), CPU], reference="nginx")
    section.curves = True
    del added50
    for name in rounds.names:
        if name != "direct":
            section.note(
                f"{name} adds to direct: p50 {rounds.difference(name, 'direct', P50[1]).show(0)} us, "
                f"p99 {rounds.difference(name, 'direct', P99[1]).show(0)} us.")
    if "HAProxy" in rounds.names:
        calm, trusted = rounds.quiet("edge", "HAProxy", "direct")
        for what, value in [("p50", P50[1]), ("p99", P99[1])]:
            added = [[value(one[name]) - value(one["direct"]) for name in ("edge", "HAProxy")] for one in calm]
            ratio = Figure([mine / theirs for mine, theirs in added if theirs > 0], trusted)
            if ratio.values:
                section.budget(Budget(f"added latency {what}, of HAProxy's", ratio, 1.0))
    return section


def offered(run):
    """Open loop from a quarter of saturation to a quarter beyond it."""
    peers = running(run, [Edge, Nginx, HAProxy])
    section = Section("Throughput against offered rate", offered.__doc__)
    rows = []
    for share in (0.25, 0.5, 0.75, 0.9, 1.0, 1.25):
        rate = run.half_saturation() * 2 * share
        for peer in peers:
            result = load(run.scene, peer, rate=rate, seconds=run.seconds, warm_up=run.warm_up, distinct=1000,
                          connections=256, timeout=2)
            rows.append((peer.name, rate, result))
            if result.is_disturbed:
                section.note(f"{peer.name} at {rate:,.0f} a second was disturbed.")
    section.table(
        ["who", "offered/s", "answered/s", "p50 us", "p99 us", "CPU us an answer"],
        [[name, f"{rate:,.0f}", f"{one.rate:,.0f}", f"{one.p50_us:,.0f}", f"{one.p99_us:,.0f}", f"{one.cpu_us:.1f}"]
         for name, rate, one in rows])
    section.lines = {
        peer.name: [(rate / 1000, one.rate / 1000) for name, rate, one in rows if name == peer.name] for peer in peers
    }
    return section


def keys(run):
    """The edge with 1, 1,000, 100,000 and 1,000,000 keys in use, at random."""
    scene = run.scene
    counts = [1, 1000, 100_000] + ([] if run.quick else [1_000_000])
    store = scene.stored(counts[-1])
    scene.forget(EdgeManyKeys, store)
    empty = scene.peer(Edge)
    load(scene, empty, seconds=1, warm_up=0, distinct=1)
    base = empty.anonymous_kib()
    peer = scene.peer(EdgeManyKeys, store)
    measured = []
    for _ in range(run.rounds):
        measured.append({
            count: load(scene, peer, distinct=count, random=True, connections=64, seconds=run.seconds,
                        warm_up=max(run.warm_up, count / 50_000))
            for count in counts})
    # Rounds of one peer, by how many keys it was asked for.
    rounds = Rounds()
    for one in measured:
        rounds.add({f"{count:,} keys" if count > 1 else "1 key": result for count, result in one.items()})
    section = Section("Distinct keys", keys.__doc__, rounds, [CPU, RATE, P50], reference="1,000 keys")
    held = peer.anonymous_kib()
    bytes_a_key = (held - base) * 1024 / counts[-1]
    section.note(
        f"{counts[-1]:,} keys held: {held:,} KiB of anonymous memory, {base:,} with hardly any: "
        f"{bytes_a_key:,.0f} bytes a key. Resident with the pages of its files: "
        f"{measured[-1][counts[-1]].resident_kib:,} KiB.")
    if counts[-1] == 1_000_000:
        section.budget(Budget(
            "1,000,000 keys in use: CPU, of 1,000", rounds.ratio("1,000,000 keys", "1,000 keys", CPU[1]), 1.15))
        section.budget(Budget("bytes a key", Figure([bytes_a_key]), 600, digits=0))
    scene.forget(EdgeManyKeys, store)
    return section


def flood(run):
    """Forged tokens by the million: what they make the edge read, hold and write."""
    scene = run.scene
    peer = scene.peer(Edge)
    wanted = 200_000 if run.quick else 10_000_000
    tokens = forged.tokens(run.scene, 100_000)
    reads = lambda: metric(peer, "cypheron_edge_store_read_seconds_count")  # noqa: E731
    journal = lambda: sum(  # noqa: E731
        file.stat().st_blocks * 512 for file in (peer.directory / "data").rglob("*") if "journal" in str(file))
    load(scene, peer, keys=tokens, expect=401, seconds=2, warm_up=0)
    before = (reads(), journal())
    result, refusals, resident = None, 0, None
    while refusals < wanted:
        result = load(scene, peer, keys=tokens, expect=401, seconds=20, warm_up=0)
        resident = resident or result.resident_kib
        refusals += result.good
    grown = (reads() - before[0], journal() - before[1], result.resident_kib - resident)
    section = Section("A flood of forged tokens", flood.__doc__)
    section.note(
        f"{refusals:,} refusals: {grown[0]:.0f} reads of the store, {grown[1] / 2**20:.2f} MiB of journal, "
        f"{grown[2]:,} KiB of memory.")
    section.budget(Budget("forged tokens: reads of the store", Figure([grown[0]]), 0, digits=0))
    section.budget(Budget("forged tokens: MiB of journal", Figure([grown[1] / 2**20]), 1))
    return section


def metric(peer, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{peer.health}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+-]+)$", text, re.MULTILINE))


def start(run):
    """From the start of a process to its first answer, the keyring being there."""
    scene = run.scene
    took, answered = [], []
    for _ in range(run.rounds):
        scene.forget(Edge)
        began = time.monotonic()
        peer = scene.peer(Edge)
        took.append(time.monotonic() - began)
        load(scene, peer, seconds=0.1, warm_up=0, connections=1, distinct=1)
        answered.append(read_argon2(scene, peer))
    section = Section("Start", start.__doc__)
    share = Figure([argon / whole for argon, whole in zip(answered, took)])
    section.note(
        f"Ready after {Figure(took).show(3)} s; of this {Figure(answered).show(3)} s, a share of {share.show()}, "
        "are what `keyring show` with the password takes: Argon2id, once.")
    return section


def read_argon2(scene, peer):
    """A command that opens the keyring, less one that does not."""
    from .peers.edge import PASSWORD
    def timed(*command):
        began = time.monotonic()
        subprocess.run(
            ["taskset", "-c", str(machine.PROXY_CORE), scene.edge, "--config", peer.directory / "edge.toml", *command],
            check=True, capture_output=True,
            env={**os.environ, "PQ_ENCRYPTION_PASSWORD": PASSWORD, "CYPHERON_EDGE__USAGE__SINK": "sqlite"})
        return time.monotonic() - began
    return max(timed("keys", "show", first_key(scene, peer)) - timed("keyring", "show"), 0.0)


_first = {}


def first_key(scene, peer):
    if peer.store not in _first:
        from .peers.edge import PASSWORD
        listed = subprocess.run(
            [scene.edge, "--config", peer.directory / "edge.toml", "keys", "list", "--json"], check=True,
            capture_output=True, text=True,
            env={**os.environ, "PQ_ENCRYPTION_PASSWORD": PASSWORD, "CYPHERON_EDGE__USAGE__SINK": "sqlite"}).stdout
        _first[peer.store] = re.search(r'"id": *"([0-9a-f-]{36})"', listed).group(1)
    return _first[peer.store]


def workers(run):
    """One worker against two, the same open loop: what sharing costs a request."""
    scene = run.scene
    both = f"{machine.PROXY_CORE},{machine.LOAD_CORE}"
    peers = [scene.peer(Edge), scene.peer(EdgeTwoWorkers)]
    rounds = interleaved(
        scene, peers, run.rounds, rate=run.half_saturation(), seconds=run.seconds, warm_up=run.warm_up,
        distinct=1000, core=both)
    scene.forget(EdgeTwoWorkers)
    return Section("One worker, two workers", workers.__doc__, rounds, [CPU, P50, P99], reference="edge")


def generators(run):
    """The same load by other people's generators: what ours finds is not its own doing."""
    peers = running(run, [Edge, Nginx])
    section = Section("Other generators", generators.__doc__)
    token = run.scene.read_tokens()[0]
    rows = []
    for peer in peers:
        ours = load(run.scene, peer, seconds=run.seconds, warm_up=run.warm_up, distinct=1)
        row = [peer.name, f"{ours.rate:,.0f}"]
        row.append(by_wrk(peer, token, run.seconds) if machine.found("wrk") else "wrk is not here")
        row.append(by_oha(peer, token, run.seconds) if machine.found("oha") else "oha is not here")
        rows.append(row)
    section.table(["answers/s", "ours", "wrk", "oha"], rows)
    return section


def by_wrk(peer, token, seconds):
    ran = subprocess.run(
        ["taskset", "-c", str(machine.LOAD_CORE), "wrk", "-t1", "-c64", f"-d{max(1, round(seconds))}s",
         "-H", f"Authorization: Bearer {token}", peer.url + "/bytes/200"],
        capture_output=True, text=True, check=True).stdout
    return requests_a_second(ran)


def requests_a_second(printed):
    """As both print it, one behind blanks and the other behind a tab."""
    rate = re.search(r"Requests/sec:\s*([0-9.]+)", printed)
    return f"{float(rate.group(1)):,.0f}"


def by_oha(peer, token, seconds):
    ran = subprocess.run(
        ["taskset", "-c", str(machine.LOAD_CORE), "oha", "--no-tui", "-c", "64", "-z", f"{max(1, round(seconds))}s",
         "-H", f"Authorization: Bearer {token}", peer.url + "/bytes/200"],
        capture_output=True, text=True, check=True).stdout
    return requests_a_second(ran)


ALL = {
    "admitted": admitted, "refused": refused, "limited": limited, "tls": tls, "http2": http2, "bodies": bodies, "memory": memory,
    "open": open_loop, "offered": offered, "keys": keys, "flood": flood, "start": start, "workers": workers,
    "disk": disk, "slow": slow, "generators": generators,
}
