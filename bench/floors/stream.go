//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"log"
	"net"
)

// maxBatch is how many bytes one batch of the stream may have.
const maxBatch = 16 << 20

// streamPub takes batches as /batch does, each behind its length in four bytes,
// and answers each with one byte once it was sent.
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
			var head [4]byte
			for {
				if _, err := io.ReadFull(br, head[:]); err != nil {
					return
				}
				n := binary.BigEndian.Uint32(head[:])
				if n > maxBatch {
					return
				}
				b := make([]byte, n) // textbook keeps it
				if _, err := io.ReadFull(br, b); err != nil {
					return
				}
				sendBatch(h, b)
				if _, err := c.Write(head[:1]); err != nil {
					return
				}
			}
		}()
	}
}
