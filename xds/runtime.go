package xds

import (
	"context"
	"path/filepath"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/xds/source"
	"github.com/mecha-mesh/mecha/xds/translate"
)

// runtimeQuiet is how long the link of a disk layer must be left alone before its
// layers are read again.
const runtimeQuiet = 10 * time.Millisecond

// runtimeLayers are the RTDS layers of the bootstrap and where they come from.
func runtimeLayers(b *bootstrapv3.Bootstrap) (names []string, from map[string]filter.ConfigSource, err error) {
	from = map[string]filter.ConfigSource{}
	for i, l := range b.GetLayeredRuntime().GetLayers() {
		r := l.GetRtdsLayer()
		if r == nil {
			continue
		}
		src, err := fromproto.ConfigSource(r.RtdsConfig)
		if err == nil {
			err = fromproto.ResourceName(r.Name)
		}
		if err != nil {
			return nil, nil, filter.At("layered_runtime", filter.AtIndex("layers", i, filter.At("rtds_layer.rtds_config", err)))
		}
		if _, twice := from[r.Name]; !twice {
			names = append(names, r.Name)
		}
		from[r.Name] = src
	}
	return names, from, nil
}

// startRuntime asks for the RTDS layers, and calls then once each has come or will not.
// Settings that they override count from the first request on, so everything else
// waits for them, as in Envoy.
func (m *Manager) startRuntime(names []string, from map[string]filter.ConfigSource, then func()) {
	m.mu.Lock()
	m.afterRuntime = then
	for _, n := range names {
		m.runtimeMissing[n] = true
	}
	for _, n := range names {
		m.use(m.values, refTo(n, from[n]), "runtime", from[n].Timeout, "")
	}
	m.mu.Unlock()
	m.runtimeReady("")
}

// runtimeReady notes that a layer has come, or that the wait for it is over.
func (m *Manager) runtimeReady(name string) {
	m.mu.Lock()
	delete(m.runtimeMissing, name)
	then := m.afterRuntime
	if len(m.runtimeMissing) > 0 {
		then = nil
	} else {
		m.afterRuntime = nil
	}
	m.mu.Unlock()
	if then != nil {
		then()
	}
}

func (m *Manager) setRuntime(name string, raw []byte) error {
	values, err := translate.Runtime(raw)
	if err != nil {
		return err
	}
	m.runtime.SetRTDS(name, values)
	return nil
}

func (m *Manager) removeRuntime(name string) { m.runtime.SetRTDS(name, map[string]string{}) }

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
