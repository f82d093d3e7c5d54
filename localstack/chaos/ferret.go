package chaos

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"time"

	"pushcluster/shared/store/storetest"
)

// A ferretProcess is a FerretDB, which stands for MongoDB. It keeps its port and
// what it holds over restarts.
type ferretProcess struct {
	process
	addr string
}

// newFerret prepares a FerretDB at addr. Building its program takes minutes, once
// per machine.
func newFerret(dir, addr string) (*ferretProcess, error) {
	program, err := storetest.FerretDBProgram(func(string, ...any) {})
	if err != nil {
		return nil, err
	}
	return &ferretProcess{addr: addr, process: process{
		name: "ferretdb", program: program, log: filepath.Join(dir, "ferretdb.log"),
		args: []string{"-listen", addr, "-dir", filepath.Join(dir, "ferretdb")},
	}}, nil
}

func (f *ferretProcess) url() string { return "mongodb://" + f.addr + "/pushcluster?maxUpdates=40" }

// start starts the server and waits until it takes connections.
func (f *ferretProcess) start(ctx context.Context) error {
	if err := f.launch(); err != nil {
		return err
	}
	for end := time.Now().Add(readyTime); time.Now().Before(end); {
		conn, err := net.DialTimeout("tcp", f.addr, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond): // nobody announces it
		}
	}
	return errors.New("FerretDB does not answer")
}
