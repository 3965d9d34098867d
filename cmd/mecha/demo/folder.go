package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// routing is what the demo changes in routes.yaml while requests flow.
type routing struct {
	V1, V2  int    // weights of the two versions of the catalog
	Retry   bool   // orders: try again when the answer is a 5xx
	Timeout string // reports: how long an answer may take; "": as long as by default
}

// folder is the folder that the control plane serves.
type folder struct {
	dir     string
	plan    plan
	routing routing
}

// newFolder writes the shop's resources to dir, which it makes.
func newFolder(dir string, p plan) (*folder, error) {
	f := &folder{dir: dir, plan: p, routing: routing{V1: 90, V2: 10}}
	shared := []string{"clusters.yaml", "endpoints.yaml", "routes.yaml"}
	for _, name := range shared {
		if err := f.write("shop/"+name, name, f.routing); err != nil {
			return nil, err
		}
	}
	if err := f.inbound(false); err != nil {
		return nil, err
	}
	if p.captured {
		return f, f.write("captured/outbound.yaml", "outbound.yaml", nil)
	}
	return f, f.write("loopback/outbound.yaml", "frontend/outbound.yaml", nil)
}

// inbound writes who is served. strict is mutual TLS alone; the frontend, whose customers
// are no part of the mesh, serves plain text always.
func (f *folder) inbound(strict bool) error {
	type data struct {
		Name   string
		Strict bool
	}
	if f.plan.captured {
		// The same for every other pod: what was meant for whom, the packet filter tells.
		if err := f.write("captured/inbound.yaml", "frontend/inbound.yaml", data{"frontend", false}); err != nil {
			return err
		}
		return f.write("captured/inbound.yaml", "inbound.yaml", data{"", strict})
	}
	for _, m := range members() {
		if !m.sidecar {
			continue
		}
		if err := f.write("loopback/inbound.yaml", m.name+"/inbound.yaml", data{m.name, strict && m.name != "frontend"}); err != nil {
			return err
		}
	}
	return nil
}

// write renders a template into a file, which is there whole or not at all.
func (f *folder) write(template, name string, data any) error {
	text, err := f.plan.render(template, data)
	if err != nil {
		return err
	}
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	hidden := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(hidden, text, 0o644); err != nil {
		return err
	}
	return os.Rename(hidden, path)
}

// edit changes routes.yaml and returns the lines that were changed, each with
// "-" or "+" in front.
func (f *folder) edit(change func(*routing)) ([]string, error) {
	before, err := f.plan.render("shop/routes.yaml", f.routing)
	if err != nil {
		return nil, err
	}
	change(&f.routing)
	after, err := f.plan.render("shop/routes.yaml", f.routing)
	if err != nil {
		return nil, err
	}
	if err := f.write("shop/routes.yaml", "routes.yaml", f.routing); err != nil {
		return nil, fmt.Errorf("edit routes.yaml: %w", err)
	}
	return difference(strings.Split(string(before), "\n"), strings.Split(string(after), "\n")), nil
}

// difference lists the lines between the common beginning and the common end.
func difference(before, after []string) []string {
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	var out []string
	for _, l := range before {
		out = append(out, "- "+strings.TrimSpace(l))
	}
	for _, l := range after {
		out = append(out, "+ "+strings.TrimSpace(l))
	}
	return out
}
