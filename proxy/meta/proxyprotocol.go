package meta

// ProxyProtocolKey is where a connection's filter state has its *ProxyProtocol.
const ProxyProtocolKey = "envoy.network.proxy_protocol_options"

// ProxyProtocol is what a PROXY protocol header has said, for whoever writes one to
// upstream. It is not changed any more.
type ProxyProtocol struct {
	Source, Destination Addr
	TLVs                []TLV
}

// TLV is an extension of a PROXY protocol header of version 2.
type TLV struct {
	Type  byte
	Value []byte
}
