"""Tokens of the right form that nobody issued: forged, or of another deployment."""

import zlib

PREFIX = "cyk_live_0"
TAG = "B" * 8


def tokens(scene, count):
    """A file of them; the digits of a number make them differ."""
    file = scene.directory / f"forged-{count}"
    if not file.exists():
        with open(file, "w", encoding="ascii") as out:
            for number in range(count):
                body = f"{PREFIX}{number:043d}0{TAG}"
                out.write(body + base62(zlib.crc32(body.encode()), 6) + "\n")
    return file


def base62(number, width):
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    text = ""
    for _ in range(width):
        number, digit = divmod(number, 62)
        text = digits[digit] + text
    return text
