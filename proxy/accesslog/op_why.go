package accesslog

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/why"
)

// defineWhy knows the operators about decisions and where the time went. They are mecha's
// own.
func defineWhy(name string) (definition, bool) {
	switch name {
	case "WHY":
		return definition{plain: decisions}, true
	case "PHASE":
		return definition{args: mustArgs, kind: number, build: phase}, true
	}
	return definition{}, false
}

func decisions(dst []byte, e *Entry) ([]byte, bool) {
	if e.Why == nil || len(e.Why.Decisions()) == 0 {
		return dst, false
	}
	return e.Why.AppendLine(dst), true
}

// phase takes NAME and optionally :ms, :us or :ns. The time that an HTTP filter took is a
// phase, too: filter/ and its name in the chain.
func phase(args string) (appendFunc, error) {
	name, precision, given := strings.Cut(args, ":")
	unit := time.Millisecond
	if given {
		var err error
		if unit, err = precisionNamed(precision); err != nil {
			return nil, err
		}
	}
	name, ofFilter := strings.CutPrefix(name, "filter/")
	if !ofFilter && !slices.Contains(why.PhaseNames(), name) {
		return nil, fmt.Errorf("%q is not a phase: those are %s, and filter/NAME of an HTTP filter", name, strings.Join(why.PhaseNames(), ", "))
	}
	return func(dst []byte, e *Entry) ([]byte, bool) {
		if e.Why == nil || e.Stream == nil || e.Stream.End == 0 {
			return dst, false
		}
		var room [32]why.Phase
		for _, p := range e.Why.AppendPhases(room[:0], e.Stream) {
			if p.Filter == ofFilter && p.Name == name {
				return appendUnits(dst, p.Took, unit), true
			}
		}
		return dst, false
	}, nil
}
