//go:build linux

package main

import (
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

type gconn struct {
	ws *websocket.Conn
	mu sync.Mutex
	u  uint32
}
type shub struct {
	sh [64]struct {
		sync.RWMutex
		m map[uint32]*gconn
	}
}

func newShub() *shub {
	h := &shub{}
	for i := range h.sh {
		h.sh[i].m = map[uint32]*gconn{}
	}
	return h
}
func (h *shub) add(c *gconn) {
	s := &h.sh[c.u&63]
	s.Lock()
	s.m[c.u] = c
	s.Unlock()
}
func (h *shub) del(c *gconn) {
	s := &h.sh[c.u&63]
	s.Lock()
	if s.m[c.u] == c {
		delete(s.m, c.u)
	}
	s.Unlock()
}
func (h *shub) get(u uint32) *gconn {
	s := &h.sh[u&63]
	s.RLock()
	c := s.m[u]
	s.RUnlock()
	return c
}
func (c *gconn) write(b []byte) {
	c.mu.Lock()
	if *deadline {
		c.ws.SetWriteDeadline(time.Now().Add(5 * time.Second))
	}
	if err := c.ws.WriteMessage(websocket.TextMessage, b); err != nil {
		dropped.Add(1)
	}
	c.mu.Unlock()
}
func (h *shub) send(u uint32, b []byte) {
	if c := h.get(u); c != nil {
		c.write(b)
	}
}
func (h *shub) bcast(b []byte) {
	pm, _ := websocket.NewPreparedMessage(websocket.TextMessage, b)
	var list []*gconn
	for i := range h.sh {
		s := &h.sh[i]
		s.RLock()
		list = list[:0]
		for _, c := range s.m {
			list = append(list, c)
		}
		s.RUnlock()
		for _, c := range list {
			c.mu.Lock()
			if *deadline {
				c.ws.SetWriteDeadline(time.Now().Add(5 * time.Second))
			}
			if err := c.ws.WritePreparedMessage(pm); err != nil {
				dropped.Add(1)
			}
			c.mu.Unlock()
		}
	}
}

func tuned() hub {
	h := newShub()
	up := websocket.Upgrader{ReadBufferSize: *readBuf, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		u, since, err := query(r)
		if err != nil {
			http.Error(w, "auth", http.StatusUnauthorized)
			return
		}
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		c := &gconn{ws: ws, u: u}
		h.add(c)
		if since != "" {
			if m := history.since(u, 0); m != nil {
				c.write(m)
			}
		}
		go func() { // a fresh goroutine: net/http's, with its grown stack and buffers, ends
			for {
				if _, _, err := ws.NextReader(); err != nil {
					h.del(c)
					ws.Close()
					return
				}
			}
		}()
	})
	go func() { log.Fatal(http.ListenAndServe(*addr, mux)) }()
	return h
}

// tuned2 is tuned without net/http on the accept path: the handshake request is
// parsed by hand from a pooled buffer and handed to gorilla's Upgrader through
