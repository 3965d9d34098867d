package l7

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// spliceAtLeast is how much of a body must still be to come for the kernel to move it
// cheaper than two copies do.
const spliceAtLeast = 64 << 10

// spliceResponse lets the kernel move the rest of a response body of known length, if
// it is long, no filter wants to see it, and both sides carry it as it is. It reports
// false where that is not possible; then nothing has happened.
func (st *stream) spliceResponse(up codec.ClientStream, until time.Time) (codec.Next, bool, error) {
	if st.head || st.held.on || st.outPace.on() || st.seesResponse() {
		return 0, false, nil
	}
	src, ok := up.Raw()
	if !ok {
		return 0, false, nil
	}
	from, n, ok := src.ReadSide()
	if !ok || n < spliceAtLeast {
		return 0, false, nil
	}
	dst, ok := st.down.Raw()
	if !ok {
		return 0, false, nil
	}
	to, room, ok := dst.WriteSide()
	if !ok || room != n {
		return 0, false, nil
	}
	if err := st.spliceBody(src, dst, from, to, n, until); err != nil {
		return 0, true, err
	}
	// The body is complete: what is left is to end the message.
	return codec.End, true, st.SendData(&st.answer, true)
}

// seesResponse reports whether a filter wants to see the body of the response.
func (st *stream) seesResponse() bool {
	for _, h := range st.chain.responseData {
		if st.off&(1<<h.index) != 0 {
			continue
		}
		if c, ok := h.f.(filter.Choosy); !ok || c.WantsResponseData() {
			return true
		}
	}
	return false
}

// spliceBody moves n bytes, looking now and then whether the client is still there.
func (st *stream) spliceBody(src, dst codec.RawStream, from, to *netio.Conn, n int64, until time.Time) error {
	w := watch{until: st.soonest(until)}
	for n > 0 {
		if err := from.SetReadDeadline(st.wake(&w)); err != nil {
			return err
		}
		moved, err := netio.Splice(to, from, n)
		src.DoneRead(moved, false)
		dst.DoneWrite(moved)
		n -= moved
		st.Meta.UpstreamReceived += moved
		st.Meta.BytesSent += moved
		if moved > 0 {
			st.noteMoved()
		}
		st.Tick()
		if err == nil {
			continue
		}
		if stalled := (*netio.WriteError)(nil); !netio.IsTimeout(err) || errors.As(err, &stalled) {
			return st.spliceFailed(src, err)
		}
		if moved > 0 { // not idle: the wait begins anew
			w = watch{until: st.soonest(until)}
			continue
		}
		if err := st.waited(&w); err == errUpstreamTimeout {
			if err = st.expired(until); err != nil {
				return err
			}
			w = watch{until: st.soonest(until)}
		} else if err != nil {
			return err
		}
	}
	return nil
}

// spliceFailed tells a client that has gone from an upstream that has.
func (st *stream) spliceFailed(src codec.RawStream, err error) error {
	var gone *netio.WriteError
	if errors.As(err, &gone) {
		return st.unsent(err)
	}
	src.DoneRead(0, true)
	return err
}
