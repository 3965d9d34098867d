package fromproto

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// The sizes of datagrams: max_rx_datagram_size unless set, and the largest there is.
const (
	defaultDatagram = 1500
	maxDatagram     = 65535
)

// UDPSocket returns how long the datagrams of a UDP socket may be. With prefer_gro (gro
// where it is not set) the kernel may put datagrams together, so that Envoy reads with
// room for the longest, and drops none; so do we.
func UDPSocket(pb *corev3.UdpSocketConfig, p *filter.Parser, gro bool) (int, error) {
	if err := Check(pb, p, Fields{Used: []string{"max_rx_datagram_size", "prefer_gro"}}); err != nil {
		return 0, err
	}
	size := defaultDatagram
	if v := pb.GetMaxRxDatagramSize(); v != nil {
		if v.Value < 1 || v.Value > maxDatagram {
			return 0, filter.At("max_rx_datagram_size", fmt.Errorf("%d is outside 1 to %d", v.Value, maxDatagram))
		}
		size = int(v.Value)
	}
	if v := pb.GetPreferGro(); v != nil {
		gro = v.Value
	}
	if gro {
		size = maxDatagram
	}
	return size, nil
}
