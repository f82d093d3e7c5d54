//go:build linux

package compare

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Machine is where, and with which code, figures were taken.
type Machine struct {
	CPU       string  `json:"cpu"`
	Cores     int     `json:"cores"`
	MemoryGiB float64 `json:"memory_gib"`
	Kernel    string  `json:"kernel"`
	Go        string  `json:"go"`
	Commit    string  `json:"commit"`
	Changed   bool    `json:"changed"` // there were changes beyond the commit
	// Load is the load average of the last minute at the beginning: how many
	// others wanted a core.
	Load float64 `json:"load"`
}

// busyLoad is the load average above which figures are preliminary: somebody
// else was at work.
const busyLoad = 0.5

// Busy reports whether somebody else used the machine when the run began.
func (m Machine) Busy() bool { return m.Load > busyLoad }

func thisMachine() Machine {
	m := Machine{Go: runtime.Version(), CPU: "unknown", Commit: "unknown"}
	if cpus, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(cpus)) {
			switch name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) {
			case "model name":
				m.CPU = strings.TrimSpace(value)
			case "processor":
				m.Cores++
			}
		}
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		const fixedPoint = 1 << 16 // of the kernel's load averages
		m.MemoryGiB = float64(info.Totalram) * float64(info.Unit) / (1 << 30)
		m.Load = float64(info.Loads[0]) / fixedPoint
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	if commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		m.Commit = string(bytes.TrimSpace(commit))
	}
	if changes, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output(); err == nil {
		m.Changed = len(bytes.TrimSpace(changes)) > 0
	}
	return m
}

// String tells the machine in a line.
func (m Machine) String() string {
	commit := m.Commit
	if m.Changed {
		commit += " and changes"
	}
	return fmt.Sprintf("%s, %d cores, %s GiB, Linux %s, %s, commit %s, load %.2f at the beginning",
		m.CPU, m.Cores, strconv.FormatFloat(m.MemoryGiB, 'f', 0, 64), m.Kernel, m.Go, commit, m.Load)
}
