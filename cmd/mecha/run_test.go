package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/iptables"
)

func TestRunUsageErrors(t *testing.T) {
	for want, args := range map[string][]string{
		"expected: mecha run [flags] -- COMMAND":  {"run"},
		"expected: mecha run [flags] -- COMMAND ": {"run", "true"},
		`--ip: "here"`:                           {"run", "--ip", "here", "--", "true"},
		`--inbound: "http"`:                      {"run", "--inbound", "http", "--", "true"},
		"inbound mode":                           {"run", "--inbound-mode", "half", "--", "true"},
		`required flag(s) "dir" not set`:         {"run", "node"},
		`--ipv4: "ten": expected a network such`: {"run", "node", "--dir", t.TempDir(), "--ipv4", "ten"},
		"unknown flag: --proxy-gid":              {"run", "--proxy-gid", "5", "--", "true"},
	} {
		_, errOut, code := runTool(t, args...)
		if code == 0 || !strings.Contains(errOut, want) {
			t.Errorf("%v: code %d, %q, want %q", args, code, errOut, want)
		}
	}
	if _, errOut, code := runTool(t, "run", "--", "no-such-program"); code != 127 || !strings.Contains(errOut, "not found") {
		t.Errorf("code %d %q", code, errOut)
	}
}

// What mecha run tells its sidecar is a configuration that the sidecar takes.
func TestRunBootstrapIsValid(t *testing.T) {
	mark := iptables.DefaultConfig()
	mark.ProxyUIDs, mark.ProxyGIDs, mark.ProxyMarks = nil, nil, []uint32{iptables.DefaultProxyMark}
	tproxy := mark
	tproxy.Inbound = iptables.TProxy
	outbound := iptables.DefaultConfig()
	outbound.Inbound = iptables.None
	host := netip.MustParseAddr("10.201.0.2")
	for name, b := range map[string]sidecarBootstrap{
		"pass through":  {name: "web", capture: mark},
		"tproxy":        {name: "web", capture: tproxy},
		"outbound only": {name: "web", capture: outbound},
		"xds by name":   {name: "web", capture: mark, xds: "control.example:18000"},
		"xds on host":   {name: "web", capture: mark, xds: "127.0.0.1:18000"},
		"xds by socket": {name: "web", capture: outbound, xds: "unix:/run/xds.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			b.host = host
			doc, err := b.json()
			if err != nil {
				t.Fatal(err)
			}
			if _, errOut, code := runTool(t, "proxy", "--mode", "validate", "--config-yaml", doc); code != 0 {
				t.Errorf("refused: %s\n%s", errOut, doc)
			}
			if strings.Contains(b.xds, "127.0.0.1") != strings.Contains(doc, `"10.201.0.2"`) {
				t.Errorf("this machine's loopback: %s", doc)
			}
			if marked := strings.Contains(doc, `"int_value":28003`); marked != (len(b.capture.ProxyMarks) > 0) {
				t.Errorf("marked: %v: %s", marked, doc)
			}
		})
	}
	for _, bad := range []string{"control", "control:0", "control:http"} {
		if _, err := (sidecarBootstrap{xds: bad, capture: mark}).json(); err == nil {
			t.Errorf("--xds %s was taken", bad)
		}
	}
}

func TestParsePublish(t *testing.T) {
	for in, want := range map[string][2]string{
		"8080:80":           {"127.0.0.1:8080", "80"},
		"0.0.0.0:8080:80":   {"0.0.0.0:8080", "80"},
		"[::1]:8080:80":     {"[::1]:8080", "80"},
		"localhost:8080:80": {"localhost:8080", "80"},
		"0:80":              {"127.0.0.1:0", "80"},
	} {
		if from, to, err := parsePublish(in); err != nil || from != want[0] || to != want[1] {
			t.Errorf("%s: %s %s %v", in, from, to, err)
		}
	}
	for _, in := range []string{"", "80", ":80", "a:b", "8080:0", "8080:http", "host:80", "99999:80", "1.2.3.4:80"} {
		if from, to, err := parsePublish(in); err == nil {
			t.Errorf("%q was taken as %s %s", in, from, to)
		}
	}
}
