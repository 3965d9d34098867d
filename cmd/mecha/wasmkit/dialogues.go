package wasmkit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/mecha-mesh/mecha/filters/wasm"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// About is what dialogues about a module are about: the filter is in all their chains. Each
// case has a VM of its own.
func About(module string) dialogue.Subject {
	name := strings.TrimSuffix(filepath.Base(module), ".wasm")
	return dialogue.Subject{
		Name: wasm.Spec.Name, Type: wasm.Spec.Type, Files: filepath.Dir(module),
		Base: func(vm string) map[string]any {
			return map[string]any{"config": map[string]any{
				"name": name,
				"vm_config": map[string]any{
					"vm_id": vm, "runtime": "envoy.wasm.runtime.v8",
					"code": map[string]any{"local": map[string]any{"filename": module}},
				},
			}}
		},
	}
}

// ErrFailed means that dialogues went otherwise than they are written down.
var ErrFailed = errors.New("wasmkit: dialogues have failed")

// Play plays the dialogues of a filter's folder against its module, on mecha and, where
// binary names a proxy with Envoy's command line, on that.
func Play(out io.Writer, dir, module, binary, only string, rewrite bool) error {
	plan := dialogue.Plan{
		About: About(module), Only: only, Rewrite: rewrite,
		Log: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: withoutTime})),
	}
	where := []string{"mecha"}
	if binary != "" {
		where = append(where, filepath.Base(binary))
	}
	failed := 0
	for i, proxy := range where {
		if i > 0 {
			plan.Binary, plan.Rewrite = binary, false
		}
		verdicts, err := dialogue.Play(plan, filepath.Join(dir, "dialogues", "*.txt"))
		if err != nil {
			return err
		}
		for _, v := range verdicts {
			if v.Problem == "" {
				fmt.Fprintf(out, "ok    %s: %s\n", proxy, v.Case.Name)
				continue
			}
			failed++
			fmt.Fprintf(out, "FAIL  %s: %s\n%s\n", proxy, v.Case.Name, v.Problem)
		}
	}
	if failed > 0 {
		return ErrFailed
	}
	return nil
}

// withoutTime leaves out when something was logged.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}
