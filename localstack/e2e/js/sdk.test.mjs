// The official JavaScript SDK, unmodified, against a running stack. STACK_JSON
// names its facts: `make run` writes them to .local/stack.json.
//
//   STACK_JSON=../../../.local/stack.json node --test sdk.test.mjs

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

const stack = JSON.parse(await readFile(process.env.STACK_JSON ?? '../../../.local/stack.json', 'utf8'));
const patience = 60_000; // ms until something that is due counts as lost

async function api(url, body) {
  const response = await fetch(url, {
    method: 'POST', body: JSON.stringify(body), signal: AbortSignal.timeout(patience),
    headers: { 'Content-Type': 'application/json', 'X-API-Key': stack.api_key },
  });
  const answer = await response.json();
  assert.ok(response.ok, `${url} answers ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

const post = (to, data) => api(`${stack.collect}/v1/messages`, { to, data, event: 'test' });

const mint = async (user) => (await api(`${stack.auth}/v1/tokens`, { user })).token;

// Each test is about a user of its own.
const someone = () => `js-${randomUUID()}`;

// A Listener is one SDK client on one node, and everything it was given.
class Listener {
  #got = [];
  #waiting = [];
  #sockets = [];
  #binary; // whether the SDK takes and gives data as bytes, as it does with Protobuf

  constructor({ node = 0, user, device, token, Client = Centrifuge }) {
    this.#binary = Client === ProtobufCentrifuge;
    this.node = node; // where the next line goes, as a balancer would choose
    const self = this;
    this.client = new Client('ws://balancer.invalid', {
      ...(token ? { token } : { getToken: () => mint(user) }),
      ...(device && { data: this.#binary ? new TextEncoder().encode(JSON.stringify({ device })) : { device } }),
      minReconnectDelay: 20, maxReconnectDelay: 200,
      websocket: class extends WebSocket {
        constructor(_, ...args) {
          super(stack.nodes[self.node].public.replace(/^http/, 'ws') + '/connection/websocket', ...args);
          self.#sockets.push(this);
        }
      },
    });
    this.client.on('publication', (ctx) => this.take(ctx));
  }

  /** connected opens the line and resolves once the node has answered. */
  async connected(t) {
    t.after(() => this.client.disconnect());
    this.client.connect();
    await this.client.ready(patience);
    return this;
  }

  /** cut ends the line as a lost network does; the SDK is not told why. */
  cut() { this.#sockets.at(-1).terminate(); }

  take(ctx) {
    const data = this.#binary ? JSON.parse(new TextDecoder().decode(ctx.data)) : ctx.data;
    this.#got.push({ ...ctx, data });
    this.#waiting = this.#waiting.filter((w) => !w());
  }

  /** until resolves with all that was given once there is a message with data n. */
  async until(n) {
    const all = () => this.#got.map((ctx) => ctx.data.n);
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no message ${n} among [${all()}]`)), patience);
      const look = () => {
        if (!all().includes(n)) return false;
        clearTimeout(timer);
        resolve();
        return true;
      };
      if (!look()) this.#waiting.push(look);
    });
    return all();
  }

  get last() { return this.#got.at(-1); }
}

for (const [name, Client] of Object.entries({ JSON: Centrifuge, Protobuf: ProtobufCentrifuge })) {
  test(`a message reaches both nodes, as ${name}`, async (t) => {
    const user = someone();
    const listeners = await Promise.all(stack.nodes.map((_, node) => new Listener({ node, user, device: `d${node}`, Client }).connected(t)));
    const { id } = await post({ users: [user] }, { n: 1 });
    for (const listener of listeners) {
      assert.deepEqual(await listener.until(1), [1]);
      assert.equal(listener.last.channel, `#${user}`);
      assert.equal(listener.last.tags.id, id);
      assert.equal(listener.last.tags.event, 'test');
      assert.ok(!Number.isNaN(Date.parse(listener.last.tags.at)), `tags.at is ${listener.last.tags.at}`);
    }
  });
}

test('a token may be given instead of fetched', async (t) => {
  const user = someone();
  const listener = await new Listener({ user, token: await mint(user) }).connected(t);
  await post({ users: [user] }, { n: 1 });
  assert.deepEqual(await listener.until(1), [1]);
});

test('a line that breaks loses nothing and repeats nothing', async (t) => {
  const user = someone();
  const listener = await new Listener({ user, device: 'd' }).connected(t);
  await post({ users: [user] }, { n: 1 });
  await listener.until(1);
  const away = new Promise((resolve) => listener.client.once('connecting', resolve));
  listener.cut();
  await away;
  await post({ users: [user] }, { n: 2 });
  await listener.client.ready(patience);
  await post({ users: [user] }, { n: 3 });
  assert.deepEqual(await listener.until(3), [1, 2, 3]);
});

test('positions hold on the other node as well', async (t) => {
  const user = someone();
  const listener = await new Listener({ user }).connected(t);
  await post({ users: [user] }, { n: 1 });
  await listener.until(1);
  listener.client.disconnect();
  await post({ users: [user] }, { n: 2 });
  listener.node = 1 % stack.nodes.length;
  await listener.connected(t);
  assert.deepEqual(await listener.until(2), [1, 2]);
});

test('a page reload with the same device gets what was missed', async (t) => {
  const user = someone();
  const before = await new Listener({ user, device: 'phone' }).connected(t);
  await post({ users: [user] }, { n: 1 });
  await before.until(1);
  before.client.disconnect();
  await post({ users: [user] }, { n: 2 });
  await post({ users: [user] }, { n: 3 });
  const after = await new Listener({ node: 1 % stack.nodes.length, user, device: 'phone' }).connected(t);
  const got = await after.until(3);
  // Message 1 may come again if its pong had not been recorded when the page went.
  assert.deepEqual(got.filter((n) => n !== 1), [2, 3]);
});

test('a device that was never seen gets what waits for its user', async (t) => {
  const user = someone();
  await post({ users: [user] }, { n: 1 });
  await post({ users: [user] }, { n: 2 });
  const listener = await new Listener({ user, device: 'new' }).connected(t);
  assert.deepEqual(await listener.until(2), [1, 2]);
});

test('a topic reaches who subscribed to it, over a broken line too', async (t) => {
  const topic = `public:${randomUUID()}`;
  const listener = await new Listener({ user: someone() }).connected(t);
  const subscription = listener.client.newSubscription(topic);
  subscription.on('publication', (ctx) => listener.take(ctx));
  subscription.subscribe();
  await subscription.ready(patience);
  await post({ channels: [topic] }, { n: 1 });
  await listener.until(1);
  const away = new Promise((resolve) => subscription.once('subscribing', resolve));
  listener.cut();
  await away;
  await post({ channels: [topic] }, { n: 2 });
  assert.deepEqual(await listener.until(2), [1, 2]);
});

test('a topic that the token does not allow is refused', async (t) => {
  const listener = await new Listener({ user: someone() }).connected(t);
  const subscription = listener.client.newSubscription('secret');
  const refused = new Promise((resolve) => subscription.once('unsubscribed', resolve));
  subscription.subscribe();
  assert.equal((await refused).code, 103);
});

test('what is for all reaches everybody', async (t) => {
  const listeners = await Promise.all(stack.nodes.map((_, node) => new Listener({ node, user: someone() }).connected(t)));
  const n = randomUUID();
  await post({ all: true }, { n });
  await Promise.all(listeners.map((l) => l.until(n)));
});
