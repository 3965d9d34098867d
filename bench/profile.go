package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// startProfile begins a CPU profile of the subject if one is wanted; the returned
// function waits for it. A failed profile is told and changes nothing else.
func (b *bench) startProfile(ctx context.Context, r *row, subject *running) func() {
	var take func() error
	file := filepath.Join(b.o.out, r.name+"."+b.o.profile)
	switch b.o.profile {
	case "pprof":
		seconds := max(1, int(b.o.measure.Seconds()*float64(b.o.repeat)))
		url := fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile?seconds=%d", subject.setup.Admin, seconds)
		take = func() error { return fetchTo(ctx, url, file) }
	case "perf":
		return b.perf(subject, file)
	default:
		return func() {}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := take(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: no profile:", err)
			return
		}
		fmt.Fprintln(os.Stderr, "bench: profile in", file)
	})
	return wg.Wait
}

func fetchTo(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, resp.Body)
	return err
}

// perf records until the returned function is called.
func (b *bench) perf(subject *running, file string) func() {
	_ = os.MkdirAll(filepath.Dir(file), 0o755)
	cmd := exec.Command("perf", "record", "-q", "-g", "-o", file, "-p", strconv.Itoa(subject.cmd.Process.Pid))
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: no profile:", err)
		return func() {}
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
		fmt.Fprintln(os.Stderr, "bench: profile in", file, "(perf report -i)")
	}
}
