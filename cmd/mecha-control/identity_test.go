package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/xds/control/ca"
)

// command runs mecha-control and returns what it prints.
func command(args ...string) (string, error) {
	var out bytes.Buffer
	root := newRoot(io.Discard)
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

// TestIdentityCommands: a root is replaced and shown, a token is made, and neither command
// prints a secret.
func TestIdentityCommands(t *testing.T) {
	dir, tokens := filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "tokens")
	if _, err := command("identity", "rotate-root", "--identity", dir); err == nil {
		t.Error("a root of an authority that nobody has made")
	}
	if _, err := ca.Open(ca.Options{Dir: dir, TrustDomain: "shop.test"}); err != nil {
		t.Fatal(err)
	}
	about := []string{"--identity", dir, "--trust-domain", "shop.test"}
	if out, err := command(append([]string{"identity", "rotate-root"}, about...)...); err != nil || !strings.Contains(out, "signs from") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := command(append([]string{"identity", "rotate-root"}, about...)...); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("twice: %v", err)
	}
	if out, err := command(append([]string{"identity", "roots"}, about...)...); err != nil || strings.Count(out, "BEGIN CERTIFICATE") != 2 || strings.Contains(out, "PRIVATE") {
		t.Errorf("%q, %v", out, err)
	}
	path := filepath.Join(tokens, "shop", "orders")
	out, err := command("identity", "token", "--workload-tokens", tokens, "shop/orders")
	if err != nil || out != path+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	one, err := os.ReadFile(path)
	if err != nil || len(bytes.TrimSpace(one)) < 32 {
		t.Errorf("a token of %d bytes, %v", len(one), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := command("identity", "token", "--workload-tokens", tokens, "shop/orders"); err != nil {
		t.Error(err)
	}
	if two, err := os.ReadFile(path); err != nil || bytes.Equal(one, two) {
		t.Errorf("the token is not another one, %v", err)
	}
	if _, err := command("identity", "token", "--workload-tokens", tokens, "shop/../orders"); err == nil {
		t.Error("a token outside of the directory")
	}
}

// TestIdentityFlags: what would give an identity to the wrong one is refused.
func TestIdentityFlags(t *testing.T) {
	serve := []string{"serve", "--dir", t.TempDir(), "--listen", "127.0.0.1:0"}
	identity := []string{"--identity", filepath.Join(t.TempDir(), "ca")}
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--workload-uid", "a/b=1"}, "need --identity"},
		{append(identity, "--workload-uid", "a/b"), "NAMESPACE/SERVICE-ACCOUNT=VALUE"},
		{append(identity, "--workload-uid", "a=1"), "NAMESPACE/SERVICE-ACCOUNT"},
		{append(identity, "--workload-uid", "a/b=-1"), "no number of a user"},
		{append(identity, "--workload-uid", "a/b=1", "--workload-uid", "a/c=1"), "is a/b already"},
		{append(identity, "--workload-socket", "a/b=unix:/x", "--workload-socket", "a/c=unix:/x"), "that of a/b already"},
		{append(identity, "--workload-socket", "a/b=127.0.0.1:1"), "unix sockets alone"},
		{append(identity, "--cert-ttl", "2000h"), "certificates that live for"},
	} {
		if _, err := command(append(serve[:len(serve):len(serve)], c.flags...)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.flags, err, c.want)
		}
	}
}
