package ads

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// unixPrefix marks the address of a unix socket: "unix:/abs", "unix:./relative"
// (to the working directory) or "unix:@abstract".
const unixPrefix = "unix:"

// SplitAddress tells the network ("tcp" or "unix") and the address for net.Dial or
// net.Listen from "host:port" or "unix:PATH"; "unix:@name" is an abstract socket.
func SplitAddress(s string) (network, address string) {
	if path, ok := strings.CutPrefix(s, unixPrefix); ok {
		if strings.HasPrefix(path, "///") {
			path = path[2:] // unix:///abs, as gRPC writes it
		}
		return "unix", path
	}
	return "tcp", s
}

// newConn makes a gRPC channel to one address. It serves one stream and is closed
// with it, so that the only back-off is the machine's.
func newConn(address string, cfg *Config) (*grpc.ClientConn, error) {
	network, addr := SplitAddress(address)
	authority, dial := cfg.Authority, cfg.Dial
	if authority == "" {
		authority = "localhost"
		if network == "tcp" {
			authority = addr
		}
	}
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	all := []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dial(ctx, network, addr)
		}),
		grpc.WithAuthority(authority),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: cfg.ConnectTimeout}),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	}
	all = append(all, cfg.DialOptions...)
	if cfg.Credentials != nil {
		creds, err := cfg.Credentials()
		if err != nil {
			return nil, err
		}
		all = append(all, grpc.WithTransportCredentials(creds))
	}
	return grpc.NewClient("passthrough:///control-plane", all...)
}
