//go:build !unix

package node

import (
	"errors"
	"syscall"
)

// rawReads says that awaitReadable and readNow do not work here.
const rawReads = false

func awaitReadable(syscall.RawConn) error { return errors.ErrUnsupported }

func readNow(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }

// writeNow writes nothing here: all bytes are left to flush.
func writeNow(syscall.RawConn, []byte) (int, error) { return 0, nil }
