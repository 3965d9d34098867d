package ondemand_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/ondemand"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, ondemand.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, ondemand.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, ondemand.Spec) }

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, ondemand.Spec, `{}`) }
