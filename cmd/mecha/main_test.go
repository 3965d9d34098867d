package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
)

const oneListener = `
node: {id: web-1, cluster: shop}
static_resources:
  listeners:
  - name: web
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            virtual_hosts: {name: all, domains: "*", routes: {match: {prefix: /}, direct_response: {status: 200}}}
          http_filters:
            name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

// file writes text below the test's directory and goes there, so that messages
// show the bare name.
func file(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	return name
}

// runMecha executes a command line and returns its exit code and outputs.
func runMecha(t *testing.T, p program, argv ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p.stdout, p.stderr = &out, &errs
	code = p.run(t.Context(), argv)
	return code, out.String(), errs.String()
}

func TestValidateMode(t *testing.T) {
	file(t, "ok.yaml", oneListener)
	if err := os.WriteFile("bad.yaml", []byte(strings.Replace(oneListener, "stat_prefix: web", "stat_prefix: 5", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	const badText = `bad.yaml:12: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stat_prefix: expected string, got number 5 (write it as "5")` + "\n"
	for _, c := range []struct {
		argv           string
		code           int
		stdout, stderr string
	}{
		{"mecha|proxy|--mode|validate|-c|ok.yaml", 0, "configuration 'ok.yaml' OK\n", ""},
		{"/usr/local/bin/envoy|--mode validate|-c ok.yaml", 0, "configuration 'ok.yaml' OK\n", ""},
		{"mecha|-c|ok.yaml|--mode|validate", 0, "configuration 'ok.yaml' OK\n", ""},
		{"envoy|--mode|validate|--config-yaml|{node: {id: a}}", 0, "configuration '' OK\n", ""},
		{"envoy|--mode|validate|-c|bad.yaml", 1, "", "envoy: " + badText},
		{"mecha|proxy|--mode|validate|-c|bad.yaml", 1, "", "mecha: " + badText},
		{"mecha|proxy|--mode|validate|-c|none.yaml", 1, "", "mecha: none.yaml: cannot read: no such file or directory\n"},
		{"envoy|--mode|validate", 1, "", "envoy: no configuration: give a file with -c (--config-path) or text with --config-yaml\n"},
		{"envoy|--bogus", 1, "", "envoy: unknown flag --bogus (--help lists the flags)\n"},
		{"mecha|--bogus", 1, "", "mecha: unknown flag: --bogus\n"},
		{"mecha|prox", 1, "", "mecha: unknown command \"prox\" for \"mecha\"\n"},
		{
			"envoy|--mode|validate|--log-format|%v|--config-yaml|application_log_config: {log_format: {text_format: x}}", 1, "",
			"envoy: both application_log_config.log_format and --log-format are given: only one of them may be\n",
		},
		{
			"envoy|--mode|validate|--config-yaml|application_log_config: {log_format: {json_format: {m: '%v'}}}", 1, "",
			"envoy: application_log_config.log_format: json_format.m: %v is not available in JSON (use %j)\n",
		},
	} {
		code, stdout, stderr := runMecha(t, program{}, strings.Split(c.argv, "|")...)
		if code != c.code || stdout != c.stdout || !strings.HasPrefix(stderr, c.stderr) || c.stderr == "" && stderr != "" {
			t.Errorf("%s: exit code %d\nstdout %q\nstderr %q\nwant   %q", c.argv, code, stdout, stderr, c.stderr)
		}
	}
}

// TestValidateAsksTheEngine runs what the translation says about a file that is
// well formed.
func TestValidateAsksTheEngine(t *testing.T) {
	file(t, "ok.yaml", oneListener)
	p := program{verify: func(b *bootstrapv3.Bootstrap, _ Options) error {
		return errors.New("listener " + b.GetStaticResources().GetListeners()[0].GetName() + ": no")
	}}
	code, stdout, stderr := runMecha(t, p, "envoy", "--mode", "validate", "-c", "ok.yaml")
	if code != 1 || stdout != "" || stderr != "envoy: listener web: no\n" {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
}

func TestServe(t *testing.T) {
	var got Options
	p := program{serve: func(_ context.Context, o Options) error {
		got = o
		return nil
	}}
	if code, _, stderr := runMecha(t, p, "envoy", "-c", "x.yaml", "-l", "off"); code != 0 || stderr != "" {
		t.Errorf("%d %q", code, stderr)
	}
	if got.ConfigPath != "x.yaml" || got.Program != "envoy" || got.Mode != ModeServe {
		t.Errorf("options %+v", got)
	}
	p.serve = func(context.Context, Options) error { return errors.New("x.yaml: no") }
	if code, _, stderr := runMecha(t, p, "mecha", "proxy", "-c", "x.yaml"); code != 1 || stderr != "mecha: x.yaml: no\n" {
		t.Errorf("%d %q", code, stderr)
	}
}

// TestVersion prints the line that launchers take apart: Kuma's looks for
// "version:" and wants five parts.
func TestVersion(t *testing.T) {
	code, stdout, _ := runMecha(t, program{}, "/usr/local/bin/envoy", "--version")
	m := regexp.MustCompile(`version:(.*)`).FindStringSubmatch(strings.Trim(stdout, "\n"))
	if code != 0 || m == nil {
		t.Fatalf("%d %q", code, stdout)
	}
	parts := strings.Split(strings.TrimSpace(m[1]), "/")
	if len(parts) != 5 || len(parts[0]) != 40 || parts[1] != envoyVersion || strings.Count(stdout, "version:") != 1 {
		t.Errorf("parts %q of %q", parts, stdout)
	}
	for _, argv := range [][]string{{"mecha", "version"}, {"mecha", "--version"}} {
		if code, stdout, _ := runMecha(t, program{}, argv...); code != 0 || !strings.HasPrefix(stdout, "mecha "+mechaVersion) {
			t.Errorf("%v: %d %q", argv, code, stdout)
		}
	}
	if code, _, stderr := runMecha(t, program{}, "envoy", "--hot-restart-version"); code != 0 || stderr != "disabled\n" {
		t.Errorf("%d %q", code, stderr)
	}
}

func TestHelp(t *testing.T) {
	_, stdout, _ := runMecha(t, program{}, "envoy", "--help")
	for _, f := range envoyFlags() {
		if !strings.Contains(stdout, "--"+f.name) {
			t.Errorf("the help lacks --%s", f.name)
		}
	}
	if code, stdout, _ := runMecha(t, program{}, "mecha"); code != 0 || !strings.Contains(stdout, "check") {
		t.Errorf("%d %q", code, stdout)
	}
}

func TestCheck(t *testing.T) {
	file(t, "b.yaml", oneListener)
	code, stdout, stderr := runMecha(t, program{}, "mecha", "check", "b.yaml")
	want := "b.yaml: OK\n  node      web-1 (cluster shop)\n  static    1 listeners, 0 clusters, 0 secrets\n"
	if code != 0 || stdout != want || stderr != "" {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	code, stdout, _ = runMecha(t, program{}, "mecha", "check", "--allow-unknown-static-fields", "--config-yaml", "nodule: 1", "b.yaml")
	if code != 0 || !strings.HasPrefix(stdout, "warning: --config-yaml:1: nodule: unknown field of envoy.config.bootstrap.v3.Bootstrap, ignored\nb.yaml: OK, 1 warning\n") {
		t.Errorf("%d %q", code, stdout)
	}
	code, stdout, stderr = runMecha(t, program{}, "mecha", "check", "--config-yaml", "{nod: {idd: 1}, node: {id: 2}}")
	want = "error: --config-yaml:1: nod: envoy.config.bootstrap.v3.Bootstrap has no such field; did you mean node?\n" +
		"error: --config-yaml:1: nod.idd: envoy.config.core.v3.Node has no such field; did you mean id?\n" +
		"error: --config-yaml:1: nod.idd: expected string, got number 1 (write it as \"1\")\n" +
		"error: --config-yaml:1: node.id: expected string, got number 2 (write it as \"2\")\n" +
		"refused: 4 problems\n"
	if code != 1 || stdout != "" || stderr != want {
		t.Errorf("%d %q\n got %s\nwant %s", code, stdout, stderr, want)
	}
}
