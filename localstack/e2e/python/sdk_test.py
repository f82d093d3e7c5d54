# The official Python SDK, unmodified, against a running stack. STACK_JSON names
# its facts: `make run` writes them to .local/stack.json.
#
#   STACK_JSON=../../../.local/stack.json .venv/bin/python -m unittest -v sdk_test

import asyncio
import json
import os
import unittest
import urllib.error
import urllib.parse
import urllib.request
import uuid

from centrifuge import CentrifugeError, Client, ClientEventHandler, ClientState, ReplyError, SubscriptionEventHandler

with open(os.environ.get("STACK_JSON", "../../../.local/stack.json"), encoding="utf-8") as file:
    STACK = json.load(file)
PATIENCE = 60  # seconds until something that is due counts as lost

TYPES = {"json": {}, "protobuf": {"use_protobuf": True}}


http = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # straight to the stack


def fetch(method, url, body=None, headers={}):
    """Sends a request and returns the status and the answer, of an error too."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with http.open(request, timeout=PATIENCE) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read()


async def api(method, url, body=None):
    headers = {"Content-Type": "application/json", "X-API-Key": STACK["api_key"]}
    status, answer = await asyncio.to_thread(fetch, method, url, body, headers)
    assert status < 300, f"{method} {url} answers {status} {answer}"
    return json.loads(answer)


async def post(to, data):
    return (await api("POST", STACK["collect"] + "/v1/messages", {"to": to, "data": data, "event": "test"}))["id"]


async def mint(user, **grant):
    return (await api("POST", STACK["auth"] + "/v1/tokens", {"user": user, **grant}))["token"]


async def until_ended(token):
    """Returns once a node says that token has ended."""
    url = f"{STACK['nodes'][0]['public']}/connection/websocket?token={urllib.parse.quote(token)}"
    while (await asyncio.to_thread(fetch, "GET", url))[0] != 401:
        await asyncio.sleep(0.1)


class Balancer:
    """Takes lines and leads each to the node that is chosen when it comes."""

    def __init__(self, node):
        self.node = node
        self.lines = 0  # how many have come
        self._ends = []
        self._leading = set()

    async def listen(self):
        self._server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"ws://127.0.0.1:{port}/connection/websocket"

    async def _lead(self, reader, writer):
        self.lines += 1
        self._leading.add(asyncio.current_task())
        self._ends.append(writer)
        node = urllib.parse.urlsplit(STACK["nodes"][self.node]["public"])
        node_reader, node_writer = await asyncio.open_connection(node.hostname, node.port)
        self._ends.append(node_writer)
        await asyncio.gather(self._copy(reader, node_writer), self._copy(node_reader, writer))

    @staticmethod
    async def _copy(reader, writer):
        try:
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.transport.abort()

    def cut(self):
        """Ends every line as a lost network does; nobody is told why."""
        for writer in self._ends:
            writer.transport.abort()
        self._ends.clear()

    async def close(self):
        self._server.close()
        self.cut()
        await asyncio.gather(*self._leading, return_exceptions=True)


class Listener:
    """One SDK client behind a balancer of its own, and everything it was told."""

    def __init__(self, kind, user, *, node=0, device=None, token=None, get_token=None):
        self.binary = kind == "protobuf"
        self.balancer = Balancer(node)
        self.told = []  # (event, context)
        self.news = asyncio.Event()
        self._user, self._token, self._get_token, self._device = user, token, get_token, device

    async def open(self, test):
        """Starts connecting."""
        address = await self.balancer.listen()
        options = dict(TYPES["protobuf" if self.binary else "json"])
        if self._device:
            options["data"] = self.encode({"device": self._device})
        if self._get_token or not self._token:
            options["get_token"] = self._get_token or (lambda: mint(self._user))
        self.client = Client(
            address, events=self._handler(ClientEventHandler), token=self._token or "", proxy=None,
            timeout=PATIENCE, min_reconnect_delay=0.02, max_reconnect_delay=0.2, **options,
        )
        test.addAsyncCleanup(self.close)
        await self.client.connect()
        return self

    async def connected(self, test):
        """Starts connecting and returns once the node has answered."""
        await self.open(test)
        await self.client.ready(PATIENCE)
        return self

    async def close(self):
        await self.client.disconnect()
        await self.balancer.close()

    async def subscribed(self, topic):
        subscription = self.client.new_subscription(topic, self._handler(SubscriptionEventHandler))
        await subscription.subscribe()
        await subscription.ready(PATIENCE)
        return subscription

    def _handler(self, base):
        """Returns a handler of the SDK's class base that notes each event."""

        def noting(name):
            async def note(ctx):
                self.told.append((name.removeprefix("on_"), ctx))
                self.news.set()

            return note

        handler = base()
        for name in dir(base):
            if name.startswith("on_"):
                setattr(handler, name, noting(name))
        return handler

    def encode(self, value):
        return json.dumps(value).encode() if self.binary else value

    def decode(self, data):
        return json.loads(data) if self.binary else data

    def of(self, event):
        return [ctx for name, ctx in self.told if name == event]

    @property
    def numbers(self):
        return [self.decode(ctx.pub.data)["n"] for ctx in self.of("publication")]

    async def until(self, due, what):
        """Returns once due is true, looking after each event."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not due():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"no {what} among {self.told}") from None

    async def hears(self, n):
        await self.until(lambda: n in self.numbers, f"message {n}")
        return self.numbers

    async def event(self, event, matches=lambda ctx: True):
        await self.until(lambda: any(matches(ctx) for ctx in self.of(event)), event)
        return next(ctx for ctx in self.of(event) if matches(ctx))


class Stories:
    """What is told in JSON and in Protobuf. Each story is of a user of its own."""

    kind: str

    def setUp(self):
        self.user = f"python-{uuid.uuid4()}"
        self.to = {"users": [self.user]}

    def listener(self, **options):
        return Listener(self.kind, self.user, **options)

    async def test_a_message_reaches_both_nodes(self):
        listeners = [
            await self.listener(node=i, device=f"d{i}").connected(self) for i in range(len(STACK["nodes"]))
        ]
        data = {"n": 1, "text": "Grüße, 世界", "nested": {"list": [1, 2.5, None, True]}}
        id = await post(self.to, data)
        for listener in listeners:
            self.assertEqual(await listener.hears(1), [1])
            [ctx] = listener.of("publication")
            self.assertEqual(ctx.channel, f"#{self.user}")
            self.assertEqual(listener.decode(ctx.pub.data), data)
            self.assertEqual(ctx.pub.tags["id"], id)
            self.assertEqual(ctx.pub.tags["event"], "test")
            self.assertIn("at", ctx.pub.tags)

    async def test_a_token_may_be_given_instead_of_fetched(self):
        listener = await self.listener(token=await mint(self.user)).connected(self)
        await post(self.to, {"n": 1})
        self.assertEqual(await listener.hears(1), [1])

    async def test_a_line_that_breaks_loses_nothing_and_repeats_nothing(self):
        listener = await self.listener(device="d").connected(self)
        await post(self.to, {"n": 1})
        await listener.hears(1)
        listener.balancer.node = len(STACK["nodes"]) - 1
        listener.balancer.cut()
        await listener.event("connecting", lambda ctx: ctx.code == 1)  # transport closed
        await post(self.to, {"n": 2})
        await listener.client.ready(PATIENCE)
        await post(self.to, {"n": 3})
        self.assertEqual(await listener.hears(3), [1, 2, 3])

    async def test_a_topic_recovers_what_came_while_it_was_offline(self):
        topic = f"public:{uuid.uuid4()}"
        listener = await self.listener().connected(self)
        subscription = await listener.subscribed(topic)
        await post({"channels": [topic]}, {"n": 1})
        await listener.hears(1)
        await listener.client.disconnect()
        for n in 2, 3:
            await post({"channels": [topic]}, {"n": n})
        listener.balancer.node = len(STACK["nodes"]) - 1
        await listener.client.connect()
        await subscription.ready(PATIENCE)
        self.assertEqual(await listener.hears(3), [1, 2, 3])
        first, second = [ctx for ctx in listener.of("subscribed") if ctx.channel == topic]
        self.assertEqual((first.was_recovering, first.recovered), (False, False))
        self.assertEqual((second.was_recovering, second.recovered), (True, True))
        self.assertEqual([ctx.pub.tags["event"] for ctx in listener.of("publication")], ["test"] * 3)

    async def test_more_is_recovered_than_a_reply_holds(self):
        listener = await self.listener().connected(self)
        await post(self.to, {"n": 0})
        await listener.hears(0)
        await listener.client.disconnect()
        filling = "x" * 20_000  # 40 of them are three replies
        await api("POST", STACK["collect"] + "/v1/messages",
                  [{"to": self.to, "data": {"n": n, "filling": filling}} for n in range(1, 41)])
        await listener.client.connect()
        self.assertEqual(await listener.hears(40), list(range(41)))

    async def test_a_device_resumes_without_a_position(self):
        before = await self.listener(device="phone").connected(self)
        await post(self.to, {"n": 1})
        await before.hears(1)
        await before.close()
        for n in 2, 3:
            await post(self.to, {"n": n})
        after = await self.listener(device="phone", node=len(STACK["nodes"]) - 1).connected(self)
        # Message 1 may come again if its pong had not been recorded when the first went.
        self.assertEqual([n for n in await after.hears(3) if n != 1], [2, 3])
        again = [ctx for ctx in after.of("subscribed") if ctx.channel == f"#{self.user}"]
        self.assertEqual([(ctx.was_recovering, ctx.recovered) for ctx in again], [(True, True)])

    async def test_a_topic_that_the_token_does_not_allow_is_refused(self):
        listener = await self.listener().connected(self)
        with self.assertRaises(CentrifugeError):
            await listener.subscribed("secret")
        self.assertEqual((await listener.event("unsubscribed")).code, 103)

    async def test_the_server_subscribes_and_unsubscribes(self):
        topic, own = f"room:{uuid.uuid4()}", f"public:{uuid.uuid4()}"
        listener = await self.listener().connected(self)
        await listener.subscribed(own)
        server = STACK["collect"] + "/api/"
        await api("POST", server + "subscribe", {"user": self.user, "channel": topic})
        await listener.event("subscribed", lambda ctx: ctx.channel == topic)
        await post({"channels": [topic]}, {"n": 1})
        self.assertEqual(await listener.hears(1), [1])
        await api("POST", server + "unsubscribe", {"user": self.user, "channel": topic})
        await listener.event("unsubscribed", lambda ctx: getattr(ctx, "channel", "") == topic)
        await api("POST", server + "unsubscribe", {"user": self.user, "channel": own})
        await listener.event("unsubscribed", lambda ctx: getattr(ctx, "code", 0) == 2000)

    async def test_acknowledging(self):
        listener = await self.listener(device="d").connected(self)
        id = await post(self.to, {"n": 1})
        await listener.hears(1)
        [ctx] = listener.of("publication")
        acknowledged = listener.encode({"channel": ctx.channel, "offset": ctx.pub.offset})
        result = await listener.client.rpc("ack", acknowledged)
        self.assertEqual(listener.decode(result.data), {})
        for call, code in ((listener.client.rpc("dance", listener.encode({"n": 1})), 104),
                           (listener.client.history(ctx.channel), 108),
                           (listener.client.publish(ctx.channel, listener.encode({"n": 2})), 108)):
            with self.assertRaises(ReplyError) as refused:
                await call
            self.assertEqual((refused.exception.code, refused.exception.temporary), (code, False))
        url = f"{STACK['collect']}/v1/messages/{urllib.parse.quote(id)}"
        async with asyncio.timeout(PATIENCE):  # cursors are written in batches
            while True:
                [recipient] = (await api("GET", url))["recipients"]
                if [d["state"] for d in recipient.get("devices", [])] == ["acknowledged"]:
                    break
                await asyncio.sleep(0.05)

    async def test_an_order_disconnects_for_good(self):
        listener = await self.listener().connected(self)
        answer = await api("DELETE", f"{STACK['collect']}/v1/users/{self.user}/connections")
        ctx = await listener.event("disconnected")
        self.assertEqual((ctx.code, ctx.reason), (3503, "force disconnect"), answer)
        self.assertIs(listener.client.state, ClientState.DISCONNECTED)

    async def test_a_forged_token_is_refused_for_good(self):
        listener = await self.listener(token=(await mint(self.user))[:-8] + "AAAAAAAA").open(self)
        ctx = await listener.event("disconnected")
        self.assertEqual((ctx.code, ctx.reason), (3500, "invalid token"))

    async def test_a_token_that_has_ended_is_replaced(self):
        token = await mint(self.user, ttl="1s")
        await until_ended(token)
        alone = await self.listener(token=token).open(self)
        self.assertEqual((await alone.event("disconnected")).code, 1)  # unauthorized
        able = await self.listener(token=token, get_token=lambda: mint(self.user)).connected(self)
        for listener in alone, able:
            ctx = await listener.event("error", lambda ctx: isinstance(ctx.error, ReplyError))
            self.assertEqual((ctx.error.code, ctx.error.message), (109, "token expired"))
        await post(self.to, {"n": 1})
        self.assertEqual(await able.hears(1), [1])


class JSON(Stories, unittest.IsolatedAsyncioTestCase):
    kind = "json"


class Protobuf(Stories, unittest.IsolatedAsyncioTestCase):
    kind = "protobuf"


class Refresh(unittest.IsolatedAsyncioTestCase):
    """A connection outlives its token when it brings a new one in time: four fifths of
    a second before the end or more, which a machine may sleep through. So there are
    three tries."""

    async def test_a_connection_outlives_its_tokens(self):
        for kind, outlived in zip(TYPES, await asyncio.gather(*(self.outlives(kind) for kind in TYPES))):
            self.assertTrue(outlived, f"as {kind}, each of three connections ended with its token")

    async def outlives(self, kind):
        for _ in range(3):
            user = f"python-{uuid.uuid4()}"
            fetched = 0

            async def get_token():
                nonlocal fetched
                fetched += 1
                listener.news.set()
                return await mint(user, ttl="8s")

            listener = Listener(kind, user, get_token=get_token)
            await listener.connected(self)
            # When the third is asked for, the first has ended, for each refresh
            # comes after 4 s or more; what brought the second was accepted.
            await listener.until(lambda: fetched >= 3, "third token")
            await post({"users": [user]}, {"n": 1})
            self.assertEqual(await listener.hears(1), [1])
            if listener.balancer.lines == 1:
                return True
        return False


if __name__ == "__main__":
    unittest.main()
