package wasm

import (
	"time"
)

func (in *Instance) currentTime(a []uint64) Status {
	if !in.memory.WriteUint64Le(uint32(a[0]), uint64(time.Now().UnixNano())) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

// setTickPeriod is of the root on whose behalf the guest acts.
func (in *Instance) setTickPeriod(a []uint64) Status {
	c := in.effective
	if c == nil {
		return StatusBadArgument
	}
	if c.root != nil {
		c = c.root
	}
	c.period = time.Duration(uint32(a[0])) * time.Millisecond
	c.rearm()
	return StatusOK
}

// rearm has the next tick come after the period. The instance is locked.
func (c *Context) rearm() {
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.period <= 0 || c.over {
		return
	}
	c.timer = time.AfterFunc(c.period, c.tick)
}

func (c *Context) tick() {
	in := c.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if c.over || !in.usable() {
		return
	}
	_, _, _ = c.invoke(onTick) // a failure is noted, and the instance replaced
	c.rearm()
}

func (in *Instance) logLevel(a []uint64) Status {
	level := uint32(len(levels) - 1)
	for i, l := range levels {
		if in.vm.env.Log.Enabled(in, l) {
			level = uint32(i)
			break
		}
	}
	return in.put32(a[0], level)
}
