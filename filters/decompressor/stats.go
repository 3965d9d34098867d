package decompressor

import (
	"errors"

	"github.com/klauspost/compress/zstd"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters are those of a direction.
type counters struct {
	Decompressed      stats.Counter `stat:"decompressed" help:"messages that were decompressed"`
	NotDecompressed   stats.Counter `stat:"not_decompressed" help:"messages that were not"`
	UncompressedBytes stats.Counter `stat:"total_uncompressed_bytes" help:"bytes that the bodies became"`
	CompressedBytes   stats.Counter `stat:"total_compressed_bytes" help:"bytes of the bodies that were decompressed"`
}

// What is wrong with bodies, by library, below "decompressor_library".
type (
	gzipErrors struct {
		Data stats.Counter `stat:"zlib_data_error" help:"bodies that are not gzip, end early or become too large"`
	}
	brotliErrors struct {
		Any stats.Counter `stat:"brotli_error" help:"bodies that are not brotli, end early or become too large"`
	}
	zstdErrors struct {
		Generic    stats.Counter `stat:"zstd_generic_error" help:"bodies that are not zstd, end early or become too large"`
		Dictionary stats.Counter `stat:"zstd_dictionary_error" help:"bodies that need a dictionary that is not there"`
		Checksum   stats.Counter `stat:"zstd_checksum_wrong_error" help:"bodies with a wrong checksum"`
		Memory     stats.Counter `stat:"zstd_memory_error" help:"bodies that need a window of more than 8 MB"`
	}
)

// shared is what the streams of a filter have in common.
type shared struct {
	config                                 *Config
	requestEnabled, responseEnabled        runtime.FlagValue
	requests, responses                    *counters
	failures                               func(error)
	compressedTrailer, uncompressedTrailer string
}

func newShared(c *Config, env filter.Env) *shared {
	sh := &shared{
		config: c, requestEnabled: c.Request.Enabled.On(env.Runtime), responseEnabled: c.Response.Enabled.On(env.Runtime),
		compressedTrailer:   "x-envoy-decompressor-" + c.LibraryName + "-compressed-bytes",
		uncompressedTrailer: "x-envoy-decompressor-" + c.LibraryName + "-uncompressed-bytes",
	}
	below := func(step string) []stats.Label {
		return []stats.Label{{Value: "decompressor"}, {Value: c.LibraryName}, {Value: c.Library.Stats}, {Value: step}}
	}
	releases := make([]func(), 3)
	sh.requests, releases[0] = stats.SharedUnder[counters](env.Parent, below("request")...)
	sh.responses, releases[1] = stats.SharedUnder[counters](env.Parent, below("response")...)
	sh.failures, releases[2] = failures(c.Library.Coding, env.Parent, below("decompressor_library"))
	env.OnRetire(func() {
		for _, release := range releases {
			release()
		}
	})
	return sh
}

// failures returns what counts an error of a library.
func failures(coding string, sc *stats.Scope, path []stats.Label) (count func(error), release func()) {
	switch coding {
	case "gzip":
		n, release := stats.SharedUnder[gzipErrors](sc, path...)
		return func(error) { n.Data.Inc() }, release
	case "br":
		n, release := stats.SharedUnder[brotliErrors](sc, path...)
		return func(error) { n.Any.Inc() }, release
	}
	n, release := stats.SharedUnder[zstdErrors](sc, path...)
	return func(err error) {
		switch {
		case errors.Is(err, zstd.ErrUnknownDictionary):
			n.Dictionary.Inc()
		case errors.Is(err, zstd.ErrCRCMismatch):
			n.Checksum.Inc()
		case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
			n.Memory.Inc()
		default:
			n.Generic.Inc()
		}
	}, release
}
