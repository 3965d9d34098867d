package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/mecha-mesh/mecha/proxy/applog"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// kill sends this process a signal that watchSignals has taken over.
func kill(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}

func TestSignals(t *testing.T) {
	reopened := make(chan struct{}, 1)
	log := applog.New(new(bytes.Buffer))
	ctx, stop := watchSignals(t.Context(), log.Logger("main"), func() error {
		reopened <- struct{}{}
		return errors.New("disk full")
	})
	defer stop()
	kill(t, syscall.SIGHUP)
	kill(t, syscall.SIGUSR1)
	<-reopened
	if ctx.Err() != nil {
		t.Fatal("SIGHUP or SIGUSR1 ended the process")
	}
	kill(t, syscall.SIGTERM)
	<-ctx.Done()
}

func TestSignalsStop(t *testing.T) {
	ctx, stop := watchSignals(t.Context(), applog.New(new(bytes.Buffer)).Logger("main"), func() error { return nil })
	stop()
	if ctx.Err() == nil {
		t.Error("stop left the context running")
	}
}

func TestCgroupMemoryLimit(t *testing.T) {
	f := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for _, c := range []struct {
		name string
		fs   fstest.MapFS
		want int64
	}{
		{"version 2, in the group", fstest.MapFS{"proc/self/cgroup": f("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": f("1000\n")}, 1000},
		{"version 2, in an ancestor", fstest.MapFS{"proc/self/cgroup": f("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": f("max\n"), "sys/fs/cgroup/a/memory.max": f("500\n")}, 500},
		{"version 2, inside a container", fstest.MapFS{"proc/self/cgroup": f("0::/../x\n"), "sys/fs/cgroup/memory.max": f("700\n")}, 700},
		{"version 1", fstest.MapFS{"proc/self/cgroup": f("5:cpu,memory:/k\n4:pids:/k\n"), "sys/fs/cgroup/memory/k/memory.limit_in_bytes": f("300\n")}, 300},
		{"version 1, unlimited", fstest.MapFS{"proc/self/cgroup": f("5:memory:/\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": f("9223372036854771712\n")}, 0},
		{"no cgroups", fstest.MapFS{}, 0},
		{"nonsense", fstest.MapFS{"proc/self/cgroup": f("::::\nx\n"), "sys/fs/cgroup/memory.max": f("-5")}, 0},
	} {
		got, ok := cgroupMemoryLimit(c.fs)
		if ok != (c.want > 0) || ok && got != c.want {
			t.Errorf("%s: %d %v", c.name, got, ok)
		}
	}
}

func TestLogOfTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	o, err := parseEnvoyFlags("envoy", []string{
		"--log-path", path, "--log-format", "%l %n %v", "--log-format-escaped", "-l", "debug",
		"--component-log-level", "config:error", "--disable-hot-restart",
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := newLog(o)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	logStart(log, o, bootstrap.Report{Warnings: []bootstrap.Finding{{Text: "hidden by the component's level"}}})
	b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: "application_log_config: {log_format: {json_format: {l: '%l', m: '%j'}}}"})
	if err != nil {
		t.Fatal(err)
	}
	if err := applyLogConfig(log, b, o); err != nil {
		t.Fatal(err)
	}
	log.Logger("main").Info("served")
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "debug main flags without function here were accepted flags=[--disable-hot-restart]\n" + `{"l":"info","m":"served"}` + "\n"
	if string(got) != want {
		t.Errorf("got %q", got)
	}
}
