"""Verifies assertions with an independent library, as an upstream would.

Takes the published keys, the audience, the issuer, and one assertion a line on
the standard input; prints the claims of each, or says why it is not to be
believed.
"""

import json
import sys

import jwt


def main():
    published, audience, issuer = sys.argv[1:]
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_json(published).keys}
    for line in sys.stdin.read().split():
        try:
            key = keys[jwt.get_unverified_header(line)["kid"]]
            claims = jwt.decode(
                line,
                key,
                algorithms=["EdDSA"],
                audience=audience,
                issuer=issuer,
                options={"require": ["exp", "iat", "iss", "aud", "jti"]},
            )
            print(json.dumps(claims))
        except (jwt.PyJWTError, KeyError) as error:
            print(json.dumps({"refused": type(error).__name__}))


main()
