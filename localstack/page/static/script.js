// The page: what the client in client.js hears, shown; and a form that sends.

import { Client } from './client.js';

const $ = (id) => document.getElementById(id);
const topic = 'public:news';
const mostShown = 200; // messages kept on the page

// The user comes from the address (?user=7); who opens it is told nothing else.
const user = new URLSearchParams(location.search).get('user') || '42';

// A device is one browser: its id outlives page loads, so a reload loses nothing.
const device = (() => {
  const fresh = 'page-' + Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, '0')).join('');
  try {
    const kept = localStorage.getItem('device') ?? fresh;
    localStorage.setItem('device', kept);
    return kept;
  } catch {
    return fresh; // storage is switched off: this load is a device of its own
  }
})();

let known = null; // the last answer of session
async function session(fresh) {
  if (known && !fresh) return known;
  const response = await fetch(`session?user=${encodeURIComponent(user)}`, { cache: 'no-store' })
    .catch(() => { throw new Error('the page\'s own server does not answer'); });
  if (!response.ok) {
    const { detail } = await response.json().catch(() => ({}));
    const refused = response.status >= 400 && response.status < 500;
    throw Object.assign(new Error(detail ?? `the page's own server answers ${response.status}`), { refused });
  }
  known = await response.json();
  showNodes(known.nodes);
  return known;
}

// ---- the line ----

const client = new Client({ session, device, topics: [topic], onState: showState, onMessage: showMessage });

function showState(state, detail) {
  const node = known ? client.node % known.nodes.length : client.node;
  $('state').dataset.state = state;
  $('state-text').textContent = {
    connecting: typeof detail === 'string' && detail ? `Connecting again: ${detail}` : `Connecting to node ${node + 1}…`,
    connected: `Connected to node ${node + 1}`,
    offline: 'Offline. What is sent now waits.',
    closed: `Closed: ${detail}`,
  }[state];
  const away = state === 'offline' || state === 'closed';
  $('empty').textContent = away ? 'Nothing yet. Send a message: it is here when you go online.' : 'Nothing yet. Send a message and watch it arrive.';
  $('line').textContent = away ? 'Go online' : 'Go offline';
  $('line').setAttribute('aria-pressed', String(away));
  const radio = document.querySelector(`#nodes input[value="${node}"]`);
  if (radio) radio.checked = true;
}

function showNodes(nodes) {
  const picker = $('nodes');
  const shown = Array.from(picker.querySelectorAll('label'), (l) => l.title);
  if (shown.join() === nodes.join()) return;
  picker.hidden = nodes.length === 0;
  picker.querySelectorAll('label').forEach((l) => l.remove());
  nodes.forEach((url, i) => {
    const label = document.createElement('label');
    label.title = url;
    const radio = Object.assign(document.createElement('input'), { type: 'radio', name: 'node', value: String(i), checked: i === client.node });
    radio.addEventListener('change', () => client.connect(i));
    const text = Object.assign(document.createElement('span'), { textContent: `Node ${i + 1}` });
    label.append(radio, text);
    picker.append(label);
  });
}

$('line').addEventListener('click', () => {
  if ($('line').getAttribute('aria-pressed') === 'true') client.connect();
  else client.disconnect();
});

// ---- what arrives ----

const sent = new Map(); // id → when this page sent it, so that its way can be timed
let received = 0;

function showMessage({ channel, offset, data, tags, late }) {
  const card = $('message').content.cloneNode(true);
  const part = (name) => card.querySelector('.' + name);
  part('event').textContent = plain(tags.event || 'message');
  part('channel').textContent = plain(channel);
  part('late').hidden = !late;
  const at = new Date(tags.at ?? Date.now());
  const time = card.querySelector('time');
  time.dateTime = at.toISOString();
  const clock = { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 };
  const today = at.toDateString() === new Date().toDateString();
  time.textContent = today ? at.toLocaleTimeString(undefined, clock)
    : at.toLocaleString(undefined, { year: 'numeric', month: 'short', day: 'numeric', ...clock });
  time.title = `accepted ${at.toLocaleString()}`;
  part('data').append(...coloured(plain(JSON.stringify(data, null, 2) ?? '')));
  part('id').textContent = plain(tags.id ?? '');
  part('id').title = `message id; offset ${offset} in ${plain(channel)}`;
  const own = tags.id?.split('/').pop();
  if (sent.has(own) && !late) part('took').textContent = `${Math.max(1, Math.round(performance.now() - sent.get(own)))} ms from click to here`;

  $('messages').prepend(card);
  while ($('messages').children.length > mostShown) {
    $('messages').lastElementChild.remove();
    $('older').hidden = false;
  }
  $('count').textContent = String(++received);
  $('empty').hidden = true;
  $('clear').hidden = false;
  cancelAnimationFrame(arranging);
  arranging = requestAnimationFrame(arrange);
}

// Of the messages that are longer than their frame one is a tab stop, the newest or
// where the keyboard was last; Page Up and Page Down lead to the others.
let arranging = 0;  // the frame that arrange is to be called in
let visited = null; // the data that had the focus last

function longOnes() {
  return Array.from($('messages').querySelectorAll('.data')).filter((data) => data.scrollHeight > data.clientHeight);
}

function arrange() {
  const long = longOnes();
  const stop = long.includes(visited) ? visited : long[0];
  for (const data of $('messages').querySelectorAll('.data')) {
    if (long.includes(data)) data.tabIndex = data === stop ? 0 : -1;
    else data.removeAttribute('tabindex');
  }
}

new ResizeObserver(arrange).observe($('messages')); // another width breaks lines elsewhere
$('messages').addEventListener('focusin', ({ target }) => {
  visited = target;
  arrange();
});
$('messages').addEventListener('keydown', (event) => {
  const step = { PageUp: -1, PageDown: 1 }[event.key];
  const long = longOnes();
  const at = long.indexOf(event.target);
  if (!step || at < 0) return;
  event.preventDefault();
  long[at + step]?.focus();
});

// plain writes the characters out, as JSON does, that turn around the text beside
// them: nothing on the page looks as if it stood elsewhere.
function plain(text) {
  return text.replace(/[\u202a-\u202e\u2066-\u2069]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);
}

// coloured returns JSON text as nodes: keys, strings and the other scalars in
// spans of their own, what is between a string's quotes in a bdi, so that writing
// from right to left moves nothing else. It makes text nodes only, so data can
// never become markup.
function* coloured(text) {
  const token = /("(?:\\.|[^"\\])*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g;
  let end = 0;
  for (const match of text.matchAll(token)) {
    yield text.slice(end, match.index);
    const [whole, string, colon] = match;
    const span = document.createElement('span');
    span.className = string ? (colon ? 'key' : 'string') : 'number';
    if (string) {
      const inner = document.createElement('bdi');
      inner.textContent = string.slice(1, -1);
      span.append('"', inner, '"');
    } else {
      span.textContent = whole;
    }
    yield span;
    yield colon ?? '';
    end = match.index + whole.length;
  }
  yield text.slice(end);
}

$('clear').addEventListener('click', () => {
  $('messages').replaceChildren();
  $('count').textContent = String(received = 0);
  $('empty').hidden = false;
  $('older').hidden = true;
  $('received-title').focus(); // the button goes, and whoever uses the keyboard stays here
  $('clear').hidden = true;
});

// ---- sending ----

const recipients = {
  user: { label: `user ${plain(user)}`, to: { users: [user] } },
  topic: { label: `topic ${topic}`, to: { channels: [topic] } },
  all: { label: 'everybody', to: { all: true } },
};
for (const [value, { label }] of Object.entries(recipients)) $('to').append(new Option(label, value));

// draft returns the message as JSON text, with id if there is one. What was typed
// as data goes as it is, but for white space: read and written again its numbers
// might be others. It throws if that is not JSON.
function draft(id) {
  const typed = $('data').value;
  JSON.parse(typed);
  const data = typed.replace(/("(?:\\.|[^"\\])*")|\s+/g, '$1');
  const event = $('event').value || undefined;
  const rest = JSON.stringify({ event, id }).slice(1); // what follows data, without its brace
  return `{"to":${JSON.stringify(recipients[$('to').value].to)},"data":${data}${rest === '}' ? '' : ','}${rest}`;
}

function showCurl() {
  let body;
  try {
    body = draft();
  } catch {
    return; // half a JSON text is being typed
  }
  $('curl').textContent = `curl ${known?.collect ?? ''}/v1/messages -H "X-API-Key: $KEY" -d '${plain(body).replaceAll("'", "'\\''")}'`;
}

function answer(text, bad = false) {
  $('answer').textContent = text;
  $('answer').dataset.kind = bad ? 'bad' : '';
}

$('form').addEventListener('input', () => {
  showCurl();
  if ($('answer').dataset.kind === 'bad') answer(''); // it was of what stood there before
});
$('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const id = crypto.randomUUID();
  let message;
  try {
    message = draft(id);
  } catch (err) {
    $('data').focus();
    return answer(`Data is not JSON: ${err.message}`, true);
  }
  sent.set(id, performance.now());
  if (sent.size > mostShown) sent.delete(sent.keys().next().value);
  const pressed = document.activeElement === $('send');
  $('send').disabled = true;
  try {
    const response = await fetch('messages', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: message,
    });
    const body = await response.json();
    if (response.ok) answer(`Accepted as ${body.id}`);
    else answer(body.detail ?? body.title ?? `refused with ${response.status}`, true);
  } catch {
    answer('The page\'s server does not answer. Is the stack still running?', true);
  } finally {
    $('send').disabled = false;
    // A button that is disabled loses the focus, and Enter would send no second message.
    if (pressed && document.activeElement === document.body) $('send').focus();
  }
});

$('older').textContent = `Only the newest ${mostShown} stay on the page.`;
const other = user === '7' ? '42' : '7';
const somebody = Object.assign(document.createElement('a'), { href: `?user=${other}`, target: '_blank', textContent: `as user ${other}` });
const name = Object.assign(document.createElement('bdi'), { textContent: plain(user) });
$('footer').append('User ', name, `, device ${device}. Open the page once more `, somebody, ' to be two people.');
client.connect();
session(false).then(showCurl, () => {});
