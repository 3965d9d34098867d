package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/iptables"
	"github.com/spf13/cobra"
)

// runTool runs "mecha ARGS..." and returns what it printed and its exit code.
func runTool(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	p := program{stdout: &o, stderr: &e}
	code = p.run(context.Background(), append([]string{"mecha"}, args...))
	return o.String(), e.String(), code
}

func TestCapturePlanNeedsNoPrivilege(t *testing.T) {
	out, errOut, code := runTool(t, "capture", "plan", "--exclude-outbound-ports", "22")
	if code != 0 || !strings.Contains(out, "to port 22: leave it alone") || !strings.Contains(out, "tcp dport 22 counter return comment") {
		t.Errorf("code %d\n%s%s", code, out, errOut)
	}
	out, _, code = runTool(t, "capture", "plan", "--format", "iptables")
	if code != 0 || !strings.Contains(out, "-j REDIRECT --to-ports 15001") || !strings.Contains(out, "# IPv6") {
		t.Errorf("code %d\n%s", code, out)
	}
}

func TestCaptureUsageErrors(t *testing.T) {
	for want, args := range map[string][]string{
		"inbound port: 15001 is the outbound port too": {"-z", "15001"},
		`--exclude-outbound-ports: "http"`:             {"--exclude-outbound-ports", "http"},
		"unknown flag: --frobnicate":                   {"--frobnicate"},
		`inbound mode: "SIDEWAYS" is unknown`:          {"-m", "sideways"},
		"--family: expected dual, ipv4 or ipv6":        {"--family", "v5"},
		"--format":                                     {"--format", "xml"},
		`--proxy-uid: "root"`:                          {"-u", "root"},
	} {
		_, errOut, code := runTool(t, append([]string{"capture", "plan"}, args...)...)
		if code != exitUsage || !strings.Contains(errOut, want) {
			t.Errorf("%v: code %d, %q, want %q", args, code, errOut, want)
		}
	}
}

// A command line or environment for istio-iptables means the same here.
func TestCaptureTakesIstiosFlags(t *testing.T) {
	parse := func(args ...string) iptables.Config {
		t.Helper()
		cmd := &cobra.Command{Use: "x"}
		s := addCaptureFlags(cmd)
		if err := cmd.ParseFlags(args); err != nil {
			t.Fatal(err)
		}
		c := iptables.DefaultConfig()
		if err := s.apply(cmd, &c, true); err != nil {
			t.Fatal(err)
		}
		return c
	}
	nft := func(c iptables.Config) string {
		rs, err := iptables.Plan(c)
		if err != nil {
			t.Fatal(err)
		}
		return rs.NFT()
	}
	want := nft(parse("--outbound-port", "15001", "--inbound-port", "15006", "--proxy-uid", "1337", "--proxy-gid", "1337",
		"--inbound-mode", "TPROXY", "--outbound-cidrs", "10.0.0.0/8", "--exclude-outbound-cidrs", "10.9.0.0/16",
		"--inbound-ports", "*", "--exclude-inbound-ports", "15090,15021,15020", "--exclude-outbound-ports", "22"))
	short := nft(parse("-p", "15001", "-z", "15006", "-u", "1337", "-g", "1337", "-m", "TPROXY", "-i", "10.0.0.0/8", "-x", "10.9.0.0/16",
		"-b", "*", "-d", "15090,15021,15020", "-o", "22"))
	long := nft(parse("--envoy-port", "15001", "--inbound-capture-port=15006", "--istio-inbound-interception-mode", "TPROXY",
		"--istio-service-cidr", "10.0.0.0/8", "--istio-service-exclude-cidr", "10.9.0.0/16", "--istio-inbound-ports", "*",
		"--istio-local-exclude-ports", "15090,15021,15020", "--istio-local-outbound-ports-exclude", "22"))
	if short != want || long != want {
		t.Errorf("letters:\n%s\nlong names:\n%s\nours:\n%s", short, long, want)
	}
	t.Setenv("ISTIO_INBOUND_INTERCEPTION_MODE", "TPROXY")
	t.Setenv("ISTIO_SERVICE_CIDR", "10.0.0.0/8")
	t.Setenv("ISTIO_SERVICE_EXCLUDE_CIDR", "10.9.0.0/16")
	t.Setenv("ISTIO_LOCAL_EXCLUDE_PORTS", "1,2")
	t.Setenv("ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "22")
	if env := nft(parse("-d", "15090,15021,15020")); env != want {
		t.Errorf("environment, one variable overridden by a flag:\n%s\nwant:\n%s", env, want)
	}
	none := parse("-b", "", "-i", "")
	if none.InboundPorts == nil || none.OutboundCIDRs == nil || len(none.InboundPorts)+len(none.OutboundCIDRs) != 0 {
		t.Errorf("empty lists capture nothing: %+v", none)
	}
}

func TestCaptureSaysWhatToDoWithoutPrivilege(t *testing.T) {
	err := explainCapture(errors.Join(errors.New("x"), iptables.ErrPrivilege))
	var coded interface{ ExitCode() int }
	if !errors.As(err, &coded) || coded.ExitCode() != exitPrivilege || !strings.Contains(err.Error(), "NET_ADMIN") || !strings.Contains(err.Error(), "mecha run") {
		t.Errorf("%v", err)
	}
}
