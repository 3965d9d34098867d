package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run found, as the file has it.
type report struct {
	Time    time.Time         `json:"time"`
	Commit  string            `json:"commit"`
	Machine machine           `json:"machine"`
	Subject string            `json:"subject"`
	Seconds float64           `json:"seconds_per_sample"`
	Repeat  int               `json:"samples"`
	Version map[string]string `json:"versions"`
	Absent  []string          `json:"absent,omitempty"`
	Rows    []rowResult       `json:"rows"`
	Memory  []memoryResult    `json:"memory,omitempty"`
}

// machine tells runs on different hardware apart.
type machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
}

// rowResult is one row beside every peer.
type rowResult struct {
	Name     string       `json:"name"`
	About    string       `json:"about"`
	Target   float64      `json:"target"`         // of the ratio to Envoy
	Yard     float64      `json:"target_haproxy"` // the same target as a ratio to HAProxy
	AtLeast  bool         `json:"at_least"`       // the ratio is to reach the target, not to stay below
	Verdict  string       `json:"verdict"`
	Pairs    []pairResult `json:"pairs"`
	Failures []string     `json:"failures,omitempty"`
}

// pairResult is one row beside one peer. Ratio is subject over peer in CPU per
// request, or peer over subject (that is, bytes per CPU-second) where the row has
// AtLeast.
type pairResult struct {
	Peer           string   `json:"peer"`
	Ratio          spread   `json:"ratio"`
	SubjectCPU     spread   `json:"subject_cpu_us"`
	PeerCPU        spread   `json:"peer_cpu_us"`
	Requests       int64    `json:"requests"` // the subject's
	Busy           float64  `json:"busy"`     // how much of its CPUs the pair used, 0 to 1
	SubjectLatency *latency `json:"subject_latency,omitempty"`
	PeerLatency    *latency `json:"peer_latency,omitempty"`
}

func newReport(b *bench) *report {
	r := &report{
		Time: time.Now().UTC().Truncate(time.Second), Commit: commit(), Machine: thisMachine(),
		Subject: b.subject.name, Seconds: b.o.measure.Seconds(), Repeat: b.o.repeat,
		Version: map[string]string{}, Absent: b.absent,
	}
	for _, p := range append([]peer{b.subject}, b.peers...) {
		r.Version[p.name] = version(p, b.o.bin)
	}
	return r
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func thisMachine() machine {
	m := machine{CPUs: runtime.NumCPU(), CPU: runtime.GOARCH}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, after, ok := strings.Cut(string(text), "model name"); ok {
			line, _, _ := strings.Cut(after, "\n")
			m.CPU = strings.Trim(line, "\t :")
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	return m
}

// pairWith is the result beside one peer, nil if there is none.
func (l *rowResult) pairWith(peer string) *pairResult {
	for i := range l.Pairs {
		if l.Pairs[i].Peer == peer {
			return &l.Pairs[i]
		}
	}
	return nil
}

// judge compares the row with its target, said in Envoy's and in HAProxy's terms.
func (l *rowResult) judge(r *row) {
	var said []string
	for _, to := range []struct {
		peer   string
		target float64
	}{{"envoy", l.Target}, {"haproxy", l.Yard}} {
		if p := l.pairWith(to.peer); p != nil {
			met := p.Ratio.Median <= to.target
			if r.atLeast {
				met = p.Ratio.Median >= to.target
			}
			said = append(said, map[bool]string{true: "pass", false: "FAIL"}[met])
			continue
		}
		said = append(said, "-")
	}
	if p := l.pairWith("haproxy"); p != nil && r.p99Over > 0 && p.SubjectLatency != nil && p.PeerLatency != nil {
		met := p.SubjectLatency.P99 <= p.PeerLatency.P99*r.p99Over
		said = append(said, map[bool]string{true: "p99 pass", false: "p99 FAIL"}[met])
	}
	l.Verdict = strings.Join(said, " ")
}

// print writes the tables.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s at %s: CPU per request beside each peer, median (lowest to highest of %d samples of %gs)\n\n",
		r.Subject, r.Commit, r.Repeat, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\t/envoy\t/haproxy\t/nginx\ttarget /envoy /haproxy\tverdict\tCPU us a request, subject:peer")
	for i := range r.Rows {
		l := &r.Rows[i]
		sign := "<="
		if l.AtLeast {
			sign = ">="
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s %.2f %.2f\t%s\t%s\n", l.Name, l.cell("envoy"), l.cell("haproxy"), l.cell("nginx"), sign, l.Target, l.Yard, l.Verdict, l.absolute())
	}
	t.Flush()
	r.printLatency(w)
	r.printMemory(w)
	for _, l := range r.Rows {
		for _, f := range l.Failures {
			fmt.Fprintf(w, "not measured: %s beside %s\n", l.Name, f)
		}
	}
	for _, a := range r.Absent {
		fmt.Fprintln(w, "left out:", a)
	}
}

func (l *rowResult) cell(peer string) string {
	p := l.pairWith(peer)
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", p.Ratio.Median, p.Ratio.Low, p.Ratio.High)
}

func (l *rowResult) absolute() string {
	if len(l.Pairs) == 0 {
		return "-"
	}
	var parts []string
	for _, p := range l.Pairs {
		parts = append(parts, fmt.Sprintf("%.1f:%.1f", p.SubjectCPU.Median, p.PeerCPU.Median))
	}
	return strings.Join(parts, "  ")
}

func (r *report) printLatency(w io.Writer) {
	first := true
	for _, l := range r.Rows {
		for _, p := range l.Pairs {
			if p.SubjectLatency == nil || p.PeerLatency == nil || l.Name != "h1-2000" {
				continue
			}
			if first {
				fmt.Fprintln(w, "\nlatency at the fixed rate, both at once, from when a request was due (us)")
				first = false
			}
			s, o := p.SubjectLatency, p.PeerLatency
			fmt.Fprintf(w, "  %s: p50 %.0f  p99 %.0f  p99.9 %.0f    %s: p50 %.0f  p99 %.0f  p99.9 %.0f\n",
				r.Subject, s.P50, s.P99, s.P999, p.Peer, o.P50, o.P99, o.P999)
		}
	}
}

func (r *report) printMemory(w io.Writer) {
	if len(r.Memory) == 0 {
		return
	}
	fmt.Fprintf(w, "\nmemory and idle (%d idle keep-alive connections that made one request each; %d of HTTP/2, %d over TLS)\n\n", r.Memory[0].Conns, idleOthers, idleOthers)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tRSS at rest\tRSS a connection\tof HTTP/2\tover TLS\tCPU at rest\tCPU with the connections")
	for _, m := range r.Memory {
		fmt.Fprintf(t, "%s\t%.1f MB\t%.1f KB\t%.1f KB\t%.1f KB\t%.2f %%\t%.2f %%\n", m.Name, m.RestMB, m.PerConnKB, m.PerH2KB, m.PerTLSKB, m.RestCPU, m.IdleCPU)
	}
	fmt.Fprintln(t, "target for mecha\t<= 30 MB\t<= 5 KB\t-\t-\t0\t0")
	t.Flush()
}

// write stores the report in dir and returns the file's name.
func (r *report) write(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%s-%s.json", r.Time.Format("20060102-150405"), r.Subject, r.Commit)
	file := filepath.Join(dir, name)
	return file, os.WriteFile(file, append(text, '\n'), 0o644)
}
