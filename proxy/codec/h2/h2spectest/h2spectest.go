// Package h2spectest runs the conformance cases of h2spec against a server.
package h2spectest

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
)

// cases is how many there are at least.
const cases = 145

// Run fails unless all cases, strict ones included, pass on a port of 127.0.0.1. each is how
// long one of them may wait. h2spec says which ones failed on its own output.
func Run(t *testing.T, port int, tls bool, each time.Duration) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report.xml")
	ok, err := h2spec.Run(&config.Config{
		Host: "127.0.0.1", Port: port, Path: "/", Timeout: each, MaxHeaderLen: 4000,
		Strict: true, TLS: tls, Insecure: tls, JUnitReport: report,
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Suites []struct {
			Tests   int `xml:"tests,attr"`
			Skipped int `xml:"skipped,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(raw, &suites); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, s := range suites.Suites {
		total += s.Tests
		if s.Skipped > 0 {
			t.Errorf("%d cases skipped", s.Skipped)
		}
	}
	if !ok || total < cases {
		t.Errorf("of %d cases some failed (see above)", total)
	}
}
