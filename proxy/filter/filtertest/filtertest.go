// Package filtertest is the test kit of the filter contract: what a new filter's test
// files call, so that each is a line or two. A filter is specified by dialogues
// (package dialogue), which play in memory, over sockets and against Envoy; it is
// fuzzed in its configuration and in its traffic; and its cost is checked.
//
// What must hold for every filter of the list is in filters/filters_test.go.
package filtertest

import (
	"log/slog"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// files are where a filter's dialogues are.
const files = "testdata/*.txt"

// Dialogues plays testdata/*.txt of an HTTP filter: through the HTTP engine in memory,
// against the whole proxy over sockets, both in whole messages and in random pieces; with
// -tags oracle against the proxy that MECHA_ENVOY names instead. With -rewrite, what the
// proxy does is written into the files; under -tags oracle it is what MECHA_ENVOY does.
//
// In the dialogues' configuration "filter" is the filter's own, "overrides" are its
// configurations by path prefix.
func Dialogues[C any](t *testing.T, spec filter.HTTPSpec[C]) {
	about := subject(spec)
	if dialogue.Rewriting() {
		if oracle {
			dialogue.OracleAbout(t, about, files)
		} else {
			dialogue.MechaAbout(t, about, files)
		}
		return
	}
	if oracle {
		t.Run("oracle", func(t *testing.T) { dialogue.OracleAbout(t, about, files) })
		return
	}
	t.Run("memory", func(t *testing.T) { dialogue.InMemory(t, about, []filter.Descriptor{spec}, files) })
	t.Run("sockets", func(t *testing.T) { dialogue.MechaAbout(t, about, files) })
}

func subject[C any](spec filter.HTTPSpec[C]) dialogue.Subject {
	return dialogue.Subject{Name: spec.Name, Type: spec.Type, RouteType: spec.RouteType}
}

// parser is what Parse functions need.
func parser(tb testing.TB, specs ...filter.Descriptor) *filter.Parser {
	tb.Helper()
	r, err := filter.NewRegistry(specs...)
	if err != nil {
		tb.Fatal(err)
	}
	return &filter.Parser{Registry: r, Routes: fromproto.InlineRoutes, Secrets: dialogue.UsualSecrets()}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
