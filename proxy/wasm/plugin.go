package wasm

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Config is envoy.extensions.wasm.v3.PluginConfig.
type Config struct {
	Name          string
	RootID        string
	Configuration string
	VM            VMConfig
	Policy        Policy
	// Service reads a serialised GrpcService, as guests name whom to call; nil: they name
	// clusters.
	Service func(raw []byte) (call.GRPC, error)
	// BackOff is for how long a plugin that keeps failing is stopped at first, MaxBackOff
	// for how long at most (reload_config.backoff); 0: a second, and a minute.
	BackOff, MaxBackOff time.Duration
}

// Policy is what becomes of streams of a plugin that has failed.
type Policy uint8

// The policies.
const (
	FailClosed Policy = iota
	FailOpen
	FailReload
)

// Plugin is a root_id in a VM with a configuration of its own.
type Plugin struct {
	*Config
	env filter.Env
	vm  *VM
	*counters
	breaker breaker
	key     string // of its root in instances
}

// Open starts a plugin: its VM, if that does not run yet, and its root. It is closed by the
// retirement of env.
func Open(c *Config, env filter.Env) (*Plugin, error) {
	if env.Name == "" {
		env.Name = c.Name
	}
	p := &Plugin{Config: c, env: env}
	p.breaker.base, p.breaker.most = cmp.Or(c.BackOff, time.Second), cmp.Or(c.MaxBackOff, max(time.Minute, c.BackOff))
	sum := sha256.Sum256([]byte(c.VM.Code))
	p.key = c.RootID + "\x00" + c.Name + "\x00" + c.Configuration
	n, releaseStats := stats.SharedAt[counters](env.Stats, stats.Path("wasm", c.Name)...)
	p.counters = n
	host, releaseHost := filter.Share(env.Shares, "wasm host", func() *sharedHost {
		h, err := NewHost()
		return &sharedHost{h, newBroker(env.Stats), err}
	})
	vm, releaseVM := filter.Share(env.Shares, fmt.Sprintf("wasm vm %q %q %x %q %q", c.VM.ID, c.VM.Configuration, sum, c.VM.Environment, c.VM.Allowed), func() *VM {
		return &VM{config: c.VM, env: env, host: host}
	})
	release := func() {
		releaseVM()
		releaseHost()
		releaseStats()
	}
	p.vm = vm
	err := vm.open()
	if err == nil {
		err = vm.attach(p)
	}
	if err != nil {
		release()
		return nil, err
	}
	env.OnRetire(func() {
		vm.detach(p)
		release()
	})
	return p, nil
}

// configure makes the root of p, starts and configures it. in.mu is held.
func (in *Instance) configure(p *Plugin) error {
	if root := in.roots[p.key]; root != nil {
		root.users++
		return nil
	}
	root := in.add(p, nil)
	root.users = 1
	in.roots[p.key] = root
	if _, _, err := in.invoke(root, onContextCreate, 0); err != nil {
		return err
	}
	info := &callInfo{configuration: p.VM.Configuration}
	in.call = info
	ok, has, err := in.invoke(root, onVMStart, uint64(len(p.VM.Configuration)))
	if err == nil && has && uint32(ok) == 0 {
		err = errors.New("wasm: the plugin refuses to start (proxy_on_vm_start)")
	}
	if err == nil {
		info.configuration = p.Configuration
		ok, has, err = in.invoke(root, onConfigure, uint64(len(p.Configuration)))
		if err == nil && has && uint32(ok) == 0 {
			err = errors.New("wasm: the plugin refuses its configuration (proxy_on_configure)")
		}
	}
	in.call = nil
	in.atStart = max(in.atStart, in.memory.Size())
	return err
}

// retire ends the root of p. in.mu is held.
func (in *Instance) retire(p *Plugin) {
	root := in.roots[p.key]
	if root == nil || in.closed {
		return
	}
	if root.users--; root.users > 0 {
		return
	}
	delete(in.roots, p.key)
	if root.timer != nil {
		root.timer.Stop()
	}
	root.end()
}

// add makes a context. in.mu is held.
func (in *Instance) add(p *Plugin, root *Context) *Context {
	c := &Context{}
	in.enter(c, p, root)
	return c
}

func (in *Instance) enter(c *Context, p *Plugin, root *Context) {
	for {
		in.last++
		if _, taken := in.contexts[in.last]; in.last != 0 && !taken {
			break
		}
	}
	*c = Context{id: in.last, in: in, plugin: p, root: root}
	in.contexts[c.id] = c
}
