package compressor

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters are those of a direction.
type counters struct {
	Compressed        stats.Counter `stat:"compressed" help:"messages that were compressed"`
	NotCompressed     stats.Counter `stat:"not_compressed" help:"messages that were not"`
	UncompressedBytes stats.Counter `stat:"total_uncompressed_bytes" help:"bytes of the bodies that were compressed"`
	CompressedBytes   stats.Counter `stat:"total_compressed_bytes" help:"bytes that they became"`
	TooSmall          stats.Counter `stat:"content_length_too_small" help:"messages that were shorter than min_content_length"`
}

// negotiated are those of responses alone.
type negotiated struct {
	NoAccept          stats.Counter `stat:"no_accept_header" help:"responses to requests without accept-encoding"`
	Identity          stats.Counter `stat:"header_identity" help:"responses to requests that preferred identity"`
	Used              stats.Counter `stat:"header_compressor_used" help:"responses to requests that preferred the coding of this filter"`
	Overshadowed      stats.Counter `stat:"header_compressor_overshadowed" help:"responses to requests that preferred the coding of another compressor of the chain"`
	Wildcard          stats.Counter `stat:"header_wildcard" help:"responses to requests that took any coding"`
	NotValid          stats.Counter `stat:"header_not_valid" help:"responses to requests that took no coding of the chain"`
	NotCompressedEtag stats.Counter `stat:"not_compressed_etag" help:"responses with etag, for disable_on_etag_header"`
}

// limits is what Envoy does not have.
type limits struct {
	Overflow stats.Counter `stat:"overflow" help:"messages that were not compressed because the encoders in use held 256 MB"`
}

// shared is what the streams of a filter have in common.
type shared struct {
	config                  *Config
	slot                    filter.Slot
	enabled, requestEnabled runtime.FlagValue
	requests, responses     *counters
	negotiated              *negotiated
	limits                  *limits
	memory                  memory
}

func newShared(c *Config, env filter.Env) *shared {
	sh := &shared{config: c, slot: env.Slot, enabled: c.Response.Enabled.On(env.Runtime)}
	if c.Request != nil {
		sh.requestEnabled = c.Request.Enabled.On(env.Runtime)
	}
	path := []stats.Label{{Value: "compressor"}, {Value: c.LibraryName}, {Value: c.Library.Stats}}
	below := func(step string) []stats.Label { return append(path[:len(path):len(path)], stats.Label{Value: step}) }
	response := below("response")
	if c.Legacy {
		response = path
	}
	releases := make([]func(), 4)
	sh.requests, releases[0] = stats.SharedUnder[counters](env.Parent, below("request")...)
	sh.responses, releases[1] = stats.SharedUnder[counters](env.Parent, response...)
	sh.negotiated, releases[2] = stats.SharedUnder[negotiated](env.Parent, path...)
	sh.limits, releases[3] = stats.SharedUnder[limits](env.Parent, path...)
	env.OnRetire(func() {
		for _, release := range releases {
			release()
		}
	})
	return sh
}
