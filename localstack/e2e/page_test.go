//go:build unix

package e2e

import (
	"fmt"
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
