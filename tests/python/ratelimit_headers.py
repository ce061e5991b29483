"""Parses rate-limit fields with an independent structured-field parser.

Takes `name: value` lines, in which each policy of ours is followed by the limit
of the same response; says what it found, or fails saying what is wrong.
"""

import sys

import http_sf


def parsed(line):
    name, _, value = line.partition(": ")
    items = http_sf.parse(value.encode(), tltype="list")
    for item, parameters in items:
        assert isinstance(item, str), f"{line}: {item!r} is not a string"
        for key, number in parameters.items():
            assert isinstance(number, int) and number >= 0, f"{line}: {key}={number!r}"
        yield name, item, parameters


def main():
    fields = [field for line in sys.argv[1].splitlines() for field in parsed(line)]
    policies = [parameters for name, _, parameters in fields if name == "ratelimit-policy"]
    limits = [(item, parameters) for name, item, parameters in fields if name == "ratelimit"]
    ours = [parameters for item, parameters in limits if item == "edge"]
    assert len(policies) == len(ours), "each response has one policy and one limit of ours"
    for policy, limit in zip(policies, ours):
        assert set(policy) == {"q", "w"}, policy
        assert set(limit) == {"r", "t"}, limit
        assert limit["r"] <= policy["q"], (policy, limit)
    remaining = " ".join(str(limit["r"]) for limit in ours)
    print(f"policies: {len(policies)}, limits: edge {remaining}, others: {len(limits) - len(ours)}")


main()
