"""A gRPC server and, through the edge, its clients, both by grpcio.

Says where the server listens; is told the edge's address, a token, and one that
is good for one call; says what came of the calls, one line each.
"""

import sys
import threading
from concurrent import futures

import grpc

SERVICE = "test.Talk"
LARGE = b"x" * (1 << 20)

cancelled = threading.Event()


def say(text):
    print(text, flush=True)


def unary(request, context):
    """Gives back what it got, and what it was told beside it."""
    told = dict(context.invocation_metadata())
    assert "x-api-key" not in told, told
    context.send_initial_metadata([("said-first", told.get("ask", ""))])
    context.set_trailing_metadata([("said-last-bin", b"\0\xff")])
    return request


def client_stream(requests, _):
    return str(sum(len(request) for request in requests)).encode()


def server_stream(request, _):
    for _ in range(int(request)):
        yield LARGE


def both(requests, _):
    """Answers each message before the next one is there."""
    for request in requests:
        yield request.upper()


def fails(_, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100 % \u00fc")


def waits(_, context):
    """Until its client has no more patience, which has to reach it."""
    ended = threading.Event()
    context.add_callback(ended.set)
    remaining = context.time_remaining()
    ended.wait(20)
    if remaining is None or remaining > 10:
        cancelled.set()
    return b""


def streams_until_cancelled(_, context):
    ended = threading.Event()

    def note():
        cancelled.set()
        ended.set()

    context.add_callback(note)
    yield b"one"
    ended.wait(20)


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Fails": grpc.unary_unary_rpc_method_handler(fails),
    "Waits": grpc.unary_unary_rpc_method_handler(waits),
    "Cancelled": grpc.unary_stream_rpc_method_handler(streams_until_cancelled),
}


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, HANDLERS)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def expect(code, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error
    raise AssertionError(f"not {code}")


def path(method):
    return f"/{SERVICE}/{method}"


def converse(channel, key):
    answer, call = channel.unary_unary(path("Unary")).with_call(b"hello", metadata=[*key, ("ask", "a")], timeout=10)
    assert answer == b"hello"
    assert dict(call.initial_metadata())["said-first"] == "a"
    assert dict(call.trailing_metadata())["said-last-bin"] == b"\0\xff"
    assert channel.unary_unary(path("Unary"))(LARGE, metadata=key, timeout=10) == LARGE
    say("unary")

    sent = (LARGE[: 1 << 16] for _ in range(64))
    assert channel.stream_unary(path("ClientStream"))(sent, metadata=key, timeout=10) == str(64 << 16).encode()
    say("client streaming")

    came = channel.unary_stream(path("ServerStream"))(b"8", metadata=key, timeout=10)
    assert [len(message) for message in came] == [len(LARGE)] * 8
    say("server streaming")

    converse_in_turns(channel, key)
    say("both streaming")


def converse_in_turns(channel, key):
    """What is said next is known only when the last was answered."""
    answered = threading.Semaphore(1)

    def words():
        for word in [b"a", b"b", b"c"]:
            answered.acquire(timeout=10)
            yield word

    heard = []
    for message in channel.stream_stream(path("Both"))(words(), metadata=key, timeout=10):
        heard.append(message)
        answered.release()
    assert heard == [b"A", b"B", b"C"], heard


def fail(channel, key):
    failed = expect(
        grpc.StatusCode.FAILED_PRECONDITION, lambda: channel.unary_unary(path("Fails"))(b"", metadata=key, timeout=10))
    assert failed.details() == "not now: 100 % \u00fc", failed
    expect(grpc.StatusCode.UNIMPLEMENTED, lambda: channel.unary_unary(path("Nowhere"))(b"", metadata=key, timeout=10))
    say("statuses")

    expect(
        grpc.StatusCode.DEADLINE_EXCEEDED, lambda: channel.unary_unary(path("Waits"))(b"", metadata=key, timeout=0.3))
    assert not cancelled.is_set(), "the deadline did not reach the server"
    say("deadline")

    call = channel.unary_stream(path("Cancelled"))(b"", metadata=key, timeout=10)
    assert next(call) == b"one"
    call.cancel()
    assert cancelled.wait(10), "the server still works for nobody"
    say("cancelled")


def be_refused(channel, limited):
    unary_call = channel.unary_unary(path("Unary"))
    expect(grpc.StatusCode.UNAUTHENTICATED, lambda: unary_call(b"", timeout=10))
    unary_call(b"", metadata=limited, timeout=10)
    expect(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: unary_call(b"", metadata=limited, timeout=10))
    say("refusals")


def main():
    server, port = serve()
    say(port)
    edge, *tokens = sys.stdin.readline().split()
    key, limited = ([("x-api-key", token)] for token in tokens)
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(edge, options=options) as channel:
        converse(channel, key)
        fail(channel, key)
        be_refused(channel, limited)
    server.stop(0)


main()
