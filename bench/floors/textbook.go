//go:build linux

package main

import (
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

type tclient struct {
	conn *websocket.Conn
	send chan []byte
	u    uint32
}
type thub struct {
	mu    sync.RWMutex
	users map[uint32]*tclient
	bc    chan []byte
	reg   chan *tclient
	unreg chan *tclient
}

func textbook() hub {
	h := &thub{users: map[uint32]*tclient{}, bc: make(chan []byte), reg: make(chan *tclient), unreg: make(chan *tclient)}
	go h.run()
	up := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		u, since, err := query(r)
		if err != nil {
			http.Error(w, "auth", http.StatusUnauthorized)
			return
		}
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		c := &tclient{conn: conn, send: make(chan []byte, 256), u: u}
		h.reg <- c
		if since != "" {
			if m := history.since(u, 0); m != nil {
				c.send <- m
			}
		}
		go c.writePump()
		go c.readPump(h)
	})
	go func() { log.Fatal(http.ListenAndServe(*addr, mux)) }()
	return h
}
func (h *thub) run() {
	for {
		select {
		case c := <-h.reg:
			h.mu.Lock()
			h.users[c.u] = c
			h.mu.Unlock()
		case c := <-h.unreg:
			h.mu.Lock()
			if h.users[c.u] == c {
				delete(h.users, c.u)
				close(c.send)
			}
			h.mu.Unlock()
		case b := <-h.bc:
			for _, c := range h.users {
				select {
				case c.send <- b:
				default:
					dropped.Add(1)
				}
			}
		}
	}
}
func (h *thub) send(u uint32, b []byte) {
	h.mu.RLock()
	if c := h.users[u]; c != nil {
		select {
		case c.send <- b:
		default:
			dropped.Add(1)
		}
	}
	h.mu.RUnlock()
}
func (h *thub) bcast(b []byte) { h.bc <- b }
func (c *tclient) readPump(h *thub) {
	defer func() { h.unreg <- c; c.conn.Close() }()
	c.conn.SetReadLimit(512)
	c.conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	c.conn.SetPongHandler(func(string) error { c.conn.SetReadDeadline(time.Now().Add(60 * time.Second)); return nil })
	for {
		if _, _, err := c.conn.ReadMessage(); err != nil {
			return
		}
	}
}
func (c *tclient) writePump() {
	t := time.NewTicker(54 * time.Second)
	defer func() { t.Stop(); c.conn.Close() }()
	for {
		select {
		case m, ok := <-c.send:
			c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if !ok {
				c.conn.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			w, err := c.conn.NextWriter(websocket.TextMessage)
			if err != nil {
				return
			}
			w.Write(m)
			for n := len(c.send); n > 0; n-- {
				w.Write([]byte{'\n'})
				w.Write(<-c.send)
			}
			if err := w.Close(); err != nil {
				return
			}
		case <-t.C:
			c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if err := c.conn.WriteMessage(websocket.PingMessage, nil); err != nil {
				return
			}
		}
	}
}
