package wasm

import (
	"context"
	"errors"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/mecha-mesh/mecha/proxy/wasm/meter"
)

// Budgets of time. See RATIONALE.
const (
	// ration is what a guest may do before it asks for more, in rounds of loops and calls:
	// less than half a millisecond, for which a guest may hold up a garbage collection.
	ration = 1 << 15
	// callBudget is how long a callback may take, startBudget how long the start of a
	// guest.
	callBudget  = 200 * time.Millisecond
	startBudget = 10 * time.Second
	// fewest is how many rations a guest has at least: on a machine that is too busy to run
	// it, time passes without the guest doing anything.
	fewest = 64
)

// ErrOverrun is the failure of a guest that has taken more time than it may.
var ErrOverrun = errors.New("wasm: the guest has run for too long")

// budget is what the call that runs has taken.
type budget struct {
	left    api.MutableGlobal
	limit   time.Duration
	rations int
	since   time.Time // of the first ration
}

// begin starts the account of a call.
func (b *budget) begin(limit time.Duration) { b.limit, b.rations = limit, 0 }

// refill is what guests call when nothing is left. The clock is looked at here alone, so that
// a call which stays within its ration costs no look.
func refill(ctx context.Context, m api.Module, _ []uint64) {
	b := &ctx.(*Instance).budget
	if b.left == nil {
		b.left = m.ExportedGlobal(meter.Left).(api.MutableGlobal)
	}
	b.left.Set(ration)
	b.rations++
	switch {
	case b.rations == 1:
		b.since = time.Now()
	case b.rations > fewest && time.Since(b.since) > b.limit:
		panic(ErrOverrun)
	}
}
