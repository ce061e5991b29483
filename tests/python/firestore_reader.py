"""Reads and edits records with Google's own client, knowing nothing of ours.

Takes the project, the database and the collection, and then one command a line
on the standard input, as JSON; answers each with one line, as JSON. What is
wrong ends it, with the reason on the standard error.
"""

import base64
import datetime
import json
import sys

from google.cloud import firestore

TIME = datetime.datetime
NONE = type(None)

# Each field of the schema with the types it may have; bool is no number here.
FIELDS = {
    "id": [str],
    "name": [str],
    "key_hash": [str],
    "permissions": [list],
    "rate_limit": [int],
    "created_at": [TIME],
    "expires_at": [TIME, NONE],
    "is_active": [bool],
    "last_used": [TIME, NONE],
    "usage_count": [int],
}
OURS = {
    "allowed_ips": [list],
    "revision": [int],
    "updated_at": [TIME],
    "sealed": [bytes],
}


def holds(value, kinds):
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, tuple(kinds))


def checked(document, key_hash):
    found = document.get()
    assert found.exists, "there is no such document"
    record = found.to_dict()
    for field, kinds in (FIELDS | OURS).items():
        assert field in record, f"{field} is missing"
        assert holds(record[field], kinds), f"{field} is {record[field]!r}"
    unknown = set(record) - set(FIELDS) - set(OURS)
    assert not unknown, f"unknown fields: {unknown}"
    assert document.id == record["key_hash"] == key_hash, "it is elsewhere than it says"
    assert record["rate_limit"] > 0 and record["usage_count"] >= 0
    assert all(isinstance(item, str) for item in record["permissions"] + record["allowed_ips"])
    return record


def raw(client, document):
    """The document's bytes, as they come over the wire."""
    message = client._firestore_api.get_document(
        request={"name": document._document_path}, metadata=client._rpc_metadata
    )
    return type(message).pb(message).SerializeToString()


def spellings(token):
    secret = token.rsplit("_", 1)[-1]
    for text in (token, secret, secret[1:44]):
        plain = text.encode()
        yield plain
        yield plain.hex().encode()
        # Of any alignment: the middle of each is the same whatever stands around it.
        for shift in range(3):
            yield base64.b64encode(b"\0" * shift + plain)[4:-4]


def shown(value):
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return value.isoformat() if isinstance(value, TIME) else value


def edited(value):
    """As it came, or `{"time": "2030-01-01T00:00:00+00:00"}`."""
    if isinstance(value, dict):
        return TIME.fromisoformat(value["time"])
    return value


def main():
    project, database, collection = sys.argv[1:4]
    client = firestore.Client(project=project, database=database)
    kept = {}
    for line in sys.stdin:
        command = json.loads(line)
        key_hash = command["hash"]
        document = client.collection(collection).document(key_hash)
        answer = {}
        if command["do"] == "check":
            record = checked(document, key_hash)
            content = raw(client, document)
            assert record["name"].encode() in content, "the bytes are not the document's"
            for spelling in spellings(command["token"]):
                assert spelling not in content, "the token is in the document"
            answer = {field: shown(value) for field, value in record.items()}
        elif command["do"] == "edit":
            field = command["field"]
            kept[field] = document.get().to_dict()[field]
            document.update({field: edited(command["value"])})
        elif command["do"] == "restore":
            field = command["field"]
            document.update({field: kept.pop(field)})
        elif command["do"] == "delete":
            document.delete()
        else:
            raise ValueError(command)
        print(json.dumps(answer), flush=True)


main()
