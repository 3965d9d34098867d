package xds

import (
	"context"
	"path/filepath"
	"time"

	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/xds/source"
)

// runtimeQuiet is how long the link of a disk layer must be left alone before its
// layers are read again.
const runtimeQuiet = 10 * time.Millisecond

// watchRuntime reads the disk layers of the runtime again whenever one of their links
// is put in place, as Envoy does: a change below the link alone is not seen.
func (m *Manager) watchRuntime(ctx context.Context) error {
	var links, folders []string
	for _, l := range m.runtime.Layers() {
		if l.Kind == runtime.Disk {
			links, folders = append(links, filepath.Clean(l.Root)), append(folders, filepath.Dir(filepath.Clean(l.Root)))
		}
	}
	if len(links) == 0 {
		return nil
	}
	w, err := source.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Set(folders...); err != nil {
		m.log.Warn("the runtime cannot be watched", "error", err)
	}
	m.runtime.Reload() // it may have changed since the layers were read
	for w.WaitFor(ctx, runtimeQuiet, links) == nil {
		m.runtime.Reload()
	}
	return nil
}
