package wasm

import (
	"context"
	"log/slog"
)

// levels are those of the ABI, from trace to critical, on the scale of package applog.
var levels = [...]slog.Level{-8, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, 12}

func (in *Instance) log(a []uint64) Status {
	level := uint32(a[0])
	if level >= uint32(len(levels)) {
		return StatusBadArgument
	}
	p, ok := in.view(a[1], a[2])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	l := in.vm.env.Log
	if !l.Enabled(context.Background(), levels[level]) {
		return StatusOK
	}
	if c := in.effective; c != nil {
		l.Log(context.Background(), levels[level], "wasm log "+c.plugin.Name+" "+c.plugin.RootID+" "+in.vm.config.ID+": "+string(p))
		return StatusOK
	}
	l.Log(context.Background(), levels[level], "wasm log "+in.vm.config.ID+": "+string(p))
	return StatusOK
}
