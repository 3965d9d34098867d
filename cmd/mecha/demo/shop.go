package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shop is the running shop as the steps see it: in pods or on loopback ports.
type shop struct {
	plan   plan
	folder *folder
	logs   string       // directory with one file for each program and sidecar
	client *http.Client // reaches every address of the plan
	// closing ends everything and waits for it.
	closing func()
	// publish makes an address of the plan reachable from this machine until
	// the shop closes, and returns the address there.
	publish func(netip.AddrPort) (string, error)
	// serve lets "mecha run --node" join with the directory join, until ctx or
	// the shop ends; nil without pods.
	serve func(ctx context.Context) error
	join  string
}

const (
	requestTime = 15 * time.Second
	// pollTime is the pause between two looks at something that gives no sign.
	pollTime = 10 * time.Millisecond
)

// url is the address of a path of the frontend.
func (s *shop) url(path string) string { return "http://" + s.plan.at["frontend"].String() + path }

// call sends a request without a body. An answer with another status than 200
// is no error; into is filled in from one with 200.
func (s *shop) call(ctx context.Context, method, url string, into any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, err
	}
	re, err := s.client.Do(rq)
	if err != nil {
		return 0, err
	}
	defer re.Body.Close() //nolint:errcheck // only read from
	body, err := io.ReadAll(io.LimitReader(re.Body, 1<<22))
	if err != nil {
		return re.StatusCode, err
	}
	if into != nil && re.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, into); err != nil {
			return re.StatusCode, fmt.Errorf("%s: %w in %.80q", url, err, body)
		}
	}
	return re.StatusCode, nil
}

// statistics are the numbers of one sidecar by Envoy's names. Missing is 0:
// what was never counted may not be listed.
type statistics map[string]int64

// statistics asks a sidecar's admin interface.
func (s *shop) statistics(ctx context.Context, sidecar string) (statistics, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.plan.admin[sidecar].String()+"/stats", nil)
	if err != nil {
		return nil, err
	}
	re, err := s.client.Do(rq)
	if err != nil {
		return nil, fmt.Errorf("statistics of the sidecar of %s: %w", sidecar, err)
	}
	defer re.Body.Close() //nolint:errcheck // only read from
	text, err := io.ReadAll(re.Body)
	if err != nil || re.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("statistics of the sidecar of %s: %s: %w", sidecar, re.Status, err)
	}
	out := statistics{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if n, err := strconv.ParseInt(value, 10, 64); ok && err == nil { // histograms are no numbers
			out[name] = n
		}
	}
	return out, nil
}

// observed is the statistics of several sidecars at one moment.
type observed map[string]statistics

func (s *shop) observe(ctx context.Context, sidecars ...string) (observed, error) {
	out := observed{}
	for _, name := range sidecars {
		st, err := s.statistics(ctx, name)
		if err != nil {
			return nil, err
		}
		out[name] = st
	}
	return out, nil
}

// since is how much a number has grown.
func (o observed) since(before observed, sidecar, name string) int64 {
	return o[sidecar][name] - before[sidecar][name]
}

// settleTime is how long numbers may lag behind the traffic they count.
const settleTime = 3 * time.Second

// settle observes again until done says that the numbers are what they must
// be, or some time has passed. It returns what it saw last.
func (s *shop) settle(ctx context.Context, sidecars []string, done func(observed) bool) (observed, error) {
	end := time.Now().Add(settleTime)
	for {
		o, err := s.observe(ctx, sidecars...)
		if err != nil || done(o) || time.Now().After(end) {
			return o, err
		}
		if err := pause(ctx, 5*pollTime); err != nil {
			return nil, err
		}
	}
}

// inForceTime is how long a changed file may take to reach the sidecar.
const inForceTime = 10 * time.Second

// change edits routes.yaml and waits until the frontend's sidecar has taken it
// over. It returns the changed lines and the time from the saved file to that.
func (s *shop) change(ctx context.Context, edit func(*routing)) (lines []string, took time.Duration, err error) {
	before, err := s.routesVersion(ctx)
	if err != nil {
		return nil, 0, err
	}
	if lines, err = s.folder.edit(edit); err != nil {
		return nil, 0, err
	}
	saved := time.Now()
	for {
		now, err := s.routesVersion(ctx)
		switch {
		case err != nil:
			return lines, 0, err
		case now != before:
			return lines, time.Since(saved), nil
		case time.Since(saved) > inForceTime:
			return lines, 0, fmt.Errorf("the sidecar of the frontend has not taken over routes.yaml in %v\nthe control plane says:\n%s", inForceTime, s.lastWords(control))
		}
		if err := pause(ctx, pollTime); err != nil {
			return lines, 0, err
		}
	}
}

// routesVersion is the version of the routes that the frontend's sidecar uses.
func (s *shop) routesVersion(ctx context.Context) (string, error) {
	var dump struct {
		Configs []struct {
			Version string `json:"version_info"`
		} `json:"configs"`
	}
	status, err := s.call(ctx, http.MethodGet, "http://"+s.plan.admin["frontend"].String()+"/config_dump?resource=dynamic_route_configs", &dump)
	if err != nil || status != http.StatusOK || len(dump.Configs) != 1 {
		return "", fmt.Errorf("which routes the sidecar of the frontend uses: status %d, %d configurations: %w", status, len(dump.Configs), err)
	}
	return dump.Configs[0].Version, nil
}

// lastWords are the last lines of a program's log.
func (s *shop) lastWords(name string) string { return lastWords(s.logs, name) }

func lastWords(dir, name string) string {
	const most = 6
	text, err := os.ReadFile(filepath.Join(dir, name+".log"))
	if err != nil || len(text) == 0 {
		return "  (nothing)"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-most):]
	for i := range lines {
		lines[i] = "  " + lines[i]
	}
	return strings.Join(lines, "\n")
}

// sidecarLog is the name of a sidecar's log.
func sidecarLog(name string) string { return name + ".sidecar" }

// logLines returns the lines of a log that contain text.
func (s *shop) logLines(name, text string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(s.logs, name+".log"))
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, text) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out, nil
}

// openLog makes the file for a program's output.
func openLog(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}

// sidecarCommand is the command of a member's sidecar.
func (o Options) sidecarCommand(p plan, name string) ([]string, error) {
	doc, err := p.render("sidecar.yaml", struct{ Name string }{name})
	if err != nil {
		return nil, err
	}
	return append(append([]string{}, o.Proxy...), "--config-yaml", string(doc), "--log-level", "warning",
		"--file-flush-interval-msec", "200"), nil
}

// await calls ready until it returns nil, or an error that is final, or ctx
// ends.
func await(ctx context.Context, ready func(ctx context.Context) error) error {
	for {
		last := ready(ctx)
		if last == nil {
			return nil
		}
		if err := pause(ctx, 2*pollTime); err != nil {
			return fmt.Errorf("%w (last: %w)", err, last)
		}
	}
}

// ready waits until every sidecar says that it is live, which it is when it has
// all its listeners, routes and clusters, and every program answers through its own.
func (s *shop) ready(ctx context.Context) error {
	var wg sync.WaitGroup
	all := members()
	errs := make([]error, len(all))
	for i, m := range all {
		if m.kind == "" || m.kind == "bank" && !s.plan.captured {
			continue
		}
		wg.Go(func() { errs[i] = s.memberReady(ctx, m) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *shop) memberReady(ctx context.Context, m member) error {
	if m.sidecar {
		err := await(ctx, func(ctx context.Context) error {
			return s.probe(ctx, "http://"+s.plan.admin[m.name].String()+"/ready", http.StatusOK)
		})
		if err != nil {
			return fmt.Errorf("the sidecar of %s is not ready: %w\nit says:\n%s", m.name, err, s.lastWords(sidecarLog(m.name)))
		}
	}
	// Any answer of its own will do: the services count what they are for.
	url, status := "http://"+s.plan.at[m.name].String()+"/", http.StatusNotFound
	switch m.kind {
	case "inventory": // does not speak HTTP
		url, status = s.url("/stock/apple"), http.StatusOK
	case "frontend":
		status = http.StatusOK
	}
	err := await(ctx, func(ctx context.Context) error { return s.probe(ctx, url, status) })
	if err != nil {
		return fmt.Errorf("%s does not answer: %w\nit says:\n%s\nits sidecar says:\n%s", m.name, err, s.lastWords(m.name), s.lastWords(sidecarLog(m.name)))
	}
	return nil
}

// probe asks for a status.
func (s *shop) probe(ctx context.Context, url string, want int) error {
	status, err := s.call(ctx, http.MethodGet, url, nil)
	if err == nil && status != want {
		err = fmt.Errorf("%s answers %d", url, status)
	}
	return err
}

// pause waits, and ends early with ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
