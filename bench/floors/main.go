//go:build linux

// Command floors is six minimal push nodes behind one publish API, and a relay in
// front of one of them, to bound what a Go push node, and the path to it, can do
// on a machine. It is measured beside the real node
// and is no part of the product: no lease, no order, no recovery beyond the last
// message of a user. What it leaves out is what makes it a floor.
//
// The modes:
//
//	textbook  the shape of gorilla's chat example: two goroutines and a channel
//	          for each connection
//	tuned     one reading goroutine, direct writes, pooled write buffers,
//	          prepared messages
//	tuned2    tuned, with the handshake read by hand and not by net/http
//	tuned3    tuned2, with readers parked on small stacks
//	gepoll    gorilla's framing over raw descriptors and one epoll loop: no
//	          goroutine and no netpoll entry for a connection
//	raw       a table of descriptors and write(2), no gorilla
//	relay     no push node: the publish API in front of Redis and of the stream of
//	          a push node
package main

import (
	"encoding/binary"
	"flag"
	"io"
	"log"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
)

// A hub holds the connections of one mode.
type hub interface {
	send(u uint32, b []byte) // to the connection of user u; textbook keeps b
	bcast(b []byte)          // to every connection; may keep b
}

// The floor is one process with one purpose: what its parts share is what the
// command line said, and a count.
var (
	mode     = flag.String("mode", "tuned", "textbook, tuned, tuned2, tuned3, gepoll, raw or relay")
	addr     = flag.String("addr", "127.0.0.1:9000", "where clients connect: GET /ws?token=JWT[&since=1]")
	pubA     = flag.String("pub", "127.0.0.1:9001", "the publish API, over HTTP")
	strA     = flag.String("stream", "127.0.0.1:9002", "the publish API, as a stream of what /batch takes; empty: none. relay: where that is")
	redisA   = flag.String("redis", "127.0.0.1:6379", "relay: Redis, without a password")
	greet    = flag.Bool("greet", false, "gepoll: answer the first frame of a client as a connect command is answered")
	useHist  = flag.Bool("hist", false, "keep the last message of each user and replay it on ?since=")
	readBuf  = flag.Int("rbuf", 256, "gorilla read buffer of tuned/gepoll")
	deadline = flag.Bool("deadline", true, "tuned: SetWriteDeadline before each write")
	dropped  atomic.Int64
)

func main() {
	flag.Parse()
	var h hub
	switch *mode {
	case "relay":
		runRelay(*pubA, *redisA, *strA)
	case "textbook":
		h = textbook()
	case "tuned":
		h = tuned()
	case "tuned2":
		h = tuned2()
	case "tuned3":
		park = true
		h = tuned2()
	case "gepoll":
		h = epollHub(true)
	case "raw":
		h = epollHub(false)
	default:
		log.Fatalf("no such mode: %q", *mode)
	}
	if *strA != "" {
		go streamPub(h)
	}
	log.Println(*mode, os.Getpid(), "GOMAXPROCS", runtime.GOMAXPROCS(0))
	log.Fatal(http.ListenAndServe(*pubA, api(h)))
}

// api is how messages come in, and pprof.
func api(h hub) http.Handler {
	mux := http.DefaultServeMux
	mux.HandleFunc("/publish", func(w http.ResponseWriter, r *http.Request) {
		u, _ := strconv.Atoi(r.URL.RawQuery[2:]) // u=123
		b, _ := io.ReadAll(r.Body)
		if *useHist {
			history.put(uint32(u), b)
		}
		h.send(uint32(u), b)
		w.Write([]byte("{}"))
	})
	mux.HandleFunc("/batch", func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, b); err != nil {
			return
		}
		sendBatch(h, b)
		w.Write([]byte("{}"))
	})
	mux.HandleFunc("/broadcast", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		h.bcast(b)
		w.Write([]byte("{}"))
	})
	mux.HandleFunc("/gc", func(w http.ResponseWriter, r *http.Request) { runtime.GC() })
	mux.HandleFunc("/free", func(w http.ResponseWriter, r *http.Request) { debug.FreeOSMemory() })
	mux.HandleFunc("/dropped", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strconv.FormatInt(dropped.Load(), 10))
	})
	return mux
}

// sendBatch sends the messages of a batch.
func sendBatch(h hub, b []byte) {
	eachMessage(b, func(u uint32, payload []byte) {
		if *useHist {
			history.put(u, payload)
		}
		h.send(u, payload)
	})
}

// eachMessage calls f for each message of a batch, which stands behind its user in
// four bytes and its length in two.
func eachMessage(b []byte, f func(u uint32, payload []byte)) {
	for len(b) > 6 {
		u, l := binary.BigEndian.Uint32(b), int(binary.BigEndian.Uint16(b[4:]))
		f(u, b[6:6+l:6+l])
		b = b[6+l:]
	}
}
