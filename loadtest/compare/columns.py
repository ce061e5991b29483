"""What a table has of each that was measured."""

CPU = ("CPU us an answer", lambda result: result.cpu_us)
USER = ("of it in user space", lambda result: result.user_us)
RATE = ("answers/s", lambda result: result.rate)
P50 = ("p50 us", lambda result: result.p50_us)
P99 = ("p99 us", lambda result: result.p99_us)
RESIDENT = ("resident MiB", lambda result: result.resident_kib / 1024)
