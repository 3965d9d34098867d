package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

//go:embed peers
var templates embed.FS

// peer is a kind of proxy: how to find, configure and run it.
type peer struct {
	name    string
	config  string // template name before "-http" or "-tcp", with the extension
	find    func(bin string) (string, error)
	version []string // arguments that print it
	argv    func(binary, config string, s *setup) []string
	env     func(s *setup) []string
	lacks   func(binary, config string) error // why this build cannot do the configuration
}

// setup is what a template may ask for.
type setup struct {
	Dir      string // for files of its own
	Listen   int
	Upstream int
	Admin    int
	Workers  int
	Certs    string // folder of certificates, see certs
	Modules  string // nginx: its folder of dynamic modules
	Filter   string // an HTTP filter before the router, in one line of YAML
	Manager  string // a field of the connection manager, likewise
}

// errAbsent means the program is not installed.
var errAbsent = errors.New("not installed")

func peers() []peer {
	return []peer{
		mecha("mecha", func(bin string) (string, error) { return executable(bin, "make build writes it") }),
		mecha("base", func(string) (string, error) { return executable(os.Getenv("MECHA_BASE"), "MECHA_BASE names it") }),
		{
			name: "envoy", config: "envoy-%s.yaml", version: []string{"--version"},
			find: func(string) (string, error) { return findEnvoy() },
			argv: func(binary, config string, s *setup) []string {
				return []string{binary, "-c", config, "--concurrency", strconv.Itoa(s.Workers), "--disable-hot-restart", "-l", "error"}
			},
		},
		{
			name: "haproxy", config: "haproxy-%s.cfg", version: []string{"-v"},
			find: func(string) (string, error) { return inPath("haproxy") },
			argv: func(binary, config string, _ *setup) []string { return []string{binary, "-db", "-f", config} },
		},
		{
			name: "nginx", config: "nginx-%s.conf", version: []string{"-v"},
			find: func(string) (string, error) { return inPath("nginx") },
			argv: func(binary, config string, s *setup) []string {
				return []string{binary, "-p", s.Dir, "-e", "stderr", "-c", config}
			},
			lacks: nginxLacks,
		},
	}
}

// mecha is a build of ours: the one that is measured, or another one beside it.
func mecha(name string, find func(bin string) (string, error)) peer {
	return peer{
		name: name, config: "envoy-%s.yaml", version: []string{"--version"}, find: find,
		argv: func(binary, config string, s *setup) []string {
			return []string{binary, "proxy", "-c", config, "--concurrency", strconv.Itoa(s.Workers), "-l", "error"}
		},
		env: func(s *setup) []string { return []string{"GOMAXPROCS=" + strconv.Itoa(s.Workers)} },
	}
}

func findPeer(name string) (peer, error) {
	for _, p := range peers() {
		if p.name == name {
			return p, nil
		}
	}
	return peer{}, fmt.Errorf("no peer %q: there are mecha, base, envoy, haproxy, nginx", name)
}

func inPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w (not in PATH)", name, errAbsent)
	}
	return path, nil
}

func executable(path, hint string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s: %w (%s)", path, errAbsent, hint)
	}
	return filepath.Abs(path)
}

// findEnvoy looks where install.sh puts it, unless MECHA_ENVOY names a binary.
func findEnvoy() (string, error) {
	if path := os.Getenv("MECHA_ENVOY"); path != "" {
		return executable(path, "as MECHA_ENVOY says")
	}
	const installed = ".oracle/venv/lib/*/site-packages/envoy/_bin/envoy"
	if found, _ := filepath.Glob(installed); len(found) > 0 {
		return filepath.Abs(found[0])
	}
	return "", fmt.Errorf("envoy: %w (sh bench/install.sh installs it)", errAbsent)
}

// running is a configured, started and answering proxy.
type running struct {
	*process
	setup setup
}

// launch starts the peer for a row and waits until it listens. change has the last word
// about what the template is told.
func (b *bench) launch(ctx context.Context, p peer, config string, workers int, change ...func(*setup)) (*running, error) {
	binary, err := p.find(b.o.bin)
	if err != nil {
		return nil, err
	}
	if p.lacks != nil {
		if err := p.lacks(binary, config); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "bench-"+p.name+"-")
	if err != nil {
		return nil, err
	}
	r := &running{setup: setup{Dir: dir, Workers: workers, Listen: b.freePort(), Admin: b.freePort(), Certs: b.certs.dir, Modules: nginxModules()}}
	r.setup.Upstream = b.backend.port(config)
	for _, f := range change {
		f(&r.setup)
	}
	name := fmt.Sprintf(p.config, config)
	text, err := render(name, &r.setup)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
	}
	if err == nil {
		r.process, err = b.startPeer(p, binary, filepath.Join(dir, name), &r.setup)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	if err := r.ready(ctx, r.setup.Listen); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

func (b *bench) startPeer(p peer, binary, config string, s *setup) (*process, error) {
	var env []string
	if p.env != nil {
		env = p.env(s)
	}
	return b.launcher.start(p.name, s.Dir, p.argv(binary, config, s), env, b.proxyCPUs(s.Workers))
}

func render(name string, s *setup) ([]byte, error) {
	t, err := template.ParseFS(templates, "peers/"+name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, s)
	return out.Bytes(), err
}

// nginxLacks tells what nginx cannot do: HTTP/2 to hosts, but for gRPC, and TCP
// proxying without its module.
func nginxLacks(binary, config string) error {
	if _, err := templates.Open("peers/nginx-" + config + ".conf"); err != nil {
		return fmt.Errorf("nginx with %s on both sides: %w", config, errAbsent)
	}
	if config != "tcp" || nginxModules() != "" {
		return nil
	}
	built, _ := exec.Command(binary, "-V").CombinedOutput()
	if slices.Contains(strings.Fields(string(built)), "--with-stream") {
		return nil
	}
	return fmt.Errorf("nginx's stream module: %w", errAbsent)
}

// nginxModules is where distributions put the stream module; "" if it is not there.
func nginxModules() string {
	for _, dir := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules"} {
		if _, err := os.Stat(filepath.Join(dir, "ngx_stream_module.so")); err == nil {
			return dir
		}
	}
	return ""
}

// freePort hands out each port once, below the kernel's range for outgoing
// connections.
func (b *bench) freePort() int {
	if b.lastPort == 0 {
		b.lastPort = 21000 + rand.IntN(9000)
	}
	for {
		b.lastPort++
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", b.lastPort))
		if err == nil {
			l.Close()
			return b.lastPort
		}
	}
}
