//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"log"
	"net"
)

func streamPub(h hub) {
	l, err := net.Listen("tcp", *strA)
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			br := bufio.NewReaderSize(c, 64<<10)
			for {
				p, err := br.Peek(6)
				if err != nil {
					return
				}
				u, n := binary.BigEndian.Uint32(p), int(binary.BigEndian.Uint16(p[4:]))
				br.Discard(6)
				p, err = br.Peek(n)
				if err != nil {
					return
				}
				if *useHist {
					history.put(u, p)
				}
				if *mode == "textbook" {
					p = bytes.Clone(p)
				}
				h.send(u, p)
				br.Discard(n)
			}
		}()
	}
}
