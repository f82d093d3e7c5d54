// A client of the Centrifugo client protocol (v2, JSON) in a few lines: enough to
// receive messages in order, once, and to get what was missed. An application
// would take one of the maintained SDKs instead, which speak the same protocol.

const connectID = 1;
const replyWithin = 5_000;  // ms from opening a socket to the answer of the connect command
const graceForPing = 10_000; // ms a ping may be late before the line counts as dead
const firstWait = 250, longestWait = 8_000; // ms between attempts

/**
 * Client keeps one connection to a push node. It calls
 *   onState(state, detail)  with connecting, connected, offline (by order) or closed (for good)
 *   onMessage(message)      with {channel, offset, data, tags, late}; late: it was missed and caught up
 * It remembers its position in every channel, so a new connection, to whichever
 * node, is given exactly what came between.
 */
export class Client {
  #positions = new Map(); // channel → {epoch, offset}
  #topics;
  #device;
  #session;  // async (fresh) → {token, nodes}; its error says {refused} if asking again is of no use
  #socket = null;
  #timers = { reply: 0, retry: 0, ping: 0, refresh: 0 };
  #failures = 0;
  #wanted = false; // whether we are to be connected
  #attempt = 0;    // counts connections; what belongs to an older one is ignored
  #stale = false;  // whether the token, or the nodes, may be others by now
  #commands = connectID;

  node = 0; // index of the node to connect to

  constructor({ session, device, topics, onState, onMessage }) {
    this.#session = session;
    this.#device = device;
    this.#topics = topics;
    this.onState = onState;
    this.onMessage = onMessage;
  }

  /** connect opens the line, to another node if one is named. */
  connect(node = this.node) {
    this.node = node;
    this.#wanted = true;
    this.#failures = 0;
    this.#open();
  }

  /** disconnect closes the line until connect is called. */
  disconnect() {
    this.#wanted = false;
    this.#stale = true;
    this.#drop();
    this.onState('offline');
  }

  async #open() {
    this.#drop();
    const attempt = ++this.#attempt;
    this.onState('connecting');
    let session;
    try {
      // A line that broke may be a stack that has started anew, with other nodes.
      session = await this.#session(this.#stale || this.#failures > 0);
    } catch (err) {
      if (attempt !== this.#attempt || !this.#wanted) return;
      if (err.refused) this.#end(err.message);
      else this.#retry(err.message);
      return;
    }
    if (attempt !== this.#attempt || !this.#wanted) return;
    this.#stale = false;
    if (session.nodes.length === 0) {
      this.#retry('no node runs');
      return;
    }
    const url = new URL('/connection/websocket', session.nodes[this.node % session.nodes.length]);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.searchParams.set('device', this.#device);
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#timers.reply = setTimeout(() => socket.close(), replyWithin);
    socket.onopen = () => socket.send(this.#hello(session.token));
    socket.onmessage = (event) => this.#frame(event.data);
    socket.onclose = (event) => {
      if (socket !== this.#socket) return;
      this.#drop();
      this.#lost(event);
    };
  }

  // hello is the first frame: who we are and where we stopped, and the topics.
  #hello(token) {
    const subs = {};
    for (const [channel, position] of this.#positions) {
      if (!this.#topics.includes(channel)) subs[channel] = { recover: true, ...position };
    }
    this.#commands = connectID;
    const commands = [{ id: connectID, connect: { token, subs, name: 'page' } }];
    for (const channel of this.#topics) {
      const position = this.#positions.get(channel);
      commands.push({ id: ++this.#commands, subscribe: { channel, ...(position && { recover: true, ...position }) } });
    }
    return commands.map((c) => JSON.stringify(c)).join('\n');
  }

  #frame(text) {
    for (const line of text.split('\n')) {
      if (line) this.#reply(parse(line));
    }
  }

  #reply(reply) {
    this.#awaitPing();
    if (reply.push) return this.#push(reply.push);
    if (!reply.id) return this.#send({}); // a ping; the pong proves that we have what came before
    if (reply.error) return this.#refused(reply);
    if (reply.connect) return this.#welcome(reply.connect);
    if (reply.refresh) return this.#planRefresh(reply.refresh);
    if (reply.subscribe) {
      this.#subscribed(this.#topics[reply.id - connectID - 1], reply.subscribe);
    }
  }

  #welcome(result) {
    clearTimeout(this.#timers.reply);
    this.#failures = 0;
    this.pingEvery = (result.ping ?? 25) * 1000;
    this.onState('connected', result);
    for (const [channel, sub] of Object.entries(result.subs ?? {})) this.#subscribed(channel, sub);
    this.#awaitPing();
    this.#planRefresh(result);
  }

  #subscribed(channel, sub) {
    const known = this.#positions.get(channel);
    const same = known && known.epoch === sub.epoch;
    this.#positions.set(channel, { epoch: sub.epoch ?? '', offset: same ? known.offset : sub.offset ?? 0 });
    for (const pub of sub.publications ?? []) this.#take(channel, pub, true);
  }

  #push(push) {
    if (push.pub) this.#take(push.channel, push.pub, false);
    else if (push.subscribe) this.#subscribed(push.channel, push.subscribe);
    else if (push.unsubscribe) this.#positions.delete(push.channel);
  }

  #take(channel, pub, late) {
    const position = this.#positions.get(channel) ?? { epoch: '', offset: 0 };
    if (pub.offset) {
      if (pub.offset <= position.offset) return; // had it
      this.#positions.set(channel, { epoch: position.epoch, offset: pub.offset });
    }
    this.onMessage({ channel, offset: pub.offset, data: pub.data, tags: pub.tags ?? {}, late });
  }

  // refused handles an error reply. A token that expired is replaced; what is
  // temporary is tried again; a refused topic costs that topic only.
  #refused({ id, error }) {
    if (id !== connectID) return;
    const again = error.code === 109 || error.temporary || error.code < 100;
    if (error.code === 109) this.#stale = true;
    this.#drop();
    if (again) this.#retry(error.message);
    else this.#end(error.message);
  }

  #planRefresh({ expires, ttl }) {
    clearTimeout(this.#timers.refresh);
    if (!expires) return;
    const attempt = this.#attempt;
    this.#timers.refresh = setTimeout(async () => {
      const { token } = await this.#session(true).catch(() => ({}));
      if (token && attempt === this.#attempt) this.#send({ id: ++this.#commands, refresh: { token } });
    }, Math.min(ttl * 1000, 2 ** 31 - 1));
  }

  // lost decides, by its close code, whether a closed line is opened again.
  #lost({ code, reason }) {
    if (!this.#wanted) return;
    if (code === 3500 && this.#failures === 0) { // a token of an earlier start of the stack
      this.#stale = true;
      return this.#retry(reason);
    }
    if (code >= 3500 && code < 4000 || code >= 4500 && code < 5000 || code === 1009) return this.#end(reason || `code ${code}`);
    this.#retry(reason);
  }

  // retry waits a little longer each time, by chance so that many clients do not
  // come at once, and goes on to the next node, as a balancer would.
  #retry(why) {
    const most = Math.min(longestWait, firstWait * 2 ** this.#failures++);
    if (this.#failures > 1) this.node++;
    this.onState('connecting', why);
    this.#timers.retry = setTimeout(() => this.#open(), firstWait / 2 + Math.random() * most);
  }

  #end(why) {
    this.#wanted = false;
    this.#stale = true;
    this.onState('closed', why);
  }

  #awaitPing() {
    clearTimeout(this.#timers.ping);
    const socket = this.#socket;
    this.#timers.ping = setTimeout(() => {
      if (socket !== this.#socket) return;
      this.#drop(); // a dead line may take minutes to close by itself
      this.#retry('the node is silent');
    }, (this.pingEvery ?? 25_000) + graceForPing);
  }

  #send(command) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(command));
  }

  #drop() {
    Object.values(this.#timers).forEach(clearTimeout);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

// parse is JSON.parse, but that a number which JavaScript has no exact value for,
// or writes otherwise, stays as it is written, where the browser can do that.
function parse(text) {
  return JSON.parse(text, (key, value, context) =>
    typeof value === 'number' && context?.source && String(value) !== context.source ? JSON.rawJSON(context.source) : value);
}
