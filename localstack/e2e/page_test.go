//go:build unix

package e2e

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pushcluster/localstack/stack"
)

// shows is true once the page shows a message with that text in its data.
func shows(text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.message .data')].some((d) => d.textContent.includes(%q))`, text)
}

// count is how many messages with that text the page shows.
func count(text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.message .data')].filter((d) => d.textContent.includes(%q)).length`, text)
}

func connectedTo(node int) string {
	return fmt.Sprintf(`document.getElementById('state-text').textContent === 'Connected to node %d'`, node)
}

func click(id string) string { return fmt.Sprintf(`document.getElementById(%q).click()`, id) }

// TestPage does in a browser what a newcomer does.
func TestPage(t *testing.T) {
	b := startBrowser(t)
	s := start(t)
	b.open(s.Page.URL + "/")
	b.await(connectedTo(1))

	if got := b.eval(`document.documentElement.scrollWidth - document.documentElement.clientWidth`); got != "0" {
		t.Errorf("the page is %s pixels wider than its window", got)
	}

	t.Log("a message posted to Collect arrives")
	id := post(t, s, `{"to":{"users":["42"]},"event":"greeting","data":{"text":"posted <b>here</b>","n":12.5}}`)
	b.await(shows("posted <b>here</b>"))
	if got := b.eval(`document.querySelector('.message .id').textContent`); got != id {
		t.Errorf("the page shows the id %q, want %q", got, id)
	}
	if got := b.eval(`document.querySelector('.message .event').textContent`); got != "greeting" {
		t.Errorf("the page shows the event %q, want greeting", got)
	}

	t.Log("so does one sent by the form, to each kind of recipient")
	for _, to := range []string{"user", "topic", "all"} {
		b.eval(fmt.Sprintf(`document.getElementById('to').value = %q; document.getElementById('data').value = '{"text":"sent to %s"}'`, to, to))
		b.await(`!document.getElementById('send').disabled`) // the message before may arrive before its answer
		b.eval(click("send"))
		b.await(shows("sent to " + to))
	}

	t.Log("what is sent while the page is offline arrives when it is back, on the other node too")
	b.eval(click("line"))
	b.await(`document.getElementById('state').dataset.state === 'offline'`)
	post(t, s, `{"to":{"users":["42"]},"data":"missed"}`)
	b.eval(`document.querySelector('#nodes input[value="1"]').click()`)
	b.await(connectedTo(2))
	b.await(shows("missed"))

	t.Log("when its node dies it goes to another, and nothing is lost or repeated")
	s.Node(1).Kill()
	post(t, s, `{"to":{"users":["42"]},"data":"meanwhile"}`)
	b.await(shows("meanwhile"))
	for _, text := range []string{"posted", "missed", "meanwhile"} {
		if got := b.eval(count(text)); got != "1" {
			t.Errorf("%q is shown %s times, want once", text, got)
		}
	}
}

// TestPageByKeyboard presses buttons that go, or cannot be pressed, meanwhile:
// the focus stays where it was, or near.
func TestPageByKeyboard(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.open(s.Page.URL + "/")
	b.await(connectedTo(1))
	for _, n := range []string{"1", "2"} {
		b.await(`!document.getElementById('send').disabled`)
		b.eval(`document.getElementById('send').focus()`)
		b.press("Enter")
		b.await(`document.getElementById('count').textContent === '` + n + `' && !document.getElementById('send').disabled`)
		if got := b.eval(`document.activeElement.id`); got != "send" {
			t.Errorf("message %s is sent, and the focus is on %q, want send", n, got)
		}
	}
	b.eval(`document.getElementById('clear').focus()`)
	b.press("Enter")
	b.await(`document.getElementById('clear').hidden`)
	if got := b.eval(`document.activeElement.id`); got != "received-title" {
		t.Errorf("all is cleared, and the focus is on %q, want received-title", got)
	}
}

// TestPageLongByKeyboard has the keyboard reach every message that is longer than
// its frame, by one tab stop for all of them.
func TestPageLongByKeyboard(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.open(s.Page.URL + "/")
	b.await(connectedTo(1))
	long := strings.Repeat(`0,`, 100) + "0"
	for _, data := range []string{`["first",` + long + `]`, `"short"`, `["second",` + long + `]`, `["third",` + long + `]`} {
		post(t, s, `{"to":{"users":["42"]},"data":`+data+`}`)
	}
	b.await(`document.querySelectorAll('.data[tabindex]').length === 3`)
	b.eval(`document.getElementById('clear').focus()`)
	for i, step := range []struct{ key, want string }{
		{"Tab", "third"}, {"PageUp", "third"}, {"PageDown", "second"}, {"PageDown", "first"}, {"PageDown", "first"},
		{"PageUp", "second"}, {"Tab", "as user 7"},
	} {
		b.press(step.key)
		if got := b.eval(`document.activeElement.textContent`); !strings.Contains(got, step.want) {
			t.Errorf("step %d, %s: the focus is on %.40q, want %q in it", i+1, step.key, got, step.want)
		}
	}
	if got := b.eval(`document.querySelector('.data[tabindex="0"]').textContent`); !strings.Contains(got, "second") {
		t.Errorf("Tab leads to %.40q now, want back to the second", got)
	}
}

// TestPageKeepsDirections sends what is written from right to left, and characters
// that would have everything beside them so.
func TestPageKeepsDirections(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.open(s.Page.URL + "/?user=" + url.QueryEscape("a\u202eb"))
	b.await(connectedTo(1))
	// What of a part stands to the left of what it follows in its line, "" if nothing does.
	const inOrder = `(() => {
		const texts = document.createTreeWalker(%s, NodeFilter.SHOW_TEXT);
		const line = [];
		while (texts.nextNode()) {
			const range = document.createRange();
			range.selectNodeContents(texts.currentNode);
			const { left, top, width } = range.getBoundingClientRect();
			if (width && texts.currentNode.textContent.trim()) line.push({ left, top: Math.round(top), text: texts.currentNode.textContent });
		}
		const moved = line.find(({ left, top }, i) => i > 0 && top === line[i - 1].top && left < line[i - 1].left);
		return moved ? moved.text + ' of ' + JSON.stringify(line) : '';
	})()`
	for name, text := range map[string]string{
		"an override":      "x\u202eyz",
		"an isolate ended": "\u2069\u202eyz",
		"letters":          "\u05d0\u05d1\u05d2",
	} {
		t.Run(name, func(t *testing.T) {
			id := post(t, s, fmt.Sprintf(`{"to":{"users":["a\u202eb"]},"event":%[1]q,"data":{%[1]q:%[1]q}}`, text))
			b.await(fmt.Sprintf(`document.querySelector('.message .id')?.textContent === %q`, id))
			for _, part := range []string{".message .row", ".message .data"} {
				if got := b.eval(fmt.Sprintf(inOrder, fmt.Sprintf("document.querySelector(%q)", part))); got != "" {
					t.Errorf("%s: %s is shown before what it follows", part, got)
				}
			}
		})
	}
	if got := b.eval(fmt.Sprintf(inOrder, "document.getElementById('footer')")); got != "" {
		t.Errorf("the footer: %s is shown before what it follows", got)
	}
}

// TestPageBrokenData sends what is no JSON: the page says so until it is corrected.
func TestPageBrokenData(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.open(s.Page.URL + "/")
	b.await(connectedTo(1))
	for _, tt := range []struct{ data, want string }{{`{"a":`, "Data is not JSON"}, {`{"a":1}`, ""}} {
		b.eval(fmt.Sprintf(`document.getElementById('data').value = %q`, tt.data))
		b.eval(`document.getElementById('form').dispatchEvent(new Event('input'))`)
		if tt.want != "" {
			b.eval(click("send"))
		}
		if got := b.eval(`document.getElementById('answer').textContent`); !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("with %s as data the page says %q, want %q", tt.data, got, tt.want)
		}
	}
}

// TestPageShowsTheNewest sends more than the page keeps.
func TestPageShowsTheNewest(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.open(s.Page.URL + "/")
	b.await(connectedTo(1))
	for _, tt := range []struct{ sent, received, shown int }{{200, 200, 200}, {1, 201, 200}} {
		postAll(t, s, slices.Repeat([]string{`{"to":{"users":["42"]},"data":1}`}, tt.sent))
		b.await(fmt.Sprintf(`document.getElementById('count').textContent === '%d'`, tt.received))
		if got := b.eval(`document.querySelectorAll('.message').length`); got != fmt.Sprint(tt.shown) {
			t.Errorf("of %d messages %s are shown, want %d", tt.received, got, tt.shown)
		}
		if got, want := b.eval(`!document.getElementById('older').hidden`), fmt.Sprint(tt.received > tt.shown); got != want {
			t.Errorf("of %d messages %d are shown; that this is so is told: %s, want %s", tt.received, tt.shown, got, want)
		}
	}
}

// TestPageReload leaves the page, and comes back as the same device.
func TestPageReload(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.open(s.Page.URL + "/?user=reader")
	b.await(connectedTo(1))
	b.open("about:blank")
	post(t, s, `{"to":{"users":["reader"]},"data":"while away"}`)
	b.open(s.Page.URL + "/?user=reader")
	b.await(shows("while away"))
	if got := b.complaints(); len(got) > 0 {
		t.Errorf("the page complains:\n%s", strings.Join(got, "\n"))
	}
}

// TestPageKeepsNumbers sends a number that JavaScript has no value for.
func TestPageKeepsNumbers(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.open(s.Page.URL + "/")
	b.await(connectedTo(1))
	b.eval(`document.getElementById('data').value = '{ "order": 12345678901234567890,\n "price": 1.10, "text": "a  \\"b\\"" }'`)
	b.eval(`document.getElementById('form').dispatchEvent(new Event('input'))`)
	const typed = `"data":{"order":12345678901234567890,"price":1.10,"text":"a  \"b\""},"event":"greeting"}`
	if got := b.eval(`document.getElementById('curl').textContent`); !strings.Contains(got, typed) {
		t.Errorf("the curl line is %s, want %s in it", got, typed)
	}
	b.eval(click("send"))
	b.await(shows(`"order": 12345678901234567890`))
	b.await(shows(`"price": 1.10`))
}

// TestPageTellsTheDay shows a message on the day after it was sent.
func TestPageTellsTheDay(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": `
		const Today = Date;
		Date = class extends Today {
			constructor(...at) { at.length ? super(...at) : super(Today.now() + 86_400_000); }
			static now() { return Today.now() + 86_400_000; }
		}`}, nil)
	year := b.eval(`String(new Date().getFullYear())`)
	post(t, s, `{"to":{"users":["42"]},"data":"of yesterday"}`)
	b.open(s.Page.URL + "/")
	b.await(shows("of yesterday"))
	if got := b.eval(`document.querySelector('.message time').textContent`); !strings.Contains(got, year[:3]) {
		t.Errorf("a message of the day before is shown at %q, want its date", got)
	}
}

// TestPageRefused opens the page as a user that cannot be.
func TestPageRefused(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.open(s.Page.URL + "/?user=*")
	b.await(`document.getElementById('state').dataset.state === 'closed'`)
	if got := b.eval(`document.getElementById('state-text').textContent`); !strings.Contains(got, "user") {
		t.Errorf("the page says %q, want why that user cannot be", got)
	}
	if got := b.eval(`getComputedStyle(document.getElementById('nodes')).display`); got != "none" {
		t.Errorf("a picker without nodes is shown as %s, want none of it", got)
	}
}

// TestPageMoreNodes has the stack run with other nodes, and more, while the page
// is open: it learns of them when its line breaks, and when it goes online.
func TestPageMoreNodes(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 1 })
	b.open(s.Page.URL + "/")
	b.await(connectedTo(1))
	for range 2 {
		if _, err := s.AddNode(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.Node(0).Kill()
	b.await(`document.querySelectorAll('#nodes label').length === 2`)
	b.await(`document.getElementById('state').dataset.state === 'connected'`)
	b.eval(click("line"))
	if _, err := s.AddNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.eval(click("line"))
	b.await(`document.querySelectorAll('#nodes label').length === 3`)
}

// TestPageFits opens the page where there is little room.
func TestPageFits(t *testing.T) {
	b := startBrowser(t)
	s := start(t, func(cfg *stack.Config) { cfg.Nodes = 12 })
	const (
		tooWide = `document.documentElement.scrollWidth - document.documentElement.clientWidth`
		below   = `Math.max(0, document.getElementById('line').offsetTop - document.getElementById('nodes').offsetTop)`
	)
	tests := map[string]struct {
		width, height int
		user          string
		fits          string // what must not be above 0, in pixels
	}{
		"twelve nodes on a phone":     {390, 844, "42", tooWide},
		"twelve nodes, and a button":  {1400, 900, "42", below},
		"a long name on a phone":      {390, 844, strings.Repeat("x", 255), tooWide},
		"curl open on a phone":        {390, 844, "42", `Math.max(0, Math.round(document.querySelector('details').getBoundingClientRect().height - innerHeight / 2))`},
		"curl open on a small screen": {1280, 800, "42", `Math.max(0, document.querySelector('.send').getBoundingClientRect().height + 40 - innerHeight)`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b.call("Emulation.setDeviceMetricsOverride",
				map[string]any{"width": tt.width, "height": tt.height, "deviceScaleFactor": 1, "mobile": tt.width < 500}, nil)
			b.open(s.Page.URL + "/?user=" + tt.user)
			b.await(connectedTo(1))
			b.eval(`document.getElementById('data').value = JSON.stringify('long '.repeat(2000))`)
			b.eval(`document.getElementById('form').dispatchEvent(new Event('input'))`)
			b.eval(`document.querySelector('details').open = true`)
			if got := b.eval(tt.fits); got != "0" {
				t.Errorf("%d by %d: %s pixels too many", tt.width, tt.height, got)
			}
		})
	}
}
