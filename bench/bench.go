package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run of the program.
type bench struct {
	o        options
	subject  peer
	peers    []peer // those that are installed
	absent   []string
	launcher *launcher
	backend  *backend
	certs    *certs
	lastPort int
	cpus     int
}

func newBench(o options) (*bench, error) {
	b := &bench{o: o, cpus: runtime.NumCPU()}
	if b.o.proxyCPU < 0 {
		b.o.proxyCPU = b.cpus - 1
	}
	var err error
	if b.subject, err = findPeer(o.subject); err != nil {
		return nil, err
	}
	if _, err := b.subject.find(o.bin); err != nil {
		return nil, fmt.Errorf("the subject: %w", err)
	}
	if err := b.choosePeers(); err != nil {
		return nil, err
	}
	if len(b.peers) == 0 {
		return nil, errors.New("no peer to compare with is installed")
	}
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) // the memory row says what it lacks
	}
	b.launcher = newLauncher() // before this process is pinned: its thread may leave that CPU
	if err := pinSelf(b.o.loadCPU); err != nil {
		return nil, err
	}
	// Load generator and back end have a thread each; a collection would only
	// disturb the latencies, and they allocate next to nothing.
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(1 << 30)
	if b.certs, err = newCerts(); err != nil {
		return nil, err
	}
	b.backend, err = startBackend(b.certs)
	return b, err
}

func (b *bench) close() {
	b.backend.close()
	b.certs.remove()
}

func (b *bench) choosePeers() error {
	for _, name := range b.o.peers {
		if name == "" || name == b.o.subject {
			continue
		}
		p, err := findPeer(name)
		if err != nil {
			return err
		}
		switch _, err := p.find(b.o.bin); {
		case errors.Is(err, errAbsent):
			b.absent = append(b.absent, err.Error())
			fmt.Fprintln(os.Stderr, "bench: left out:", err)
		case err != nil:
			return err
		default:
			b.peers = append(b.peers, p)
		}
	}
	return nil
}

// proxyCPUs is where a proxy with so many workers runs: from the proxy CPU down.
// It shares the load generator's CPU only if there are no others.
func (b *bench) proxyCPUs(workers int) []int {
	var cpus []int
	for c := b.o.proxyCPU; c >= 0 && len(cpus) < workers; c-- {
		cpus = append(cpus, c)
	}
	return cpus
}

func (b *bench) run(ctx context.Context) (*report, error) {
	picked, memory, err := wanted(b.o.rows)
	if err != nil {
		return nil, err
	}
	rep := newReport(b)
	failed := 0
	for i := range picked {
		line := rowResult{Name: picked[i].name, About: picked[i].about, Target: picked[i].target, Yard: picked[i].target / picked[i].haproxy, AtLeast: picked[i].atLeast}
		for _, p := range b.peers {
			pair, err := b.pair(ctx, &picked[i], p)
			if ctx.Err() != nil {
				return rep, errors.New("interrupted")
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "bench: %s beside %s: %s\n", picked[i].name, p.name, oneLine(err))
				line.Failures = append(line.Failures, p.name+": "+oneLine(err))
				if !errors.Is(err, errAbsent) {
					failed++
				}
				continue
			}
			fmt.Fprintf(os.Stderr, "%-11s %s/%s %.2f  (%.1f and %.1f us of CPU a request, %.0f %% busy)\n",
				picked[i].name, b.subject.name, p.name, pair.Ratio.Median, pair.SubjectCPU.Median, pair.PeerCPU.Median, 100*pair.Busy)
			line.Pairs = append(line.Pairs, pair)
		}
		line.judge(&picked[i])
		rep.Rows = append(rep.Rows, line)
	}
	if memory {
		rep.Memory, err = b.memory(ctx)
		if ctx.Err() != nil {
			return rep, errors.New("interrupted")
		}
		if err != nil {
			return rep, err
		}
	}
	if failed > 0 {
		return rep, fmt.Errorf("%d pairs could not be measured", failed)
	}
	return rep, nil
}

// warmUp is how long the load runs before it counts, and longestWarmUp how long it may
// where handshakes take their time.
const (
	warmUp        = 600 * time.Millisecond
	longestWarmUp = 20 * time.Second
)

// warm waits until the load has run for a while, and every connection may have been
// answered.
func warm(ctx context.Context, r *row, g *generator) error {
	for end := time.Now().Add(longestWarmUp); ; {
		if err := wait(ctx, warmUp, g.done); err != nil {
			return err
		}
		cold := slices.ContainsFunc(g.targets, func(t *target) bool { return t.count.Load() < int64(r.conns) })
		if !cold || time.Now().After(end) {
			return nil
		}
	}
}

// pair measures the subject and one peer together.
func (b *bench) pair(ctx context.Context, r *row, p peer) (pairResult, error) {
	res := pairResult{Peer: p.name}
	var both [2]*running
	var targets []*target
	for i, kind := range []peer{b.subject, p} {
		run, err := b.launch(ctx, kind, r.config, r.workers)
		if err != nil {
			return res, err
		}
		defer run.stop()
		both[i] = run
		targets = append(targets, &target{name: kind.name, port: run.setup.Listen})
	}
	r.certs = b.certs
	g, err := newGenerator(r, targets)
	if err != nil {
		return res, err
	}
	g.start()
	err = b.samples(ctx, r, g, both, &res)
	if gerr := g.close(); gerr != nil {
		return res, gerr
	}
	return res, err
}

// samples takes the repeated measurements while the load runs.
func (b *bench) samples(ctx context.Context, r *row, g *generator, both [2]*running, res *pairResult) error {
	if err := warm(ctx, r, g); err != nil {
		return err
	}
	defer b.startProfile(ctx, r, both[0])()
	for _, t := range g.targets {
		t.delays.record(true)
	}
	var ratios, subject, other []float64
	var used time.Duration
	begun := time.Now()
	for range b.o.repeat {
		var cpu [2]float64 // microseconds a request
		before, err := readings(both[:], g)
		if err != nil {
			return err
		}
		if err := wait(ctx, b.o.measure, g.done); err != nil {
			return err
		}
		after, err := readings(both[:], g)
		if err != nil {
			return err
		}
		for i := range cpu {
			n := after[i].count - before[i].count
			if n == 0 {
				return fmt.Errorf("%s answered nothing in %v", g.targets[i].name, b.o.measure)
			}
			cpu[i] = float64(after[i].cpu-before[i].cpu) / float64(n) / float64(time.Microsecond)
			used += after[i].cpu - before[i].cpu
		}
		res.Requests += after[0].count - before[0].count
		ratio := cpu[0] / cpu[1]
		if r.atLeast {
			ratio = cpu[1] / cpu[0]
		}
		ratios, subject, other = append(ratios, ratio), append(subject, cpu[0]), append(other, cpu[1])
	}
	res.Ratio, res.SubjectCPU, res.PeerCPU = spreadOf(ratios), spreadOf(subject), spreadOf(other)
	res.Busy = float64(used) / float64(time.Since(begun)) / float64(r.workers)
	res.SubjectLatency, res.PeerLatency = g.targets[0].delays.summary(), g.targets[1].delays.summary()
	return nil
}

// reading is a proxy's odometer.
type reading struct {
	cpu   time.Duration
	count int64
}

func readings(all []*running, g *generator) (out []reading, err error) {
	for i, r := range all {
		cpu, err := cpuTime(r.pids())
		if err != nil {
			return nil, err
		}
		out = append(out, reading{cpu, g.targets[i].count.Load()})
	}
	return out, nil
}

// wait returns after d, or with an error when ctx or the load ends before.
func wait(ctx context.Context, d time.Duration, ended <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
		return errors.New("the load ended early")
	case <-time.After(d):
		return nil
	}
}

// oneLine fits an error into a table's footnote.
func oneLine(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	return s[:min(len(s), 200)]
}

// spread is the middle and the ends of repeated samples.
type spread struct {
	Median float64   `json:"median"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	All    []float64 `json:"all"`
}

func spreadOf(all []float64) spread {
	s := slices.Sorted(slices.Values(all))
	mid := s[len(s)/2]
	if len(s)%2 == 0 {
		mid = (mid + s[len(s)/2-1]) / 2
	}
	return spread{Median: mid, Low: s[0], High: s[len(s)-1], All: all}
}

// version asks a program who it is.
func version(p peer, bin string) string {
	binary, err := p.find(bin)
	if err != nil {
		return ""
	}
	out, _ := exec.Command(binary, p.version...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
